import * as monaco from 'monaco-editor/editor/editor.api.js'
import { MonacoBinding } from 'y-monaco'

globalThis.MonacoEnvironment = { getWorker: () => new Worker('/monaco.worker.js', { type: 'module' }) }

export function mount ({ parent, doc, provider }) {
  const options = { value: '', language: 'plaintext', minimap: { enabled: false }, quickSuggestions: false }
  const editor = monaco.editor.create(parent, options)
  const model = editor.getModel()
  const binding = new MonacoBinding(doc.getText('text'), model, new Set([editor]), provider.awareness)
  const place = line => {
    editor.focus()
    editor.setPosition({ lineNumber: line, column: model.getLineMaxColumn(line) })
  }
  return { binding, text: () => model.getValue(), place }
}
