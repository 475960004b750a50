// Debian's Chromium, and the pages that it is shown.

import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { createServer } from 'node:http'
import { extname, join, normalize } from 'node:path'
import { chromium } from 'playwright-core'
import { PAGES } from '../build.mjs'

/** How long anything may take that a page does. A machine with other work needs most of it. */
export const PATIENCE_MS = 30_000

const POLL_MS = 50
const HISTORY_LINES_MAX = 40

const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium'
const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css' }

/** A browser for the test `t`. Its windows fail the test when they say that something went wrong. */
export async function startBrowser (t) {
  // Chromium's sandbox needs what a container, or root, does not have.
  const browser = await chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox'] })
  t.after(() => browser.close())
  return browser
}

/**
 * A window of a person of their own: no storage and no channel is shared with others.
 *
 * @param {{ ignore?: RegExp }} options `ignore` matches what may be reported.
 */
export async function openWindow (t, browser, { ignore, ...options } = {}) {
  const context = await browser.newContext(options)
  context.setDefaultTimeout(PATIENCE_MS)
  const page = await context.newPage()
  watch(t, page, ignore)
  return page
}

/** What a page reports as an error fails the test `t`. */
export function watch (t, page, ignore) {
  const { note, told } = recordHistory(page)
  const errors = []
  page.on('pageerror', error => {
    const text = error.stack ?? error.message
    note(text)
    errors.push(text)
  })
  page.on('console', message => {
    note(`${message.type()}: ${message.text()}`)
    // A server that is away is part of many tests, and the browser reports every attempt.
    const isNetwork = /net::ERR_|WebSocket connection to|Failed to load resource/.test(message.text())
    if (message.type() === 'error' && !isNetwork) errors.push(message.text())
  })
  t.after(() => {
    if (!t.passed) for (const line of told()) t.diagnostic(line)
    const left = errors.filter(error => !ignore?.test(error))
    if (left.length > 0) throw new Error(`the page reported:\n${left.join('\n')}`)
  })
}

/** What happens in a page, for the message of a test that fails: `note` adds a line, `told` gives all. */
function recordHistory (page) {
  const lines = []
  const opened = performance.now()
  const when = () => `${((performance.now() - opened) / 1000).toFixed(1)} s`
  const note = line => {
    const at = when()
    lines.push(() => `${at}: ${typeof line === 'function' ? line() : line}`)
    if (lines.length > HISTORY_LINES_MAX) lines.shift()
  }
  page.on('crash', () => note('the page crashed'))
  page.on('requestfailed', request => note(`${request.failure()?.errorText}: ${request.url()}`))
  page.on('websocket', socket => {
    let [out, back] = [0, 0]
    let state = 'open'
    note(() => `WebSocket ${new URL(socket.url()).pathname}: ${state}, ${out} frames out, ${back} back`)
    socket.on('framesent', () => { out += 1 })
    socket.on('framereceived', () => { back += 1 })
    // At the latest when the test's browser is closed.
    socket.on('close', () => { state = `closed at ${when()}` })
  })
  const told = () => [`What happened in ${new URL(page.url()).pathname}:`, ...lines.map(line => `  ${line()}`)]
  return { note, told }
}

/**
 * Waits until `predicate`, which is run in the page with `argument`, is true.
 *
 * By a timer: Playwright asks once per animation frame unless told, and Chromium without a screen can
 * stop drawing while the page itself goes on.
 */
export async function eventually (page, predicate, argument) {
  try {
    await page.waitForFunction(predicate, argument, { polling: POLL_MS })
  } catch (cause) {
    const title = await page.textContent('title', { timeout: 1000 }).catch(error => `no title: ${error.message}`)
    throw new Error(`not true of a page entitled "${title}": ${predicate} ` +
      `with ${JSON.stringify(argument)}`, { cause })
  }
}

/** Serves the built test pages, from an origin that is not the server's. */
export async function servePages (t) {
  const server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url, 'http://localhost')
    const file = join(PAGES, normalize(pathname))
    try {
      if (!(await stat(file)).isFile()) throw new Error('no file')
      response.writeHead(200, { 'content-type': TYPES[extname(file)] ?? 'application/octet-stream' })
      createReadStream(file).pipe(response)
    } catch {
      response.writeHead(404).end()
    }
  })
  await new Promise(resolve => server.listen(0, '127.0.0.1', resolve))
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  return `http://127.0.0.1:${server.address().port}`
}
