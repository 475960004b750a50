/** The inspector page: documents, their connections, content and updates. */

import { Api, type Documents, type SessionInfo } from './api.ts'
import { DocumentView } from './document-view.ts'
import { byId, make, size, toast } from './dom.ts'
import {
  ALL_DOCUMENTS,
  fetchToken,
  firstToken,
  pastedToken,
  TokenError,
  takeLinkKey,
} from './session.ts'

const REFRESH_MS = 2_000

const admin = { access: 'admin' } as const
const adminToken = async (): Promise<string> =>
  pastedToken.get(ALL_DOCUMENTS) ?? (await fetchToken(admin))

try {
  const token = pastedToken.get(ALL_DOCUMENTS) ?? (await firstToken(admin, takeLinkKey()))
  await start(new Api(token, adminToken))
} catch (error) {
  showGate(error)
}

async function start(api: Api): Promise<void> {
  let selected: DocumentView | undefined
  const filter = byId<HTMLInputElement>('filter')
  const select = (name: string): void => {
    if (selected?.name === name) return
    selected?.close()
    selected = new DocumentView(name)
    const url = new URL(location.href)
    url.searchParams.set('doc', name)
    history.replaceState(null, '', url)
    void refresh()
  }
  const refresh = async (): Promise<void> => {
    try {
      const response = await api.documents(filter.value)
      showDocuments(response, selected?.name, select)
      if (selected !== undefined) {
        const { name } = selected
        const document = response.documents.find(document => document.name === name)
        if (document !== undefined) selected.showInfo(document)
        selected.showSessions(await api.sessions(name), session => void disconnect(session))
      }
      setBadge('live', 'Live')
    } catch (error) {
      if (error instanceof TokenError) throw error
      setBadge('offline', 'No response')
    }
  }
  const disconnect = async ({ id, sub }: SessionInfo): Promise<void> => {
    await api.disconnect(id)
    toast(`Disconnected ${sub || `connection ${id}`}.`)
    await refresh()
  }
  await refresh()
  byId('stage').hidden = false
  filter.addEventListener('input', () => void refresh())
  const first = new URLSearchParams(location.search).get('doc')
  if (first) select(first)
  setInterval(() => {
    if (!document.hidden) refresh().catch(showGate)
  }, REFRESH_MS)
}

function setBadge(state: string, text: string): void {
  byId('badge').dataset.state = state
  if (byId('badge-text').textContent !== text) byId('badge-text').textContent = text
}

function showDocuments(
  response: Documents,
  selected: string | undefined,
  select: (name: string) => void,
): void {
  const { version, live, stored, sessions, documents, more } = response
  byId('totals').textContent =
    `${live} live, ${stored} stored, ${sessions} connections, version ${version}`
  const list = byId('documents')
  // Reuse existing items, so that a refresh does not move the focus.
  const old = new Map([...list.children].map(item => [(item as HTMLElement).dataset.name, item]))
  const items = documents.map(info => {
    const item = old.get(info.name) ?? documentItem(info.name, select)
    const button = item.firstElementChild as HTMLElement
    button.className = info.live ? 'live' : ''
    button.setAttribute('aria-current', String(info.name === selected))
    const people = info.sessions > 0 ? `${info.sessions} here · ` : ''
    const note = button.lastElementChild as HTMLElement
    note.textContent = people + size(info.bytes)
    return item
  })
  const moved =
    items.length !== list.children.length || items.some((item, at) => list.children[at] !== item)
  if (moved) list.replaceChildren(...items)
  byId('documents-more').textContent = more
    ? 'There are more. Type the beginning of a name.'
    : documents.length === 0
      ? 'None.'
      : ''
}

function documentItem(name: string, select: (name: string) => void): HTMLElement {
  const button = make(
    'button',
    { type: 'button', title: name },
    make('span', { class: 'dot', 'aria-hidden': 'true' }),
    make('span', { class: 'name' }, name),
    make('span', { class: 'size' }),
  )
  button.addEventListener('click', () => select(name))
  const item = make('li', {}, button)
  item.dataset.name = name
  return item
}

function showGate(error: unknown): void {
  pastedToken.clear(ALL_DOCUMENTS)
  const code = error instanceof TokenError ? error.code : 'unreachable'
  const isFirst = ['no_session', 'no_secret'].includes(code)
  byId('gate-title').textContent = isFirst ? 'For administrators' : 'No access'
  byId('gate-text').textContent =
    error instanceof TokenError
      ? `${error.message}.`
      : 'The server does not respond. Is syncline running?'
  setBadge('offline', 'No access')
  byId('stage').hidden = true
  byId('gate').hidden = false
  const field = byId<HTMLInputElement>('gate-token')
  byId<HTMLFormElement>('gate-form').onsubmit = event => {
    event.preventDefault()
    pastedToken.set(ALL_DOCUMENTS, field.value.trim())
    location.reload()
  }
  field.focus()
}
