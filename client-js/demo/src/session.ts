/** Tokens of a page: fetched with the cookie of an opened link, or pasted. */

import type { Access } from '../../src/index.ts'

/** The claims of a requested token. */
export interface TokenRequest {
  /** The document. All documents if undefined. */
  readonly document?: string
  readonly access: Access
  readonly name?: string
}

/** A refusal by the server: its error code, with its text as message. */
export class TokenError extends Error {
  readonly code: string

  constructor(code: string, text: string) {
    super(text)
    this.code = code
  }
}

async function post(path: string, payload: unknown): Promise<Record<string, unknown>> {
  const response = await fetch(`/demo/${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(payload),
  })
  const body = (await response.json()) as Record<string, unknown>
  if (!response.ok) throw new TokenError(String(body.code), String(body.text))
  return body
}

/** Fetches a new token. */
export async function fetchToken(request: TokenRequest): Promise<string> {
  return String((await post('token', request)).token)
}

/** Fetches the key of a link for another browser. */
export async function fetchLinkKey(document: string, access: Access): Promise<string> {
  return String((await post('link', { document, access })).key)
}

/** Removes the key from the URL, so that it is not copied or stored in the history. */
export function takeLinkKey(): string | undefined {
  const key = new URLSearchParams(location.hash.slice(1)).get('key')
  if (key !== null) history.replaceState(null, '', location.pathname + location.search)
  return key ?? undefined
}

const OPENED = 'syncline-opened'

async function open(key: string, request: TokenRequest): Promise<string> {
  await post('session', { key })
  localStorage.setItem(OPENED, 'yes')
  return await fetchToken(request)
}

/**
 * Fetches the first token. A browser with a session tries its cookie first, which leaves the key
 * unused; others try the key first.
 *
 * @throws TokenError if both fail.
 */
export async function firstToken(request: TokenRequest, key: string | undefined): Promise<string> {
  const hasSession = localStorage.getItem(OPENED) !== null
  const attempts = [() => fetchToken(request)]
  if (key !== undefined) attempts.push(() => open(key, request))
  if (!hasSession) attempts.reverse()
  let reason: unknown
  for (const attempt of attempts) {
    try {
      return await attempt()
    } catch (error) {
      if (!(error instanceof TokenError)) throw error
      // `link_used` is more specific than `no_session`.
      if (reason === undefined || error.code !== 'no_session') reason = error
    }
  }
  throw reason
}

/** All documents: in the `access` of a token, and as the key of a pasted one. */
export const ALL_DOCUMENTS = '*'

const PASTED = 'syncline-token:'

/** Pasted tokens of this window, by document, in sessionStorage. */
export const pastedToken = {
  get: (document: string): string | undefined =>
    sessionStorage.getItem(PASTED + document) ?? undefined,
  set: (document: string, token: string): void => sessionStorage.setItem(PASTED + document, token),
  clear: (document: string): void => sessionStorage.removeItem(PASTED + document),
}
