/** How a page gets tokens: by the cookie of a link that was opened, or one that was pasted. */

import type { Access } from '../../src/index.ts'

/** What a page wants a token for. */
export interface TokenRequest {
  /** The document; all of them if it is left out. */
  readonly document?: string
  readonly access: Access
  readonly name?: string
}

/** Why there is no token: a word, and the server's sentence. */
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

/** A fresh token. */
export async function fetchToken(request: TokenRequest): Promise<string> {
  return String((await post('token', request)).token)
}

/** The key of a link for another browser. */
export async function fetchLinkKey(document: string, access: Access): Promise<string> {
  return String((await post('link', { document, access })).key)
}

/** Takes the key out of the address bar, so that it is not copied or kept by accident. */
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
 * A first token. A browser that was let in before needs no key, and leaves it to another one.
 *
 * @throws TokenError if neither helps.
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
      // That a link was used says more than that nobody is let in without one.
      if (reason === undefined || error.code !== 'no_session') reason = error
    }
  }
  throw reason
}

/** Stands for every document in a token, and for where one that was pasted is kept. */
export const ALL_DOCUMENTS = '*'

const PASTED = 'syncline-token:'

/** A token that was pasted into this window for a document, if one was. */
export const pastedToken = {
  get: (document: string): string | undefined =>
    sessionStorage.getItem(PASTED + document) ?? undefined,
  set: (document: string, token: string): void => sessionStorage.setItem(PASTED + document, token),
  clear: (document: string): void => sessionStorage.removeItem(PASTED + document),
}
