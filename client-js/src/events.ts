import type { Participant } from './presence.ts'
import type { SynclineProvider } from './provider.ts'
import type { Closed, EpochMismatch, Problem, Refusal } from './state.ts'
import type { Welcome } from './wire.ts'

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

/** What a provider emits, and with what. Those of y-websocket have its arguments. */
export type ProviderEvents = {
  /** Connecting, connected or disconnected, or something else is in the way now. */
  readonly status: (event: StatusEvent) => void
  /** Whether the server's state has arrived on this connection. */
  readonly sync: (synced: boolean) => void
  /** The same as `sync`. */
  readonly synced: (synced: boolean) => void
  /** A socket closed; null if it was closed from here. */
  readonly 'connection-close': (event: CloseEvent | null, provider: SynclineProvider) => void
  /** A socket failed, or no token could be had. It is tried again, unless `closed` follows. */
  readonly 'connection-error': (error: unknown, provider: SynclineProvider) => void
  /** Trying again is pointless: the provider has stopped. */
  readonly closed: (closed: Closed, provider: SynclineProvider) => void
  /** `saved` or `unsaved` is another one. */
  readonly saved: (event: SavedEvent) => void
  /** The server does not take a frame. The change stays in the document. */
  readonly refused: (refusal: Refusal) => void
  /** The server has said what it is; `provider.epoch` is known from here. */
  readonly welcome: (welcome: Welcome) => void
  /** The server has another history of the document: `restartWith`. */
  readonly 'epoch-mismatch': (mismatch: EpochMismatch) => void
  /** Somebody came, went, or changed. */
  readonly users: (users: readonly Participant[]) => void
  /** The provider has ended. */
  readonly destroy: (provider: SynclineProvider) => void
}
