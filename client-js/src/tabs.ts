/** What tabs of one origin tell each other over a BroadcastChannel, with or without a server. */

import type { DocReplica } from './doc-replica.ts'
import { decode, type Message, presence, queryPresence, syncStep1, syncStep2 } from './wire.ts'

/** What travels: one frame, and which history its sender's copy belongs to. */
interface Envelope {
  readonly frame: Uint8Array
  readonly epoch: string | undefined
  /** A tab has just come, and wants to know what the others have. */
  readonly isNew: boolean
}

/** What the tabs need to know of the history that our copy belongs to. */
export interface TabsHost {
  epoch(): string | undefined
  /** Whether this history was given up. */
  isRejected(epoch: string): boolean
  /** Our copy now holds content of this history. */
  epochLearned(epoch: string): void
}

/** The other tabs that show the same document of the same server. */
export class TabChannel {
  readonly #name: string
  readonly #replica: DocReplica
  readonly #host: TabsHost
  #channel: BroadcastChannel | undefined

  constructor(name: string, replica: DocReplica, host: TabsHost) {
    this.#name = name
    this.#replica = replica
    this.#host = host
  }

  /** Begins to listen, and asks. Idempotent. */
  open(): void {
    if (this.#channel !== undefined || typeof BroadcastChannel === 'undefined') return
    this.#channel = new BroadcastChannel(`syncline:${this.#name}`)
    this.#channel.onmessage = ({ data }: MessageEvent<Envelope>) => this.#receive(data)
    // In Node a channel would keep the process alive.
    ;(this.#channel as { unref?: () => void }).unref?.()
    this.publish(syncStep1(this.#replica.stateVector()), true)
    this.publish(queryPresence())
    this.#publishPresence()
  }

  /** Says goodbye and stops to listen. Idempotent. */
  close(): void {
    this.publish(presence(this.#replica.presenceRemoval()))
    this.#channel?.close()
    this.#channel = undefined
  }

  /** Tells every other tab. */
  publish(frame: Uint8Array, isNew = false): void {
    const envelope: Envelope = { frame, epoch: this.#host.epoch(), isNew }
    this.#channel?.postMessage(envelope)
  }

  #receive({ frame, epoch, isNew }: Envelope): void {
    const own = this.#host.epoch()
    // A tab that was left behind by a replaced history must not bring it back through us.
    if (epoch !== undefined && (this.#host.isRejected(epoch) || (own ?? epoch) !== epoch)) return
    this.#answer(decode(frame), epoch, isNew)
  }

  #answer(message: Message, epoch: string | undefined, isNew: boolean): void {
    switch (message.kind) {
      case 'syncStep1':
        this.publish(syncStep2(this.#replica.diff(message.stateVector)))
        if (isNew) this.publish(syncStep1(this.#replica.stateVector()))
        return
      case 'syncStep2':
      case 'update':
        if (epoch !== undefined) this.#host.epochLearned(epoch)
        return this.#replica.apply(message.update)
      case 'presence':
        return this.#replica.applyPresence(message.entries)
      case 'queryPresence':
        return this.#publishPresence()
    }
  }

  #publishPresence(): void {
    const entries = this.#replica.presence()
    if (entries !== undefined) this.publish(presence(entries))
  }
}
