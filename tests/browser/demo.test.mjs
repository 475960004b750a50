// The demo page, as somebody uses it in the first minute.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SECRET, startServer, token } from '../npm/support/server.mjs'
import { until } from '../npm/support/wait.mjs'
import { openWindow, PATIENCE_MS, startBrowser, watch } from './support/browser.mjs'

const BADGE = '#badge'

/** What the badge showed since the window opened, each once in a row. */
async function recordBadge (page) {
  await page.addInitScript(() => {
    window.badges = []
    new MutationObserver(() => {
      const state = document.querySelector('#badge')?.dataset.state
      if (state !== undefined && state !== window.badges.at(-1)) window.badges.push(state)
    }).observe(document, { subtree: true, attributes: true, childList: true })
  })
  return () => page.evaluate(() => window.badges)
}

const badge = (page, state) => page.waitForSelector(`${BADGE}[data-state="${state}"]`)
const editor = (page, tab) => tab === 'rich' ? page.locator('.ProseMirror') : page.locator('.cm-content')
const shows = (page, tab, text) => editor(page, tab).filter({ hasText: text }).waitFor()

/** The Markdown text, without the names on the carets in it. */
const textOf = page => page.evaluate(() => [...document.querySelectorAll('.cm-line')].map(line => {
  const copy = line.cloneNode(true)
  for (const caret of copy.querySelectorAll('.cm-ySelectionCaret')) caret.remove()
  return copy.textContent
}).join('\n'))

async function append (page, text) {
  await editor(page).click()
  await page.keyboard.press('Control+End')
  await page.keyboard.type(text)
}

/** The window that opens the link of the terminal. */
async function openDemo (t, { query = '', ...options } = {}) {
  const server = await startServer(t, { command: 'dev' })
  const browser = await startBrowser(t)
  const page = await openWindow(t, browser, options)
  const badges = await recordBadge(page)
  await page.goto(server.ready.demo.replace('/demo', `/demo${query}`))
  await editor(page).waitFor()
  return { server, browser, page, badges }
}

/** Another window of the same browser profile. */
async function openSecond (t, page, url) {
  const second = await page.context().newPage()
  watch(t, second)
  await second.goto(url)
  await editor(second).waitFor()
  return second
}

test('browser_1_two_windows_type_at_once_and_converge', async t => {
  const { server, browser, page } = await openDemo(t)
  assert.equal(new URL(page.url()).hash, '', 'the key is gone from the address bar')
  // It has put the first text there.
  await badge(page, 'saved')

  // Of another profile, so that only the server carries what is typed.
  await page.context().grantPermissions(['clipboard-read', 'clipboard-write'])
  await page.click('#copy')
  await page.locator('#toast').waitFor()
  const link = await page.evaluate(() => navigator.clipboard.readText())
  const other = await openWindow(t, browser)
  await other.goto(link)
  await editor(other).waitFor()
  assert.equal(await textOf(other), await textOf(page))

  await append(page, '\nAda: ')
  await shows(other, 'markdown', 'Ada: ')
  await append(other, '\nBob: ')
  await shows(page, 'markdown', 'Bob: ')
  // Its caret has stayed on the line above.
  await Promise.all([page.keyboard.type('the quick brown fox'), other.keyboard.type('jumps over 42')])
  for (const window of [page, other]) {
    await shows(window, 'markdown', 'Ada: the quick brown fox')
    await shows(window, 'markdown', 'Bob: jumps over 42')
    await badge(window, 'saved')
  }
  assert.equal(await textOf(other), await textOf(page))
})

test('browser_2_carets_and_names_show_in_both_editors', async t => {
  const { server, page } = await openDemo(t)
  await page.fill('#name', 'Ada')
  await page.press('#name', 'Enter')
  const second = await openSecond(t, page, `${server.httpUrl}/demo`)
  await second.fill('#name', 'Grace')
  await second.press('#name', 'Enter')
  await page.locator('#people li[title="Grace"]').waitFor()
  await second.locator('#people li[title="Ada"]').waitFor()
  await append(second, ' and on')
  await page.locator('.cm-ySelectionInfo', { hasText: 'Grace' }).waitFor()

  await second.click('#tab-rich')
  await page.locator('#near-rich [title="Grace is here"]').waitFor()
  await page.keyboard.press('Tab')
  await page.focus('#tab-markdown')
  await page.keyboard.press('ArrowRight')
  assert.equal(await page.getAttribute('#tab-rich', 'aria-selected'), 'true')
  await editor(second, 'rich').click()
  await second.keyboard.press('Control+End')
  await second.keyboard.type('Rich')
  await shows(page, 'rich', 'Rich')
  await page.locator('.collaboration-carets__label', { hasText: 'Grace' }).waitFor()

  await second.close()
  await page.locator('#people li[title="Grace"]').waitFor({ state: 'detached' })
})

test('browser_2_a_name_that_is_given_before_the_document_has_come_counts', async t => {
  const server = await startServer(t, { command: 'dev' })
  const page = await openWindow(t, await startBrowser(t))
  let letGo
  const held = new Promise(resolve => { letGo = resolve })
  let asked = 0
  await page.route('**/demo/token', async route => {
    asked += 1
    // The first is the page's own, the second for its connection.
    if (asked === 2) await held
    await route.continue()
  })
  await page.goto(server.ready.demo)
  await until(() => asked === 2, { within: PATIENCE_MS, what: 'a token for the connection' })
  await page.fill('#name', 'Ada')
  await page.press('#name', 'Enter')
  letGo()
  await editor(page).waitFor()
  const second = await openSecond(t, page, `${server.httpUrl}/demo`)
  await second.locator('#people li[title="Ada"]').waitFor()
})

test('browser_3_a_killed_server_loses_nothing_and_the_badge_says_what_is_true', async t => {
  const { server, page, badges } = await openDemo(t)
  await append(page, 'Before.')
  await badge(page, 'saved')
  await server.kill9()
  await badge(page, 'offline')
  await append(page, ' Meanwhile.')
  await page.locator('#badge-text', { hasText: 'changes kept here' }).waitFor()
  assert.notEqual(await page.getAttribute(BADGE, 'data-state'), 'saved')
  await server.start()
  await badge(page, 'saved')
  assert.deepEqual((await badges()).filter(state => state === 'refused' || state === 'trouble'), [])

  // What is on the server, not in this window.
  await server.restart('kill9')
  const fresh = await openSecond(t, page, `${server.httpUrl}/demo`)
  await shows(fresh, 'markdown', 'Before. Meanwhile.')
  await badge(page, 'saved')
})

test('browser_4_offline_edits_merge', async t => {
  const { server, browser, page } = await openDemo(t)
  const cookies = await page.context().cookies()
  const other = await openWindow(t, browser)
  await other.context().addCookies(cookies)
  await other.goto(`${server.httpUrl}/demo`)
  await editor(other).waitFor()
  await append(page, '\nTop: \nEnd: ')
  await shows(other, 'markdown', 'End: ')
  await page.click('#offline')
  assert.equal(await page.getAttribute('#offline', 'aria-checked'), 'true')
  await badge(page, 'offline')
  await append(page, 'from afar')
  await append(other, 'from here')
  await badge(other, 'saved')
  await page.locator('#badge-text', { hasText: 'Offline, changes kept here' }).waitFor()
  assert.doesNotMatch(await textOf(other), /from afar/)
  await page.click('#offline')
  await badge(page, 'saved')
  for (const text of ['from afar', 'from here']) {
    await shows(page, 'markdown', text)
    await shows(other, 'markdown', text)
  }
  assert.equal(await textOf(other), await textOf(page))
})

test('browser_5_a_reader_sees_everything_and_changes_nothing', async t => {
  const { server, page } = await openDemo(t)
  const reader = await openSecond(t, page, `${server.httpUrl}/demo?access=read`)
  await reader.locator('#access', { hasText: 'Read only' }).waitFor()
  await editor(reader).click()
  await reader.keyboard.type('nothing')
  await append(page, 'Something.')
  await shows(reader, 'markdown', 'Something.')
  assert.doesNotMatch(await textOf(reader), /nothing/)
  await badge(reader, 'live')
})

test('browser_6_a_used_link_says_what_to_do', async t => {
  const { server, browser, page } = await openDemo(t)
  const stranger = await openWindow(t, browser)
  await stranger.goto(server.ready.demo)
  await stranger.locator('#gate-title', { hasText: 'This link has been opened' }).waitFor()
  await stranger.locator('#gate-steps li', { hasText: 'prints a fresh link' }).waitFor()
  // The browser that opened it comes back with the very same link.
  const again = await openSecond(t, page, server.ready.demo)
  await badge(again, 'live')
})

test('browser_17_an_ending_token_is_renewed_without_a_visible_drop', async t => {
  const server = await startServer(t, { command: 'dev', env: { SYNCLINE_JWT_SECRET: SECRET } })
  const page = await openWindow(t, await startBrowser(t))
  const badges = await recordBadge(page)
  let minted = 0
  let sockets = 0
  page.on('websocket', () => { sockets += 1 })
  await page.route('**/demo/token', async route => {
    minted += 1
    await route.fulfill({ json: { token: await token({ demo: 'write' }, { sub: 'ada', expires: 4 }) } })
  })
  await page.goto(server.ready.demo)
  await editor(page).waitFor()
  // Each letter waits for the next token, so this is typed over several of them.
  for (const letter of 'renewed') {
    const before = minted
    await append(page, letter)
    await badge(page, 'saved')
    await until(() => minted > before, { within: PATIENCE_MS, what: 'another token' })
  }
  await shows(page, 'markdown', 'renewed')
  assert.equal(sockets, 1)
  const bad = (await badges()).filter(state => !['connecting', 'live', 'saving', 'saved'].includes(state))
  assert.deepEqual(bad, [])
  assert.equal((await badges()).filter(state => state === 'connecting').length, 1)
})

test('browser_13_the_page_asks_nobody_else_and_breaks_no_rule_of_its_own', async t => {
  const server = await startServer(t, { command: 'dev' })
  const page = await openWindow(t, await startBrowser(t))
  const hosts = new Set()
  page.on('request', request => hosts.add(new URL(request.url()).host))
  await page.addInitScript(() => {
    window.violations = []
    document.addEventListener('securitypolicyviolation', event => {
      window.violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`)
    })
  })
  await page.goto(server.ready.demo)
  await append(page, 'Hello')
  await page.click('#tab-rich')
  await editor(page, 'rich').click()
  await page.keyboard.press('Control+a')
  await page.click('#format [aria-label=Bold]')
  await page.locator('.ProseMirror strong').first().waitFor()
  await badge(page, 'saved')
  assert.deepEqual(await page.evaluate(() => window.violations), [])
  assert.deepEqual([...hosts], [new URL(server.httpUrl).host])
})
