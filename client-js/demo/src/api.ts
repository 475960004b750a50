/** The part of the REST API that the inspector reads. */

import { NoToken } from './session.ts'

/** A document that is stored, live, or both. */
export interface DocumentFacts {
  readonly name: string
  readonly live: boolean
  readonly sessions: number
  readonly bytes: number
  readonly updates: number
  readonly epoch: string
}

/** A connection. */
export interface SessionFacts {
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
  readonly documents: readonly DocumentFacts[]
  readonly more: boolean
}

/** Asks with a token, and once more with a new one after a refusal. */
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

  async sessions(document: string): Promise<readonly SessionFacts[]> {
    const path = `sessions?document=${encodeURIComponent(document)}`
    const answer = (await this.#ask('GET', path)) as { sessions: readonly SessionFacts[] }
    return answer.sessions
  }

  async disconnect(session: number): Promise<void> {
    await this.#ask('DELETE', `sessions/${session}`)
  }

  async #ask(method: string, path: string): Promise<unknown> {
    const request = (): Promise<Response> =>
      fetch(`/api/v1/${path}`, { method, headers: { authorization: `Bearer ${this.#token}` } })
    let answer = await request()
    if (answer.status === 401) {
      this.#token = await this.#renew()
      answer = await request()
    }
    if (answer.status === 204) return undefined
    const said = await answer.json()
    if (!answer.ok) throw new NoToken(String(said.code), String(said.text))
    return said
  }
}
