// @vitest-environment jsdom
// Runs each snippet of the README against the server.

import 'fake-indexeddb/auto'
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest'
import WebSocket from 'ws'
import { SECRET } from '../../../tests/npm/support/server.mjs'
import { SynclineProvider } from '../../src/index.ts'
import { soon } from '../support/client.ts'
import { startServer, tokenFor } from '../support/real-server.ts'

const FOLDER = join(import.meta.dirname, '../.snippets')
const README = await readFile(join(import.meta.dirname, '../../README.md'), 'utf8')

interface Snippet {
  readonly heading: string
  readonly language: string
  readonly code: string
}

const snippets: Snippet[] = README.split(/^## /m).flatMap(section => {
  const heading = section.slice(0, section.indexOf('\n'))
  return [...section.matchAll(/^```(tsx?)\n(.*?)^```$/gms)].map(([, language = '', code = '']) => ({
    heading,
    language,
    code,
  }))
})

beforeAll(() => mkdir(FOLDER, { recursive: true }))
afterAll(() => rm(FOLDER, { recursive: true, force: true }))

describe('the README', () => {
  test('has snippets', () => expect(snippets).toHaveLength(7))

  test.each(snippets)('$heading', async ({ heading, language, code }) => {
    const server = await startServer()
    const providers = new Set<SynclineProvider>()
    const connect = SynclineProvider.prototype.connect
    vi.spyOn(SynclineProvider.prototype, 'connect').mockImplementation(function (
      this: SynclineProvider,
    ) {
      providers.add(this)
      connect.call(this)
    })
    vi.stubGlobal(
      'fetch',
      async (path: string) => new Response(tokenFor(path.split('doc=')[1] ?? '')),
    )
    // The WebSocket of jsdom does not connect in Node 20.
    vi.stubGlobal('WebSocket', WebSocket)
    vi.stubEnv('SYNCLINE_JWT_SECRET', SECRET)
    const logged = vi.spyOn(console, 'log').mockReturnValue()
    const warned = vi.spyOn(console, 'warn').mockReturnValue()
    onTestFinished(() => {
      for (const { doc } of providers) doc.destroy()
      vi.unstubAllGlobals()
      vi.unstubAllEnvs()
      vi.restoreAllMocks()
    })
    const file = join(FOLDER, `${heading.replaceAll(/\W+/g, '-')}.${language}`)
    await writeFile(file, code.replaceAll('wss://your.host/ws', server.wsUrl))
    await import(/* @vite-ignore */ file)

    const isBackend = heading.startsWith('Tokens')
    if (isBackend) expect(logged).toHaveBeenCalledWith(3)
    else await soon(() => providers.size === 1, 'a provider')
    for (const provider of providers) {
      await soon(() => provider.synced && provider.saved, 'synced and saved')
    }
    expect(warned).not.toHaveBeenCalled()
  })
})
