// Whatever happens on the way, in the end everyone has the same document.

import { test } from 'node:test'
import assert from 'node:assert/strict'
import * as Y from 'yjs'
import { join } from './support/clients.mjs'
import { content, isPending, state } from './support/content.mjs'
import { edit } from './support/random-edits.mjs'
import { Random, runSeed } from './support/random.mjs'
import { startServer } from './support/server.mjs'
import { until } from './support/wait.mjs'

const CONVERGED_MS = 30_000

test('client_1_two_clients_converge', async t => {
  await check(t, { clients: 2, rounds: 120, troubles: 0.05 })
})

test('client_1_ten_clients_converge_through_drops_and_reconnects', async t => {
  await check(t, { clients: 10, rounds: 400, troubles: 0.1 })
})

test('client_1_clients_converge_through_a_restart_in_the_middle', async t => {
  await check(t, { clients: 4, rounds: 150, troubles: 0.05, restart: 'stop' })
})

test('client_1_clients_converge_through_a_kill_in_the_middle', async t => {
  await check(t, { clients: 4, rounds: 150, troubles: 0.05, restart: 'kill9' })
})

/** Random edits and troubles, then: all equal, equal for one who joins late, equal after a restart. */
async function check (t, { clients: count, rounds, troubles, restart }) {
  const seed = runSeed(t)
  const random = new Random(seed)
  const server = await startServer(t)
  const name = 'team/convergence'
  const clients = await Promise.all(Array.from({ length: count }, () => join(t, server, name)))

  for (let round = 0; round < rounds; round++) {
    const client = random.pick(clients)
    edit(random, client.ydoc)
    if (random.chance(troubles)) trouble(random, random.pick(clients))
    if (restart !== undefined && round === rounds >> 1) await server.restart(restart)
    if (random.chance(0.3)) await somethingArrives(clients)
  }
  for (const client of clients) client.provider.connect()
  await converged(clients)

  const late = await join(t, server, name)
  await converged([...clients, late])

  await server.restart('stop')
  await converged([...clients, late])
  const later = await join(t, server, name)
  await converged([...clients, late, later])

  // From the disk alone, with nobody left to supply what it lacks.
  const expected = snapshot(late)
  for (const client of [...clients, late, later]) client.end()
  await server.restart('stop')
  const last = await join(t, server, name)
  assert.deepEqual(snapshot(last), expected)
}

/** Lets frames travel, so that some edits are made in the light of others'. Nobody may be connected. */
async function somethingArrives (clients) {
  const frames = () => clients.reduce((sum, client) => sum + client.frames.length, 0)
  const before = frames()
  await until(() => frames() > before, { within: 30, every: 1, what: 'a frame' }).catch(() => {})
}

function trouble (random, client) {
  const { provider } = client
  switch (random.below(4)) {
    case 0: client.drop(); break
    case 1: provider.ws?.close(); break
    case 2: provider.disconnect(); break
    case 3: provider.disconnect(); provider.connect(); break
  }
  if (!provider.shouldConnect && random.chance(0.5)) provider.connect()
}

/** Waits until all are connected, synced and equal, and names the difference if they never are. */
async function converged (clients) {
  const [first, ...others] = clients
  const settled = () => {
    if (!clients.every(({ provider }) => provider.synced)) return false
    const expected = state(first.ydoc)
    return others.every(({ ydoc }) => state(ydoc) === expected)
  }
  await until(settled, { within: CONVERGED_MS, every: 50, what: () => difference(clients) })
  for (const client of others) assert.deepEqual(snapshot(client), snapshot(first))
}

function snapshot ({ ydoc }) {
  return {
    pending: isPending(ydoc),
    stateVector: Buffer.from(Y.encodeStateVector(ydoc)).toString('hex'),
    content: content(ydoc),
    state: state(ydoc)
  }
}

function difference (clients) {
  const unsynced = clients.filter(({ provider }) => !provider.synced).length
  if (unsynced > 0) return `all synced; ${unsynced} of ${clients.length} are not`
  const snapshots = clients.map(snapshot)
  for (const part of ['pending', 'stateVector', 'content', 'state']) {
    const values = snapshots.map(whole => JSON.stringify(whole[part]))
    const odd = values.findIndex(value => value !== values[0])
    if (odd > 0) return `equal ${part}; client ${odd} differs from client 0: ${firstDifference(values[odd], values[0])}`
  }
  return 'equal (they became so at the last moment)'
}

function firstDifference (a, b) {
  let at = 0
  while (a[at] === b[at]) at++
  const around = text => text.slice(Math.max(0, at - 60), at + 60)
  return `at ${at} of ${a.length} and ${b.length}:\n  ${around(a)}\n  ${around(b)}`
}
