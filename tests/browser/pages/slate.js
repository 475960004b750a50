import { withCursors, withYHistory, withYjs, YjsEditor } from '@slate-yjs/core'
import { createElement as element } from 'react'
import { createRoot } from 'react-dom/client'
import { createEditor, Editor, Node, Transforms } from 'slate'
import { Editable, ReactEditor, Slate, withReact } from 'slate-react'
import * as Y from 'yjs'

export function mount ({ parent, doc, provider, user, first }) {
  const content = doc.get('content', Y.XmlText)
  const shared = withYjs(withReact(createEditor()), content)
  const editor = withYHistory(withCursors(shared, provider.awareness, { data: user }))
  // An empty document breaks Slate, and one client may begin it.
  if (first) content.applyDelta([{ insert: paragraph() }])
  YjsEditor.connect(editor)
  createRoot(parent).render(
    element(Slate, { editor, initialValue: editor.children }, element(Editable, { id: 'slate' })))
  const place = line => {
    ReactEditor.focus(editor)
    Transforms.select(editor, Editor.end(editor, [line - 1]))
  }
  return { text: () => editor.children.map(node => Node.string(node)).join('\n'), place }
}

function paragraph () {
  const block = new Y.XmlText()
  block.setAttribute('type', 'paragraph')
  block.insert(0, '')
  return block
}
