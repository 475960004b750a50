/** Tiptap, bound to a Y.XmlFragment. */

import { Editor } from '@tiptap/core'
import Collaboration from '@tiptap/extension-collaboration'
import CollaborationCaret from '@tiptap/extension-collaboration-caret'
import StarterKit from '@tiptap/starter-kit'
import type { SynclineProvider } from '../../src/index.ts'
import { make, styleNonce } from './dom.ts'

/** Creates the editor in `parent`. */
export function openRichText(
  parent: HTMLElement,
  provider: SynclineProvider,
  readOnly: boolean,
): Editor {
  return new Editor({
    element: parent,
    editable: !readOnly,
    injectNonce: styleNonce(),
    editorProps: { attributes: { 'aria-label': 'Rich text', role: 'textbox', tabindex: '0' } },
    extensions: [
      // The undo manager of Yjs undoes local changes only.
      StarterKit.configure({ undoRedo: false, link: { openOnClick: false } }),
      Collaboration.configure({ document: provider.doc, field: 'rich' }),
      CollaborationCaret.configure({
        provider,
        user: provider.awareness.getLocalState()?.user,
        render: user => caret(String(user.name), String(user.color)),
      }),
    ],
  })
}

function caret(name: string, color: string): HTMLElement {
  const label = make('div', { class: 'collaboration-carets__label' }, name)
  label.style.backgroundColor = color
  const caret = make('span', { class: 'collaboration-carets__caret' }, label)
  caret.style.borderColor = color
  return caret
}

/** The format buttons. */
const FORMATS: readonly {
  readonly sign: string
  readonly name: string
  readonly style?: string
  readonly mark: [string, Record<string, unknown>?]
  readonly toggle: (editor: Editor) => void
}[] = [
  {
    sign: 'B',
    name: 'Bold',
    mark: ['bold'],
    toggle: editor => editor.chain().focus().toggleBold().run(),
  },
  {
    sign: 'I',
    name: 'Italic',
    style: 'italic',
    mark: ['italic'],
    toggle: editor => editor.chain().focus().toggleItalic().run(),
  },
  {
    sign: 'S',
    name: 'Strike',
    style: 'strike',
    mark: ['strike'],
    toggle: editor => editor.chain().focus().toggleStrike().run(),
  },
  {
    sign: 'H1',
    name: 'Heading 1',
    mark: ['heading', { level: 1 }],
    toggle: editor => editor.chain().focus().toggleHeading({ level: 1 }).run(),
  },
  {
    sign: 'H2',
    name: 'Heading 2',
    mark: ['heading', { level: 2 }],
    toggle: editor => editor.chain().focus().toggleHeading({ level: 2 }).run(),
  },
  {
    sign: 'List',
    name: 'Bullet list',
    mark: ['bulletList'],
    toggle: editor => editor.chain().focus().toggleBulletList().run(),
  },
  {
    sign: 'Quote',
    name: 'Quote',
    mark: ['blockquote'],
    toggle: editor => editor.chain().focus().toggleBlockquote().run(),
  },
]

/** Adds the format buttons to the toolbar. */
export function fillToolbar(toolbar: HTMLElement, editor: Editor): void {
  const buttons = FORMATS.map(({ sign, name, style = '', mark, toggle }) => {
    const button = make(
      'button',
      { type: 'button', class: style, 'aria-label': name, title: name, 'aria-pressed': 'false' },
      sign,
    )
    button.addEventListener('click', () => toggle(editor))
    const show = (): void => {
      button.setAttribute('aria-pressed', String(editor.isActive(...mark)))
    }
    editor.on('transaction', show)
    return button
  })
  toolbar.append(...buttons)
  useRovingTabIndex(buttons)
}

/** Roving tabindex: Tab focuses one button, the arrow keys move between them. */
export function useRovingTabIndex(
  buttons: readonly HTMLButtonElement[],
  onSelect?: (index: number) => void,
): void {
  const reach = (index: number): void => {
    buttons.forEach((button, at) => {
      button.tabIndex = at === index ? 0 : -1
    })
  }
  reach(0)
  buttons.forEach((button, index) => {
    button.addEventListener('focus', () => reach(index))
    button.addEventListener('keydown', event => {
      const steps: Record<string, number> = { ArrowRight: 1, ArrowLeft: -1 }
      const step = steps[event.key]
      if (step === undefined) return
      event.preventDefault()
      const next = (index + step + buttons.length) % buttons.length
      buttons[next]?.focus()
      onSelect?.(next)
    })
  })
}
