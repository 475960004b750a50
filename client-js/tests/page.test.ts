// @vitest-environment jsdom
// The provider in a page: presence on unload, the CodeMirror binding, y-indexeddb.

import 'fake-indexeddb/auto'
import { EditorState } from '@codemirror/state'
import { EditorView } from '@codemirror/view'
import { expect, test, vi } from 'vitest'
import { yCollab } from 'y-codemirror.next'
import { IndexeddbPersistence } from 'y-indexeddb'
import * as Y from 'yjs'
import { createProvider } from '../src/index.ts'
import { Client, soon } from './support/client.ts'
import { FakeServer } from './support/fake-server.ts'

const EPOCH = '00000000000000aa'

test('provider_27_presence_follows_pagehide_and_pageshow', async () => {
  const server = await FakeServer.start()
  const a = await new Client({ url: server.url, user: { name: 'Ada' } }).synced()
  const events: object[] = []
  a.provider.on('users', users => events.push(users.map(({ user }) => user.name)))
  dispatchEvent(new Event('pagehide'))
  expect(a.provider.awareness.getLocalState()).toBeNull()
  dispatchEvent(new Event('pageshow'))
  expect(a.provider.awareness.getLocalState()).toMatchObject({ user: { name: 'Ada' } })
  expect(events).toEqual([[], ['Ada']])
})

test('cancelling beforeunload restores the presence', () => {
  vi.useFakeTimers()
  const doc = new Y.Doc()
  const provider = createProvider({
    url: 'ws://fake',
    name: 'x',
    doc,
    connect: false,
    user: { name: 'Ada' },
  })
  dispatchEvent(new Event('beforeunload'))
  expect(provider.users).toEqual([])
  vi.advanceTimersByTime(2_000)
  expect(provider.users).toHaveLength(1)
  provider.destroy()
  dispatchEvent(new Event('beforeunload'))
  doc.destroy()
  vi.useRealTimers()
})

test('provider_14_codemirror_binding_accepts_the_provider', async () => {
  const server = await FakeServer.start()
  const editors = ['Ada', 'Bob'].map(name => {
    const client = new Client({ url: server.url, user: { name } })
    const body = client.doc.getText('text')
    const extensions = [yCollab(body, client.provider.awareness)]
    const view = new EditorView({
      state: EditorState.create({ doc: body.toString(), extensions }),
      parent: document.body,
    })
    return { client, view }
  })
  const [a, b] = editors
  if (a === undefined || b === undefined) throw new Error('two editors')
  await Promise.all(editors.map(({ client }) => client.synced()))
  a.view.dispatch({ changes: { from: 0, insert: 'hello' } })
  await soon(() => b.view.state.doc.toString() === 'hello', 'b shows it')
  b.view.dispatch({ changes: { from: 5, insert: ' there' }, selection: { anchor: 3 } })
  await soon(() => a.view.state.doc.toString() === 'hello there', 'a shows it')
  await a.client.saved()
  for (const { view } of editors) view.destroy()
})

test('provider_28_local_database_restores_document_and_epoch', async () => {
  const server = await FakeServer.start({ welcome: { epoch: EPOCH } })
  const first = new Client({ url: server.url, connect: false })
  const kept = new IndexeddbPersistence('notes', first.doc)
  await kept.whenSynced
  first.provider.on('welcome', ({ epoch }) => void kept.set('epoch', epoch ?? ''))
  first.provider.connect()
  await first.synced()
  first.text.insert(0, 'online, ')
  await first.saved()
  first.provider.disconnect()
  first.text.insert(8, 'offline')
  await soon(async () => (await kept.get('epoch')) === EPOCH, 'the epoch is kept')
  await kept.destroy()
  first.end()

  const doc = new Y.Doc()
  const again = new IndexeddbPersistence('notes', doc)
  await again.whenSynced
  const epoch = (await again.get('epoch')) as string
  const second = new Client({ url: server.url, doc, epoch })
  expect(second.provider.unsaved).toBe(1)
  await second.synced()
  await second.saved()
  expect(server.last.query.get('epoch')).toBe(EPOCH)
  expect(server.doc.getText('text').toString()).toBe('online, offline')
  await again.destroy()
})
