/** How a page gets tokens: by the cookie of a link that was opened, or one that was pasted. */

import type { Access } from '../../src/index.ts'

/** What a page wants a token for. */
export interface Wanted {
  /** The document; all of them if it is left out. */
  readonly document?: string
  readonly access: Access
  readonly name?: string
}

/** Why there is no token: a word, and the server's sentence. */
export class NoToken extends Error {
  readonly code: string

  constructor(code: string, text: string) {
    super(text)
    this.code = code
  }
}

async function post(path: string, body: unknown): Promise<Record<string, unknown>> {
  const answer = await fetch(`/demo/${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  })
  const said = (await answer.json()) as Record<string, unknown>
  if (!answer.ok) throw new NoToken(String(said.code), String(said.text))
  return said
}

/** A fresh token. */
export async function fetchToken(wanted: Wanted): Promise<string> {
  return String((await post('token', wanted)).token)
}

/** The key of a link for another browser. */
export async function fetchLinkKey(document: string, access: Access): Promise<string> {
  return String((await post('link', { document, access })).key)
}

/** Takes the key out of the address bar, so that it is not copied or kept by accident. */
export function takeKey(): string | undefined {
  const key = new URLSearchParams(location.hash.slice(1)).get('key')
  if (key !== null) history.replaceState(null, '', location.pathname + location.search)
  return key ?? undefined
}

const OPENED = 'syncline-opened'

async function open(key: string, wanted: Wanted): Promise<string> {
  await post('session', { key })
  localStorage.setItem(OPENED, 'yes')
  return await fetchToken(wanted)
}

/**
 * A first token. A browser that was let in before needs no key, and leaves it to another one.
 *
 * @throws NoToken if neither helps.
 */
export async function enter(wanted: Wanted, key: string | undefined): Promise<string> {
  const wasHere = localStorage.getItem(OPENED) !== null
  const ways = [() => fetchToken(wanted)]
  if (key !== undefined) ways.push(() => open(key, wanted))
  if (!wasHere) ways.reverse()
  let why: unknown
  for (const way of ways) {
    try {
      return await way()
    } catch (error) {
      if (!(error instanceof NoToken)) throw error
      // That a link was used says more than that nobody is let in without one.
      if (why === undefined || error.code !== 'no_session') why = error
    }
  }
  throw why
}

/** Stands for every document in a token, and for where one that was pasted is kept. */
export const EVERYTHING = '*'

const PASTED = 'syncline-token:'

/** A token that was pasted into this window for a document, if one was. */
export const pasted = {
  get: (document: string): string | undefined =>
    sessionStorage.getItem(PASTED + document) ?? undefined,
  set: (document: string, token: string): void => sessionStorage.setItem(PASTED + document, token),
  clear: (document: string): void => sessionStorage.removeItem(PASTED + document),
}
