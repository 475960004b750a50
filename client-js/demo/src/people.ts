/** The list of users: initials in the bar, dots on the tabs, and a random initial name. */

import type { Participant, SynclineProvider } from '../../src/index.ts'
import { byId, make } from './dom.ts'

const SHOWN_MAX = 5

const NAMES = [
  ...['Ada', 'Alan', 'Annie', 'Barbara', 'Dennis', 'Dorothy', 'Edsger', 'Evelyn', 'Frances'],
  ...['Grace', 'Hedy', 'Joan', 'Karen', 'Katherine', 'Ken', 'Leslie', 'Margaret', 'Radia'],
  ...['Sophie', 'Tim', 'Tony', 'Vera'],
]

/** An initial user name. */
export const randomName = (): string => NAMES[Math.floor(Math.random() * NAMES.length)] ?? 'Ada'

/** The visible editor of a user, shared in the presence state. */
export type EditorTab = 'markdown' | 'rich'

const initials = (name: string): string =>
  name
    .split(/\s+/)
    .map(word => [...word][0] ?? '')
    .slice(0, 2)
    .join('')
    .toUpperCase()

export function showPeople(provider: SynclineProvider, users: readonly Participant[]): void {
  const shown = users.length > SHOWN_MAX ? users.slice(0, SHOWN_MAX - 1) : users
  const items = shown.map(({ user, isSelf }) => {
    const title = isSelf ? `${user.name} (you)` : user.name
    const item = make('li', { title, 'aria-label': title }, initials(user.name))
    item.style.backgroundColor = user.color
    return item
  })
  if (shown.length < users.length) {
    items.push(make('li', { class: 'more' }, `+${users.length - shown.length}`))
  }
  byId('people').replaceChildren(...items)
  const states = provider.awareness.getStates()
  for (const tab of ['markdown', 'rich'] as const) {
    const others = users.filter(
      ({ clientId, isSelf }) => !isSelf && states.get(clientId)?.tab === tab,
    )
    const dots = others.slice(0, SHOWN_MAX).map(({ user }) => {
      const dot = make('i', { title: `${user.name} is here` })
      dot.style.backgroundColor = user.color
      return dot
    })
    byId(`near-${tab}`).replaceChildren(...dots)
  }
}
