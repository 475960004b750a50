// Seeding by concurrent clients.

import { describe, expect, test } from 'vitest'
import * as Y from 'yjs'
import { makeSeed, seed } from '../../src/index.ts'
import { Client, soon } from '../support/client.ts'
import { FakeServer } from '../support/fake-server.ts'
import { startServer, tokenFor } from '../support/real-server.ts'

const NAME = 'fresh'
const CLIENTS = 50

const welcome = (doc: Y.Doc): void => {
  doc.getText('text').insert(0, 'Welcome! 👋')
  doc.getText('text').format(0, 8, { bold: true })
  const paragraph = new Y.XmlElement('p')
  doc.getXmlFragment('xml').insert(0, [paragraph])
  paragraph.insert(0, [new Y.XmlText('first')])
  doc.getMap('meta').set('version', 1)
}

const CONTENT = { text: 'Welcome! 👋', xml: '<p>first</p>', version: 1 }
const contentOf = (doc: Y.Doc) => ({
  text: doc.getText('text').toString(),
  xml: doc.getXmlFragment('xml').toString(),
  version: doc.getMap('meta').get('version'),
})

describe('makeSeed', () => {
  test('equal content has equal bytes, other content another client', () => {
    expect(makeSeed(welcome)).toEqual(makeSeed(welcome))
    const clientOf = (update: Uint8Array) => [
      ...Y.decodeStateVector(Y.encodeStateVectorFromUpdate(update)).keys(),
    ]
    const [id] = clientOf(makeSeed(welcome))
    expect(id).toBeGreaterThanOrEqual(2 ** 32)
    expect(id).toBeLessThan(2 ** 53)
    const [other] = clientOf(makeSeed(doc => doc.getText('text').insert(0, 'Hello')))
    expect(other).not.toBe(id)
  })

  test('seeds merge once in any order, also with edits between', () => {
    const docs = Array.from({ length: 5 }, () => new Y.Doc())
    for (const doc of docs) Y.applyUpdate(doc, makeSeed(welcome))
    docs[0]?.getText('text').delete(0, 4)
    docs[1]?.getText('text').insert(3, '!')
    docs[2]?.getXmlFragment('xml').delete(0, 1)
    for (const to of docs) for (const from of docs) Y.applyUpdate(to, Y.encodeStateAsUpdate(from))
    for (const doc of docs) {
      expect(doc.getText('text').toString()).toBe('!ome! 👋')
      expect(doc.getXmlFragment('xml').toString()).toBe('')
      expect(doc.store.pendingStructs).toBeNull()
    }
  })

  test('a non-deterministic seed throws', () => {
    expect(() => makeSeed(doc => doc.getMap('meta').set('at', Math.random()))).toThrow(
      /differs between runs/,
    )
  })
})

test('provider_23_concurrent_seeds_of_fifty_clients_merge_into_one', async () => {
  const server = await startServer()
  const token = tokenFor(NAME)
  const clients = Array.from(
    { length: CLIENTS },
    () => new Client({ url: server.wsUrl, name: NAME, token, connect: false }),
  )
  const seeded = clients.map(client => seed(client.provider, welcome))
  for (const client of clients) client.provider.connect()
  // Some synced before the first seed, so they all add one.
  expect((await Promise.all(seeded)).filter(Boolean).length).toBeGreaterThan(0)
  for (const client of clients) {
    await soon(() => contentOf(client.doc).version === 1, 'arrived')
    expect(contentOf(client.doc)).toEqual(CONTENT)
    await client.saved()
  }
  for (const client of clients) client.end()
  await server.restart('kill9')
  const late = await new Client({ url: server.wsUrl, name: NAME, token }).synced()
  expect(contentOf(late.doc)).toEqual(CONTENT)
  expect(await seed(late.provider, welcome)).toBe(false)
})

test('fifty isolated clients create identical items', async () => {
  // The server relays nothing, so all clients seed.
  const server = await FakeServer.start({ acknowledges: false })
  const clients = Array.from({ length: CLIENTS }, () => new Client({ url: server.url, name: NAME }))
  expect(await Promise.all(clients.map(client => seed(client.provider, welcome)))).not.toContain(
    false,
  )
  const [first, ...others] = clients.map(client => client.doc)
  if (first === undefined) throw new Error('no clients')
  for (const doc of others) Y.applyUpdate(first, Y.encodeStateAsUpdate(doc))
  expect(contentOf(first)).toEqual(CONTENT)
  expect(first.store.clients.size).toBe(1)
})

test('emptied documents and read-only clients are not seeded', async () => {
  const server = await startServer()
  const writer = await new Client({ url: server.wsUrl, name: NAME, token: tokenFor(NAME) }).synced()
  expect(await seed(writer.provider, doc => doc.getText('text').insert(0, 'x'))).toBe(true)
  writer.text.delete(0, 1)
  await writer.saved()
  const next = new Client({ url: server.wsUrl, name: NAME, token: tokenFor(NAME) })
  expect(await seed(next.provider, doc => doc.getText('text').insert(0, 'x'))).toBe(false)

  const fake = await FakeServer.start({ welcome: { access: 'read' } })
  const reader = new Client({ url: fake.url, name: NAME })
  expect(await seed(reader.provider, welcome)).toBe(false)
})
