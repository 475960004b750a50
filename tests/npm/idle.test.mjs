// The stock provider hangs up after 30 s without a message. Pings do not count: a browser hides them.

import { test } from 'node:test'
import assert from 'node:assert/strict'
import { join } from './support/clients.mjs'
import { startServer, token } from './support/server.mjs'
import { never, until } from './support/wait.mjs'
import { Client } from './support/clients.mjs'

const SILENCE_MS = Number(process.env.SYNCLINE_IDLE_SECONDS ?? 125) * 1_000
/** The leeway for clocks, and a margin. */
const EXPIRED_MS = 30_000 + 10_000

test('client_4_idle', { concurrency: true }, async t => {
  const server = await startServer(t)
  await Promise.all([
    t.test('client_4_idle_lone_client_with_presence_stays_connected', async t => {
      const client = await join(t, server, 'idle/present')
      client.awareness.setLocalStateField('user', { name: 'Ada' })
      await staysConnected(client)
    }),
    t.test('client_4_idle_lone_client_without_presence_stays_connected', async t => {
      const client = await join(t, server, 'idle/absent')
      client.awareness.setLocalState(null)
      await staysConnected(client)
    }),
    t.test('client_4_idle_reader_without_presence_stays_connected', async t => {
      const client = await join(t, server, 'idle/reader', { access: 'read' })
      client.awareness.setLocalState(null)
      await staysConnected(client)
    }),
    t.test('auth_expiry_ends_a_live_connection', async t => {
      const jwt = await token({ 'idle/expiry': 'write' }, { expires: 2 })
      const client = await new Client(t, server, 'idle/expiry', { jwt }).synced()
      await until(() => client.closed.length > 0, { within: 2_000 + EXPIRED_MS, what: 'closed for good' })
      assert.equal(client.closed[0].code, 4401)
      assert.match(client.closed[0].reason, /^token_expired: ./)
      assert.equal(client.sockets.length, 1)
    })
  ])
})

async function staysConnected (client) {
  await never(() => client.closes.length > 0, { during: SILENCE_MS, every: 250, what: 'a connection closed' })
  assert.equal(client.sockets.length, 1)
  assert.ok(client.provider.synced)
}
