/** States, events and commands of the state machine. */

import type { Reaction } from './close-code.ts'
import * as ledger from './ledger.ts'
import type { Message, Welcome } from './wire.ts'

/**
 * Phase of a connection. `idle`: not requested. `authorizing`: fetching a token. `open`: exchanging
 * frames. `waiting`: for the next attempt. `stopped`: after a permanent refusal.
 */
export type Phase =
  | 'idle'
  | 'authorizing'
  | 'connecting'
  | 'open'
  | 'waiting'
  | 'stopped'
  | 'destroyed'

/** The server's protocol: with or without acknowledgements. */
export type Dialect = 'syncline.v1' | 'y-websocket'

/** An error code and its explanation. */
export interface Problem {
  /** An identifier of docs/errors.md. */
  readonly code: string
  /** The server's explanation. */
  readonly text: string
}

/** Argument of the `refused` event. */
export interface Refusal extends Problem {
  /** The remedy. Empty if the code has none. */
  readonly hint: string
  /** The update frame's number on its connection; 0 or undefined if no frame is concerned. */
  readonly frame: number | undefined
}

/** Argument of the `closed` event: a permanent refusal. */
export interface Closed {
  /** The close code. */
  readonly code: number
  /** The server's reason: `code: text`. */
  readonly reason: string
}

/** Argument of the `epoch-mismatch` event: two histories that must not be merged. */
export interface EpochMismatch {
  /** The epoch of the local document. */
  readonly held: string
  /** The epoch of the server, if the server sent it. */
  readonly offered: string | undefined
}

/** The state of the machine. */
export interface State {
  readonly phase: Phase
  /** Whether to connect and reconnect. */
  readonly wanted: boolean
  /** Maximum delay between attempts, in milliseconds. */
  readonly backoffMax: number
  /** The number of the latest attempt. */
  readonly attempt: number
  /** Consecutive attempts without a sync. */
  readonly failures: number
  /** The token of the latest attempt. */
  readonly token: string | undefined
  /** The latest refused token, until a sync with another one. */
  readonly rejected: { readonly token: string | undefined; readonly closed: Closed } | undefined
  /** The latest server's protocol. Undefined before its first frame. */
  readonly dialect: Dialect | undefined
  /** Whether the server selected `syncline.v1` on this connection. */
  readonly extended: boolean
  readonly receivedFirstFrame: boolean
  /** Whether the server's state was received on this connection. */
  readonly synced: boolean
  /** Whether changes are sent at once. False until the server's SyncStep1 is answered. */
  readonly streaming: boolean
  /** The latest Welcome message. */
  readonly welcome: Welcome | undefined
  /** Identifies the history of the local document. */
  readonly epoch: string | undefined
  readonly problem: Problem | undefined
  readonly ledger: ledger.Ledger
}

/** Input of the machine. `attempt` is the attempt that the event belongs to. */
export type Event =
  | { readonly type: 'connect' }
  | { readonly type: 'disconnect' }
  | { readonly type: 'destroy' }
  /** Sets whether to reconnect. An open connection stays open. */
  | { readonly type: 'want'; readonly wanted: boolean }
  | { readonly type: 'token'; readonly attempt: number; readonly token: string | undefined }
  /** A failed token request, an undecodable frame, or a receive timeout. */
  | { readonly type: 'failed'; readonly attempt: number }
  | { readonly type: 'opened'; readonly attempt: number; readonly protocol: string }
  | {
      readonly type: 'closed'
      readonly attempt: number
      readonly code: number
      readonly reason: string
      /** Overrides the default for the close code. */
      readonly reaction?: Reaction | undefined
    }
  | { readonly type: 'retry'; readonly attempt: number }
  /** The browser reports a network connection. */
  | { readonly type: 'online' }
  | { readonly type: 'changed'; readonly update: Uint8Array; readonly local: boolean }
  | { readonly type: 'received'; readonly attempt: number; readonly message: Message }
  /** Content of this epoch was received from another tab. */
  | { readonly type: 'epochLearned'; readonly epoch: string }

/** Output of the machine, executed by connection.ts. */
export type Command =
  /** Fetch a token; dispatch `token` or `failed`. */
  | { readonly do: 'authorize'; readonly attempt: number }
  | {
      readonly do: 'open'
      readonly attempt: number
      readonly token: string | undefined
      readonly epoch: string | undefined
    }
  | { readonly do: 'close'; readonly code?: number }
  /** Dispatch `retry` after a random delay below `ceiling` milliseconds. */
  | { readonly do: 'wait'; readonly attempt: number; readonly ceiling: number }
  /** Send SyncStep1 and the local presence. */
  | { readonly do: 'startSync' }
  /** Send the difference to the state vector as one SyncStep2. */
  | { readonly do: 'sendDiff'; readonly stateVector: Uint8Array }
  | { readonly do: 'sendUpdate'; readonly update: Uint8Array }
  | { readonly do: 'sendToken'; readonly token: string }
  | { readonly do: 'apply'; readonly update: Uint8Array }
  | { readonly do: 'applyPresence'; readonly entries: Uint8Array }
  | { readonly do: 'sendPresence' }
  | { readonly do: 'emit'; readonly notice: Notice }

/** Events for the application that are not derived from state changes. */
export type Notice =
  | { readonly event: 'welcome'; readonly welcome: Welcome }
  | { readonly event: 'refused'; readonly refusal: Refusal }
  | { readonly event: 'closed'; readonly closed: Closed }
  | { readonly event: 'epoch-mismatch'; readonly mismatch: EpochMismatch }

/** The next state and the commands, in order of execution. */
export type Step = readonly [state: State, commands: readonly Command[]]

/** Arguments of {@link initialState}. */
export interface InitialOptions {
  /** The document's epoch, if known. */
  readonly epoch: string | undefined
  /** Whether the document already has content. */
  readonly untracked: boolean
  readonly backoffMax: number
}

export const initialState = ({ epoch, untracked, backoffMax }: InitialOptions): State => ({
  phase: 'idle',
  wanted: false,
  backoffMax,
  attempt: 0,
  failures: 0,
  token: undefined,
  rejected: undefined,
  dialect: undefined,
  extended: false,
  receivedFirstFrame: false,
  synced: false,
  streaming: false,
  welcome: undefined,
  epoch,
  problem: undefined,
  ledger: ledger.create(untracked),
})
