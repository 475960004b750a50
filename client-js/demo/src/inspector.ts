/** The inspector: what is live and stored, who is in it, and what happens there. */

import { Api, type Documents, type SessionFacts } from './api.ts'
import { Chosen } from './chosen.ts'
import { byId, make, size, toast } from './dom.ts'
import { EVERYTHING, enter, fetchToken, NoToken, pasted, takeKey } from './session.ts'

const REFRESH_MS = 2_000

const admin = { access: 'admin' } as const
const adminToken = async (): Promise<string> => pasted.get(EVERYTHING) ?? (await fetchToken(admin))

try {
  const token = pasted.get(EVERYTHING) ?? (await enter(admin, takeKey()))
  await start(new Api(token, adminToken))
} catch (error) {
  showGate(error)
}

async function start(api: Api): Promise<void> {
  let chosen: Chosen | undefined
  const filter = byId<HTMLInputElement>('filter')
  const choose = (name: string): void => {
    if (chosen?.name === name) return
    chosen?.close()
    chosen = new Chosen(name)
    const url = new URL(location.href)
    url.searchParams.set('doc', name)
    history.replaceState(null, '', url)
    void refresh()
  }
  const refresh = async (): Promise<void> => {
    try {
      const said = await api.documents(filter.value)
      showDocuments(said, chosen?.name, choose)
      if (chosen !== undefined) {
        const { name } = chosen
        const facts = said.documents.find(document => document.name === name)
        if (facts !== undefined) chosen.showFacts(facts)
        chosen.showSessions(await api.sessions(name), session => void disconnect(session))
      }
      setBadge('live', 'Live')
    } catch (error) {
      if (error instanceof NoToken) throw error
      setBadge('offline', 'No answer')
    }
  }
  const disconnect = async ({ id, sub }: SessionFacts): Promise<void> => {
    await api.disconnect(id)
    toast(`${sub || 'Somebody'} was disconnected.`)
    await refresh()
  }
  await refresh()
  byId('stage').hidden = false
  filter.addEventListener('input', () => void refresh())
  const first = new URLSearchParams(location.search).get('doc')
  if (first) choose(first)
  setInterval(() => {
    if (!document.hidden) refresh().catch(showGate)
  }, REFRESH_MS)
}

function setBadge(state: string, text: string): void {
  byId('badge').dataset.state = state
  if (byId('badge-text').textContent !== text) byId('badge-text').textContent = text
}

function showDocuments(
  said: Documents,
  chosen: string | undefined,
  choose: (name: string) => void,
): void {
  const { version, live, stored, sessions, documents, more } = said
  byId('totals').textContent =
    `${live} live, ${stored} stored, ${sessions} connections, version ${version}`
  const list = byId('documents')
  // Taken over where it is the same, or the focus would be lost with every refresh.
  const old = new Map([...list.children].map(item => [(item as HTMLElement).dataset.name, item]))
  const items = documents.map(facts => {
    const item = old.get(facts.name) ?? documentItem(facts.name, choose)
    const button = item.firstElementChild as HTMLElement
    button.className = facts.live ? 'live' : ''
    button.setAttribute('aria-current', String(facts.name === chosen))
    const people = facts.sessions > 0 ? `${facts.sessions} here · ` : ''
    const note = button.lastElementChild as HTMLElement
    note.textContent = people + size(facts.bytes)
    return item
  })
  const moved =
    items.length !== list.children.length || items.some((item, at) => list.children[at] !== item)
  if (moved) list.replaceChildren(...items)
  byId('documents-more').textContent = more
    ? 'There are more: type how a name begins.'
    : documents.length === 0
      ? 'None.'
      : ''
}

function documentItem(name: string, choose: (name: string) => void): HTMLElement {
  const button = make(
    'button',
    { type: 'button', title: name },
    make('span', { class: 'dot', 'aria-hidden': 'true' }),
    make('span', { class: 'name' }, name),
    make('span', { class: 'size' }),
  )
  button.addEventListener('click', () => choose(name))
  const item = make('li', {}, button)
  item.dataset.name = name
  return item
}

function showGate(error: unknown): void {
  pasted.clear(EVERYTHING)
  const code = error instanceof NoToken ? error.code : 'unreachable'
  const isFirst = ['no_session', 'no_secret'].includes(code)
  byId('gate-title').textContent = isFirst ? 'For administrators' : 'Not let in'
  byId('gate-text').textContent =
    error instanceof NoToken
      ? `${error.message}.`
      : 'The server does not answer. Is syncline still running?'
  setBadge('offline', 'Not let in')
  byId('stage').hidden = true
  byId('gate').hidden = false
  const field = byId<HTMLInputElement>('gate-token')
  byId<HTMLFormElement>('gate-form').onsubmit = event => {
    event.preventDefault()
    pasted.set(EVERYTHING, field.value.trim())
    location.reload()
  }
  field.focus()
}
