import Quill from 'quill'
import { QuillBinding } from 'y-quill'

export function mount ({ parent, doc, provider }) {
  const quill = new Quill(parent, { theme: 'snow', modules: { toolbar: false } })
  const binding = new QuillBinding(doc.getText('text'), quill, provider.awareness)
  const place = line => {
    quill.focus()
    quill.setSelection(quill.getText().split('\n').slice(0, line).join('\n').length)
  }
  return { binding, text: () => quill.getText(), place }
}
