// A reader receives everything and changes nothing.

import { mock, test } from 'node:test'
import assert from 'node:assert/strict'
import * as Y from 'yjs'
import { join } from './support/clients.mjs'
import { startServer } from './support/server.mjs'
import { never, until } from './support/wait.mjs'

// The provider prints denials, with the token in them.
mock.method(console, 'warn', () => {})

const SOON_MS = 5_000
const NAME = 'team/readonly'

const says = (client, string) =>
  until(() => client.text.toString() === string, { within: SOON_MS, what: () => `"${string}", not "${client.text}"` })

test('client_6_reader_receives_but_does_not_write', async t => {
  const server = await startServer(t)
  const writer = await join(t, server, NAME)
  const reader = await join(t, server, NAME, { access: 'read' })
  const watcher = await join(t, server, NAME, { access: 'read' })

  writer.text.insert(0, 'one')
  await says(reader, 'one')
  reader.text.insert(3, ' READER')
  reader.text.delete(0, 1)
  await until(() => reader.denials > 0, { within: SOON_MS, what: 'told that it may not' })

  // The server still serves the reader, and the reader's edits would have come before this one.
  writer.text.insert(0, 'zero ')
  await until(() => reader.text.toString().startsWith('zero '), { within: SOON_MS, what: 'the reader still receives' })
  await says(watcher, 'zero one')
  await says(writer, 'zero one')
  await never(() => watcher.text.toString() !== 'zero one', { during: 500, what: 'the edit of a reader arrived' })
  assert.equal(reader.denials, 1)
  assert.equal(reader.closes.length, 0)

  // Nor is it on disk. The reader comes back too and offers its edits again, in its SyncStep2.
  await server.restart('stop')
  await Promise.all([writer, reader, watcher].map(client =>
    until(() => client.closes.length > 0 && client.provider.synced, { within: 15_000, what: 'reconnected' })))
  const late = await join(t, server, NAME)
  assert.equal(late.text.toString(), 'zero one')
  await never(() => late.text.toString() !== 'zero one', { during: 500, what: 'the edit of a reader arrived' })
})

test('client_6_reader_does_not_write_by_its_first_sync', async t => {
  const server = await startServer(t)
  const writer = await join(t, server, NAME)
  const ydoc = new Y.Doc()
  ydoc.getText('text').insert(0, 'made offline')
  const reader = await join(t, server, NAME, { access: 'read', ydoc })
  await until(() => reader.denials === 1, { within: SOON_MS, what: 'told that it may not' })
  writer.text.insert(0, 'w')
  await until(() => reader.text.toString().includes('w'), { within: SOON_MS, what: 'the reader receives' })
  assert.equal(writer.text.toString(), 'w')
})

test('client_6_reader_without_edits_is_not_scolded', async t => {
  const server = await startServer(t)
  const writer = await join(t, server, NAME)
  writer.text.insert(0, 'one')
  const reader = await join(t, server, NAME, { access: 'read' })
  await says(reader, 'one')
  reader.awareness.setLocalStateField('user', { name: 'Reader' })
  reader.drop()
  await until(() => reader.closes.length === 1 && reader.provider.synced, { within: SOON_MS, what: 'reconnected' })
  writer.text.insert(3, ' two')
  await says(reader, 'one two')
  assert.equal(reader.denials, 0)
})

test('client_6_reader_sees_presence', async t => {
  const server = await startServer(t)
  const writer = await join(t, server, NAME)
  const reader = await join(t, server, NAME, { access: 'read' })
  writer.awareness.setLocalStateField('user', { name: 'Writer' })
  await until(() => reader.awareness.getStates().get(writer.id)?.user?.name === 'Writer', {
    within: SOON_MS, what: 'the writer is seen'
  })
})
