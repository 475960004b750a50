// What a person reads when something is wrong: the texts of the commonest mistakes.

import { test } from 'node:test'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { startServer, token } from '../npm/support/server.mjs'
import { eventually, openWindow, servePages, startBrowser } from './support/browser.mjs'

const NAME = 'notes/today'
const ALL = { '*': 'write' }

const REFUSALS = [
  {
    what: 'another_secret',
    jwt: () => token(ALL, { secret: 'another secret of at least 32 bytes' }),
    says: [/Refused: token invalid/, /signature does not match/, /4401 token_invalid/, /Sign with the secret/]
  },
  {
    what: 'an_expired_token',
    jwt: () => token(ALL, { expires: -3600 }),
    says: [/Refused: token expired/, /36\d\d s ago/, /4401 token_expired/, /Pass token as a function/]
  },
  {
    what: 'a_clock_that_is_wrong',
    jwt: () => token(ALL, { expires: 7200, notBefore: 3600 }),
    says: [/Refused: token not yet valid/, /in 3\d\d\d s|3\d\d\d s/, /4401 token_not_yet_valid/, /Compare the clocks/]
  },
  {
    what: 'another_document',
    jwt: () => token({ 'notes/toady': 'write' }),
    says: [/Refused: forbidden document/, /notes\/toady/, /notes\/today/, /4403 forbidden_document/, /names this document/]
  },
  {
    what: 'a_token_that_may_only_read',
    jwt: () => token({ [NAME]: 'read' }),
    types: true,
    says: [/Not saved: read only/, /forbidden_write/, /Sign a token for "write"/]
  }
]

test('browser_8_every_refusal_of_a_token_says_what_to_do', async t => {
  const server = await startServer(t, { env: { SYNCLINE_DEMO: 'true' } })
  const browser = await startBrowser(t)
  for (const { what, jwt, types, says } of REFUSALS) {
    await t.test(what, async t => {
      const page = await openWindow(t, browser)
      await page.goto(`${server.httpUrl}/demo?doc=${NAME}`)
      await page.locator('#gate-title', { hasText: 'A token, please' }).waitFor()
      await page.fill('#gate-token', await jwt())
      await page.press('#gate-token', 'Enter')
      if (types) {
        await page.locator('.cm-content').click()
        await page.keyboard.type('x')
      }
      await page.locator('#notice').waitFor()
      for (const text of says) await page.locator('body', { hasText: text }).waitFor()
      await page.context().close()
    })
  }
})

/** A window with a provider that writes down what it is told. */
async function openClient (t, browser, origin, options) {
  const page = await openWindow(t, browser)
  await page.context().exposeFunction('mint', () => token(ALL))
  await page.goto(`${origin}/client.html`)
  await eventually(page, () => window.syncline !== undefined)
  await page.evaluate(options => {
    const { createProvider, Y } = window.syncline
    window.doc = new Y.Doc()
    window.told = []
    window.provider = createProvider({ doc: window.doc, token: () => window.mint(), ...options })
    window.provider.on('closed', closed => window.told.push(closed))
  }, options)
  return page
}

const closedWith = (page, pattern) => eventually(page,
  pattern => new RegExp(pattern).test(window.told[0]?.reason ?? ''), pattern.source)

test('browser_8_a_wrong_address_and_a_wrong_name_say_so', async t => {
  const server = await startServer(t)
  const [origin, browser] = [await servePages(t), await startBrowser(t)]
  const wrong = await openClient(t, browser, origin, { url: `${server.httpUrl.replace('http', 'ws')}/doc`, name: NAME })
  await closedWith(wrong, /^bad_request: there is nothing at .*\/ws\/<document>/)
  const name = await openClient(t, browser, origin, { url: server.wsUrl, name: 'notes//today' })
  await closedWith(name, /^bad_document_name: ./)
})

test('browser_8_a_page_that_may_not_connect_is_named', async t => {
  const server = await startServer(t, { env: { SYNCLINE_AUTH_ORIGINS: 'https://app.example' } })
  const [origin, browser] = [await servePages(t), await startBrowser(t)]
  const page = await openClient(t, browser, origin, { url: server.wsUrl, name: NAME })
  const { host } = new URL(origin)
  await closedWith(page, new RegExp(`^origin_blocked: .*${host}.*auth\\.origins`))
})

test('browser_9_a_large_paste_is_saved_and_one_that_is_too_large_says_so', async t => {
  const server = await startServer(t)
  const config = join(server.data, 'syncline.toml')
  await writeFile(config, '[limits]\nupdate_bytes = 65536\nmessage_bytes = 262144\n')
  server.env = { SYNCLINE_CONFIG: config }
  await server.restart()
  const [origin, browser] = [await servePages(t), await startBrowser(t)]
  const page = await openClient(t, browser, origin, { url: server.wsUrl, name: NAME })
  await page.evaluate(() => window.provider.whenSynced())
  await page.evaluate(() => window.doc.getText('text').insert(0, 'x'.repeat(100_000)))
  await page.evaluate(() => window.provider.whenSaved())
  await page.evaluate(() => window.doc.getText('text').insert(0, 'y'.repeat(300_000)))
  await closedWith(page, /^message_too_large: 300\d\d\d bytes of changes, at most 262144$/)
})
