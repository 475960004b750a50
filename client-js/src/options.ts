import type { Awareness } from 'y-protocols/awareness'
import type { UserFields } from './presence.ts'
import type { SocketClass } from './socket.ts'

/** A token, or where to get one. A function is called before every connect and when it is asked for. */
export type TokenSource = string | (() => string | undefined | PromiseLike<string | undefined>)

/** The options of y-websocket, and ours. */
export interface ConnectionOptions {
  /** Connect at once. By default true, but not on a server. */
  readonly connect?: boolean
  /** An awareness of your own, for `doc`. */
  readonly awareness?: Awareness
  /** Query parameters. Written to logs by proxies: a token belongs in `token`. */
  readonly params?: Record<string, string>
  /** Further WebSocket subprotocols to offer. */
  readonly protocols?: readonly string[]
  /** The class of sockets, where the platform has none or another one is wanted. */
  readonly WebSocketPolyfill?: SocketClass
  /** Ask the server every so many milliseconds for what was missed. By default never. */
  readonly resyncInterval?: number
  /** The longest pause between attempts, in milliseconds. By default 10,000. */
  readonly maxBackoffTime?: number
  /** Do not talk to other tabs. */
  readonly disableBc?: boolean
  /** Who we are, to the server. */
  readonly token?: TokenSource
  /** Who we are, to others. */
  readonly user?: UserFields
  /**
   * Offers no subprotocol and sends the token as `?token=`, as y-websocket does. For servers that
   * answer no offer at all, with which browsers then refuse to connect. By default ours is offered,
   * and a server that does not know it is spoken to as y-websocket would.
   */
  readonly dialect?: 'y-websocket'
  /** The history that `doc` belongs to, if it was stored: as `provider.epoch` was then. */
  readonly epoch?: string
}
