// A provider where there is no window: it writes what it is told to, and says what it sees.

import * as Y from 'yjs'
import { createProvider } from '../../../client-js/src/index.ts'

self.onmessage = async ({ data: { url, name, token, writes } }) => {
  const doc = new Y.Doc()
  const text = doc.getText('text')
  const provider = createProvider({ doc, url, name, token })
  await provider.whenSynced()
  text.observe(() => self.postMessage(text.toString()))
  text.insert(text.length, writes)
  await provider.whenSaved()
  self.postMessage('saved')
}
