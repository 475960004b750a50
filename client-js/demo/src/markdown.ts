/** CodeMirror 6, bound to a Y.Text. */

import { defaultKeymap } from '@codemirror/commands'
import {
  defineLanguageFacet,
  HighlightStyle,
  Language,
  languageDataProp,
  syntaxHighlighting,
} from '@codemirror/language'
import { EditorState } from '@codemirror/state'
import { drawSelection, EditorView, keymap, placeholder } from '@codemirror/view'
import { tags } from '@lezer/highlight'
import { GFM, parser } from '@lezer/markdown'
import { yCollab, yUndoManagerKeymap } from 'y-codemirror.next'
import type { Awareness } from 'y-protocols/awareness'
import * as Y from 'yjs'
import { styleNonce } from './dom.ts'

// Uses the parser alone: @codemirror/lang-markdown includes HTML, CSS and JavaScript grammars.
const data = defineLanguageFacet({})
const document = languageDataProp.add({ Document: data })
const markdown = new Language(data, parser.configure([GFM, { props: [document] }]), [], 'markdown')

const highlight = HighlightStyle.define([
  { tag: tags.heading1, fontSize: '1.5em', fontWeight: '700' },
  { tag: tags.heading2, fontSize: '1.25em', fontWeight: '700' },
  { tag: tags.heading, fontWeight: '700' },
  { tag: tags.strong, fontWeight: '700' },
  { tag: tags.emphasis, fontStyle: 'italic' },
  { tag: tags.strikethrough, textDecoration: 'line-through' },
  { tag: [tags.link, tags.url], color: 'var(--accent)' },
  { tag: tags.monospace, color: 'var(--busy)' },
  { tag: tags.quote, color: 'var(--muted)' },
  { tag: [tags.processingInstruction, tags.contentSeparator], color: 'var(--muted)' },
])

const theme = EditorView.theme({
  '&': { backgroundColor: 'transparent', color: 'var(--ink)' },
  '.cm-cursor': { borderLeftColor: 'var(--ink)', borderLeftWidth: '2px' },
  '.cm-placeholder': { color: 'var(--muted)' },
  '&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground':
    { backgroundColor: 'color-mix(in srgb, var(--accent) 24%, transparent)' },
})

/** Creates the editor in `parent`. */
export function openMarkdown(
  parent: HTMLElement,
  text: Y.Text,
  awareness: Awareness,
  readOnly: boolean,
): EditorView {
  const undoManager = new Y.UndoManager(text)
  return new EditorView({
    parent,
    state: EditorState.create({
      doc: text.toString(),
      extensions: [
        EditorView.cspNonce.of(styleNonce()),
        EditorView.lineWrapping,
        EditorView.contentAttributes.of({ 'aria-label': 'Markdown', spellcheck: 'true' }),
        EditorState.readOnly.of(readOnly),
        EditorView.editable.of(!readOnly),
        // Keep read-only text focusable, to select and copy.
        EditorView.contentAttributes.of(readOnly ? { tabindex: '0' } : {}),
        drawSelection(),
        // No binding for Tab, which moves the focus.
        keymap.of([...yUndoManagerKeymap, ...defaultKeymap]),
        placeholder('Write something'),
        markdown,
        syntaxHighlighting(highlight),
        theme,
        yCollab(text, awareness, { undoManager }),
      ],
    }),
  })
}
