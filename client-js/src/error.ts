import { hintFor } from './close-code.ts'

/** Rejects `whenSynced` and `whenSaved`. */
export class SynclineError extends Error {
  /** Identifies the class across several copies of this package, where `instanceof` fails. */
  override readonly name = 'SynclineError'
  /** An identifier of docs/errors.md, or `destroyed`, `not_supported`, `unknown`. */
  readonly code: string
  /** The remedy. Empty if the code has none. */
  readonly hint: string

  /** The message is `code: text`. */
  constructor(code: string, text: string) {
    super(`${code}: ${text}`)
    this.code = code
    this.hint = hintFor(code)
  }
}
