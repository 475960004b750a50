import { BlockNoteEditor } from '@blocknote/core'
import { CollaborationExtension } from '@blocknote/core/yjs'
import '@blocknote/core/style.css'

export function mount ({ parent, doc, provider, user }) {
  const fragment = doc.getXmlFragment('blocks')
  const editor = BlockNoteEditor.create({
    extensions: [CollaborationExtension({ fragment, provider, user, showCursorLabels: 'always' })]
  })
  editor.mount(parent)
  const textOf = block => (block.content ?? []).map(part => part.text ?? '').join('')
  const place = line => {
    editor.focus()
    editor.setTextCursorPosition(editor.document[line - 1], 'end')
  }
  return { text: () => editor.document.map(textOf).join('\n'), place }
}
