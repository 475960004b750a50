// The provider against the real server.

import { describe, expect, test, vi } from 'vitest'
import * as Y from 'yjs'
import { never } from '../../../tests/npm/support/wait.mjs'
import { Client, type ClientOptions, soon } from '../support/client.ts'
import { type RealServer, startServer, tokenFor } from '../support/real-server.ts'

const NAME = 'notes/today'

const join = (server: RealServer, options: Partial<ClientOptions> = {}): Promise<Client> =>
  new Client({ url: server.wsUrl, name: NAME, token: () => tokenFor(NAME), ...options }).synced()

test('provider_21_clients_converge_and_saved_data_survives_kill_9', async () => {
  const server = await startServer()
  const a = await join(server)
  const b = await join(server)
  for (let i = 0; i < 50; i++) {
    a.text.insert(0, 'a')
    b.text.insert(b.text.length, 'b')
  }
  await Promise.all([a.saved(), b.saved()])
  await soon(() => a.text.length === 100 && b.text.toString() === a.text.toString(), 'converged')
  const before = a.text.toString()
  await server.kill9()
  for (const client of [a, b]) client.end()
  await server.start()
  await (await join(server)).reads(before)
})

test('provider_16_saved_data_is_on_disk', async () => {
  const server = await startServer()
  const doc = new Y.Doc()
  for (let round = 0; round < 3; round++) {
    const client = await join(server, { doc: round === 0 ? doc : new Y.Doc() })
    const mark = `round ${round}`
    client.text.insert(0, mark)
    expect(client.provider.saved).toBe(false)
    await soon(() => client.provider.saved, 'saved')
    // At once: `saved` must not depend on anything after it.
    await server.kill9()
    client.provider.destroy()
    await server.start()
    const late = await join(server)
    expect(late.text.toString().startsWith(mark)).toBe(true)
    late.end()
  }
})

test('provider_4_offline_changes_of_both_sides_merge', async () => {
  const server = await startServer()
  const a = await join(server)
  const b = await join(server)
  a.text.insert(0, 'shared.')
  await Promise.all([a.saved(), b.reads('shared.')])
  a.provider.disconnect()
  a.text.insert(0, 'from a. ')
  b.text.insert(b.text.length, ' from b.')
  expect(a.provider.unsaved).toBe(1)
  const before = a.sent.length
  a.provider.connect()
  await soon(
    () => a.text.toString() === 'from a. shared. from b.',
    () => a.text.toString(),
  )
  await b.reads('from a. shared. from b.')
  await a.saved()
  const diffs = a.sent.slice(before).filter(frame => frame[0] === 0 && frame[1] === 1)
  expect(diffs).toHaveLength(1)
})

test.each(['stop', 'kill9'] as const)(
  'changes made during a server outage (%s) arrive',
  async how => {
    const server = await startServer()
    const a = await join(server)
    const b = await join(server)
    await server[how]()
    a.text.insert(0, 'a')
    b.doc.getMap('map').set('b', 1)
    await soon(() => !a.provider.wsconnected && !b.provider.wsconnected, 'noticed')
    await server.start()
    await b.reads('a')
    await soon(() => a.doc.getMap('map').get('b') === 1, 'b arrived at a')
    await Promise.all([a.saved(), b.saved()])
  },
)

describe('rights', () => {
  test('provider_22_each_refused_frame_of_a_reader_is_reported', async () => {
    const server = await startServer()
    const writer = await join(server)
    const reader = await join(server, { token: tokenFor(NAME, 'read') })
    writer.text.insert(0, 'one')
    await reader.reads('one')
    reader.text.insert(3, ' reader')
    await soon(() => reader.refusals.length === 1, 'refused')
    expect(reader.refusals[0]).toMatchObject({ code: 'forbidden_write', frame: 1 })
    expect(reader.refusals[0]?.hint).not.toBe('')
    expect(reader.provider.saved).toBe(false)
    expect(reader.closes).toEqual([])
    writer.text.insert(0, 'zero ')
    await soon(() => reader.text.toString().startsWith('zero '), 'still receives')
    await never(() => writer.text.toString() !== 'zero one', {
      during: 300,
      what: 'the edit of a reader arrived',
    })
  })

  test('provider_6_forbidden_client_connects_once', async () => {
    const server = await startServer()
    const client = new Client({ url: server.wsUrl, name: NAME, token: () => tokenFor('another') })
    await soon(() => client.closed.length === 1, 'stopped')
    expect(client.closed[0]?.code).toBe(4403)
    await never(() => client.sockets.length > 1, { during: 1_500, what: 'another attempt' })
  })

  test('provider_7_expired_token_is_renewed_on_reconnect', async () => {
    const server = await startServer()
    // A stale token from a caching backend: issued an hour ago for 30 minutes.
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() - 3_600_000 })
    const expired = tokenFor(NAME, 'write', '30m')
    vi.useRealTimers()
    const isRefused = (): boolean =>
      client.closes.some(event => event?.reason.startsWith('token_expired: '))
    let cached = tokenFor(NAME)
    const token = async (): Promise<string> => (isRefused() ? tokenFor(NAME) : cached)
    const client: Client = new Client({ url: server.wsUrl, name: NAME, token })
    await client.synced()
    cached = expired
    client.text.insert(0, 'kept')
    await client.saved()
    await server.restart()
    await soon(() => isRefused() && client.provider.synced, 'refused once, and back')
    expect(client.closed).toEqual([])
    await client.saved()
  })

  test('connecting without a token stops with token_missing', async () => {
    const server = await startServer()
    const client = new Client({ url: server.wsUrl, name: NAME })
    await soon(() => client.closed.length === 1, 'stopped')
    expect(client.closed[0]?.reason).toMatch(/^token_missing: ./)
  })
})

test('provider_19_presence_is_relayed_and_removed_on_destroy', async () => {
  const server = await startServer()
  const a = await join(server, { user: { name: 'Ada' } })
  const b = await join(server, { user: { name: 'Bob' } })
  const names = (client: Client) => client.provider.users.map(({ user }) => user.name)
  await soon(() => names(a).includes('Bob') && names(b).includes('Ada'), 'both see both')
  b.drop()
  await soon(() => b.closes.length === 1 && b.provider.synced, 'back')
  await soon(() => names(a).includes('Bob') && names(b).includes('Ada'), 'both see both again')
  b.provider.destroy()
  await soon(() => !names(a).includes('Bob'), 'gone')
})

test.each([`a b/ü?#`, 'plain', 'x'.repeat(255)])('document %s is found by its name', async name => {
  const server = await startServer()
  const a = await join(server, { name, token: tokenFor(name) })
  a.text.insert(0, 'here')
  await a.saved()
  await (await join(server, { name, token: tokenFor(name) })).reads('here')
})
