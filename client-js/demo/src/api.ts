/** The REST API calls of the inspector. */

import { TokenError } from './session.ts'

/** A stored or live document. */
export interface DocumentInfo {
  readonly name: string
  readonly live: boolean
  readonly sessions: number
  readonly bytes: number
  readonly updates: number
  readonly epoch: string
}

/** A connection to a document. Times are `since` in milliseconds and `expires_at` in seconds. */
export interface SessionInfo {
  readonly id: number
  readonly sub: string
  readonly access: string
  readonly dialect: string
  readonly peer: string
  readonly since: number
  readonly expires_at: number
}

export interface Documents {
  readonly version: string
  readonly durability: string
  readonly live: number
  readonly stored: number
  readonly sessions: number
  readonly documents: readonly DocumentInfo[]
  readonly more: boolean
}

/** An API client. After a 401 it renews the token and retries once. */
export class Api {
  #token: string
  readonly #renew: () => Promise<string>

  constructor(token: string, renew: () => Promise<string>) {
    this.#token = token
    this.#renew = renew
  }

  documents(prefix: string): Promise<Documents> {
    return this.#ask('GET', `documents?prefix=${encodeURIComponent(prefix)}`) as Promise<Documents>
  }

  async sessions(document: string): Promise<readonly SessionInfo[]> {
    const path = `sessions?document=${encodeURIComponent(document)}`
    const response = (await this.#ask('GET', path)) as { sessions: readonly SessionInfo[] }
    return response.sessions
  }

  async disconnect(session: number): Promise<void> {
    await this.#ask('DELETE', `sessions/${session}`)
  }

  async #ask(method: string, path: string): Promise<unknown> {
    const request = (): Promise<Response> =>
      fetch(`/api/v1/${path}`, { method, headers: { authorization: `Bearer ${this.#token}` } })
    let response = await request()
    if (response.status === 401) {
      this.#token = await this.#renew()
      response = await request()
    }
    if (response.status === 204) return undefined
    const body = await response.json()
    if (!response.ok) throw new TokenError(String(body.code), String(body.text))
    return body
  }
}
