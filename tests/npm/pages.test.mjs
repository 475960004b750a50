// The embedded pages over HTTP: who is let in, and what a browser is told.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { decodeJwt } from 'jose'
import { startServer } from './support/server.mjs'

const post = (server, path, body, headers = {}) => fetch(`${server.httpUrl}/demo/${path}`, {
  method: 'POST',
  headers: { 'content-type': 'application/json', ...headers },
  body: JSON.stringify(body)
})

const keyOf = server => new URL(server.ready.demo).hash.slice('#key='.length)

test('pages_1_a_link_lets_one_browser_in_by_a_cookie_that_scripts_cannot_read', async t => {
  const server = await startServer(t, { command: 'dev' })
  const key = keyOf(server)
  const wanted = { document: 'notes/today', access: 'write', name: 'Ada' }
  const stranger = await post(server, 'token', wanted)
  assert.equal(stranger.status, 401)
  assert.equal((await stranger.json()).code, 'no_session')

  const opened = await post(server, 'session', { key })
  assert.equal(opened.status, 200)
  const [cookie, ...flags] = opened.headers.get('set-cookie').split('; ')
  assert.deepEqual(flags, ['Path=/demo', 'Max-Age=43200', 'HttpOnly', 'SameSite=Strict'])
  const again = await post(server, 'session', { key })
  assert.equal(again.status, 410)
  assert.equal((await again.json()).code, 'link_used')
  assert.equal(again.headers.get('set-cookie'), null)

  const minted = await post(server, 'token', wanted, { cookie })
  const { token, expires_in: lasts } = await minted.json()
  const claims = decodeJwt(token)
  assert.deepEqual(claims.access, { 'notes/today': 'write' })
  assert.equal(claims.name, 'Ada')
  assert.ok(claims.exp - Date.now() / 1000 <= lasts)

  // The same secret signs after a restart, so an open page goes on.
  await server.restart()
  assert.equal((await post(server, 'token', wanted, { cookie })).status, 200)
})

test('pages_2_a_shared_link_is_for_one_document', async t => {
  const server = await startServer(t, { command: 'dev' })
  const cookieOf = async key => (await post(server, 'session', { key })).headers.get('set-cookie').split(';')[0]
  const owner = await cookieOf(keyOf(server))
  const shared = await post(server, 'link', { document: 'a', access: 'read' }, { cookie: owner })
  const guest = await cookieOf((await shared.json()).key)
  const status = async (path, body) => (await post(server, path, body, { cookie: guest })).status
  assert.equal(await status('token', { document: 'a', access: 'read' }), 200)
  assert.equal(await status('token', { document: 'a', access: 'write' }), 403)
  assert.equal(await status('token', { access: 'read' }), 403)
  assert.equal(await status('link', { document: 'a', access: 'write' }), 403)
})

test('pages_1_nothing_but_json_of_a_fitting_size_is_read', async t => {
  const server = await startServer(t, { command: 'dev' })
  const key = keyOf(server)
  const refused = [
    { body: JSON.stringify({ key }), headers: { 'content-type': 'text/plain' } },
    { body: new Blob([JSON.stringify({ key })]), headers: {} },
    { body: JSON.stringify({ key, more: 'x'.repeat(4_000) }), headers: { 'content-type': 'application/json' } },
    { body: '{', headers: { 'content-type': 'application/json' } }
  ]
  for (const { body, headers } of refused) {
    const answer = await fetch(`${server.httpUrl}/demo/session`, { method: 'POST', body, headers })
    assert.ok(answer.status >= 400, `${answer.status}`)
    assert.equal(answer.headers.get('set-cookie'), null)
  }
  assert.equal((await post(server, 'session', { key })).status, 200)
})

test('pages_4_a_served_page_is_given_no_tokens', async t => {
  const server = await startServer(t, { env: { SYNCLINE_DEMO: 'true' } })
  assert.equal(server.ready.demo, undefined)
  assert.equal((await fetch(`${server.httpUrl}/demo`)).status, 200)
  const answer = await post(server, 'token', { document: 'a', access: 'read' })
  assert.equal(answer.status, 404)
  assert.equal((await answer.json()).code, 'no_secret')
})

test('pages_5_pages_are_off_in_serve', async t => {
  const server = await startServer(t)
  assert.equal((await fetch(`${server.httpUrl}/demo`)).status, 404)
  const answer = await post(server, 'session', { key: '' })
  assert.equal(answer.status, 404)
})

test('pages_6_a_page_loads_nothing_from_elsewhere', async t => {
  const server = await startServer(t, { command: 'dev' })
  const page = await fetch(`${server.httpUrl}/demo`)
  const html = await page.text()
  assert.equal(page.headers.get('cache-control'), 'no-store')
  const policy = page.headers.get('content-security-policy')
  assert.match(policy, /^default-src 'none'; script-src 'self'; style-src 'self' 'nonce-[0-9a-f]{64}';/)
  assert.doesNotMatch(policy, /https?:|unsafe-eval|script-src[^;]*unsafe/)
  const nonce = /nonce-([0-9a-f]+)/.exec(policy)[1]
  assert.ok(html.includes(nonce))
  const other = await fetch(`${server.httpUrl}/demo`)
  assert.ok(!other.headers.get('content-security-policy').includes(nonce))

  const links = [...html.matchAll(/(?:src|href)="([^"#]+)"/g)].map(([, link]) => link)
  const files = links.filter(link => link.startsWith('/assets/'))
  assert.ok(files.length >= 4)
  assert.deepEqual(links.filter(link => !link.startsWith('/')), [])
  for (const file of files) {
    const answer = await fetch(server.httpUrl + file)
    assert.equal(answer.status, 200, file)
    assert.equal(answer.headers.get('cache-control'), 'public, max-age=31536000, immutable')
    assert.ok((await answer.text()).length > 0)
  }
  assert.equal((await fetch(`${server.httpUrl}/assets/demo.js`)).status, 404)
})
