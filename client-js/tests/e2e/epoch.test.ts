// Welcome and epochs of the real server. Skipped if its store has no epochs.

import { expect, test } from 'vitest'
import * as Y from 'yjs'
import type { EpochMismatch, Welcome } from '../../src/index.ts'
import { Client, soon } from '../support/client.ts'
import { startServer, tokenFor } from '../support/real-server.ts'

const NAME = 'notes/today'
const OTHER = '00000000000000bb'
const NO_EPOCH = 'the store of this server has no epochs'

test('provider_9_welcome_has_limits_and_a_stable_epoch', async ({ skip }) => {
  const server = await startServer()
  const client = new Client({
    url: server.wsUrl,
    name: NAME,
    token: tokenFor(NAME),
    connect: false,
  })
  const welcomes: Welcome[] = []
  client.provider.on('welcome', welcome => welcomes.push(welcome))
  client.provider.connect()
  await client.synced()
  expect(client.provider.dialect).toBe('syncline.v1')
  const [first] = welcomes
  expect(first).toMatchObject({ access: 'write', durability: 'fsync', quarantined: false })
  expect(first?.limits.message).toBeGreaterThan(first?.limits.presence ?? 0)
  expect(Math.abs((first?.serverTime ?? 0) - Date.now())).toBeLessThan(60_000)
  client.text.insert(0, 'kept')
  await client.saved()
  skip(first?.epoch === undefined, NO_EPOCH)
  expect(first?.epoch).toMatch(/^[0-9a-f]{16}$/)
  await server.restart('kill9')
  await soon(() => welcomes.length === 2 && client.provider.synced, 'back')
  expect(welcomes[1]?.epoch).toBe(first?.epoch)
  expect(client.sockets.at(-1)?.url).toContain(`epoch=${first?.epoch}`)
  await client.saved()
})

test('provider_10_no_exchange_with_a_different_epoch', async ({ skip }) => {
  const server = await startServer()
  const token = tokenFor(NAME)
  const writer = await new Client({ url: server.wsUrl, name: NAME, token }).synced()
  writer.text.insert(0, 'this history')
  await writer.saved()
  skip(writer.provider.epoch === undefined, NO_EPOCH)

  const doc = new Y.Doc()
  doc.getText('text').insert(0, 'another history')
  const client = new Client({
    url: server.wsUrl,
    name: NAME,
    token,
    doc,
    epoch: OTHER,
    connect: false,
  })
  const mismatches: EpochMismatch[] = []
  client.provider.on('epoch-mismatch', mismatch => mismatches.push(mismatch))
  client.provider.connect()
  await soon(() => client.closed.length === 1, 'stopped')
  expect(client.closed[0]).toMatchObject({
    code: 4409,
    reason: expect.stringMatching(/^epoch_mismatch: /),
  })
  expect(mismatches).toMatchObject([{ held: OTHER }])
  expect([client.text.toString(), writer.text.toString()]).toEqual([
    'another history',
    'this history',
  ])
  expect(client.provider.saved).toBe(false)

  const fresh = new Y.Doc()
  const next = client.provider.restartWith(fresh)
  await next.whenSynced()
  expect(fresh.getText('text').toString()).toBe('this history')
  expect(next.epoch).toBe(writer.provider.epoch)
  fresh.destroy()
})

test('provider_22_reader_has_nothing_unsaved_before_writing', async () => {
  const server = await startServer()
  const token = tokenFor(NAME)
  const writer = await new Client({ url: server.wsUrl, name: NAME, token }).synced()
  writer.text.insert(0, 'one')
  await writer.saved()
  // A stored document without changes unknown to the server.
  const doc = new Y.Doc()
  Y.applyUpdate(doc, Y.encodeStateAsUpdate(writer.doc))
  const reader = new Client({ url: server.wsUrl, name: NAME, doc, token: tokenFor(NAME, 'read') })
  expect(reader.provider.unsaved).toBe(1)
  await reader.synced()
  expect([reader.provider.access, reader.provider.unsaved, reader.provider.saved]).toEqual([
    'read',
    0,
    true,
  ])
  // Offline changes of a reader are refused on reconnect.
  reader.provider.disconnect()
  reader.text.insert(0, 'mine ')
  reader.provider.connect()
  await soon(() => reader.refusals.length === 1, 'refused')
  expect(reader.refusals[0]).toMatchObject({ code: 'forbidden_write' })
  expect(reader.provider.saved).toBe(false)
})
