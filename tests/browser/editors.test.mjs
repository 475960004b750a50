// Every editor's Yjs binding, unmodified, by our provider and by stock y-websocket.

import { test } from 'node:test'
import { startServer, token } from '../npm/support/server.mjs'
import { eventually, openWindow, servePages, startBrowser } from './support/browser.mjs'

const EDITORS = ['codemirror', 'tiptap', 'quill', 'monaco', 'lexical', 'blocknote', 'slate']
/** y-prosemirror 1.3.7 restores a selection into a text that has just become shorter. */
const KNOWN = /RangeError: Position \d+ out of range/
const PROVIDERS = ['ours', 'stock']

/** Waits until a window shows exactly these lines. */
async function holds (page, lines) {
  const shown = () => page.evaluate(() => window.page.text().split('\n').filter(line => line !== ''))
  await eventually(page, wanted =>
    window.page.text().split('\n').filter(line => line !== '').join('\n') === wanted, lines.join('\n'))
    .catch(async error => { throw new Error(`the window shows ${JSON.stringify(await shown())}`, { cause: error }) })
}

test('browser_7_every_editor_converges_across_two_windows', async t => {
  const server = await startServer(t)
  const origin = await servePages(t)
  const browser = await startBrowser(t)

  const open = async (t, editor, provider, user, first) => {
    const page = await openWindow(t, browser, { ignore: KNOWN })
    const name = `${editor}/${provider}`
    const jwt = await token({ [name]: 'write' }, { sub: user, name: user })
    const wanted = new URLSearchParams({ editor, provider, user, server: server.wsUrl, name, token: jwt })
    if (first) wanted.set('first', '')
    await page.goto(`${origin}/editor.html?${wanted}`)
    await eventually(page, () => document.title === 'Ready')
    return page
  }

  for (const editor of EDITORS) {
    for (const provider of PROVIDERS) {
      await t.test(`${editor}_by_${provider}`, async t => {
        const ada = await open(t, editor, provider, 'Ada', true)
        // One begins: BlockNote writes a first block into what is empty. Where two do, one of them goes again, and
        // y-prosemirror fails on the selection in it and shows nothing until the next change.
        await ada.evaluate(() => window.page.place(1))
        await ada.keyboard.type('A')
        const bob = await open(t, editor, provider, 'Bob', false)
        await holds(bob, ['A'])
        // A line for each: where two people type into one word, ProseMirror reads the browser's change
        // against a text that has moved on, and may double a letter.
        await ada.keyboard.type('da:')
        await ada.keyboard.press('Enter')
        await ada.keyboard.type('Bob:')
        await holds(bob, ['Ada:', 'Bob:'])
        await ada.evaluate(() => window.page.place(1))
        await bob.evaluate(() => window.page.place(2))
        await Promise.all([ada.keyboard.type(' the quick brown fox'), bob.keyboard.type(' jumps over 42')])
        const both = ['Ada: the quick brown fox', 'Bob: jumps over 42']
        await Promise.all([holds(ada, both), holds(bob, both)])
        for (const page of [ada, bob]) {
          await eventually(page, () => window.page.provider.awareness.getStates().size === 2)
        }
        // What a third window is given is what the others have.
        const late = await open(t, editor, provider, 'Eve', false)
        await holds(late, both)
        for (const page of [ada, bob, late]) await page.context().close()
      })
    }
  }
})
