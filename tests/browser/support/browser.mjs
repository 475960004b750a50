// Debian's Chromium, and the pages that it is shown.

import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { createServer } from 'node:http'
import { extname, join, normalize } from 'node:path'
import { chromium } from 'playwright-core'
import { PAGES } from '../build.mjs'

/** How long anything may take that a page does. A machine with other work needs most of it. */
export const PATIENCE_MS = 30_000

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
  const errors = []
  page.on('pageerror', error => errors.push(error.stack ?? error.message))
  page.on('console', message => {
    // A server that is away is part of many tests, and the browser reports every attempt.
    const isNetwork = /net::ERR_|WebSocket connection to|Failed to load resource/.test(message.text())
    if (message.type() === 'error' && !isNetwork) errors.push(message.text())
  })
  t.after(() => {
    const left = errors.filter(error => !ignore?.test(error))
    if (left.length > 0) throw new Error(`the page reported:\n${left.join('\n')}`)
  })
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
