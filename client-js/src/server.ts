/**
 * Tokens for Syncline, made in Node by the application that knows its users.
 *
 * @module server
 */

import { createHmac } from 'node:crypto'
import type { Access } from './wire.ts'

export type { Access } from './wire.ts'

/** A length of time: seconds, or a number with `s`, `m`, `h` or `d`. */
export type Duration = number | `${number}${'s' | 'm' | 'h' | 'd'}`

/** Who may do what, and for how long. */
export interface TokenOptions {
  /**
   * Rights by document: an exact name, a prefix (`team/*`), or everything (`*`). The exact name
   * beats the longest prefix.
   */
  readonly access: Readonly<Record<string, Access>>
  /** Who it is: an id that stays the same. History is kept under it. */
  readonly sub?: string
  /** What they are called. */
  readonly name?: string
  /** How long the token is good for. By default ten minutes: the provider asks for the next one. */
  readonly ttl?: Duration
}

const SECRET_BYTES_MIN = 32
const SECONDS = { s: 1, m: 60, h: 3_600, d: 86_400 } as const

/**
 * A token, signed with HS256 and the secret that the server verifies with.
 *
 * @throws if the secret is shorter than the server takes, or the duration is none.
 */
export function mintToken(secret: string | Uint8Array, options: TokenOptions): string {
  const key = Buffer.from(secret as string)
  if (key.length < SECRET_BYTES_MIN) {
    throw new RangeError(`the secret has ${key.length} bytes, use at least ${SECRET_BYTES_MIN}`)
  }
  const { access, sub, name, ttl = '10m' } = options
  const iat = Math.floor(Date.now() / 1_000)
  const exp = iat + toSeconds(ttl)
  const body = `${encodePart({ alg: 'HS256', typ: 'JWT' })}.${encodePart({ exp, iat, sub, name, access })}`
  return `${body}.${createHmac('sha256', key).update(body).digest('base64url')}`
}

function toSeconds(duration: Duration): number {
  const [, count, unit] = /^(\d+)([smhd]?)$/.exec(String(duration)) ?? []
  if (count === undefined)
    throw new RangeError(`invalid duration ${duration}: use seconds (600) or s, m, h, d ("10m")`)
  return Number(count) * SECONDS[(unit || 's') as keyof typeof SECONDS]
}

const encodePart = (json: object): string => Buffer.from(JSON.stringify(json)).toString('base64url')
