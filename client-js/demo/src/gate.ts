/** The form for a token, shown without access, with the remedy for each cause. */

import type { Access } from '../../src/index.ts'
import { byId, make } from './dom.ts'
import { pastedToken, TokenError } from './session.ts'

const TEXTS: Readonly<Record<string, readonly [string, string]>> = {
  link_used: [
    'This link has been opened',
    'A link from the terminal works once. This one was used or has expired.',
  ],
  no_session: [
    'Open the link in the terminal',
    'This browser has no access yet. syncline dev prints a link that grants it.',
  ],
  forbidden_document: [
    'Not for this document',
    'The link opened in this browser was for another document, or read-only.',
  ],
  no_secret: ['A token, please', 'This server does not sign tokens. Paste one that you created.'],
}

const STEPS = [
  'Open this page again in the browser that opened the link.',
  'Or press “Copy link” there, and open the copied link here.',
  'Or stop syncline dev and start it again: it prints a fresh link.',
]

/** Shows the form in place of the editors. Calls `goOn` when a token was pasted. */
export function showGate(name: string, access: Access, error: unknown, goOn: () => void): void {
  const code = error instanceof TokenError ? error.code : 'unreachable'
  const unreachable = ['The server does not respond', 'Is syncline running?'] as const
  const [title, text] = TEXTS[code] ?? unreachable
  byId('gate-title').textContent = title
  byId('gate-text').textContent = text
  const steps = code === 'no_secret' || TEXTS[code] === undefined ? [] : STEPS
  byId('gate-steps').replaceChildren(...steps.map(step => make('li', {}, step)))
  byId('gate-steps').hidden = steps.length === 0
  byId('gate-document').textContent = `“${name}”`
  byId('gate-command').textContent = `syncline token --doc ${name} --access ${access}`
  byId('badge').dataset.state = 'offline'
  byId('badge-text').textContent = 'No access'
  byId('gate').hidden = false
  const field = byId<HTMLInputElement>('gate-token')
  byId<HTMLFormElement>('gate-form').onsubmit = event => {
    event.preventDefault()
    pastedToken.set(name, field.value.trim())
    byId('gate').hidden = true
    goOn()
  }
  field.focus()
}
