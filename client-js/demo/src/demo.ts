/** The demo page: one document, two editors, and the provider's state. */

import * as Y from 'yjs'
import {
  type Access,
  type Closed,
  createProvider,
  hintFor,
  isTransient,
  type Refusal,
  type SynclineProvider,
  seed,
} from '../../src/index.ts'
import { badgeOf } from './badge.ts'
import { byId, toast } from './dom.ts'
import { showGate } from './gate.ts'
import { fillInitialContent } from './initial-content.ts'
import { openMarkdown } from './markdown.ts'
import { type EditorTab, randomName, showPeople } from './people.ts'
import { fillToolbar, openRichText, useRovingTabIndex } from './rich-text.ts'
import {
  fetchLinkKey,
  fetchToken,
  firstToken,
  pastedToken,
  TokenError,
  takeLinkKey,
} from './session.ts'
import { showStats } from './stats.ts'

const query = new URLSearchParams(location.search)
const name = query.get('doc') || 'demo'
const access: Access = query.get('access') === 'read' ? 'read' : 'write'
const readOnly = access === 'read'
const pageUrl = (right: Access): URL => {
  const url = new URL('/demo', location.href)
  if (name !== 'demo') url.searchParams.set('doc', name)
  if (right === 'read') url.searchParams.set('access', 'read')
  return url
}

byId('document').textContent = name
byId('access').hidden = !readOnly
const nameInput = byId<HTMLInputElement>('name')
nameInput.value = randomName()

// Renewed tokens keep the initial name, even if the user changes it later.
const request = { document: name, access, name: nameInput.value }
const token = async (): Promise<string> => pastedToken.get(name) ?? (await fetchToken(request))

try {
  if (pastedToken.get(name) === undefined) await firstToken(request, takeLinkKey())
  start()
} catch (error) {
  showGate(name, access, error, start)
}

function start(): void {
  byId('stage').hidden = false
  const doc = new Y.Doc()
  const url = `${location.origin.replace(/^http/, 'ws')}/ws`
  const provider = createProvider({
    url,
    name,
    doc,
    token,
    user: { name: nameInput.value },
    connect: false,
  })
  showBadge(provider)
  showStats(provider)
  provider.on('users', users => showPeople(provider, users))
  nameInput.addEventListener('change', () => {
    nameInput.value = nameInput.value.trim() || randomName()
    provider.setUser({ name: nameInput.value })
  })
  // The demo session has expired, or the server's secret has changed.
  provider.on('connection-error', error => {
    if (!(error instanceof TokenError)) return
    provider.disconnect()
    byId('stage').hidden = true
    // Keep the document: its unsaved changes exist only in this page.
    showGate(name, access, error, () => {
      byId('stage').hidden = false
      provider.connect()
    })
  })
  showActions(provider)
  addEventListener('beforeunload', event => {
    if (provider.unsaved) event.preventDefault()
  })
  provider.connect()
  if (readOnly) return openEditors(provider)
  // Bind after seeding: editors write an empty paragraph into an empty document.
  const open = (): void => openEditors(provider)
  seed(provider, fillInitialContent).then(open, error => {
    if (error instanceof Error) open()
  })
}

function openEditors(provider: SynclineProvider): void {
  const { doc, awareness } = provider
  const panels = { markdown: byId('panel-markdown'), rich: byId('panel-rich') }
  const tabs = [byId<HTMLButtonElement>('tab-markdown'), byId<HTMLButtonElement>('tab-rich')]
  const editorTabs: readonly EditorTab[] = ['markdown', 'rich']
  const markdown = openMarkdown(panels.markdown, doc.getText('markdown'), awareness, readOnly)
  const rich = openRichText(panels.rich, provider, readOnly)
  const format = byId('format')
  if (!readOnly) fillToolbar(format, rich)

  const show = (index: number): void => {
    const tab = editorTabs[index] ?? 'markdown'
    tabs.forEach((tab, at) => {
      tab.setAttribute('aria-selected', String(at === index))
      tab.tabIndex = at === index ? 0 : -1
    })
    panels.markdown.hidden = tab !== 'markdown'
    panels.rich.hidden = tab !== 'rich'
    format.hidden = readOnly || tab !== 'rich'
    awareness.setLocalStateField('tab', tab)
    // Measurements taken while hidden are invalid.
    if (tab === 'markdown') markdown.requestMeasure()
  }
  useRovingTabIndex(tabs, show)
  tabs.forEach((tab, index) => {
    tab.addEventListener('click', () => show(index))
  })
  byId('editor').addEventListener('click', event => {
    if (event.target !== byId('editor')) return
    if (panels.rich.hidden) markdown.focus()
    else rich.commands.focus('end')
  })
  nameInput.addEventListener('change', () => {
    rich.commands.updateUser(awareness.getLocalState()?.user ?? {})
  })
  show(query.get('tab') === 'rich' ? 1 : 0)
}

function showBadge(provider: SynclineProvider): void {
  let closed: Closed | undefined
  let denied: Refusal | undefined
  let wrote = false
  const badge = byId('badge')
  const text = byId('badge-text')
  const show = (): void => {
    const { status, synced, unsaved, detail, shouldConnect: wanted } = provider
    const next = badgeOf({
      status,
      synced,
      unsaved,
      detail: detail ?? denied,
      closed,
      wanted,
      wrote,
    })
    badge.dataset.state = next.state
    if (text.textContent !== next.text) text.textContent = next.text
    const mark = next.state === 'live' || next.state === 'saved' ? '' : '• '
    document.title = `${mark}${name} · Syncline`
  }
  provider.on('closed', event => {
    closed = event
    const { code: closeCode, reason } = event
    const [, code = 'unknown', text = reason] = /^([a-z_]+): ?(.*)$/s.exec(reason) ?? []
    showNotice('The server has refused this window', `${closeCode} ${code}`, text, hintFor(code))
    pastedToken.clear(name)
    show()
  })
  provider.on('refused', refusal => {
    // The badge shows transient problems.
    if (isTransient(refusal.code)) return
    denied = refusal
    showNotice('Changes in this window are not saved', refusal.code, refusal.text, refusal.hint)
    show()
  })
  byId('notice-retry').addEventListener('click', () => {
    provider.disconnect()
    provider.connect()
  })
  provider.on('status', ({ status }) => {
    if (status === 'connecting') {
      closed = denied = undefined
      byId('notice').hidden = true
    }
    show()
  })
  provider.on('sync', show)
  provider.on('saved', show)
  provider.doc.on('update', (_: Uint8Array, origin: unknown) => {
    if (origin !== provider) wrote = true
  })
  show()
}

function showNotice(title: string, code: string, text: string, hint: string): void {
  byId('notice-title').textContent = title
  byId('notice-text').textContent = text
  byId('notice-code').textContent = code
  byId('notice-hint').textContent = hint
  byId('notice').hidden = false
}

function showActions(provider: SynclineProvider): void {
  const open = (right: Access): void => {
    // Without noopener the new window inherits a copy of sessionStorage.
    window.open(pageUrl(right), '_blank', 'noopener,width=1100,height=820')
  }
  const copy = async (right: Access): Promise<void> => {
    const url = pageUrl(right)
    let message = 'Link copied. It opens once, in any browser on this computer.'
    try {
      url.hash = `key=${await fetchLinkKey(name, right)}`
    } catch (error) {
      if (!(error instanceof TokenError)) return toast('The server cannot be reached.')
      message = 'Link copied. Opening it requires a token.'
    }
    await navigator.clipboard.writeText(url.href).then(
      () => toast(message),
      () => window.prompt('Copy this link', url.href),
    )
  }
  byId('second').addEventListener('click', () => open(access))
  byId('reader').addEventListener('click', () => open('read'))
  byId('copy').addEventListener('click', () => void copy(access))
  byId('copy-reader').addEventListener('click', () => void copy('read'))
  byId('reader').hidden = readOnly
  byId('copy-reader').hidden = readOnly
  const offline = byId('offline')
  offline.addEventListener('click', () => {
    const off = offline.getAttribute('aria-checked') !== 'true'
    offline.setAttribute('aria-checked', String(off))
    if (off) provider.disconnect()
    else provider.connect()
  })
}
