/**
 * Codec of the y-websocket protocol and of `syncline.v1`, one message per frame. The grammar is in
 * docs/protocol.md, the test vectors in tests/vectors/, the Rust codec in protocol/src/wire.rs.
 * Updates and presence entries are opaque bytes here.
 */

import { frame, Reader } from './varint.ts'

/** The subprotocol that enables messages of type 64 and above. */
export const SUBPROTOCOL = 'syncline.v1'

/** Access to a document. */
export type Access = 'read' | 'write' | 'admin'

/** Guarantee of an acknowledgement: in memory, passed to the OS, or synced to disk. */
export type Durability = 'memory' | 'os' | 'fsync'

/** The server's size limits, in bytes. */
export interface Limits {
  /** One frame. */
  readonly message: number
  /** One update frame, except the initial diff. */
  readonly update: number
  /** One presence state. */
  readonly presence: number
}

/** The server's first message on a `syncline.v1` connection, repeated when the access changes. */
export interface Welcome {
  /** The connection's ID on the server. */
  readonly session: number
  /** Identifies the document's history, 16 hex digits. Undefined if the server stores none. */
  readonly epoch: string | undefined
  /** Access of this connection. */
  readonly access: Access
  /** Guarantee of acknowledgements. */
  readonly durability: Durability
  /** Whether the document is quarantined, which makes it read-only for all clients. */
  readonly quarantined: boolean
  /** Size limits. */
  readonly limits: Limits
  /** The server's clock, in milliseconds since the Unix epoch. */
  readonly serverTime: number
}

/** A decoded message from the server or another tab. */
export type Message =
  | { readonly kind: 'syncStep1'; readonly stateVector: Uint8Array }
  | { readonly kind: 'syncStep2'; readonly update: Uint8Array }
  | { readonly kind: 'update'; readonly update: Uint8Array }
  | { readonly kind: 'presence'; readonly entries: Uint8Array }
  | { readonly kind: 'denied'; readonly reason: string }
  | { readonly kind: 'queryPresence' }
  | { readonly kind: 'welcome'; readonly welcome: Welcome }
  | { readonly kind: 'saved'; readonly frames: number }
  | {
      readonly kind: 'refused'
      readonly frame: number
      readonly code: string
      readonly text: string
    }
  | { readonly kind: 'tokenWanted'; readonly secondsLeft: number }
  | { readonly kind: 'unknown'; readonly type: number }

const SYNC = 0
const PRESENCE = 1
const AUTH = 2
const QUERY_PRESENCE = 3
/** The first message type of `syncline.v1`. */
const EXTENSIONS = 64
const WELCOME = 64
const SAVED = 65
const REFUSED = 66
const TOKEN_WANTED = 67
const TOKEN = 68

const SYNC_STEP_1 = 0
const SYNC_STEP_2 = 1
const UPDATE = 2

const ACCESS: readonly Access[] = ['read', 'write', 'admin']
const DURABILITY: readonly Durability[] = ['memory', 'os', 'fsync']
const FLAG_QUARANTINED = 1

/**
 * Decodes a frame. For compatibility with newer servers, extensions of an unknown type are
 * `unknown`, and bytes after the known fields of an extension are ignored.
 *
 * @throws if the bytes are not exactly one message.
 */
export function decode(bytes: Uint8Array): Message {
  const reader = new Reader(bytes)
  const type = reader.uint()
  const message = decodeBody(reader, type)
  if (type < EXTENSIONS && reader.hasMore) throw new Error('trailing bytes')
  return message
}

function decodeBody(reader: Reader, type: number): Message {
  switch (type) {
    case SYNC:
      return decodeSync(reader)
    case PRESENCE:
      return { kind: 'presence', entries: reader.buffer() }
    case AUTH: {
      const auth = reader.uint()
      if (auth !== 0) throw new Error(`unknown auth type ${auth}`)
      return { kind: 'denied', reason: reader.string() }
    }
    case QUERY_PRESENCE:
      return { kind: 'queryPresence' }
    case WELCOME:
      return { kind: 'welcome', welcome: decodeWelcome(reader) }
    case SAVED:
      return { kind: 'saved', frames: reader.uint() }
    case REFUSED: {
      const frame = reader.uint()
      return { kind: 'refused', frame, code: reader.string(), text: reader.string() }
    }
    case TOKEN_WANTED:
      return { kind: 'tokenWanted', secondsLeft: reader.uint() }
    default:
      if (type < EXTENSIONS) throw new Error(`unknown message type ${type}`)
      return { kind: 'unknown', type }
  }
}

function decodeSync(reader: Reader): Message {
  const type = reader.uint()
  const payload = reader.buffer()
  switch (type) {
    case SYNC_STEP_1:
      return { kind: 'syncStep1', stateVector: payload }
    case SYNC_STEP_2:
      return { kind: 'syncStep2', update: payload }
    case UPDATE:
      return { kind: 'update', update: payload }
    default:
      throw new Error(`unknown sync type ${type}`)
  }
}

function decodeWelcome(reader: Reader): Welcome {
  const session = reader.uint()
  const epoch = reader.string() || undefined
  const access = enumValue(ACCESS, reader.uint())
  const durability = enumValue(DURABILITY, reader.uint())
  const quarantined = (reader.uint() & FLAG_QUARANTINED) !== 0
  const message = reader.uint()
  const update = reader.uint()
  const presence = reader.uint()
  const serverTime = reader.uint()
  const limits = { message, update, presence }
  return { session, epoch, access, durability, quarantined, limits, serverTime }
}

function enumValue<Name>(names: readonly Name[], index: number): Name {
  const name = names[index]
  if (name === undefined) throw new Error(`${index} is none of ${names}`)
  return name
}

/** Requests the difference to a state vector. */
export const syncStep1 = (stateVector: Uint8Array): Uint8Array =>
  frame([SYNC, SYNC_STEP_1], stateVector)

/** Answers a SyncStep1. Counts as an update frame. */
export const syncStep2 = (update: Uint8Array): Uint8Array => frame([SYNC, SYNC_STEP_2], update)

/** A live change. Counts as an update frame. */
export const update = (update: Uint8Array): Uint8Array => frame([SYNC, UPDATE], update)

/** Presence states, as y-protocols encodes them. */
export const presence = (entries: Uint8Array): Uint8Array => frame([PRESENCE], entries)

/** Requests all presence states. */
export const queryPresence = (): Uint8Array => frame([QUERY_PRESENCE])

/** A new token for this connection. */
export const token = (jwt: string): Uint8Array => frame([TOKEN], new TextEncoder().encode(jwt))
