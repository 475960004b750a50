/** The initial content of a demo document. Must be deterministic: see `seed`. */

import * as Y from 'yjs'

const MARKDOWN = `# Two windows, one text

Open a second window and type in both. **Every caret has a name.**

- *Saved* means on disk: it appears after the server's \`fdatasync\`.
- Work offline, keep typing, reconnect: both sides are merged.
- Stop the server and start it again. Nothing is lost, and the badge shows the state.

> The other tab is a rich text editor on the same document.
`

const PARAGRAPHS: readonly (readonly [string, string])[] = [
  ['heading', 'The same document, another editor'],
  [
    'paragraph',
    'This is Tiptap. The Markdown tab is CodeMirror. Both are bound to one Yjs document.',
  ],
  ['paragraph', 'Select some text and format it, here and in a second window.'],
]

export function fillInitialContent(doc: Y.Doc): void {
  doc.getText('markdown').insert(0, MARKDOWN)
  const blocks = PARAGRAPHS.map(([name, text]) => {
    const block = new Y.XmlElement(name)
    if (name === 'heading') block.setAttribute('level', 1 as unknown as string)
    block.insert(0, [new Y.XmlText(text)])
    return block
  })
  doc.getXmlFragment('rich').insert(0, blocks)
}
