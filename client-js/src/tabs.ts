/** Synchronization between tabs of one origin over a BroadcastChannel. Needs no server. */

import type { DocReplica } from './doc-replica.ts'
import { decode, type Message, presence, queryPresence, syncStep1, syncStep2 } from './wire.ts'

/** A message: one frame and the epoch of the sender's document. */
interface Envelope {
  readonly frame: Uint8Array
  readonly epoch: string | undefined
  /** The sender has just opened the channel and needs the others' state. */
  readonly isNew: boolean
}

/** Callbacks of a {@link TabChannel} into its provider. */
export interface TabsHost {
  epoch(): string | undefined
  /** Whether `restartWith` replaced this epoch. */
  isRejected(epoch: string): boolean
  /** The document received content of this epoch. */
  epochLearned(epoch: string): void
}

/** The channel of one document on one server. */
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

  /** Opens the channel and requests the others' state. Idempotent. */
  open(): void {
    if (this.#channel !== undefined || typeof BroadcastChannel === 'undefined') return
    this.#channel = new BroadcastChannel(`syncline:${this.#name}`)
    this.#channel.onmessage = ({ data }: MessageEvent<Envelope>) => this.#receive(data)
    // In Node an open channel keeps the process running.
    ;(this.#channel as { unref?: () => void }).unref?.()
    this.publish(syncStep1(this.#replica.stateVector()), true)
    this.publish(queryPresence())
    this.#publishPresence()
  }

  /** Removes the local presence from other tabs and closes the channel. Idempotent. */
  close(): void {
    this.publish(presence(this.#replica.presenceRemoval()))
    this.#channel?.close()
    this.#channel = undefined
  }

  /** Sends a frame to all other tabs. No effect while closed. */
  publish(frame: Uint8Array, isNew = false): void {
    const envelope: Envelope = { frame, epoch: this.#host.epoch(), isNew }
    this.#channel?.postMessage(envelope)
  }

  #receive({ frame, epoch, isNew }: Envelope): void {
    const own = this.#host.epoch()
    // A tab with a replaced history must not reintroduce it.
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
