import { hintFor } from './close-code.ts'

/** Why a promise of the provider can no longer be kept. */
export class SynclineError extends Error {
  /** What tells it from other errors, across copies of this package. */
  override readonly name = 'SynclineError'
  /** One word, as in docs/errors.md. */
  readonly code: string
  /** What to do about it. Empty if nothing is to be done. */
  readonly hint: string

  /** An error with a word and a sentence. */
  constructor(code: string, text: string) {
    super(`${code}: ${text}`)
    this.code = code
    this.hint = hintFor(code)
  }
}
