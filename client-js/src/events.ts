import type { Problem } from './state.ts'

/** Whether there is a connection, in the words of y-websocket. */
export type Status = 'connecting' | 'connected' | 'disconnected'

/** Where the connection is, and what is in its way. */
export interface StatusEvent {
  /** Whether there is a connection. */
  readonly status: Status
  /** Why it does not work as it should, though it is being tried: for example `store_unavailable`. */
  readonly detail?: Problem
}

/** How much of what was changed here is on disk. */
export interface SavedEvent {
  /** Everything is. Undefined if the server does not say. */
  readonly saved: boolean | undefined
  /** Frames that are not known to be on disk, and changes that are not sent. */
  readonly unsaved: number | undefined
}
