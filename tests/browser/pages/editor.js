// One editor on one document, by one provider, as the address says. The test reads `window.page`.

import { WebsocketProvider } from 'y-websocket'
import * as Y from 'yjs'
import { createProvider } from '../../../client-js/src/index.ts'

const EDITORS = {
  codemirror: () => import('./codemirror.js'),
  tiptap: () => import('./tiptap.js'),
  quill: () => import('./quill.js'),
  monaco: () => import('./monaco.js'),
  lexical: () => import('./lexical.js'),
  blocknote: () => import('./blocknote.js'),
  slate: () => import('./slate.js')
}

const wanted = new URLSearchParams(location.search)
const server = wanted.get('server')
const name = wanted.get('name')
const user = { name: wanted.get('user'), color: wanted.get('color') ?? '#1565c0' }
const token = wanted.get('token')

/** Not connected yet: Lexical connects by itself. */
function makeProvider (doc) {
  if (wanted.get('provider') === 'ours') {
    // Every window is on its own here, or the tabs would do the server's work.
    return createProvider({ url: server, name, doc, token, user, disableBc: true, connect: false })
  }
  const params = { token }
  const provider = new WebsocketProvider(server, name, doc, { params, disableBc: true, connect: false })
  provider.awareness.setLocalStateField('user', user)
  return provider
}

const doc = new Y.Doc()
const provider = makeProvider(doc)
const { mount } = await EDITORS[wanted.get('editor')]()
const parent = document.getElementById('editor')
const synced = new Promise(resolve => provider.on('sync', isSynced => { if (isSynced) resolve() }))
const first = wanted.has('first')
if (wanted.get('editor') !== 'lexical') {
  provider.connect()
  await synced
}
const editor = await mount({ parent, doc, provider, user, first })
await synced
window.page = { doc, provider, ...editor }
document.title = 'Ready'
