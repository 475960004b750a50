import { LexicalCollaboration } from '@lexical/react/LexicalCollaborationContext'
import { CollaborationPlugin } from '@lexical/react/LexicalCollaborationPlugin'
import { LexicalComposer } from '@lexical/react/LexicalComposer'
import { useLexicalComposerContext } from '@lexical/react/LexicalComposerContext'
import { ContentEditable } from '@lexical/react/LexicalContentEditable'
import { LexicalErrorBoundary } from '@lexical/react/LexicalErrorBoundary'
import { RichTextPlugin } from '@lexical/react/LexicalRichTextPlugin'
import { $getRoot } from 'lexical'
import { createElement as element, useEffect } from 'react'
import { createRoot } from 'react-dom/client'

export function mount ({ parent, doc, provider, user, first }) {
  return new Promise(resolve => {
    function Opened () {
      const [editor] = useLexicalComposerContext()
      useEffect(() => {
        const text = () => editor.getEditorState().read(() => $getRoot().getTextContent())
        const place = line => {
          editor.focus()
          editor.update(() => { $getRoot().getChildAtIndex(line - 1).selectEnd() })
        }
        resolve({ text, place })
      }, [editor])
      return null
    }
    const providerFactory = (id, docs) => {
      docs.set(id, doc)
      return provider
    }
    const initialConfig = { editorState: null, namespace: 'test', nodes: [], onError: error => { throw error } }
    createRoot(parent).render(element(LexicalComposer, { initialConfig },
      element(LexicalCollaboration, null,
        element(RichTextPlugin, {
          contentEditable: element(ContentEditable),
          ErrorBoundary: LexicalErrorBoundary
        }),
        // Lexical asks for it: one client at most may begin a document.
        element(CollaborationPlugin, {
          id: 'main', providerFactory, shouldBootstrap: first, username: user.name, cursorColor: user.color
        }),
        element(Opened))))
  })
}
