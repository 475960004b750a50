import { EditorView, basicSetup } from 'codemirror'
import { yCollab } from 'y-codemirror.next'
import { WebsocketProvider } from 'y-websocket'
import * as Y from 'yjs'

const name = new URLSearchParams(location.search).get('doc') ?? 'demo'
const status = document.getElementById('status')
const form = document.getElementById('token-form')

form.addEventListener('submit', event => {
  event.preventDefault()
  sessionStorage.token = form.token.value.trim()
  open(sessionStorage.token)
})
if (sessionStorage.token) open(sessionStorage.token)

function open (token) {
  form.hidden = true
  const doc = new Y.Doc()
  const provider = new WebsocketProvider('ws://127.0.0.1:4000/ws', name, doc, { params: { token } })
  const color = '#' + Math.floor(Math.random() * 0xffffff).toString(16).padStart(6, '0')
  provider.awareness.setLocalStateField('user', { name: `guest ${doc.clientID % 100}`, color })
  provider.on('status', ({ status: state }) => { status.textContent = `${name}: ${state}` })
  provider.on('closed', ({ code, reason }) => {
    status.textContent = `refused with ${code}: ${reason}`
    delete sessionStorage.token
    form.hidden = false
  })
  new EditorView({
    parent: document.getElementById('editor'),
    extensions: [basicSetup, EditorView.lineWrapping, yCollab(doc.getText('body'), provider.awareness)]
  })
}
