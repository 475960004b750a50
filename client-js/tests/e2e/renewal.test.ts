// Token expiry during a connection to the real server. Tokens are issued with `exp` in the past,
// inside the server's 30 s of leeway, so that they end within seconds.

import { expect, test } from 'vitest'
import { token as sign } from '../../../tests/npm/support/server.mjs'
import { Client, soon } from '../support/client.ts'
import { startServer, tokenFor } from '../support/real-server.ts'

const NAME = 'notes/today'
const LEEWAY_S = 30

const endingIn = (seconds: number, access = 'write'): Promise<string> =>
  sign({ [NAME]: access as 'write' }, { expires: seconds - LEEWAY_S })

test('provider_31_tokens_are_renewed_repeatedly_while_typing', async () => {
  const server = await startServer()
  const url = server.wsUrl
  let tokens = 0
  const token = (): Promise<string> => {
    tokens += 1
    return endingIn(4)
  }
  const client = await new Client({ url, name: NAME, token }).synced()
  const watcher = await new Client({ url, name: NAME, token: tokenFor(NAME, 'read') }).synced()
  const begun = performance.now()
  let typed = ''
  while (tokens < 5 || performance.now() - begun < 10_000) {
    client.text.insert(typed.length, 'x')
    typed += 'x'
    await client.saved()
    await watcher.reads(typed)
  }
  expect(client.sockets).toHaveLength(1)
  expect([client.closes, client.closed, client.refusals]).toEqual([[], [], []])
})

test('provider_32_renewed_token_changes_access_in_place', async () => {
  const server = await startServer()
  const url = server.wsUrl
  // The read token lasts long enough for a refusal before its renewal.
  const tokens = [endingIn(4), endingIn(LEEWAY_S + 4, 'read'), tokenFor(NAME)]
  const seen: string[] = []
  const token = async (): Promise<string> => tokens.shift() ?? tokenFor(NAME)
  const client = new Client({ url, name: NAME, token, connect: false })
  client.provider.on('welcome', welcome => {
    seen.push(welcome.access)
    // Writes on each change; the refused update is accepted once access is `write` again.
    client.text.insert(0, `${welcome.access}.`)
  })
  client.provider.connect()
  await soon(
    () => seen.length === 3,
    () => `three rights; there were ${seen}`,
  )
  expect(seen).toEqual(['write', 'read', 'write'])
  await client.saved()
  const watcher = await new Client({ url, name: NAME, token: tokenFor(NAME, 'read') }).synced()
  await watcher.reads('write.read.write.')
  expect(client.refusals.map(({ code }) => code)).toContain('forbidden_write')
  expect(client.sockets).toHaveLength(1)
})
