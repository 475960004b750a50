// Yjs, asked by other programs: one JSON object a line on stdin, answers on stdout in the same order.
// Bytes are base64. A request that cannot be served is answered `{"error":"…"}`. README.md has the list.

import { createInterface } from 'node:readline'
import { writeSync } from 'node:fs'
import * as Y from 'yjs'
import { ROOTS, content, isPending, root, state } from '../support/content.mjs'
import { edit } from '../support/random-edits.mjs'
import { Random } from '../support/random.mjs'
import { REMOTE, report, session } from './sessions.mjs'

const STDOUT = 1
const BUFFER_CHARS = 1 << 18

/** id → { ydoc, updates: those it has emitted and nobody has fetched } */
const clients = new Map()
let buffered = ''

const OPERATIONS = {
  * sessions ({ seed, count, from = 0, split_pairs: splitPairs = false }) {
    if (seed === undefined) throw new Error('seed is missing')
    for (let i = from; i < from + integer(count, 'count'); i++) {
      yield { seed: `${seed}/${i}`, ...report(session(`${seed}/${i}`, { splitPairs })) }
    }
  },

  * compare ({ a, b }) {
    const [ydocA, ydocB] = [load(bytes(a, 'a')), load(bytes(b, 'b'))]
    const stateVectors = [ydocA, ydocB].map(ydoc => base64(Y.encodeStateVector(ydoc)))
    const contents = [content(ydocA), content(ydocB)]
    yield {
      equal: stateVectors[0] === stateVectors[1] && JSON.stringify(contents[0]) === JSON.stringify(contents[1]),
      same_state: state(ydocA) === state(ydocB),
      pending: isPending(ydocA) || isPending(ydocB),
      json_a: contents[0],
      json_b: contents[1]
    }
  },

  * new ({ id, client_id: clientId }) {
    if (clients.has(id)) throw new Error(`client ${id} exists`)
    const ydoc = new Y.Doc({ guid: String(id) })
    ydoc.clientID = integer(clientId, 'client_id')
    for (const name of Object.keys(ROOTS)) root(ydoc, name)
    const client = { ydoc, updates: [] }
    ydoc.on('update', (update, origin) => { if (origin !== REMOTE) client.updates.push(base64(update)) })
    clients.set(id, client)
    yield { ok: true }
  },

  * edit ({ id, seed, split_pairs: splitPairs = false }) {
    const client = find(id)
    if (seed === undefined) throw new Error('seed is missing')
    edit(new Random(seed), client.ydoc, { splitPairs })
    yield { updates: client.updates.splice(0) }
  },

  * apply ({ id, update }) {
    const client = find(id)
    Y.applyUpdate(client.ydoc, bytes(update, 'update'), REMOTE)
    yield { updates: client.updates.splice(0), pending: isPending(client.ydoc) }
  },

  * state_vector ({ id }) {
    yield { state_vector: base64(Y.encodeStateVector(find(id).ydoc)) }
  },

  * diff ({ id, state_vector: stateVector }) {
    const known = stateVector === undefined ? undefined : bytes(stateVector, 'state_vector')
    yield { update: base64(Y.encodeStateAsUpdate(find(id).ydoc, known)) }
  },

  * text ({ id, name = 'text' }) {
    yield { text: find(id).ydoc.getText(name).toString() }
  },

  * json ({ id }) {
    const { ydoc } = find(id)
    yield { json: content(ydoc), pending: isPending(ydoc) }
  },

  * free ({ id }) {
    find(id).ydoc.destroy()
    clients.delete(id)
    yield { ok: true }
  }
}

for await (const line of createInterface({ input: process.stdin, crlfDelay: Infinity })) {
  if (line.trim() === '') continue
  try {
    const request = JSON.parse(line)
    if (!Object.hasOwn(OPERATIONS, request?.op)) throw new Error(`unknown op: ${JSON.stringify(request?.op)}`)
    for (const answer of OPERATIONS[request.op](request)) print(answer)
  } catch (error) {
    print({ error: error instanceof Error ? error.message : String(error) })
  }
  flush()
}

function print (answer) {
  buffered += JSON.stringify(answer) + '\n'
  if (buffered.length > BUFFER_CHARS) flush()
}

function flush () {
  let rest = Buffer.from(buffered)
  buffered = ''
  while (rest.length > 0) rest = rest.subarray(write(rest))
}

/** A pipe that is full for the moment is no error. */
function write (buffer) {
  try {
    return writeSync(STDOUT, buffer)
  } catch (error) {
    if (error.code === 'EAGAIN') return 0
    // Whoever asked has gone.
    if (error.code === 'EPIPE') process.exit(0)
    throw error
  }
}

function load (update) {
  const ydoc = new Y.Doc()
  Y.applyUpdate(ydoc, update)
  return ydoc
}

function find (id) {
  const client = clients.get(id)
  if (client === undefined) throw new Error(`no client ${id}`)
  return client
}

function integer (value, name) {
  if (!Number.isSafeInteger(value) || value < 0) throw new Error(`${name} is not a whole number`)
  return value
}

function bytes (value, name) {
  if (typeof value !== 'string' || !/^[A-Za-z0-9+/]*={0,2}$/.test(value)) throw new Error(`${name} is not base64`)
  return new Uint8Array(Buffer.from(value, 'base64'))
}

function base64 (value) {
  return Buffer.from(value).toString('base64')
}
