// Tabs of one origin, with the BroadcastChannel of Node.

import { expect, onTestFinished, test } from 'vitest'
import * as Y from 'yjs'
import { never } from '../../tests/npm/support/wait.mjs'
import { update } from '../src/wire.ts'
import { Client, type ClientOptions, soon } from './support/client.ts'
import { FakeServer } from './support/fake-server.ts'

const HELD = '00000000000000aa'
const OTHER = '00000000000000bb'

/** A port without a listener. */
const NOWHERE = 'ws://127.0.0.1:9'

let documents = 0
/** A document name used by one test only. */
const newDocumentName = (): string => `tabs/${++documents}`

const tab = (name: string, options: Partial<ClientOptions> = {}): Client =>
  new Client({ url: NOWHERE, name, disableBc: false, ...options })

test('provider_25_tabs_sync_without_a_server', async () => {
  const name = newDocumentName()
  const a = tab(name, { user: { name: 'Ada' } })
  a.text.insert(0, 'a')
  const b = tab(name, { user: { name: 'Bob' } })
  await b.reads('a')
  b.text.insert(1, 'b')
  await a.reads('ab')
  await soon(() => a.provider.users.length === 2 && b.provider.users.length === 2, 'both see both')
  a.provider.disconnect()
  a.text.insert(2, '!')
  await soon(() => b.provider.users.length === 1, 'a is gone')
  await never(() => b.text.toString() !== 'ab', {
    during: 200,
    what: 'a disconnected tab sent an update',
  })
  a.provider.connect()
  await b.reads('ab!')
})

test('existing content of two tabs is exchanged both ways', async () => {
  const name = newDocumentName()
  const a = tab(name)
  const b = tab(name, { connect: false })
  a.doc.getMap('map').set('a', 1)
  b.doc.getMap('map').set('b', 2)
  b.provider.connect()
  for (const { doc } of [a, b]) {
    await soon(() => doc.getMap('map').size === 2, 'both')
  }
})

test('other documents and disableBc tabs receive nothing', async () => {
  const name = newDocumentName()
  const others = [tab(newDocumentName()), tab(name, { disableBc: true })]
  const a = tab(name)
  const b = tab(name)
  a.text.insert(0, 'a')
  await b.reads('a')
  expect(others.map(other => other.text.toString())).toEqual(['', ''])
})

test('provider_10_updates_from_a_tab_of_another_epoch_are_ignored', async () => {
  const name = newDocumentName()
  const stale = tab(name, { epoch: HELD })
  const fresh = tab(name, { epoch: OTHER })
  const third = tab(name, { epoch: OTHER })
  stale.text.insert(0, 'stale')
  fresh.text.insert(0, 'fresh')
  await third.reads('fresh')
  await never(() => fresh.text.toString() !== 'fresh', { during: 200, what: 'histories merged' })
  expect(stale.text.toString()).toBe('stale')
})

test('a tab adopts the epoch of the content it receives', async () => {
  const name = newDocumentName()
  const stale = tab(name, { epoch: HELD })
  stale.text.insert(0, 'stale')
  const server = await FakeServer.start({ welcome: { epoch: OTHER } })
  // Connects to another server URL, so it does not share a channel with `stale`.
  const innocent = tab(name)
  await innocent.reads('stale')
  expect(innocent.provider.epoch).toBe(HELD)
  const channel = new BroadcastChannel(`syncline:${server.url}/${name}`)
  onTestFinished(() => channel.close())
  const connected = await tab(name, { url: server.url }).synced()
  expect(connected.provider.epoch).toBe(OTHER)
  channel.postMessage(staleUpdate())
  await never(() => connected.text.toString() !== '', { during: 200, what: 'histories merged' })
})

/** An update message of a tab with the epoch `HELD`. */
function staleUpdate(): object {
  const doc = new Y.Doc()
  doc.getText('text').insert(0, 'stale')
  return { frame: update(Y.encodeStateAsUpdate(doc)), epoch: HELD, isNew: false }
}

test('provider_10_restart_ignores_the_old_epoch_of_other_tabs', async () => {
  const name = newDocumentName()
  const server = await FakeServer.start({ welcome: { epoch: OTHER } })
  const client = tab(name, { url: server.url, epoch: HELD })
  await soon(() => client.closed.length === 1, 'stopped')
  // A tab that still has the old epoch and answers every message.
  const channel = new BroadcastChannel(`syncline:${server.url}/${name}`)
  let answers = 0
  channel.onmessage = () => {
    answers += 1
    channel.postMessage(staleUpdate())
  }
  onTestFinished(() => channel.close())
  const doc = new Y.Doc()
  onTestFinished(() => doc.destroy())
  const next = client.provider.restartWith(doc)
  await next.whenSynced()
  await soon(() => answers > 2, 'the tab has answered')
  await never(() => doc.getText('text').length > 0, { during: 200, what: 'histories merged' })
  expect(next.epoch).toBe(OTHER)
})
