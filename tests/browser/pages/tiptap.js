import { Editor } from '@tiptap/core'
import Collaboration from '@tiptap/extension-collaboration'
import CollaborationCaret from '@tiptap/extension-collaboration-caret'
import StarterKit from '@tiptap/starter-kit'

export function mount ({ parent, doc, provider, user }) {
  const editor = new Editor({
    element: parent,
    extensions: [
      StarterKit.configure({ undoRedo: false }),
      Collaboration.configure({ document: doc }),
      CollaborationCaret.configure({ provider, user })
    ]
  })
  const place = line => {
    let end = 0
    for (let index = 0; index < line; index++) end += editor.state.doc.child(index).nodeSize
    // Its own focus command waits for a frame, and what is typed until then goes elsewhere.
    editor.view.focus()
    editor.commands.setTextSelection(end - 1)
  }
  return { text: () => editor.getText(), place }
}
