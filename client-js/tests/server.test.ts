// mintToken, verified by jose. tests/e2e verifies tokens with the server.

import { jwtVerify } from 'jose'
import { expect, test } from 'vitest'
import { mintToken } from '../src/server.ts'

const SECRET = 'a secret of at least 32 bytes, here'
const verify = (token: string) =>
  jwtVerify(token, new TextEncoder().encode(SECRET), { algorithms: ['HS256'] })

test('provider_24_minted_token_has_all_claims', async () => {
  const access = { 'notes/today': 'write', 'team/*': 'read' } as const
  const before = Math.floor(Date.now() / 1_000)
  const { payload, protectedHeader } = await verify(
    mintToken(SECRET, { access, sub: 'ada', name: 'Ada', ttl: '1h' }),
  )
  expect(protectedHeader).toEqual({ alg: 'HS256', typ: 'JWT' })
  expect(payload).toEqual({ exp: payload.exp, iat: payload.iat, sub: 'ada', name: 'Ada', access })
  expect((payload.exp ?? 0) - before - 3_600).toBeOneOf([0, 1])
  // Revocations compare `iat`.
  expect((payload.exp ?? 0) - (payload.iat ?? 0)).toBe(3_600)
})

test.each([
  [undefined, 600],
  [90, 90],
  ['45s', 45],
  ['10m', 600],
  ['2d', 172_800],
] as const)('duration %s is %i seconds', async (ttl, seconds) => {
  const before = Math.floor(Date.now() / 1_000)
  const { payload } = await verify(
    mintToken(Buffer.from(SECRET), { access: {}, ...(ttl === undefined ? {} : { ttl }) }),
  )
  expect((payload.exp ?? 0) - before - seconds).toBeOneOf([0, 1])
  expect(Object.keys(payload)).toEqual(['exp', 'iat', 'access'])
})

test('a short secret and an invalid duration throw', () => {
  expect(() => mintToken('short', { access: {} })).toThrow(
    'the secret has 5 bytes, use at least 32',
  )
  expect(() => mintToken(SECRET, { access: {}, ttl: '1 hour' as '1h' })).toThrow(
    'invalid duration 1 hour',
  )
})
