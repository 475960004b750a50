/** Presence: the user fields that editor bindings share, on a y-protocols `Awareness`. */

import type { Awareness } from 'y-protocols/awareness'

/** The `user` field of a presence state. Bindings read `name`, `color` and `colorLight`. */
export interface User {
  /** Label of the caret. */
  readonly name: string
  /** `#rrggbb`, the only form that ProseMirror accepts. */
  readonly color: string
  /** `#rrggbbaa`, for selections. */
  readonly colorLight: string
  readonly [field: string]: unknown
}

/** Input for a {@link User}. Missing colours are derived from the name. */
export interface UserFields {
  /** Label of the caret. */
  readonly name: string
  /** `#rrggbb`. Default: `colorOf(name)`. */
  readonly color?: string
  readonly [field: string]: unknown
}

/** A client with a user name in its presence state. */
export interface Participant {
  /** The Yjs client ID. A user with two windows has two. */
  readonly clientId: number
  /** Whether this is the local client. */
  readonly isSelf: boolean
  /** The `user` field of the presence state. Not verified by the server. */
  readonly user: User
}

/** Distinguishable on light and dark backgrounds, and readable under white text. */
const COLORS = [
  ...['#c2185b', '#7b1fa2', '#512da8', '#303f9f', '#1565c0', '#00796b', '#2e7d32', '#558b2f'],
  ...['#9e6a03', '#e65100', '#bf360c', '#5d4037', '#546e7a', '#ad1457', '#00838f', '#6a1b9a'],
] as const

/** A colour derived from a hash of `name`: the same on every client. */
export function colorOf(name: string): string {
  let hash = 0
  for (const character of name) hash = (Math.imul(hash, 31) + (character.codePointAt(0) ?? 0)) | 0
  return COLORS[(hash >>> 0) % COLORS.length] ?? COLORS[0]
}

/** Adds the missing colour fields. */
export function makeUser(fields: UserFields): User {
  const color = fields.color ?? colorOf(fields.name)
  return { ...fields, color, colorLight: `${color}33` }
}

/** All clients with a user name: the local one first, then by client ID. */
export function participants(awareness: Awareness): Participant[] {
  const users: Participant[] = []
  for (const [clientId, { user }] of awareness.getStates()) {
    if (typeof user?.name !== 'string') continue
    users.push({ clientId, isSelf: clientId === awareness.clientID, user })
  }
  return users.sort((a, b) => Number(b.isSelf) - Number(a.isSelf) || a.clientId - b.clientId)
}

/** A page that still runs this long after `beforeunload` was not left, in milliseconds. */
const UNLOAD_CANCELLED_AFTER_MS = 1_000

/**
 * Clears the local presence when the page is left, and restores it if the page returns from the
 * back/forward cache or the user cancels leaving. No effect outside pages.
 *
 * @returns a function that removes the listeners.
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
    // Fires only if the user cancelled leaving.
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
