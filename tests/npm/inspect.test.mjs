// The REST API of the inspector: what is live and stored, for administrators only.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Client } from './support/clients.mjs'
import { startServer, token } from './support/server.mjs'
import { until } from './support/wait.mjs'

const WITHIN_MS = 5_000
const ROUTES = [['GET', 'documents'], ['GET', 'sessions'], ['DELETE', 'sessions/1']]

async function ask (server, jwt, path, method = 'GET') {
  const headers = jwt === undefined ? {} : { authorization: `Bearer ${jwt}` }
  const answer = await fetch(`${server.httpUrl}/api/v1/${path}`, { method, headers })
  return { status: answer.status, said: answer.status === 204 ? undefined : await answer.json() }
}

test('inspect_1_only_an_administrator_is_answered', async t => {
  const server = await startServer(t)
  const refused = [
    [undefined, 401, 'token_missing'],
    ['garbage', 401, 'token_invalid'],
    [await token({ '*': 'admin' }, { expires: -3600 }), 401, 'token_expired'],
    [await token({ '*': 'write' }), 403, 'forbidden_document'],
    [await token({ a: 'admin', 'b/*': 'admin' }), 403, 'forbidden_document']
  ]
  for (const [method, path] of ROUTES) {
    for (const [jwt, status, code] of refused) {
      const answer = await ask(server, jwt, path, method)
      assert.equal(answer.status, status, `${method} ${path} ${code}`)
      assert.equal(answer.said.code, code)
    }
  }
  // A query would be in logs, and a cookie would be sent along for any page.
  const admin = await token({ '*': 'admin' })
  assert.equal((await ask(server, undefined, `documents?token=${admin}`)).status, 401)
})

test('inspect_2_documents_are_listed_with_who_is_in_them', async t => {
  const server = await startServer(t)
  const admin = await token({ '*': 'admin' })
  assert.deepEqual((await ask(server, admin, 'documents')).said.documents, [])
  const client = new Client(t, server, 'notes/today', { jwt: await token({ '*': 'write' }, { sub: 'ada' }) })
  client.provider.doc.getText('text').insert(0, 'Hello')
  const facts = async () => (await ask(server, admin, 'documents?prefix=notes/')).said.documents[0]
  await until(async () => (await facts())?.updates > 0, { within: WITHIN_MS, what: 'a stored update' })
  const { name, live, sessions, bytes, epoch } = await facts()
  assert.deepEqual([name, live, sessions], ['notes/today', true, 1])
  assert.ok(bytes > 5)
  assert.match(epoch, /^[0-9a-f]{16}$/)
  assert.deepEqual((await ask(server, admin, 'documents?prefix=other')).said.documents, [])

  const { said } = await ask(server, admin, 'sessions?document=notes/today')
  assert.equal(said.sessions.length, 1)
  const [session] = said.sessions
  assert.deepEqual([session.sub, session.access, session.dialect], ['ada', 'write', 'y-websocket'])
  assert.deepEqual((await ask(server, admin, 'sessions?document=other')).said.sessions, [])
})

test('inspect_3_a_disconnected_client_is_told_and_may_come_back', async t => {
  const server = await startServer(t)
  const admin = await token({ '*': 'admin' })
  const client = new Client(t, server, 'a', { jwt: await token({ a: 'write' }) })
  await until(() => client.provider.synced, { within: WITHIN_MS, what: 'a sync' })
  const [{ id }] = (await ask(server, admin, 'sessions')).said.sessions
  assert.equal((await ask(server, admin, `sessions/${id}`, 'DELETE')).status, 204)
  await until(() => client.closed.length > 0, { within: WITHIN_MS, what: 'a close for good' })
  assert.deepEqual(client.closed, [{ code: 4403, reason: 'disconnected: an operator ended this connection' }])
  assert.equal((await ask(server, admin, `sessions/${id}`, 'DELETE')).status, 404)
  client.provider.connect()
  await until(() => client.provider.synced, { within: WITHIN_MS, what: 'a sync after coming back' })
})
