// The stock server of y-websocket 2, which does not implement `syncline.v1`.

import { spawn } from 'node:child_process'
import { createServer } from 'node:net'
import { fileURLToPath } from 'node:url'
import { expect, onTestFinished, test } from 'vitest'
import { Client, soon } from '../support/client.ts'

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1')
  await new Promise(resolve => probe.once('listening', resolve))
  const { port } = probe.address() as { port: number }
  await new Promise(resolve => probe.close(resolve))
  return port
}

async function stockServer(): Promise<string> {
  const port = await freePort()
  const program = fileURLToPath(
    new URL('../../node_modules/y-websocket-2/bin/server.cjs', import.meta.url),
  )
  const child = spawn(process.execPath, [program], {
    env: { ...process.env, HOST: '127.0.0.1', PORT: String(port) },
  })
  onTestFinished(() => void child.kill('SIGKILL'))
  let output = ''
  child.stdout.on('data', data => {
    output += data
  })
  await soon(
    () => output.includes('running'),
    () => `a ready line, not ${output}`,
  )
  return `ws://127.0.0.1:${port}`
}

test.each([undefined, 'y-websocket'] as const)(
  'provider_11_fallback_to_a_stock_server_(%s)',
  async dialect => {
    const url = await stockServer()
    const options = { url, token: 'aa.bb.cc', ...(dialect ? { dialect } : {}) }
    const a = new Client(options)
    a.text.insert(0, 'made offline, ')
    await a.synced()
    const b = await new Client(options).synced()
    await b.reads('made offline, ')
    b.text.insert(b.text.length, 'and online')
    await a.reads('made offline, and online')
    a.provider.setUser({ name: 'Ada' })
    await soon(() => b.provider.users.length === 1, 'b sees a')
    expect([a.provider.dialect, a.provider.saved, a.provider.unsaved]).toEqual([
      'y-websocket',
      undefined,
      undefined,
    ])
    a.drop()
    a.text.insert(0, 'then ')
    await b.reads('then made offline, and online')
    await soon(() => b.provider.users.length === 1, 'b sees a again')
  },
)
