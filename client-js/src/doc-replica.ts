import { type Awareness, applyAwarenessUpdate, encodeAwarenessUpdate } from 'y-protocols/awareness'
import { applyUpdate, type Doc, encodeStateAsUpdate, encodeStateVector } from 'yjs'

/** Whether nothing was ever written to `doc`. */
export const isUntouched = (doc: Doc): boolean => encodeStateVector(doc).length === 1

/** Our copy of a document and of its presence, as servers and tabs see it: in bytes. */
export class DocReplica {
  readonly #doc: Doc
  readonly #awareness: Awareness
  readonly #origin: unknown

  /** What is applied here has `origin` as the origin of its transaction. */
  constructor(doc: Doc, awareness: Awareness, origin: unknown) {
    this.#doc = doc
    this.#awareness = awareness
    this.#origin = origin
  }

  /** What we have. */
  stateVector(): Uint8Array {
    return encodeStateVector(this.#doc)
  }

  /** What we have and `stateVector` lacks. */
  diff(stateVector: Uint8Array): Uint8Array {
    return encodeStateAsUpdate(this.#doc, stateVector)
  }

  /** Takes what somebody else wrote. */
  apply(update: Uint8Array): void {
    applyUpdate(this.#doc, update, this.#origin)
  }

  /** Takes what somebody else says of who is here. */
  applyPresence(entries: Uint8Array): void {
    applyAwarenessUpdate(this.#awareness, entries, this.#origin)
  }

  /** Our own state. Undefined if we are hidden. */
  presence(): Uint8Array | undefined {
    const { clientID } = this.#awareness
    if (this.#awareness.getLocalState() === null) return undefined
    return encodeAwarenessUpdate(this.#awareness, [clientID])
  }

  /** That we are gone. */
  presenceRemoval(): Uint8Array {
    return encodeAwarenessUpdate(this.#awareness, [this.#awareness.clientID], new Map())
  }

  /** Says our state under a new clock: peers forget states but not clocks, and believe no old one. */
  renewPresence(): void {
    const state = this.#awareness.getLocalState()
    if (state !== null) this.#awareness.setLocalState(state)
  }
}
