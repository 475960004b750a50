// Who may not come in is told why, once, in words that a stock provider understands.

import { test } from 'node:test'
import assert from 'node:assert/strict'
import { UnsecuredJWT } from 'jose'
import { Client } from './support/clients.mjs'
import { startServer, token } from './support/server.mjs'
import { never, until } from './support/wait.mjs'

const REFUSED_MS = 5_000
/** Longer than the provider's first two pauses together. */
const QUIET_MS = 3_000
const NAME = 'notes/today'
const ALL = { '*': 'write' }

const REFUSALS = [
  { rule: 'auth_missing_token', code: 4401, word: 'token_missing', jwt: () => undefined },
  { rule: 'auth_expired_token', code: 4401, word: 'token_expired', jwt: () => token(ALL, { expires: -3600 }) },
  { rule: 'auth_early_token', code: 4401, word: 'token_not_yet_valid', jwt: () => token(ALL, { expires: 7200, notBefore: 3600 }) },
  { rule: 'auth_wrong_secret', code: 4401, word: 'token_invalid', jwt: () => token(ALL, { secret: 'another secret of at least 32 bytes' }) },
  { rule: 'auth_garbage_token', code: 4401, word: 'token_invalid', jwt: () => 'garbage' },
  { rule: 'auth_unsigned_token', code: 4401, word: 'token_invalid', jwt: () => new UnsecuredJWT({ access: ALL }).setExpirationTime('1h').encode() },
  { rule: 'auth_token_without_expiry', code: 4401, word: 'token_invalid', jwt: () => token(ALL, { expires: null }) },
  { rule: 'auth_token_for_another_document', code: 4403, word: 'forbidden_document', jwt: () => token({ 'notes/yesterday': 'write' }) },
  { rule: 'auth_token_for_another_prefix', code: 4403, word: 'forbidden_document', jwt: () => token({ 'note/*': 'write', 'notes/today/*': 'write' }) },
  { rule: 'auth_token_without_rights', code: 4403, word: 'forbidden_document', jwt: () => token({}) },
  ...[
    ['an empty segment', 'notes//today'],
    ['an escaped empty segment', 'notes%2F%2Ftoday'],
    ['a dot segment', 'notes%2F.%2Ftoday'],
    ['a parent segment', 'notes%2F..%2Ftoday'],
    ['a slash at its end', 'notes/'],
    ['a control character', 'notes%01'],
    ['bytes that are not UTF-8', 'notes%FF'],
    ['256 bytes', 'n'.repeat(256)]
  ].map(([what, name]) => ({
    rule: `name_with_${what.replaceAll(' ', '_')}`, code: 4400, word: 'bad_document_name', name, jwt: () => token(ALL)
  }))
]

test('client_5_refusal', { concurrency: true }, async t => {
  const server = await startServer(t)
  await Promise.all(REFUSALS.map(({ rule, code, word, name = NAME, jwt }) =>
    t.test(`${rule}_is_refused_once`, async t => {
      const client = new Client(t, server, name, { jwt: await jwt() })
      await until(() => client.closes.length > 0, { within: REFUSED_MS, what: 'a close' })
      const { code: sent, reason } = client.closes[0]
      assert.equal(sent, code, reason)
      assert.match(reason, new RegExp(`^${word}: .`))
      assert.ok(Buffer.byteLength(reason) <= 123)
      assert.deepEqual(client.closed, [{ code, reason }])
      await never(() => client.sockets.length > 1, { during: QUIET_MS, what: 'another attempt' })
      assert.equal(client.closes.length, 1)
      assert.equal(client.provider.synced, false)
      assert.deepEqual(client.frames, [])
    })))
})

test('client_5_auth_a_refused_provider_connects_with_a_fresh_token', async t => {
  const server = await startServer(t)
  const client = new Client(t, server, NAME, { jwt: await token(ALL, { expires: -3600 }) })
  await until(() => client.closed.length === 1, { within: REFUSED_MS, what: 'a refusal' })
  client.provider.params = { token: await token(ALL) }
  client.provider.connect()
  await client.synced()
})

const DOORS = {
  query: jwt => ({ jwt }),
  // Beside a protocol that can be answered: a token is never sent back.
  subprotocol: jwt => ({ provider: { protocols: ['yjs', `bearer.${jwt}`] } }),
  // As a browser sends it: with the page that asks, here one of the same host.
  cookie: (jwt, server) => ({
    headers: { cookie: `theme=dark; syncline_token=${jwt}`, origin: server.ready.url }
  }),
  authorization: jwt => ({ headers: { authorization: `Bearer ${jwt}` } })
}

test('client_5_auth_token_is_taken_from_every_door', async t => {
  const server = await startServer(t)
  const jwt = await token({ [NAME]: 'write' })
  for (const [door, options] of Object.entries(DOORS)) {
    await t.test(`client_5_auth_token_by_${door}`, async t => {
      await new Client(t, server, NAME, options(jwt, server)).synced()
    })
  }
})

const GRANTS = [
  { rule: 'exact_name', name: 'team/plan', access: { 'team/plan': 'read' } },
  { rule: 'prefix', name: 'team/plan/draft', access: { 'team/*': 'write' } },
  { rule: 'everything', name: 'any', access: { '*': 'read' } },
  { rule: 'name_of_255_bytes', name: 'n'.repeat(255), access: { '*': 'write' } },
  { rule: 'name_with_a_space', name: 'my notes/of today', access: { 'my notes/*': 'write' } },
  { rule: 'name_in_unicode', name: 'заметки/今日', access: { 'заметки/*': 'write' } },
  { rule: 'escaped_name', name: 'a%2Fb', access: { 'a/b': 'write' } }
]

test('client_5_auth_grants', async t => {
  const server = await startServer(t)
  for (const { rule, name, access } of GRANTS) {
    await t.test(`client_5_auth_${rule}_is_let_in`, async t => {
      await new Client(t, server, name, { jwt: await token(access) }).synced()
    })
  }
})
