import { basicSetup, EditorView } from 'codemirror'
import { yCollab } from 'y-codemirror.next'

export function mount ({ parent, doc, provider }) {
  const text = doc.getText('text')
  const extensions = [basicSetup, EditorView.lineWrapping, yCollab(text, provider.awareness)]
  const view = new EditorView({ doc: text.toString(), extensions, parent })
  const place = line => {
    view.focus()
    view.dispatch({ selection: { anchor: view.state.doc.line(line).to } })
  }
  return { text: () => view.state.doc.toString(), place }
}
