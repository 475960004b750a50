// Encoders of server frames, and hex conversion.

import { frame } from '../../src/varint.ts'
import type { Welcome } from '../../src/wire.ts'

export const bytes = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex, 'hex'))
export const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

const text = (string: string): Uint8Array => new TextEncoder().encode(string)
const joined = (...frames: Uint8Array[]): Uint8Array => new Uint8Array(Buffer.concat(frames))

/** Default fields of a Welcome. */
export const WELCOME: Welcome = {
  session: 1,
  epoch: undefined,
  access: 'write',
  durability: 'fsync',
  quarantined: false,
  limits: { message: 8_388_608, update: 1_048_576, presence: 8_192 },
  serverTime: 0,
}

export function welcomeFrame({
  session,
  epoch,
  access,
  durability,
  quarantined,
  limits,
  serverTime,
}: Welcome): Uint8Array {
  return joined(
    frame([64, session], text(epoch ?? '')),
    frame([
      ['read', 'write', 'admin'].indexOf(access),
      ['memory', 'os', 'fsync'].indexOf(durability),
      quarantined ? 1 : 0,
      limits.message,
      limits.update,
      limits.presence,
      serverTime,
    ]),
  )
}

export const savedFrame = (frames: number): Uint8Array => frame([65, frames])
export const refusedFrame = (number: number, code: string, why: string): Uint8Array =>
  joined(frame([66, number], text(code)), frame([], text(why)))
export const tokenWantedFrame = (secondsLeft: number): Uint8Array => frame([67, secondsLeft])
export const deniedFrame = (reason: string): Uint8Array => frame([2, 0], text(reason))
