// The provider against the fake server.

import fc from 'fast-check'
import { describe, expect, test, vi } from 'vitest'
import WebSocket from 'ws'
import { encodeAwarenessUpdate } from 'y-protocols/awareness'
import * as Y from 'yjs'
import { SynclineProvider } from '../src/index.ts'
import { presence, syncStep1, update } from '../src/wire.ts'
import { Client, soon } from './support/client.ts'
import { FakeServer } from './support/fake-server.ts'
import { type FakeSocket, fakeSocket } from './support/fake-socket.ts'
import { hex } from './support/frames.ts'

const HELD = '00000000000000aa'

describe('first frames', () => {
  test('provider_12_first_syncstep1_then_presence', async () => {
    const server = await FakeServer.start()
    const client = new Client({ url: server.url, user: { name: 'Ada' } })
    client.text.insert(0, 'made offline')
    await client.synced()
    await soon(() => server.last.frames === 1, 'the diff arrived')
    expect(server.last.kinds()).toEqual(['syncStep1', 'presence', 'syncStep2'])
    expect(hex(server.last.raw[0] ?? new Uint8Array())).toBe(
      hex(syncStep1(Y.encodeStateVector(client.doc))),
    )
    expect(server.doc.getText('text').toString()).toBe('made offline')
  })

  test('provider_13_token_is_not_in_the_url', async () => {
    const server = await FakeServer.start()
    const client = new Client({
      url: server.url,
      token: 'aa.bb.cc',
      params: { theme: 'dark' },
      epoch: HELD,
    })
    await client.synced()
    expect(server.last.offers).toEqual(['syncline.v1', 'bearer.aa.bb.cc'])
    expect(server.last.request.url).toBe(`/ws/notes/today?theme=dark&epoch=${HELD}`)
    expect(client.sockets[0]?.protocol).toBe('syncline.v1')
  })

  test('non-header tokens and plain-server tokens go into the query', async () => {
    const server = await FakeServer.start()
    await new Client({ url: server.url, token: 'a token' }).synced()
    expect([server.last.offers, server.last.query.get('token')]).toEqual([
      ['syncline.v1'],
      'a token',
    ])
    await new Client({ url: server.url, token: 'aa.bb.cc', dialect: 'y-websocket' }).synced()
    expect([server.last.offers, server.last.query.get('token')]).toEqual([[''], 'aa.bb.cc'])
  })

  test.each([
    ['notes/today', '/ws/notes/today'],
    ['what?#', '/ws/what%3F%23'],
    ['a%2Fb', '/ws/a%2Fb'],
    ['100%', '/ws/100%25'],
  ])('name %s is requested as %s', async (name, path) => {
    const server = await FakeServer.start()
    await new Client({ url: `${server.url}//`, name }).synced()
    expect(server.last.request.url).toBe(path)
  })
})

describe('y-websocket compatibility', () => {
  test('provider_14_properties_and_events_of_y_websocket', async () => {
    const server = await FakeServer.start()
    const doc = new Y.Doc()
    const provider = new SynclineProvider(`${server.url}/`, 'notes/today', doc, {
      params: { theme: 'dark' },
      WebSocketPolyfill: WebSocket,
      disableBc: true,
    })
    const events: string[] = []
    provider.on('status', ({ status }) => events.push(status))
    provider.on('sync', synced => events.push(`sync ${synced}`))
    provider.on('synced', synced => events.push(`synced ${synced}`))
    provider.on('connection-close', (event, from) =>
      events.push(`close ${event} ${from === provider}`),
    )
    expect([provider.wsconnecting, provider.wsconnected, provider.shouldConnect]).toEqual([
      true,
      false,
      true,
    ])
    await provider.whenSynced()
    await doc.whenSynced
    expect([
      provider.wsconnecting,
      provider.wsconnected,
      provider.synced,
      provider.isSynced,
    ]).toEqual([false, true, true, true])
    expect([provider.doc, provider.document]).toEqual([doc, doc])
    expect([provider.roomname, provider.name, provider.url]).toEqual([
      'notes/today',
      'notes/today',
      `${server.url}/notes/today?theme=dark`,
    ])
    expect(provider.awareness.doc).toBe(doc)
    expect(provider.ws?.readyState).toBe(WebSocket.OPEN)
    provider.disconnect()
    expect(events).toEqual([
      'connected',
      'synced true',
      'sync true',
      'close null true',
      'disconnected',
      'synced false',
      'sync false',
    ])
    expect([provider.ws, provider.shouldConnect, doc.isSynced]).toEqual([null, false, false])
    provider.destroy()
  })

  test('remote updates have origin provider; connect rereads params', async () => {
    const server = await FakeServer.start()
    server.doc.getText('text').insert(0, 'there')
    const client = new Client({ url: server.url, connect: false })
    const origins: unknown[] = []
    client.doc.on('update', (_: Uint8Array, origin: unknown) => origins.push(origin))
    client.provider.params = { token: 'late' }
    client.provider.connect()
    await client.synced()
    expect(origins).toEqual([client.provider])
    expect(server.last.query.get('token')).toBe('late')
  })

  test('provider_15_connect_disconnect_and_destroy_in_any_order', async () => {
    const calls = fc.array(fc.constantFrom('connect', 'disconnect', 'destroy'), { maxLength: 8 })
    const anyOrder = fc.asyncProperty(calls, async names => {
      const doc = new Y.Doc()
      const sockets: FakeSocket[] = []
      const provider = new SynclineProvider('ws://fake', 'x', doc, {
        connect: false,
        disableBc: true,
        WebSocketPolyfill: fakeSocket(sockets),
      })
      for (const name of names) provider[name as 'connect']()
      const wanted = names.at(-1) === 'connect' && !names.includes('destroy')
      expect([provider.shouldConnect, provider.wsconnecting]).toEqual([wanted, wanted])
      expect(sockets.filter(socket => socket.readyState < 2)).toHaveLength(wanted ? 1 : 0)
      doc.destroy()
      expect(sockets.filter(socket => socket.readyState < 2)).toHaveLength(0)
    })
    await fc.assert(anyOrder, { numRuns: 100 })
  })

  test('a throwing listener does not affect others', async () => {
    const server = await FakeServer.start()
    const client = new Client({ url: server.url, connect: false })
    const thrown: unknown[] = []
    vi.stubGlobal('queueMicrotask', (run: () => void) => {
      try {
        run()
      } catch (error) {
        thrown.push(error)
      }
    })
    client.provider.once('status', () => {
      throw new Error('mine')
    })
    client.provider.connect()
    await client.synced()
    vi.unstubAllGlobals()
    expect(client.provider.synced).toBe(true)
    expect(thrown).toContainEqual(new Error('mine'))
  })

  test('a listener may reconnect synchronously', async () => {
    const server = await FakeServer.start({ verdict: () => [4403, 'forbidden_document: no'] })
    const client = new Client({ url: server.url, connect: false })
    client.provider.once('closed', () => {
      server.options = {}
      client.provider.connect()
    })
    client.provider.connect()
    await client.synced()
  })
})

describe('presence', () => {
  test('provider_19_stable_colours_and_removal_on_disconnect', async () => {
    const server = await FakeServer.start()
    const a = await new Client({ url: server.url, user: { name: 'Ada' } }).synced()
    const b = await new Client({ url: server.url }).synced()
    b.provider.setUser({ name: 'Ada', role: 'editor' })
    await soon(
      () => a.provider.users.length === 2 && b.provider.users.length === 2,
      'both see both',
    )
    const [self, other] = a.provider.users
    expect([self?.isSelf, other?.isSelf, other?.clientId]).toEqual([true, false, b.doc.clientID])
    expect(other?.user).toMatchObject({ name: 'Ada', role: 'editor', color: self?.user.color })
    expect(self?.user.color).toMatch(/^#[0-9a-f]{6}$/)
    expect(a.provider.users).toBe(a.provider.users)
    b.provider.disconnect()
    await soon(() => a.provider.users.length === 1, 'b is gone')
    expect(b.provider.users).toHaveLength(1)
  })

  test('remote presence is not sent back', async () => {
    const server = await FakeServer.start()
    const a = await new Client({ url: server.url }).synced()
    const b = await new Client({ url: server.url, user: { name: 'B' } }).synced()
    await soon(() => a.provider.awareness.getStates().has(b.doc.clientID), 'a sees b')
    const before = server.sessions[0]?.kinds().filter(kind => kind === 'presence').length
    server.sessions[0]?.send(
      presence(encodeAwarenessUpdate(b.provider.awareness, [b.doc.clientID])),
    )
    a.text.insert(0, 'x')
    await a.saved()
    expect(server.sessions[0]?.kinds().filter(kind => kind === 'presence').length).toBe(before)
  })
})

test('provider_20_no_automatic_connect_in_node', async () => {
  const doc = new Y.Doc()
  const provider = new SynclineProvider('ws://127.0.0.1:1', 'x', doc, { disableBc: true })
  expect([provider.status, provider.shouldConnect]).toEqual(['disconnected', false])
  // Node 20 has no WebSocket; `ws` is used.
  const server = await FakeServer.start()
  const asked = new SynclineProvider(server.url, 'x', doc, { disableBc: true, connect: true })
  await asked.whenSynced()
  doc.destroy()
})

test('resyncInterval sends SyncStep1 periodically', async () => {
  const server = await FakeServer.start()
  const client = await new Client({ url: server.url, resyncInterval: 20 }).synced()
  // A remote change whose update frame was lost.
  server.doc.getText('text').insert(0, 'missed')
  await client.reads('missed')
})

test('receiving an own update has no effect', async () => {
  const server = await FakeServer.start()
  const client = await new Client({ url: server.url }).synced()
  client.text.insert(0, 'once')
  await client.saved()
  server.last.send(update(Y.encodeStateAsUpdate(server.doc)))
  client.text.insert(4, '!')
  await client.saved()
  expect(client.text.toString()).toBe('once!')
})
