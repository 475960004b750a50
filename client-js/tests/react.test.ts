// @vitest-environment jsdom
// The hooks under StrictMode, which mounts components twice.

import { createElement as h, StrictMode, useState } from 'react'
import { createRoot, type Root } from 'react-dom/client'
import { afterEach, beforeEach, expect, onTestFinished, test } from 'vitest'
import WebSocket from 'ws'
import * as Y from 'yjs'
import type { CreateOptions, SynclineProvider } from '../src/index.ts'
import {
  useDetail,
  useProvider,
  useSaved,
  useStatus,
  useSynced,
  useUnsaved,
  useUsers,
} from '../src/react.ts'
import { soon } from './support/client.ts'
import { FakeServer } from './support/fake-server.ts'
import { refusedFrame, savedFrame } from './support/frames.ts'

let root: Root
let page: HTMLElement
const seen: SynclineProvider[] = []

beforeEach(() => {
  page = document.body.appendChild(document.createElement('div'))
  root = createRoot(page)
  seen.length = 0
})
afterEach(() => {
  root.unmount()
  page.remove()
})

/** Renders the values of all hooks, separated by spaces. */
function Badge(options: CreateOptions) {
  const provider = useProvider(options)
  seen.push(provider)
  const users = useUsers(provider).map(({ user }) => user.name)
  const words = [
    useStatus(provider),
    useSynced(provider),
    useSaved(provider),
    useUnsaved(provider),
    useDetail(provider)?.code,
    users,
  ]
  return h('p', null, words.map(String).join(' '))
}

const render = (node: React.ReactNode): void => root.render(h(StrictMode, null, node))
const shows = (text: string): Promise<unknown> =>
  soon(
    () => page.textContent === text,
    () => `"${text}", not "${page.textContent}"`,
  )

function newDoc(): Y.Doc {
  const doc = new Y.Doc()
  onTestFinished(() => doc.destroy())
  return doc
}

const optionsFor = (
  server: FakeServer,
  doc: Y.Doc,
  more: Partial<CreateOptions> = {},
): CreateOptions => ({
  url: server.url,
  name: 'notes/today',
  doc,
  disableBc: true,
  maxBackoffTime: 100,
  WebSocketPolyfill: WebSocket,
  ...more,
})

test('provider_26_strict_mode_creates_one_connection', async () => {
  const server = await FakeServer.start({ acknowledges: false })
  const doc = newDoc()
  render(h(Badge, optionsFor(server, doc, { user: { name: 'Ada' } })))
  await shows('connected true false 1 undefined Ada')
  expect(server.sessions).toHaveLength(1)
  expect(new Set(seen).size).toBe(1)
  server.last.send(savedFrame(1))
  await shows('connected true true 0 undefined Ada')
  doc.getText('text').insert(0, 'x')
  await soon(() => server.last.frames === 2, 'the update')
  server.last.send(refusedFrame(2, 'store_unavailable', 'full'))
  await shows('connected true false 1 store_unavailable Ada')
  render(h(Badge, optionsFor(server, doc, { user: { name: 'Bob' } })))
  await shows('connected true false 1 store_unavailable Bob')
  expect(server.sessions).toHaveLength(1)
})

test('provider_26_last_unmount_destroys_and_new_name_creates', async () => {
  const server = await FakeServer.start()
  const doc = newDoc()
  const other = newDoc()
  render([
    h(Badge, { ...optionsFor(server, doc), key: 1 }),
    h(Badge, { ...optionsFor(server, doc), key: 2 }),
  ])
  await soon(() => seen[0]?.synced, 'synced')
  expect(server.sessions).toHaveLength(1)
  const [first] = seen
  render(h(Badge, { ...optionsFor(server, doc), key: 1 }))
  expect(first?.wsconnected).toBe(true)
  render(h(Badge, { ...optionsFor(server, other, { name: 'another' }), key: 1 }))
  await soon(() => !first?.wsconnected && !first?.shouldConnect, 'the first has ended')
  await soon(() => seen.at(-1)?.synced, 'the other has synced')
  expect(server.sessions.map(session => session.request.url)).toEqual([
    '/ws/notes/today',
    '/ws/another',
  ])
  render(null)
  await soon(() => !seen.at(-1)?.shouldConnect, 'ended')
  // The same document gets a new provider, because the old one is destroyed.
  render(h(Badge, optionsFor(server, doc)))
  await soon(() => seen.at(-1)?.synced, 'synced again')
  expect(seen.at(-1)).not.toBe(first)
})

test('the token function may change on each render', async () => {
  const server = await FakeServer.start()
  const doc = newDoc()
  render(h(Badge, optionsFor(server, doc, { token: () => 'first' })))
  await soon(() => seen[0]?.synced, 'synced')
  const renders = seen.length
  render(h(Badge, optionsFor(server, doc, { token: () => 'second' })))
  await soon(() => seen.length > renders, 'rendered')
  server.last.socket.terminate()
  await soon(() => server.sessions.length === 2, 'back')
  expect(server.sessions.map(session => session.token)).toEqual(['first', 'second'])
})

/** Creates its document in useState. */
function App({ server, docs }: { server: FakeServer; docs: Set<Y.Doc> }) {
  const [doc] = useState(() => new Y.Doc())
  docs.add(doc)
  return h(Badge, optionsFor(server, doc))
}

test('a document created in useState works', async () => {
  const server = await FakeServer.start()
  const docs = new Set<Y.Doc>()
  render(h(App, { server, docs }))
  await shows('connected true true 0 undefined ')
  expect(server.sessions).toHaveLength(1)
  for (const doc of docs) doc.destroy()
})
