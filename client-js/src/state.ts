/** What the machine remembers, what can happen to it, and what it can ask for. */

import type { Reaction } from './close-code.ts'
import * as ledger from './ledger.ts'
import type { Message, Welcome } from './wire.ts'

/**
 * Where a connection is. `idle`: not wanted. `authorizing`: a token is being fetched. `open`: frames
 * flow. `waiting`: until the next attempt. `stopped`: trying again is pointless.
 */
export type Phase =
  | 'idle'
  | 'authorizing'
  | 'connecting'
  | 'open'
  | 'waiting'
  | 'stopped'
  | 'destroyed'

/** What the server speaks: with or without acknowledgements. */
export type Dialect = 'syncline.v1' | 'y-websocket'

/** Why something does not work at the moment, though it is being tried. */
export interface Problem {
  /** One word, as in docs/errors.md. */
  readonly code: string
  /** What the server said about it. */
  readonly text: string
}

/** A frame that the server does not take. */
export interface Refusal extends Problem {
  /** What to do about it. Empty if nothing is to be done. */
  readonly hint: string
  /** The number of the update frame on its connection; 0 or undefined if it is about no frame. */
  readonly frame: number | undefined
}

/** Why the provider stopped: trying again would end in the same way. */
export interface Closed {
  /** The close code. */
  readonly code: number
  /** The reason, as the server gave it: `word: text`. */
  readonly reason: string
}

/** Two histories of one document that must not be merged. */
export interface EpochMismatch {
  /** The history that this copy belongs to. */
  readonly held: string
  /** The history that the server has, if it said so. */
  readonly offered: string | undefined
}

/** Everything that the machine remembers. */
export interface State {
  readonly phase: Phase
  /** Whether the user wants to be connected. */
  readonly wanted: boolean
  /** The longest pause between attempts, in milliseconds. */
  readonly backoffMax: number
  /** The number of the latest attempt. */
  readonly attempt: number
  /** Attempts in a row that did not sync. */
  readonly failures: number
  /** The token of the latest attempt. */
  readonly token: string | undefined
  /** The refusal of a token, until another one has proved itself. */
  readonly rejected: { readonly token: string | undefined; readonly closed: Closed } | undefined
  /** What the last server spoke. Undefined until one has spoken. */
  readonly dialect: Dialect | undefined
  /** Whether the server has selected our subprotocol on this connection. */
  readonly extended: boolean
  /** Whether a frame has arrived on this connection. */
  readonly receivedFirstFrame: boolean
  /** Whether the server's state has arrived on this connection. */
  readonly synced: boolean
  /** Whether changes are sent as they happen: the server's question for older ones is settled. */
  readonly streaming: boolean
  /** What the server said of itself, last. */
  readonly welcome: Welcome | undefined
  /** The history that this copy belongs to. */
  readonly epoch: string | undefined
  readonly problem: Problem | undefined
  readonly ledger: ledger.Ledger
}

/** What happens to a connection. `attempt` says which one it happened to. */
export type Event =
  | { readonly type: 'connect' }
  | { readonly type: 'disconnect' }
  | { readonly type: 'destroy' }
  /** Whether to come back after the next loss. If not, what is open stays open. */
  | { readonly type: 'want'; readonly wanted: boolean }
  | { readonly type: 'token'; readonly attempt: number; readonly token: string | undefined }
  /** No token could be had, the bytes made no sense, or nothing was heard for too long. */
  | { readonly type: 'failed'; readonly attempt: number }
  | { readonly type: 'opened'; readonly attempt: number; readonly protocol: string }
  | {
      readonly type: 'closed'
      readonly attempt: number
      readonly code: number
      readonly reason: string
      /** What the application wants instead of what the code asks for. */
      readonly reaction?: Reaction | undefined
    }
  | { readonly type: 'retry'; readonly attempt: number }
  /** The network is back. */
  | { readonly type: 'online' }
  | { readonly type: 'changed'; readonly update: Uint8Array; readonly local: boolean }
  | { readonly type: 'received'; readonly attempt: number; readonly message: Message }
  /** Another tab told which history it shares with us. */
  | { readonly type: 'epochLearned'; readonly epoch: string }

/** What the driver has to do. */
export type Command =
  /** Get a token, and say `token` or `failed`. */
  | { readonly do: 'authorize'; readonly attempt: number }
  | {
      readonly do: 'open'
      readonly attempt: number
      readonly token: string | undefined
      readonly epoch: string | undefined
    }
  | { readonly do: 'close'; readonly code?: number }
  /** Say `retry` after a random part of `ceiling` milliseconds. */
  | { readonly do: 'wait'; readonly attempt: number; readonly ceiling: number }
  /** Ask for what is new, and say who is here. */
  | { readonly do: 'startSync' }
  /** Send, as one SyncStep2, everything that the state vector lacks. */
  | { readonly do: 'sendDiff'; readonly stateVector: Uint8Array }
  | { readonly do: 'sendUpdate'; readonly update: Uint8Array }
  | { readonly do: 'sendToken'; readonly token: string }
  | { readonly do: 'apply'; readonly update: Uint8Array }
  | { readonly do: 'applyPresence'; readonly entries: Uint8Array }
  | { readonly do: 'sendPresence' }
  | { readonly do: 'emit'; readonly notice: Notice }

/** What the application is told beside the state. */
export type Notice =
  | { readonly event: 'welcome'; readonly welcome: Welcome }
  | { readonly event: 'refused'; readonly refusal: Refusal }
  | { readonly event: 'closed'; readonly closed: Closed }
  | { readonly event: 'epoch-mismatch'; readonly mismatch: EpochMismatch }

/** The next state, and what to do, in this order. */
export type Step = readonly [state: State, commands: readonly Command[]]

/** What can be chosen at the beginning. */
export interface InitialOptions {
  /** The history that the copy belongs to, if that is known. */
  readonly epoch: string | undefined
  /** Whether the copy has content already. */
  readonly untracked: boolean
  readonly backoffMax: number
}

/** The state before anything happened. */
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
