import type { Problem } from './state.ts'

/** Connection status, with the values of y-websocket. */
export type Status = 'connecting' | 'connected' | 'disconnected'

/** Argument of the `status` event. */
export interface StatusEvent {
  /** Connection status. */
  readonly status: Status
  /** The current problem, for example `store_unavailable`. Retries continue. */
  readonly detail?: Problem
}

/** Argument of the `saved` event. */
export interface SavedEvent {
  /** Whether all local changes are on disk. Undefined if the server sends no acknowledgements. */
  readonly saved: boolean | undefined
  /** The number of unacknowledged frames plus unsent changes. */
  readonly unsaved: number | undefined
}
