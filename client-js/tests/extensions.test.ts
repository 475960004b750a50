// Additions to y-websocket: refusals, saving, tokens and epochs.

import { describe, expect, test, vi } from 'vitest'
import * as Y from 'yjs'
import { never } from '../../tests/npm/support/wait.mjs'
import {
  type EpochMismatch,
  type StatusEvent,
  SynclineError,
  SynclineProvider,
  type Welcome,
} from '../src/index.ts'
import { syncStep1 } from '../src/wire.ts'
import { Client, soon } from './support/client.ts'
import { FakeServer } from './support/fake-server.ts'
import { type FakeSocket, fakeSocket } from './support/fake-socket.ts'
import { deniedFrame, hex, refusedFrame, savedFrame, tokenWantedFrame } from './support/frames.ts'

const HELD = '00000000000000aa'
const OTHER = '00000000000000bb'

describe('refusals', () => {
  test.each([
    [4400, 'bad_document_name: no'],
    [4401, 'token_invalid: no'],
    [4403, 'forbidden_document: no'],
    [4409, 'epoch_mismatch: no'],
    [4413, 'document_too_large: no'],
  ])('provider_6_close_%i_causes_no_retry_within_a_minute', (code, reason) => {
    vi.useFakeTimers()
    const sockets: FakeSocket[] = []
    const doc = new Y.Doc()
    const provider = new SynclineProvider('ws://fake', 'x', doc, {
      token: 'static',
      disableBc: true,
      WebSocketPolyfill: fakeSocket(sockets),
    })
    const closed: object[] = []
    provider.on('closed', event => closed.push(event))
    expect(sockets).toHaveLength(1)
    sockets[0]?.onclose?.({ code, reason })
    vi.advanceTimersByTime(60_000)
    expect(sockets).toHaveLength(1)
    expect(closed).toEqual([{ code, reason }])
    expect(provider.shouldConnect).toBe(false)
    doc.destroy()
    expect(vi.getTimerCount()).toBe(0)
    vi.useRealTimers()
  })

  test('a connection without frames is closed after 30 s', () => {
    vi.useFakeTimers()
    const sockets: FakeSocket[] = []
    const doc = new Y.Doc()
    new SynclineProvider('ws://fake', 'x', doc, {
      disableBc: true,
      maxBackoffTime: 100,
      WebSocketPolyfill: fakeSocket(sockets),
    })
    vi.advanceTimersByTime(29_000)
    expect(sockets.map(socket => socket.readyState)).toEqual([0])
    vi.advanceTimersByTime(5_000)
    expect(sockets.map(socket => socket.readyState)).toEqual([3, 0])
    doc.destroy()
    vi.useRealTimers()
  })

  test('pending promises reject with the reason', async () => {
    const server = await FakeServer.start({
      verdict: () => [4403, 'forbidden_document: it is for others'],
    })
    const client = new Client({ url: server.url })
    client.text.insert(0, 'x')
    const error = await client.provider.whenSaved().catch(error => error)
    expect(error).toBeInstanceOf(SynclineError)
    expect(error).toMatchObject({
      code: 'forbidden_document',
      message: 'forbidden_document: it is for others',
    })
    expect(error.hint).not.toBe('')
    const gone = new Client({ url: server.url, connect: false })
    const synced = gone.provider.whenSynced().catch(error => error.code)
    gone.provider.destroy()
    expect(await synced).toBe('destroyed')
    const late = new Client({ url: server.url, connect: false })
    const aborted = late.provider
      .whenSynced({ signal: AbortSignal.abort() })
      .catch(error => error.name)
    expect(await aborted).toBe('AbortError')
  })

  test('shouldReconnect overrides all closes but epoch mismatch', async () => {
    const server = await FakeServer.start({ verdict: () => [4403, 'forbidden_document: no'] })
    const client = new Client({
      url: server.url,
      shouldReconnect: ({ code }) => code === 4403 || code === 4409,
    })
    await soon(() => server.sessions.length > 2, 'it tries again')
    server.options = { verdict: () => [4409, `epoch_mismatch: ${OTHER}`] }
    await soon(() => client.closed.length === 1, 'stopped')
    expect(client.closed[0]?.code).toBe(4409)
  })

  test('an undecodable frame causes a reconnect', async () => {
    const server = await FakeServer.start()
    const client = await new Client({ url: server.url }).synced()
    server.last.send(new Uint8Array([0, 2, 255]))
    await soon(() => server.sessions.length === 2 && client.provider.synced, 'it is back')
    expect(client.errors).toHaveLength(1)
  })
})

describe('saving', () => {
  test('provider_16_saved_follows_the_acknowledgements', async () => {
    const server = await FakeServer.start({ acknowledges: false })
    const client = new Client({ url: server.url })
    client.text.insert(0, 'a')
    expect([client.provider.saved, client.provider.unsaved]).toEqual([false, 1])
    await client.synced()
    await soon(() => server.last.frames === 1, 'the diff')
    client.text.insert(0, 'b')
    await soon(() => server.last.frames === 2, 'the update')
    expect(client.provider.unsaved).toBe(2)
    server.last.send(savedFrame(1))
    await soon(() => client.provider.unsaved === 1, 'one left')
    const saved = client.provider.whenSaved()
    server.last.send(savedFrame(2))
    await saved
    expect(client.saves.at(-1)).toEqual({ saved: true, unsaved: 0 })
  })

  test('provider_17_status_reports_a_transient_store_failure', async () => {
    const server = await FakeServer.start({ acknowledges: false })
    const client = await new Client({ url: server.url }).synced()
    const events: StatusEvent[] = []
    client.provider.on('status', event => events.push(event))
    await soon(() => server.last.frames === 1, 'the diff')
    server.last.send(savedFrame(1))
    client.text.insert(0, 'a')
    await soon(() => server.last.frames === 2, 'the update')
    server.last.send(refusedFrame(2, 'store_unavailable', 'the disk is full'))
    await soon(() => client.refusals.length === 1, 'refused')
    expect(client.refusals[0]).toMatchObject({
      code: 'store_unavailable',
      text: 'the disk is full',
      frame: 2,
    })
    expect(events).toEqual([
      { status: 'connected', detail: { code: 'store_unavailable', text: 'the disk is full' } },
    ])
    server.last.send(syncStep1(Y.encodeStateVector(server.doc)))
    await soon(() => server.last.frames === 3, 'sent again')
    expect(client.provider.saved).toBe(false)
    server.last.send(savedFrame(3))
    await client.saved()
    expect(events.at(-1)).toEqual({ status: 'connected' })
    expect(client.provider.wsconnected).toBe(true)
  })

  test('a quarantined document is reported on connect', async () => {
    const server = await FakeServer.start({ welcome: { quarantined: true } })
    const client = await new Client({ url: server.url }).synced()
    expect(client.provider.detail?.code).toBe('document_quarantined')
  })

  test('provider_11_saved_is_undefined_on_a_plain_server', async () => {
    const server = await FakeServer.start({ extended: false })
    const client = new Client({ url: server.url })
    client.text.insert(0, 'a')
    await client.synced()
    await soon(() => server.doc.getText('text').toString() === 'a', 'it arrived')
    const { provider } = client
    expect([provider.saved, provider.unsaved, provider.dialect]).toEqual([
      undefined,
      undefined,
      'y-websocket',
    ])
    expect(client.saves.at(-1)).toEqual({ saved: undefined, unsaved: undefined })
    await expect(provider.whenSaved()).rejects.toMatchObject({ code: 'not_supported' })
    server.last.send(deniedFrame('forbidden_write: you read'))
    await soon(() => client.refusals.length === 1, 'denied')
    expect(client.refusals[0]).toMatchObject({
      code: 'forbidden_write',
      text: 'you read',
      frame: undefined,
    })
  })
})

describe('tokens', () => {
  test('provider_18_token_function_is_called_before_each_connect', async () => {
    const server = await FakeServer.start()
    let calls = 0
    const client = await new Client({
      url: server.url,
      token: async () => `token.${++calls}`,
    }).synced()
    client.drop()
    await soon(() => server.sessions.length === 2 && client.provider.synced, 'back')
    expect(server.sessions.map(session => session.token)).toEqual(['token.1', 'token.2'])
  })

  test('provider_7_a_refused_token_is_renewed_once', async () => {
    const server = await FakeServer.start({
      verdict: ({ token }) =>
        token === 'fresh' ? undefined : [4401, 'token_expired: expired 42 s ago'],
    })
    const tokens = ['old', 'fresh']
    await new Client({ url: server.url, token: () => tokens.shift() }).synced()
    expect(server.sessions.map(session => session.token)).toEqual(['old', 'fresh'])

    const stubborn = new Client({ url: server.url, token: () => 'old' })
    await soon(() => stubborn.closed.length === 1, 'stopped')
    expect(stubborn.closed[0]).toEqual({ code: 4401, reason: 'token_expired: expired 42 s ago' })
    expect(stubborn.sockets).toHaveLength(1)
  })

  test('a failed token request is retried', async () => {
    const server = await FakeServer.start()
    let calls = 0
    const client = new Client({
      url: server.url,
      token: () => {
        calls += 1
        if (calls < 3) throw new Error('the backend is down')
        return 'token'
      },
    })
    await client.synced()
    expect(client.errors.map(error => (error as Error).message)).toEqual([
      'the backend is down',
      'the backend is down',
    ])
    expect(client.sockets).toHaveLength(1)
  })

  test('provider_8_requested_token_is_sent_in_band', async () => {
    const server = await FakeServer.start()
    const tokens = ['one', 'two', 'two']
    const client = await new Client({ url: server.url, token: async () => tokens.shift() }).synced()
    server.last.send(tokenWantedFrame(30))
    const sent = () => server.last.raw.map(hex).filter(frame => frame.startsWith('44'))
    await soon(() => sent().length === 1, 'a token')
    expect(sent()).toEqual([`4403${Buffer.from('two').toString('hex')}`])
    // An unchanged token is not sent.
    server.last.send(tokenWantedFrame(10))
    await soon(() => tokens.length === 0, 'asked')
    client.text.insert(0, 'x')
    await client.saved()
    expect(sent()).toHaveLength(1)
    expect(client.sockets).toHaveLength(1)
  })
})

describe('epochs', () => {
  test('provider_9_received_epoch_is_sent_on_reconnect', async () => {
    const server = await FakeServer.start({ welcome: { epoch: HELD } })
    const welcomes: Welcome[] = []
    const client = new Client({ url: server.url, connect: false })
    client.provider.on('welcome', welcome => welcomes.push(welcome))
    client.provider.connect()
    await client.synced()
    expect([client.provider.epoch, welcomes[0]?.epoch, client.provider.access]).toEqual([
      HELD,
      HELD,
      'write',
    ])
    client.drop()
    await soon(() => server.sessions.length === 2, 'back')
    expect(server.sessions.map(session => session.query.get('epoch'))).toEqual([null, HELD])
  })

  test.each([
    ['close', { verdict: () => [4409, `epoch_mismatch: it is ${OTHER}`] as const }],
    ['Welcome', { welcome: { epoch: OTHER } }],
  ])('provider_10_another_epoch_is_never_merged_(%s)', async (_, options) => {
    const server = await FakeServer.start(options)
    server.doc.getText('text').insert(0, 'new history')
    const doc = new Y.Doc()
    doc.getText('text').insert(0, 'old history')
    const client = new Client({
      url: server.url,
      doc,
      epoch: HELD,
      connect: false,
      user: { name: 'Ada' },
    })
    const mismatches: EpochMismatch[] = []
    client.provider.on('epoch-mismatch', mismatch => mismatches.push(mismatch))
    client.provider.connect()
    await soon(() => client.closed.length === 1, 'stopped')
    await never(() => client.sockets.length > 1, { during: 500, what: 'another attempt' })
    expect(mismatches).toEqual([{ held: HELD, offered: OTHER }])
    expect(client.text.toString()).toBe('old history')
    expect(server.doc.getText('text').toString()).toBe('new history')
    expect(server.sessions.every(session => session.frames === 0)).toBe(true)

    server.options = { welcome: { epoch: OTHER } }
    const fresh = new Y.Doc()
    const next = client.provider.restartWith(fresh)
    await next.whenSynced()
    expect(fresh.getText('text').toString()).toBe('new history')
    expect(next.users[0]?.user.name).toBe('Ada')
    expect([next.epoch, client.provider.wsconnected]).toEqual([OTHER, false])
    fresh.destroy()
  })
})
