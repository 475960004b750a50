/**
 * Creates Syncline tokens in a Node backend.
 *
 * @module server
 */

import { createHmac } from 'node:crypto'
import type { Access } from './wire.ts'

export type { Access } from './wire.ts'

/** A duration: seconds, or a number with the unit `s`, `m`, `h` or `d`. */
export type Duration = number | `${number}${'s' | 'm' | 'h' | 'd'}`

/** Claims and lifetime of a token. */
export interface TokenOptions {
  /**
   * Access by document: an exact name, a prefix (`team/*`), or all documents (`*`). An exact name
   * takes precedence over the longest prefix, which takes precedence over `*`.
   */
  readonly access: Readonly<Record<string, Access>>
  /** A stable user ID. The history attributes changes to it. */
  readonly sub?: string
  /** Display name. */
  readonly name?: string
  /** Lifetime. Default: ten minutes; the provider renews tokens automatically. */
  readonly ttl?: Duration
}

const SECRET_BYTES_MIN = 32
const SECONDS = { s: 1, m: 60, h: 3_600, d: 86_400 } as const

/**
 * Creates a token signed with HS256. `secret` is the server's, at least 32 bytes.
 *
 * @throws RangeError if the secret is too short or the duration is invalid.
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
