// A scripted server with a Yjs document. Follows the protocol by default; tests can send any frame,
// including ones that a correct server never sends.

import type { IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { onTestFinished } from 'vitest'
import { type WebSocket, WebSocketServer } from 'ws'
import * as Y from 'yjs'
import {
  decode,
  type Message,
  presence,
  syncStep1,
  syncStep2,
  update,
  type Welcome,
} from '../../src/wire.ts'
import { savedFrame, WELCOME, welcomeFrame } from './frames.ts'

/** A client's connection. */
export class FakeSession {
  readonly socket: WebSocket
  readonly request: IncomingMessage
  readonly offers: readonly string[]
  readonly received: Message[] = []
  readonly raw: Uint8Array[] = []
  /** The latest presence entries of this client. */
  presence: Uint8Array | undefined
  /** The number of update frames received. */
  frames = 0

  constructor(socket: WebSocket, request: IncomingMessage) {
    this.socket = socket
    this.request = request
    this.offers = (request.headers['sec-websocket-protocol'] ?? '')
      .split(',')
      .map(offer => offer.trim())
  }

  get query(): URLSearchParams {
    return new URL(this.request.url ?? '', 'http://fake').searchParams
  }

  get token(): string | undefined {
    return this.offers.find(offer => offer.startsWith('bearer.'))?.slice('bearer.'.length)
  }

  send(frame: Uint8Array): void {
    this.socket.send(frame)
  }

  kinds(): string[] {
    return this.received.map(message => message.kind)
  }
}

/** Deviations from the protocol. */
export interface FakeOptions {
  /** False: selects the first offered subprotocol, like `ws`, but implements only y-websocket. */
  readonly extended?: boolean
  /** Overrides fields of the Welcome. */
  readonly welcome?: Partial<Welcome>
  /** Returns the close code and reason of a refusal, or undefined to accept. */
  readonly verdict?: (session: FakeSession) => readonly [code: number, reason: string] | undefined
  /** False: does not store or acknowledge update frames. */
  readonly acknowledges?: boolean
}

export class FakeServer {
  readonly doc = new Y.Doc()
  readonly sessions: FakeSession[] = []
  options: FakeOptions
  readonly #server: WebSocketServer

  private constructor(server: WebSocketServer, options: FakeOptions) {
    this.#server = server
    this.options = options
    server.on('connection', (socket, request) => this.#serve(new FakeSession(socket, request)))
  }

  /** Listens on a free port until the test ends. */
  static async start(options: FakeOptions = {}): Promise<FakeServer> {
    const server = new WebSocketServer({
      port: 0,
      handleProtocols: offers => offers.values().next().value ?? false,
    })
    await new Promise(resolve => server.once('listening', resolve))
    onTestFinished(() => {
      for (const socket of server.clients) socket.terminate()
      server.close()
    })
    return new FakeServer(server, options)
  }

  get url(): string {
    return `ws://127.0.0.1:${(this.#server.address() as AddressInfo).port}/ws`
  }

  get last(): FakeSession {
    const session = this.sessions.at(-1)
    if (session === undefined) throw new Error('no client has connected')
    return session
  }

  #serve(session: FakeSession): void {
    this.sessions.push(session)
    const verdict = this.options.verdict?.(session)
    if (verdict !== undefined) return session.socket.close(...verdict)
    if (this.options.extended !== false)
      session.send(welcomeFrame({ ...WELCOME, ...this.options.welcome }))
    const access = this.options.welcome?.access ?? 'write'
    if (access !== 'read') session.send(syncStep1(Y.encodeStateVector(this.doc)))
    session.socket.on('message', (data: Buffer) => this.#receive(session, new Uint8Array(data)))
  }

  #receive(session: FakeSession, frame: Uint8Array): void {
    const message = decode(frame)
    session.raw.push(frame)
    session.received.push(message)
    switch (message.kind) {
      case 'syncStep1':
        return session.send(syncStep2(Y.encodeStateAsUpdate(this.doc, message.stateVector)))
      case 'syncStep2':
      case 'update': {
        session.frames += 1
        if (this.options.acknowledges === false || this.options.welcome?.access === 'read') return
        Y.applyUpdate(this.doc, message.update)
        for (const other of this.sessions) {
          if (other !== session && other.socket.readyState === 1) other.send(update(message.update))
        }
        if (this.options.extended !== false) session.send(savedFrame(session.frames))
        return
      }
      case 'presence': {
        const others = this.sessions.filter(
          other => other !== session && other.socket.readyState === 1,
        )
        if (session.presence === undefined) {
          for (const { presence: entries } of others) if (entries) session.send(presence(entries))
        }
        session.presence = message.entries
        for (const other of [session, ...others]) other.send(presence(message.entries))
      }
    }
  }
}
