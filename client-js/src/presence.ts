/** Who is here: the fields that editor bindings agree on, over a y-protocols `Awareness`. */

import type { Awareness } from 'y-protocols/awareness'

/** How somebody is shown. Bindings read `name`, `color` and `colorLight`. */
export interface User {
  /** Shown beside the caret. */
  readonly name: string
  /** `#rrggbb`: ProseMirror takes nothing else. */
  readonly color: string
  /** `#rrggbbaa`, for selections. */
  readonly colorLight: string
  readonly [field: string]: unknown
}

/** What is needed to make a {@link User}; the colours follow from the name. */
export interface UserFields {
  /** Shown beside the caret. */
  readonly name: string
  /** `#rrggbb`. By default the colour of the name. */
  readonly color?: string
  readonly [field: string]: unknown
}

/** Somebody who is here and has said who they are. */
export interface Participant {
  /** The Yjs client. Somebody with two windows is here twice. */
  readonly clientId: number
  /** Whether it is us. */
  readonly isSelf: boolean
  /** Who they say they are. */
  readonly user: User
}

/** Sixteen that tell apart on light and dark, and carry white text. */
const COLORS = [
  ...['#c2185b', '#7b1fa2', '#512da8', '#303f9f', '#1565c0', '#00796b', '#2e7d32', '#558b2f'],
  ...['#9e6a03', '#e65100', '#bf360c', '#5d4037', '#546e7a', '#ad1457', '#00838f', '#6a1b9a'],
] as const

/** The colour of a name: the same in every window and at every visit. */
export function colorOf(name: string): string {
  let hash = 0
  for (const character of name) hash = (Math.imul(hash, 31) + (character.codePointAt(0) ?? 0)) | 0
  return COLORS[(hash >>> 0) % COLORS.length] ?? COLORS[0]
}

/** A user with every field that bindings read. */
export function makeUser(fields: UserFields): User {
  const color = fields.color ?? colorOf(fields.name)
  return { ...fields, color, colorLight: `${color}33` }
}

/** Everybody who has said who they are, ourselves first, the others by client. */
export function participants(awareness: Awareness): Participant[] {
  const users: Participant[] = []
  for (const [clientId, { user }] of awareness.getStates()) {
    if (typeof user?.name !== 'string') continue
    users.push({ clientId, isSelf: clientId === awareness.clientID, user })
  }
  return users.sort((a, b) => Number(b.isSelf) - Number(a.isSelf) || a.clientId - b.clientId)
}

/** How long a page that wanted to be left has to live on to count as staying. */
const UNLOAD_CANCELLED_AFTER_MS = 1_000

/**
 * Takes our cursor away when the page goes, and puts it back if the page comes back from the cache
 * or was not left after all. Does nothing where there are no pages. Returns its undoing.
 */
export function hideWithPage(awareness: Awareness): () => void {
  if (typeof window === 'undefined' || typeof addEventListener === 'undefined') return () => {}
  let hidden: Record<string, unknown> | null = null
  const hide = (): void => {
    const state = awareness.getLocalState()
    if (state === null) return
    hidden = state
    awareness.setLocalState(null)
  }
  const show = (): void => {
    if (hidden !== null && awareness.getLocalState() === null) awareness.setLocalState(hidden)
    hidden = null
  }
  let timer: ReturnType<typeof setTimeout> | undefined
  const beforeUnload = (): void => {
    hide()
    // Runs only where somebody chose to stay.
    timer = setTimeout(show, UNLOAD_CANCELLED_AFTER_MS)
  }
  const pageHide = (): void => {
    clearTimeout(timer)
    hide()
  }
  addEventListener('beforeunload', beforeUnload)
  addEventListener('pagehide', pageHide)
  addEventListener('pageshow', show)
  return () => {
    clearTimeout(timer)
    removeEventListener('beforeunload', beforeUnload)
    removeEventListener('pagehide', pageHide)
    removeEventListener('pageshow', show)
  }
}
