import type { Awareness } from 'y-protocols/awareness'
import type { UserFields } from './presence.ts'
import type { SocketClass } from './socket.ts'

/** A token, or a function called before each attempt to connect and on request of the server. */
export type TokenSource = string | (() => string | undefined | PromiseLike<string | undefined>)

/** Options of y-websocket and additions, except the one that refers to the provider. */
export interface ConnectionOptions {
  /** Connect in the constructor. Default: true, except in Node without `WebSocketPolyfill`. */
  readonly connect?: boolean
  /** An existing awareness of `doc`. The provider does not destroy it. */
  readonly awareness?: Awareness
  /** Query parameters. Proxies log them; pass tokens in `token`. */
  readonly params?: Record<string, string>
  /** Additional WebSocket subprotocols to offer. */
  readonly protocols?: readonly string[]
  /** The WebSocket class. Default: the global one, or the package `ws` in Node. */
  readonly WebSocketPolyfill?: SocketClass
  /** Interval between SyncStep1 messages, in milliseconds. Default: none are sent. */
  readonly resyncInterval?: number
  /** Maximum delay between connection attempts, in milliseconds. Default: 10,000. */
  readonly maxBackoffTime?: number
  /** Disables the BroadcastChannel between tabs. */
  readonly disableBc?: boolean
  /** Authenticates to the server. */
  readonly token?: TokenSource
  /** Presence shown to other users. */
  readonly user?: UserFields
  /**
   * Offers no subprotocol and sends the token as `?token=`, like y-websocket. Needed for servers
   * that select no subprotocol, because browsers then fail the connection. By default
   * `syncline.v1` is offered, with a fallback to the y-websocket protocol.
   */
  readonly dialect?: 'y-websocket'
  /** The epoch of a stored `doc`: the value of `provider.epoch` when it was stored. */
  readonly epoch?: string
}
