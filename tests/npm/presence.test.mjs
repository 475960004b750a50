// Who is here: shown at once, through every reconnect, and gone with its owner.

import { test } from 'node:test'
import assert from 'node:assert/strict'
import { Client, join } from './support/clients.mjs'
import { startServer, token } from './support/server.mjs'
import { never, until } from './support/wait.mjs'

/** Sooner than the 15 s after which y-protocols renews a state by itself. */
const SOON_MS = 2_000
/** A restart, and the provider's longest pause between attempts. */
const RESTART_MS = 8_000

const user = name => ({ user: { name, color: '#30bced' } })

/** A state without what the server puts into it. */
function own (state) {
  const { syncline: _, ...own } = state ?? {}
  return state && JSON.stringify(own)
}

/** Waits until `watcher` sees `client` with exactly the state that `client` has. */
function sees (watcher, client, within = SOON_MS) {
  const expected = () => own(client.awareness.getLocalState())
  const seen = () => own(watcher.awareness.getStates().get(client.id))
  return until(() => watcher.provider.wsconnected && seen() === expected(), {
    within, what: () => `${expected()} seen; there is ${seen()}`
  })
}

/** Waits until none of `watchers` sees `client`. */
function gone (watchers, client, within = SOON_MS) {
  return until(() => watchers.every(watcher => !watcher.awareness.getStates().has(client.id)), {
    within, what: () => `gone; still at ${watchers.filter(w => w.awareness.getStates().has(client.id)).length} watchers`
  })
}

async function people (t, count, options = {}) {
  const server = await startServer(t)
  const clients = []
  for (let i = 0; i < count; i++) {
    const client = await join(t, server, 'team/presence', { sub: `user-${i}`, ...options })
    client.awareness.setLocalState(user(`User ${i}`))
    clients.push(client)
  }
  return { server, clients }
}

test('client_3_presence_appears_at_the_others_both_ways', async t => {
  const { clients: [a, b] } = await people(t, 2)
  await sees(b, a)
  await sees(a, b)
  a.awareness.setLocalStateField('cursor', { anchor: 1, head: 2 })
  await sees(b, a)
})

test('client_8_presence_carries_the_verified_identity_and_leaves_the_rest_alone', async t => {
  const server = await startServer(t)
  const ada = await join(t, server, 'team/presence', { sub: 'ada', name: 'Ada "A" \u2028' })
  const bob = await join(t, server, 'team/presence', { sub: 'bob', name: 'Bob' })
  const seen = () => bob.awareness.getStates().get(ada.id)
  // Lexical's fields, and a claim to be somebody else.
  const lexical = { name: 'Eve', color: '#ff0000', focusing: true, anchorPos: null, awarenessData: { x: 0.1 } }
  ada.awareness.setLocalState({ ...lexical, syncline: { sub: 'root' } })
  const expected = { ...lexical, syncline: { sub: 'ada', name: 'Ada "A" \u2028' } }
  await until(() => JSON.stringify(seen()) === JSON.stringify(expected), {
    within: SOON_MS, what: () => `${JSON.stringify(expected)}; there is ${JSON.stringify(seen())}`
  })
})

test('client_3_presence_first_state_with_clock_0_shows_at_once', async t => {
  const server = await startServer(t)
  const jwt = await token({ 'team/presence': 'write' })
  const [a, b] = [0, 1].map(() => new Client(t, server, 'team/presence', { jwt, connect: false }))
  for (const { awareness, id, provider } of [a, b]) {
    assert.deepEqual(awareness.getLocalState(), {})
    assert.equal(awareness.meta.get(id).clock, 0)
    provider.connect()
  }
  await sees(b, a)
  await sees(a, b)
})

test('client_3_presence_of_those_who_are_here_is_told_to_a_late_joiner', async t => {
  const { server, clients: [a, b] } = await people(t, 2)
  const late = await join(t, server, 'team/presence')
  await sees(late, a)
  await sees(late, b)
})

test('client_3_presence_survives_two_reconnects', async t => {
  const { clients: [a, b] } = await people(t, 2)
  await sees(b, a)
  for (const round of [1, 2]) {
    a.drop()
    await until(() => a.closes.length === round && a.provider.synced, { within: SOON_MS, what: 'reconnected' })
    await sees(b, a)
    await sees(a, b)
  }
})

test('client_3_presence_survives_leaving_and_coming_back_with_the_same_client_id', async t => {
  const { clients: [a, b] } = await people(t, 2)
  await sees(b, a)
  // Several times: whether b has spoken in between, and so has a newer clock, is chance.
  for (let round = 0; round < 5; round++) {
    a.provider.disconnect()
    await gone([b], a)
    a.provider.connect()
    await a.synced()
    await sees(b, a)
    await sees(a, b)
  }
})

test('client_3_presence_survives_a_restart_of_the_server', async t => {
  const { server, clients: [a, b] } = await people(t, 2)
  await sees(b, a)
  for (const how of ['stop', 'kill9']) {
    await server.restart(how)
    await sees(b, a, RESTART_MS)
    await sees(a, b, RESTART_MS)
  }
})

test('client_3_presence_changes_right_after_a_reconnect_are_not_undone', async t => {
  const { clients: [a, b] } = await people(t, 2)
  await sees(b, a)
  a.provider.on('status', ({ status }) => {
    // As soon as the socket is open and has sent the old state, so that the changes are in flight
    // together with whatever the server makes of that.
    if (status === 'connected') queueMicrotask(change)
  })
  function change () {
    for (let i = 1; i <= 50; i++) a.awareness.setLocalStateField('cursor', i)
  }
  a.drop()
  await until(() => a.closes.length === 1 && a.awareness.getLocalState().cursor !== undefined, { within: SOON_MS, what: 'reconnected' })
  await sees(b, a)
  assert.equal(a.awareness.getLocalState().cursor, 50)
  await never(() => a.awareness.getLocalState().cursor !== 50, { during: 500, what: 'an old state came back to its owner' })
  await sees(b, a)
})

// The stock provider sends every state that it hears back to the server, its own included.
test('client_3_presence_is_quiet_when_nothing_changes', async t => {
  const { clients } = await people(t, 3)
  const [a, b, c] = clients
  a.drop()
  await until(() => a.closes.length === 1 && a.provider.synced, { within: SOON_MS, what: 'reconnected' })
  for (const watcher of [b, c]) await sees(watcher, a)
  for (const seen of [b, c]) await sees(a, seen)
  const frames = () => clients.reduce((sum, client) => sum + client.frames.length, 0)
  const before = frames()
  await never(() => frames() - before > 20, { during: 1_000, what: 'frames without end' })
})

test('client_3_presence_is_gone_after_destroy', async t => {
  const { clients: [a, b, c] } = await people(t, 3)
  await sees(b, a)
  await sees(c, a)
  a.leave()
  await gone([b, c], a)
})

test('client_3_presence_is_gone_after_the_socket_broke', async t => {
  const { clients: [a, b, c] } = await people(t, 3)
  await sees(b, a)
  await sees(c, a)
  a.vanish()
  await gone([b, c], a)
})

test('client_3_presence_is_gone_after_a_rejoin_and_a_broken_socket', async t => {
  const { clients: [a, b] } = await people(t, 2)
  a.drop()
  await until(() => a.closes.length === 1 && a.provider.synced, { within: SOON_MS, what: 'reconnected' })
  await sees(b, a)
  a.vanish()
  await gone([b], a)
})

test('client_3_presence_is_not_kept_alive_by_those_who_echo_it', async t => {
  const { clients: [a, b, c] } = await people(t, 3)
  c.awareness.setLocalState(null)
  await gone([a, b], c)
  for (const watcher of [b, c]) await sees(watcher, a)
  a.awareness.setLocalStateField('cursor', 1)
  for (const watcher of [b, c]) await sees(watcher, a)
  a.vanish()
  await gone([b, c], a)
  await never(() => [b, c].some(watcher => watcher.awareness.getStates().has(a.id)), {
    during: 2_000, what: 'the state of one who left came back'
  })
})

test('client_3_presence_of_one_stays_when_one_who_echoed_it_leaves', async t => {
  const { clients: [a, b, c] } = await people(t, 3)
  c.awareness.setLocalState(null)
  for (const watcher of [b, c]) await sees(watcher, a)
  a.awareness.setLocalStateField('cursor', 1)
  for (const watcher of [b, c]) await sees(watcher, a)
  const removals = []
  b.awareness.on('change', ({ removed }) => removals.push(...removed))
  c.vanish()
  await never(() => removals.includes(a.id), { during: 1_000, what: 'a left although only c did' })
  await sees(b, a)
})

test('client_3_presence_of_readers_is_shown', async t => {
  const { server, clients: [writer] } = await people(t, 1)
  const reader = await join(t, server, 'team/presence', { access: 'read', sub: 'reader' })
  reader.awareness.setLocalState(user('Reader'))
  await sees(writer, reader)
  await sees(reader, writer)
  reader.vanish()
  await gone([writer], reader)
})

test('client_3_presence_stays_inside_its_document', async t => {
  const { server, clients: [a, b] } = await people(t, 2)
  const elsewhere = await join(t, server, 'team/another')
  await sees(b, a)
  a.awareness.setLocalStateField('cursor', 1)
  await sees(b, a)
  assert.deepEqual([...elsewhere.awareness.getStates().keys()], [elsewhere.id])
})

test('client_3_presence_can_be_withdrawn_and_given_again', async t => {
  const { clients: [a, b] } = await people(t, 2)
  await sees(b, a)
  a.awareness.setLocalState(null)
  await gone([b], a)
  a.awareness.setLocalState(user('Again'))
  await sees(b, a)
})
