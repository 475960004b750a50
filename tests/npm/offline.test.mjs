// Work done without a connection arrives when it is back, in both directions.

import { test } from 'node:test'
import * as Y from 'yjs'
import { Client, join } from './support/clients.mjs'
import { startServer, token } from './support/server.mjs'
import { until } from './support/wait.mjs'

const SOON_MS = 5_000
const NAME = 'team/offline'

const list = client => client.ydoc.getArray('array')
const has = (client, ...words) => until(() => words.every(word => list(client).toArray().includes(word)), {
  within: SOON_MS, what: () => `${words} in ${JSON.stringify(list(client))}`
})

test('client_2_offline_edits_of_both_sides_arrive_after_the_reconnect', async t => {
  const server = await startServer(t)
  const a = await join(t, server, NAME)
  const b = await join(t, server, NAME)
  list(a).push(['before'])
  await has(b, 'before')

  a.provider.disconnect()
  list(a).push(['by a, offline'])
  list(b).push(['by b, meanwhile'])
  list(b).delete(0)
  a.provider.connect()
  await has(a, 'by b, meanwhile')
  await has(b, 'by a, offline')
  await until(() => !list(a).toArray().includes('before'), { within: SOON_MS, what: 'the deletion arrived' })
})

test('client_2_offline_deletions_alone_arrive', async t => {
  const server = await startServer(t)
  const a = await join(t, server, NAME)
  const b = await join(t, server, NAME)
  list(a).push(['stays', 'goes'])
  await has(b, 'stays', 'goes')
  a.provider.disconnect()
  // Leaves the state vector as it was.
  list(a).delete(1)
  a.provider.connect()
  await until(() => list(b).length === 1, { within: SOON_MS, what: 'the deletion arrived' })
})

test('client_2_offline_edits_arrive_when_both_were_away', async t => {
  const server = await startServer(t)
  const a = await join(t, server, NAME)
  const b = await join(t, server, NAME)
  for (const client of [a, b]) client.provider.disconnect()
  list(a).push(['by a'])
  list(b).push(['by b'])
  for (const client of [a, b]) client.provider.connect()
  await has(a, 'by a', 'by b')
  await has(b, 'by a', 'by b')
})

test('client_2_offline_edits_made_while_the_server_was_down_arrive', async t => {
  const server = await startServer(t)
  const a = await join(t, server, NAME)
  const b = await join(t, server, NAME)
  for (const how of ['stop', 'kill9']) {
    await server[how]()
    list(a).push([`by a, ${how}`])
    list(b).push([`by b, ${how}`])
    await server.start()
    await until(() => [a, b].every(({ provider }) => provider.synced), { within: 10_000, what: 'reconnected' })
    await has(a, `by b, ${how}`)
    await has(b, `by a, ${how}`)
  }
})

test('client_2_offline_document_made_before_the_first_connection_arrives', async t => {
  const server = await startServer(t)
  const ydoc = new Y.Doc()
  ydoc.getArray('array').push(['made at home'])
  const a = new Client(t, server, NAME, { jwt: await token({ [NAME]: 'write' }), ydoc })
  await a.synced()
  const b = await join(t, server, NAME)
  await has(b, 'made at home')
})
