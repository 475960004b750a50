// Changes above the server's size limits.

import { expect, test, vi } from 'vitest'
import * as Y from 'yjs'
import { Client, soon } from './support/client.ts'
import { FakeServer } from './support/fake-server.ts'

const limits = { message: 4_096, update: 1_024, presence: 1_024 }

test('provider_29_oversize_update_is_sent_with_the_next_diff', async () => {
  const server = await FakeServer.start({ welcome: { limits } })
  const client = new Client({ url: server.url })
  await client.synced()
  client.text.insert(0, 'x'.repeat(2_000))
  client.text.insert(0, 'small')
  expect(client.provider.saved).toBe(false)
  await client.provider.whenSaved()
  expect(server.sessions.length).toBe(2)
  expect(server.sessions.flatMap(session => session.kinds())).not.toContain('update')
  expect(server.doc.getText('text').toString()).toBe(client.text.toString())
})

test('provider_29_oversize_diff_is_not_sent_and_reported_once', async () => {
  const server = await FakeServer.start({ welcome: { limits } })
  const client = new Client({ url: server.url })
  const closed = vi.fn()
  client.provider.on('closed', closed)
  await client.synced()
  client.text.insert(0, 'x'.repeat(5_000))
  await soon(() => closed.mock.calls.length > 0, 'closed')
  const { code, reason } = closed.mock.calls[0]?.[0] ?? {}
  expect(code).toBe(4413)
  expect(reason).toMatch(/^message_too_large: 50\d\d bytes of changes, at most 4096/)
  expect(client.provider.saved).toBe(false)
  expect(Y.encodeStateVector(server.doc)).toEqual(Y.encodeStateVector(new Y.Doc()))

  // The application deletes the text and reconnects.
  client.text.delete(0, 5_000)
  client.provider.connect()
  await client.provider.whenSaved()
  expect(closed).toHaveBeenCalledTimes(1)
})
