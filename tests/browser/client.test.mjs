// What only a browser has: tabs, pages that go, and a database that outlives a reload.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startServer, token } from '../npm/support/server.mjs'
import { eventually, openWindow, servePages, startBrowser, watch } from './support/browser.mjs'

const NAME = 'notes/today'

/** Opens the test page and its provider; `stored` keeps the document in IndexedDB, as the README does. */
async function openClient (page, origin, { user, ...options }) {
  await page.goto(`${origin}/client.html`)
  await eventually(page, () => window.syncline !== undefined)
  await page.evaluate(async ({ name, user, stored, ...options }) => {
    const { createProvider, IndexeddbPersistence, Y } = window.syncline
    const doc = new Y.Doc()
    const store = stored ? new IndexeddbPersistence(name, doc) : undefined
    await store?.whenSynced
    const epoch = await store?.get('epoch')
    const token = () => window.mint()
    const provider = createProvider({ name, doc, token, user: { name: user }, ...options, ...(epoch ? { epoch } : {}) })
    provider.on('welcome', ({ epoch }) => { if (epoch && store) store.set('epoch', epoch) })
    Object.assign(window, { doc, store, provider, text: doc.getText('text') })
  }, { name: NAME, user, ...options })
}

const write = (page, text) => page.evaluate(text => window.text.insert(window.text.length, text), text)
const holds = (page, wanted) => eventually(page, wanted => window.text.toString() === wanted, wanted)
const users = (page, wanted) => eventually(page,
  wanted => window.provider.users.map(({ user }) => user.name).sort().join() === wanted, wanted)

async function prepare (t) {
  const server = await startServer(t)
  const origin = await servePages(t)
  const page = await openWindow(t, await startBrowser(t))
  await page.context().exposeFunction('mint', () => token({ [NAME]: 'write' }))
  const second = await page.context().newPage()
  watch(t, second)
  return { server, origin, page, second, url: server.wsUrl }
}

test('browser_10_tabs_of_one_browser_share_their_work_without_a_server', async t => {
  const { server, origin, page, second, url } = await prepare(t)
  await openClient(page, origin, { url, user: 'Ada' })
  await page.evaluate(() => window.provider.whenSynced())
  await server.stop()
  await openClient(second, origin, { url, user: 'Bob' })
  await write(page, 'one')
  await holds(second, 'one')
  await write(second, ' two')
  await holds(page, 'one two')
  await users(page, 'Ada,Bob')
  assert.equal(await page.evaluate(() => window.provider.saved), false)
  await server.start()
  for (const tab of [page, second]) await tab.evaluate(() => window.provider.whenSaved())
})

test('browser_11_a_cursor_leaves_with_its_page_and_comes_back_with_it', async t => {
  const { origin, page, second, url } = await prepare(t)
  await openClient(page, origin, { url, user: 'Ada', disableBc: true })
  await openClient(second, origin, { url, user: 'Bob', disableBc: true })
  await users(page, 'Ada,Bob')
  // As the browser does before it keeps a page for the way back; the connection is still there.
  await second.evaluate(() => window.dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true })))
  await users(page, 'Ada')
  await second.evaluate(() => window.dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true })))
  await users(page, 'Ada,Bob')
  await second.goto('about:blank')
  await users(page, 'Ada')
  await second.goBack()
  await openClient(second, origin, { url, user: 'Bob', disableBc: true })
  await users(page, 'Ada,Bob')
})

test('browser_12_what_was_written_offline_survives_a_reload', async t => {
  const { server, origin, page, second, url } = await prepare(t)
  await openClient(page, origin, { url, user: 'Ada', stored: true, disableBc: true })
  await page.evaluate(() => window.provider.whenSynced())
  await write(page, 'online')
  await page.evaluate(() => window.provider.whenSaved())
  await server.kill9()
  await write(page, ', offline')
  // y-indexeddb writes after the change; what reading finds has been written.
  await eventually(page, async () => {
    const { IndexeddbPersistence, Y } = window.syncline
    const copy = new Y.Doc()
    const store = new IndexeddbPersistence('notes/today', copy)
    await store.whenSynced
    const text = copy.getText('text').toString()
    await store.destroy()
    return text === 'online, offline'
  })
  await openClient(page, origin, { url, user: 'Ada', stored: true, disableBc: true })
  await holds(page, 'online, offline')
  assert.equal(await page.evaluate(() => window.provider.saved), false)
  assert.match(await page.evaluate(() => window.provider.epoch), /^[0-9a-f]{16}$/)
  await server.start()
  await page.evaluate(() => window.provider.whenSaved())
  await openClient(second, origin, { url, user: 'Bob', disableBc: true })
  await holds(second, 'online, offline')
})

test('browser_18_a_provider_works_in_a_worker', async t => {
  const { origin, page, url } = await prepare(t)
  await openClient(page, origin, { url, user: 'Ada' })
  await page.evaluate(() => window.provider.whenSynced())
  const jwt = await token({ [NAME]: 'write' })
  await page.evaluate(options => {
    window.heard = []
    const worker = new Worker('/provider.worker.js', { type: 'module' })
    worker.onmessage = ({ data }) => window.heard.push(data)
    worker.postMessage(options)
  }, { url, name: NAME, token: jwt, writes: 'from afar' })
  await holds(page, 'from afar')
  await eventually(page, () => window.heard.includes('saved'))
  await write(page, ', and back')
  await eventually(page, () => window.heard.includes('from afar, and back'))
})
