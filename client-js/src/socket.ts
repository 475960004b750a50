/** WebSocket implementations: the platform's, a supplied class, or the package `ws`. */

// biome-ignore lint/suspicious/noExplicitAny: event types differ between platforms.
type Listener = ((event: any) => void) | null

/** The subset of WebSocket that the provider uses. Implemented by browsers and `ws`. */
export interface Socket {
  /** Set to `arraybuffer`. */
  binaryType: string
  /** 1 while open. */
  readonly readyState: number
  /** The subprotocol that the server selected. */
  readonly protocol: string
  /** Called after the handshake. */
  onopen: Listener
  /** Called for each frame. */
  onmessage: Listener
  /** Called after closing, with `code` and `reason`. */
  onclose: Listener
  /** Called on failure; `onclose` follows. */
  onerror: Listener
  /** Sends a frame. */
  send(data: Uint8Array<ArrayBuffer>): void
  /** Closes the socket. Valid in every state. */
  close(code?: number, reason?: string): void
}

/** A WebSocket constructor. */
export type SocketClass = new (url: string, protocols?: string[]) => Socket

/** `readyState` of an open socket. */
export const OPEN = 1

/**
 * The platform's WebSocket. In Node 20, which has none, the optional peer dependency `ws`. The
 * import is hidden from bundlers, so pages do not need the package.
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

/** Whether this is Node outside a page or worker, where providers do not connect by default. */
export function isServer(): boolean {
  const isPage = typeof window !== 'undefined'
  const isWorker = 'WorkerGlobalScope' in globalThis
  return !isPage && !isWorker && typeof process !== 'undefined' && !!process.versions?.node
}
