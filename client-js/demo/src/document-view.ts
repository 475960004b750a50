/** The selected document in the inspector. */

import * as Y from 'yjs'
import { createProvider, type SynclineProvider } from '../../src/index.ts'
import type { DocumentInfo, SessionInfo } from './api.ts'
import { byId, clock, make, size } from './dom.ts'
import { ALL_DOCUMENTS, fetchToken, pastedToken } from './session.ts'
import { describe, type TreeNode, treeOf } from './tree.ts'

const TREE_AFTER_MS = 250
const UPDATES_MAX = 200

/** A read-only client without presence. */
export class DocumentView {
  readonly name: string
  readonly #doc = new Y.Doc()
  readonly #provider: SynclineProvider
  readonly #open = new Set<string>()
  #isComplete = false
  #drawing: ReturnType<typeof setTimeout> | undefined

  constructor(name: string) {
    this.name = name
    const token = async (): Promise<string> =>
      pastedToken.get(ALL_DOCUMENTS) ??
      (await fetchToken({ document: name, access: 'read', name: 'inspector' }))
    this.#provider = createProvider({
      url: `${location.origin.replace(/^http/, 'ws')}/ws`,
      name,
      doc: this.#doc,
      token,
      disableBc: true,
      connect: false,
    })
    this.#provider.awareness.setLocalState(null)
    byId('empty').hidden = true
    byId('selected').hidden = false
    byId('selected-name').textContent = name
    for (const id of ['bytes', 'last', 'encoded', 'epoch']) byId(`selected-${id}`).textContent = '–'
    byId('sessions').replaceChildren()
    byId('updates').replaceChildren(
      make('li', { class: 'none' }, 'None since this page was opened.'),
    )
    this.#doc.on('update', (update: Uint8Array) => {
      if (this.#isComplete) this.#log(update)
      this.#draw()
    })
    this.#provider.on('sync', synced => {
      // Updates received during the sync are not new.
      this.#isComplete = synced
      this.#draw()
    })
    this.#provider.awareness.on('change', () => this.#showPresence())
    this.#showPresence()
    this.#draw()
    this.#provider.connect()
  }

  close(): void {
    clearTimeout(this.#drawing)
    this.#provider.destroy()
  }

  showInfo({ bytes, updates, epoch }: DocumentInfo): void {
    byId('selected-bytes').textContent = size(bytes)
    byId('selected-last').textContent = String(updates)
    byId('selected-epoch').textContent = epoch || 'not kept'
  }

  showSessions(sessions: readonly SessionInfo[], disconnect: (session: SessionInfo) => void): void {
    const rows = sessions.map(session => {
      const { id, sub, access, dialect, peer, since, expires_at: ends } = session
      const button = make('button', { type: 'button', class: 'button danger' }, 'Disconnect')
      button.setAttribute('aria-label', `Disconnect ${sub || 'connection'} ${id}`)
      button.addEventListener('click', () => disconnect(session))
      const times = [clock(new Date(since)), clock(new Date(ends * 1_000))]
      const cells = [sub || '(no name)', access, dialect, peer, ...times]
      const row = make('tr', {}, ...cells.map(cell => make('td', {}, cell)), make('td', {}, button))
      row.dataset.id = String(id)
      return row
    })
    const body = byId('sessions')
    const ids = (list: Iterable<Element>): string =>
      [...list].map(row => (row as HTMLElement).dataset.id).join()
    if (rows.length === 0) {
      const cell = make('td', { colspan: '7', class: 'none' }, 'No connections.')
      body.replaceChildren(make('tr', {}, cell))
    } else if (ids(rows) !== ids(body.children)) body.replaceChildren(...rows)
  }

  #nameOf(client: number): string {
    const name = this.#provider.awareness.getStates().get(client)?.user?.name
    return typeof name === 'string' ? name : String(client)
  }

  #log(update: Uint8Array): void {
    const log = byId('updates')
    log.querySelector('.none')?.remove()
    const what = describe(update, client => this.#nameOf(client))
    log.prepend(
      make(
        'li',
        {},
        make('time', {}, clock(new Date())),
        make('span', { class: 'size' }, size(update.length)),
        make('span', {}, what),
      ),
    )
    while (log.children.length > UPDATES_MAX) log.lastElementChild?.remove()
  }

  #showPresence(): void {
    const items = [...this.#provider.awareness.getStates()].map(([client, state]) => {
      const swatch = make('span', { class: 'swatch' })
      swatch.style.backgroundColor = String(state.user?.color ?? 'gray')
      const who = make('div', { class: 'who' }, swatch, this.#nameOf(client))
      return make('li', {}, who, make('code', {}, `${client} ${JSON.stringify(state)}`))
    })
    const none = make('li', { class: 'none' }, 'No presence states.')
    byId('presence').replaceChildren(...(items.length > 0 ? items : [none]))
  }

  /** Redraws the content, at most once per burst of updates. */
  #draw(): void {
    clearTimeout(this.#drawing)
    this.#drawing = setTimeout(() => {
      byId('selected-encoded').textContent = size(Y.encodeStateAsUpdate(this.#doc).length)
      const roots = treeOf(this.#doc).map(node => this.#node(node, node.key, 0))
      const nothing = this.#provider.synced ? 'Empty.' : 'Loading…'
      byId('tree').replaceChildren(
        ...(roots.length > 0 ? roots : [make('p', { class: 'note' }, nothing)]),
      )
    }, TREE_AFTER_MS)
  }

  #node(node: TreeNode, path: string, depth: number): HTMLElement {
    const { key, kind, value, children } = node
    const parts: HTMLElement[] = []
    if (key !== '') parts.push(make('span', { class: 'key' }, `${key} `))
    if (kind !== 'text') parts.push(make('span', { class: 'kind' }, `${kind} `))
    parts.push(
      make(
        'span',
        { class: kind === 'text' ? 'text' : 'note' },
        kind === 'text' ? JSON.stringify(value) : value,
      ),
    )
    if (children.length === 0) return make('div', { class: 'leaf' }, ...parts)
    const details = make('details', {}, make('summary', {}, ...parts))
    // Two levels are open by default; the user's choices are kept.
    const isChanged = this.#open.has(path)
    details.open = depth < 2 !== isChanged
    details.append(...children.map((child, at) => this.#node(child, `${path}/${at}`, depth + 1)))
    details.addEventListener('toggle', () => {
      if (details.open === depth < 2) this.#open.delete(path)
      else this.#open.add(path)
    })
    return details
  }
}
