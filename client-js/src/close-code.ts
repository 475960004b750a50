/** Close codes and error codes, as docs/errors.md lists them. */

/**
 * The response to a close: `retry` reconnects, `spread` reconnects with a longer random delay,
 * `renew` reconnects with a new token, `stop` does not reconnect, `mismatch` stops and reports the
 * epochs.
 */
export type Reaction = 'retry' | 'spread' | 'renew' | 'stop' | 'mismatch'

/** The epoch of the local document differs from the server's. */
export const EPOCH_MISMATCH = 4409

/** A message exceeds the server's size limit. */
export const TOO_LARGE = 4413

const TOKEN_REFUSED = 4401
const RESTART = 1012

/** The default response to a close code. 4400 to 4499 are permanent, as in y-websocket 3.1. */
export function reactionTo(code: number): Reaction {
  if (code === TOKEN_REFUSED) return 'renew'
  if (code === EPOCH_MISMATCH) return 'mismatch'
  if (code === RESTART) return 'spread'
  return code >= 4400 && code < 4500 ? 'stop' : 'retry'
}

/** Splits a close reason, `code: text`. The code is `unknown` if the reason has none. */
export function parseReason(reason: string): { code: string; text: string } {
  const [, code, text] = /^([a-z_]+): ?(.*)$/s.exec(reason) ?? []
  return code === undefined ? { code: 'unknown', text: reason } : { code, text: text ?? '' }
}

/** Whether a refused update is resent automatically once the cause has passed. */
export const isTransient = (code: string): boolean => TRANSIENT.has(code)

const TRANSIENT = new Set(['store_unavailable', 'document_quarantined'])

const HINTS: Readonly<Record<string, string>> = {
  bad_request: 'Connect to wss://your.host/ws and pass the name separately.',
  bad_frame: 'Use Yjs 13, and look for a proxy that changes frames.',
  bad_document_name: 'Use 1 to 255 bytes without empty segments, "." or "..".',
  token_missing: 'Pass a token to the provider.',
  token_invalid: 'Sign with the secret of the server, and set exp.',
  token_expired: 'Pass token as a function, so it can be renewed.',
  token_not_yet_valid: 'Compare the clocks of server and signer.',
  origin_blocked: 'Add this origin to auth.origins of the server.',
  forbidden_document: 'Sign a token whose access names this document.',
  forbidden_write: 'Sign a token for "write", or make the editor read-only.',
  revoked: 'Request access again.',
  document_deleted: 'Call restartWith(new Y.Doc()).',
  epoch_mismatch: 'Call restartWith(new Y.Doc()).',
  message_too_large: 'Store files outside the document and link to them.',
  document_too_large: 'Move content to another document.',
  store_unavailable: 'Nothing: it is resent when the store recovers.',
  document_quarantined: 'Ask the operator to release the document.',
}

/** A one-sentence remedy for an error code. Empty if the code has none. */
export const hintFor = (code: string): string => HINTS[code] ?? ''
