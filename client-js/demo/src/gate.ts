/** What is shown to a browser that has not been let in, and what to do about it. */

import type { Access } from '../../src/index.ts'
import { byId, make } from './dom.ts'
import { pastedToken, TokenError } from './session.ts'

const TEXTS: Readonly<Record<string, readonly [string, string]>> = {
  link_used: [
    'This link has been opened',
    'A link from the terminal lets one browser in, once, and this one has done that or is too old.',
  ],
  no_session: [
    'Open the link in the terminal',
    'This browser has not been let in yet. syncline dev prints a link that does it.',
  ],
  forbidden_document: [
    'Not for this document',
    'The link that this browser has opened was for another document, or for reading only.',
  ],
  no_secret: [
    'A token, please',
    'This server signs no tokens of its own. Paste one that you made.',
  ],
}

const STEPS = [
  'The browser that opened the link can simply open this page again.',
  'Or press “Copy link” there, and open what it copied here.',
  'Or stop syncline dev and start it again: it prints a fresh link.',
]

/** Asks for a token in place of the editors, and goes on with it. */
export function showGate(name: string, access: Access, error: unknown, goOn: () => void): void {
  const code = error instanceof TokenError ? error.code : 'unreachable'
  const unreachable = ['The server does not answer', 'Is syncline still running?'] as const
  const [title, text] = TEXTS[code] ?? unreachable
  byId('gate-title').textContent = title
  byId('gate-text').textContent = text
  const steps = code === 'no_secret' || TEXTS[code] === undefined ? [] : STEPS
  byId('gate-steps').replaceChildren(...steps.map(step => make('li', {}, step)))
  byId('gate-steps').hidden = steps.length === 0
  byId('gate-document').textContent = `“${name}”`
  byId('gate-command').textContent = `syncline token --doc ${name} --access ${access}`
  byId('badge').dataset.state = 'offline'
  byId('badge-text').textContent = 'Not let in'
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
