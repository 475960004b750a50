/** Where sockets come from: the platform's WebSocket, a given class, or the package `ws`. */

// biome-ignore lint/suspicious/noExplicitAny: each platform has event types of its own.
type Listener = ((event: any) => void) | null

/** What is used of a WebSocket. The browser's fits, and so does that of the package `ws`. */
export interface Socket {
  /** Set to `arraybuffer`. */
  binaryType: string
  /** 1 while it takes frames. */
  readonly readyState: number
  /** The subprotocol that the server selected. */
  readonly protocol: string
  /** The handshake is done. */
  onopen: Listener
  /** A frame has come. */
  onmessage: Listener
  /** It is closed, with `code` and `reason`. */
  onclose: Listener
  /** It failed; `onclose` follows. */
  onerror: Listener
  /** Sends a frame. */
  send(data: Uint8Array<ArrayBuffer>): void
  /** Ends it, in whatever state it is. */
  close(code?: number, reason?: string): void
}

/** A constructor of sockets. */
export type SocketClass = new (url: string, protocols?: string[]) => Socket

/** `readyState` of a socket that takes frames. */
export const OPEN = 1

/**
 * The platform's WebSocket. Node 20 has none: there the package `ws` is loaded, an optional peer.
 * Bundlers do not see the import, so pages need not have it.
 */
export function platformSocket(): SocketClass | Promise<SocketClass> {
  if (typeof WebSocket !== 'undefined') return WebSocket
  const name = 'ws'
  return import(/* @vite-ignore */ /* webpackIgnore: true */ name).then(
    module => module.default as SocketClass,
    (cause: unknown) => {
      const advice = 'no WebSocket found: install `ws` or pass WebSocketPolyfill'
      throw new Error(advice, { cause })
    },
  )
}

/** Whether this is a server: nobody is there to edit, so nothing connects without being asked. */
export function isServer(): boolean {
  const isPage = typeof window !== 'undefined'
  const isWorker = 'WorkerGlobalScope' in globalThis
  return !isPage && !isWorker && typeof process !== 'undefined' && !!process.versions?.node
}
