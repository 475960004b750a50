import { type Awareness, applyAwarenessUpdate, encodeAwarenessUpdate } from 'y-protocols/awareness'
import { applyUpdate, type Doc, encodeStateAsUpdate, encodeStateVector } from 'yjs'

/** Whether nothing was ever written to `doc`. */
export const isUntouched = (doc: Doc): boolean => encodeStateVector(doc).length === 1

/** The local document and its presence, encoded as servers and tabs exchange them. */
export class DocReplica {
  readonly #doc: Doc
  readonly #awareness: Awareness
  readonly #origin: unknown

  /** Transactions that apply remote updates have the origin `origin`. */
  constructor(doc: Doc, awareness: Awareness, origin: unknown) {
    this.#doc = doc
    this.#awareness = awareness
    this.#origin = origin
  }

  stateVector(): Uint8Array {
    return encodeStateVector(this.#doc)
  }

  /** The update from `stateVector` to the local state. */
  diff(stateVector: Uint8Array): Uint8Array {
    return encodeStateAsUpdate(this.#doc, stateVector)
  }

  apply(update: Uint8Array): void {
    applyUpdate(this.#doc, update, this.#origin)
  }

  applyPresence(entries: Uint8Array): void {
    applyAwarenessUpdate(this.#awareness, entries, this.#origin)
  }

  /** The local presence state. Undefined if it is null. */
  presence(): Uint8Array | undefined {
    const { clientID } = this.#awareness
    if (this.#awareness.getLocalState() === null) return undefined
    return encodeAwarenessUpdate(this.#awareness, [clientID])
  }

  /** An awareness update that removes the local state. */
  presenceRemoval(): Uint8Array {
    return encodeAwarenessUpdate(this.#awareness, [this.#awareness.clientID], new Map())
  }

  /** Raises the clock of the local state. Peers that removed the state ignore its old clock. */
  renewPresence(): void {
    const state = this.#awareness.getLocalState()
    if (state !== null) this.#awareness.setLocalState(state)
  }
}
