// Stock y-websocket clients, and what a test can see of them.

import WebSocket from 'ws'
import * as Y from 'yjs'
import { WebsocketProvider } from 'y-websocket'
import { token } from './server.mjs'
import { until } from './wait.mjs'

const SYNC_MS = 10_000
const MESSAGE_AUTH = 2

// Every provider listens for the process's end.
process.setMaxListeners(0)

/** A participant: a document and the stock provider, with its sockets and closes on record. */
export class Client {
  /**
   * @param {import('node:test').TestContext} t
   * @param {string} documentName
   * @param {{ jwt?: string, connect?: boolean, ydoc?: Y.Doc, provider?: object, headers?: object }} options
   *   provider: more options for the WebsocketProvider
   */
  constructor (t, server, documentName, { jwt, connect = true, ydoc = new Y.Doc(), provider = {}, headers } = {}) {
    const sockets = []
    const frames = []
    // Counts the attempts, keeps what arrives, and lets the test's end cut what is left.
    class Socket extends WebSocket {
      constructor (url, protocols) {
        super(url, protocols, { headers })
        sockets.push(this)
        this.on('message', data => frames.push(new Uint8Array(data)))
      }
    }
    this.sockets = sockets
    this.frames = frames
    this.ydoc = ydoc
    /** The events `connection-close`: null where the client closed by itself. */
    this.closes = []
    /** The events `closed`: the server said that trying again is pointless. */
    this.closed = []
    this.provider = new WebsocketProvider(server.wsUrl, documentName, ydoc, {
      connect: false,
      WebSocketPolyfill: Socket,
      disableBc: true,
      params: jwt === undefined ? {} : { token: jwt },
      ...provider
    })
    this.provider.on('connection-close', event => this.closes.push(event))
    this.provider.on('closed', event => this.closed.push(event))
    t.after(() => this.end())
    if (connect) this.provider.connect()
  }

  get awareness () {
    return this.provider.awareness
  }

  get id () {
    return this.ydoc.clientID
  }

  get text () {
    return this.ydoc.getText('text')
  }

  /** What the server said in type-2 messages: that permission is denied. */
  get denials () {
    return this.frames.filter(frame => frame[0] === MESSAGE_AUTH).length
  }

  async synced (within = SYNC_MS) {
    await until(() => this.provider.synced, {
      within, what: () => `client synced; closes: ${JSON.stringify(this.closes.map(describe))}`
    })
    return this
  }

  /** The socket breaks, and the provider sees to the rest. */
  drop () {
    this.provider.ws?.terminate()
  }

  /** The socket breaks, and nobody comes back: the laptop was closed. */
  vanish () {
    this.provider.shouldConnect = false
    this.drop()
  }

  /** Leaves in the polite way. */
  leave () {
    this.provider.destroy()
  }

  end () {
    this.provider.destroy()
    this.ydoc.destroy()
    for (const socket of this.sockets) socket.terminate()
  }
}

const describe = event => (event === null ? 'by the client' : { code: event.code, reason: event.reason })

/** A connected and synced client with access `access` to `documentName`. */
export async function join (t, server, documentName, { access = 'write', sub, name, ...options } = {}) {
  const jwt = await token({ [documentName]: access }, { sub, name })
  return new Client(t, server, documentName, { jwt, ...options }).synced()
}
