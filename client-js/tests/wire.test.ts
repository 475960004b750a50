// The codec against the test vectors, which the Rust codec shares.

import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { frame, Reader } from '../src/varint.ts'
import * as wire from '../src/wire.ts'
import { bytes, hex, welcomeFrame } from './support/frames.ts'

// biome-ignore lint/suspicious/noExplicitAny: the fields depend on the kind.
type Vector = Record<string, any> & { hex: string; kind: string }

const read = (name: string): Record<string, Vector[]> =>
  JSON.parse(readFileSync(new URL(`../../tests/vectors/${name}`, import.meta.url), 'utf8'))
const plain = read('y-websocket.json')
const extended = read('syncline-v1.json')
const named = (vectors: Vector[] | undefined) =>
  (vectors ?? []).map(v => [v.kind, v.hex, v] as const)

const ENCODE: Record<string, (vector: Vector) => Uint8Array> = {
  syncStep1: v => wire.syncStep1(bytes(v.payload)),
  syncStep2: v => wire.syncStep2(bytes(v.payload)),
  update: v => wire.update(bytes(v.payload)),
  awareness: v => wire.presence(bytes(v.payload)),
  queryAwareness: () => wire.queryPresence(),
  token: v => wire.token(v.token),
}

test.each([...named(plain.client), ...named(extended.client)])(
  'writes %s %s',
  (kind, frame, vector) => {
    expect(hex(ENCODE[kind]?.(vector) ?? new Uint8Array())).toBe(frame)
  },
)

/** The vector as a decoded message. */
function expected(vector: Vector): object {
  const { hex: frame, kind, note: _, ...fields } = vector
  const rest = bytes(frame).subarray(2)
  switch (kind) {
    // Vectors list decoded contents; the codec returns opaque bytes.
    case 'syncStep1':
      return { kind, stateVector: rest.subarray(1) }
    case 'syncStep2':
    case 'update':
      return { kind, update: bytes(vector.payload) }
    case 'awareness':
      return { kind: 'presence', entries: rest }
    case 'denied':
      return { kind, reason: vector.reason }
    case 'refused':
      return { kind, frame: vector.frame, code: vector.word, text: vector.text }
    case 'welcome': {
      const {
        messageBytes: message,
        updateBytes: update,
        presenceBytes,
        time,
        epoch,
        ...same
      } = fields
      const limits = { message, update, presence: presenceBytes }
      return { kind, welcome: { ...same, epoch: epoch || undefined, limits, serverTime: time } }
    }
    default:
      return { kind, ...fields }
  }
}

test.each([...named(plain.server), ...named(extended.server)])(
  'reads %s %s',
  (_kind, frame, vector) => {
    expect(wire.decode(bytes(frame))).toEqual(expected(vector))
  },
)

test('decodes all Welcome fields and ignores trailing bytes', () => {
  const welcome: wire.Welcome = {
    session: 300,
    epoch: '00c0ffee00c0ffee',
    access: 'write',
    durability: 'fsync',
    quarantined: true,
    limits: { message: 8_388_608, update: 1_048_576, presence: 8_192 },
    serverTime: 1_795_363_000_123,
  }
  const bare = welcomeFrame(welcome)
  expect(wire.decode(bare)).toEqual({ kind: 'welcome', welcome })
  expect(wire.decode(new Uint8Array([...bare, 9, 9, 9]))).toEqual({
    kind: 'welcome',
    welcome: welcome,
  })
  const nameless = welcomeFrame({ ...welcome, epoch: undefined, quarantined: false })
  expect(wire.decode(nameless)).toMatchObject({ welcome: { epoch: undefined, quarantined: false } })
})

test('decodes TokenWanted and unknown extensions', () => {
  expect(wire.decode(bytes('433c'))).toEqual({ kind: 'tokenWanted', secondsLeft: 60 })
  expect(wire.decode(bytes('4a0102'))).toEqual({ kind: 'unknown', type: 74 })
  expect(hex(wire.token('a.b'))).toBe('4403612e62')
})

test.each([
  '',
  '0000',
  '000300',
  '2a00',
  '0002ffffffff0f00',
  'ffffffffffffffffffff01',
  '0000010000',
  '0201',
  '4203',
])('rejects %s', frame => {
  expect(() => wire.decode(bytes(frame))).toThrow()
})

test('integers and buffers round-trip', () => {
  const integers = fc.array(fc.maxSafeNat(), { maxLength: 5 })
  const everything = fc.property(integers, fc.uint8Array(), (numbers, buffer) => {
    const reader = new Reader(frame(numbers, buffer))
    expect(numbers.map(() => reader.uint())).toEqual(numbers)
    expect(reader.buffer()).toEqual(buffer)
    expect(reader.hasMore).toBe(false)
  })
  fc.assert(everything)
})

test('arbitrary bytes decode or throw an Error', () => {
  const anything = fc.property(fc.uint8Array({ maxLength: 40 }), garbage => {
    try {
      wire.decode(garbage)
    } catch (error) {
      expect(error).toBeInstanceOf(Error)
    }
  })
  fc.assert(anything, { numRuns: 5_000 })
})
