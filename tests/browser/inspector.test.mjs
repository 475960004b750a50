// The inspector, as an operator uses it.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startServer, token } from '../npm/support/server.mjs'
import { openWindow, startBrowser, watch } from './support/browser.mjs'

async function openAda (t, options) {
  const server = await startServer(t, { command: 'dev' })
  const browser = await startBrowser(t)
  const ada = await openWindow(t, browser, options)
  await ada.goto(server.ready.demo)
  await ada.fill('#name', 'Ada')
  await ada.press('#name', 'Enter')
  await ada.locator('.cm-content').waitFor()
  const inspector = await ada.context().newPage()
  watch(t, inspector)
  await inspector.goto(`${server.httpUrl}/inspector`)
  return { server, browser, ada, inspector }
}

test('browser_14_the_inspector_shows_who_is_there_what_is_there_and_what_happens', async t => {
  const { ada, inspector } = await openAda(t)
  await inspector.locator('#documents button', { hasText: 'demo' }).click()
  await inspector.locator('#presence .who', { hasText: 'Ada' }).waitFor()
  await inspector.locator('#sessions tr', { hasText: 'write' }).waitFor()
  await inspector.locator('#tree', { hasText: 'Two windows, one text' }).waitFor()
  await inspector.locator('#tree', { hasText: 'Element <paragraph>' }).waitFor()
  assert.equal(await inspector.locator('#updates .none').count(), 1)

  await ada.locator('.cm-content').click()
  await ada.keyboard.press('Control+End')
  await ada.keyboard.type('!')
  await inspector.locator('#updates li', { hasText: 'Ada +1' }).waitFor()
  await ada.keyboard.press('Backspace')
  await inspector.locator('#updates li', { hasText: '−1' }).waitFor()
  // Nobody sees the inspector.
  assert.equal(await ada.locator('#people li').count(), 1)
})

test('browser_15_the_inspector_disconnects_a_client_which_is_told', async t => {
  const { ada, inspector } = await openAda(t)
  await inspector.locator('#documents button', { hasText: 'demo' }).click()
  await inspector.locator('#sessions tr', { hasText: 'write' }).locator('button').click()
  await ada.locator('#badge-text', { hasText: 'Refused: disconnected' }).waitFor()
  await ada.locator('#notice', { hasText: 'an operator ended this connection' }).waitFor()
  await inspector.locator('#sessions tr', { hasText: 'write' }).waitFor({ state: 'detached' })
  await ada.click('#notice-retry')
  await inspector.locator('#sessions tr', { hasText: 'write' }).waitFor()
})

test('browser_16_the_inspector_is_for_administrators', async t => {
  const server = await startServer(t, { env: { SYNCLINE_DEMO: 'true' } })
  const page = await openWindow(t, await startBrowser(t))
  const enter = async (access, says) => {
    await page.goto(`${server.httpUrl}/inspector`)
    await page.locator('#gate-title', { hasText: 'For administrators' }).waitFor()
    await page.fill('#gate-token', await token(access))
    await page.press('#gate-token', 'Enter')
    await page.locator(says.where, { hasText: says.text }).waitFor()
  }
  await enter({ '*': 'write' }, { where: '#gate-text', text: 'access for "*" is admin' })
  await enter({ '*': 'admin' }, { where: '#totals', text: '0 live, 0 stored' })
})
