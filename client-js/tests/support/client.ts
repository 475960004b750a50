// Providers with recorded sockets and events, destroyed at the end of the test.

import { onTestFinished } from 'vitest'
import WebSocket from 'ws'
import * as Y from 'yjs'
import { until } from '../../../tests/npm/support/wait.mjs'
import {
  type Closed,
  createProvider,
  type ProviderOptions,
  type Refusal,
  type SavedEvent,
  type SynclineProvider,
} from '../../src/index.ts'

/** Timeout of conditions, in milliseconds. Long, for busy machines; reached only on failure. */
export const SOON_MS = 15_000

export const soon = (predicate: () => unknown, what: string | (() => string)): Promise<unknown> =>
  until(predicate, { within: SOON_MS, what })

/** Options of {@link Client}. */
export interface ClientOptions extends ProviderOptions {
  readonly url: string
  readonly name?: string
  readonly doc?: Y.Doc
}

/** A document, its provider, and the recorded events. */
export class Client {
  readonly doc: Y.Doc
  readonly provider: SynclineProvider
  readonly sockets: WebSocket[] = []
  readonly sent: Uint8Array[] = []
  readonly statuses: string[] = []
  readonly saves: SavedEvent[] = []
  readonly refusals: Refusal[] = []
  readonly closed: Closed[] = []
  readonly closes: (CloseEvent | null)[] = []
  readonly errors: unknown[] = []

  constructor({ url, name = 'notes/today', doc = new Y.Doc(), ...options }: ClientOptions) {
    const { sockets, sent } = this
    class Recorded extends WebSocket {
      constructor(address: string, protocols?: string[]) {
        super(address, protocols)
        sockets.push(this)
      }

      override send(data: Uint8Array): void {
        sent.push(data)
        super.send(data)
      }
    }
    this.doc = doc
    this.provider = createProvider({
      url,
      name,
      doc,
      disableBc: true,
      maxBackoffTime: 200,
      WebSocketPolyfill: Recorded,
      ...options,
      connect: false,
    })
    const { provider } = this
    provider.on('status', ({ status }) => this.statuses.push(status))
    provider.on('saved', event => this.saves.push(event))
    provider.on('refused', refusal => this.refusals.push(refusal))
    provider.on('closed', closed => this.closed.push(closed))
    provider.on('connection-close', event => this.closes.push(event))
    provider.on('connection-error', error => this.errors.push(error))
    onTestFinished(() => this.end())
    if (options.connect !== false) provider.connect()
  }

  get text(): Y.Text {
    return this.doc.getText('text')
  }

  async synced(): Promise<this> {
    await soon(
      () => this.provider.synced,
      () => `synced; ${JSON.stringify({ closed: this.closed, closes: this.closes.length })}`,
    )
    return this
  }

  async saved(): Promise<this> {
    await soon(
      () => this.provider.saved === true,
      () => `saved; unsaved: ${this.provider.unsaved}`,
    )
    return this
  }

  reads(string: string): Promise<unknown> {
    return soon(
      () => this.text.toString() === string,
      () => `"${string}", not "${this.text}"`,
    )
  }

  /** Terminates the socket without a close handshake. */
  drop(): void {
    this.sockets.at(-1)?.terminate()
  }

  end(): void {
    this.provider.destroy()
    this.doc.destroy()
    for (const socket of this.sockets) socket.terminate()
  }
}
