// Random Yjs 13 sessions: several people who edit, go offline, come back, undo, and hand each other
// states, with the server between them that sees it all arrive.

import * as Y from 'yjs'
import { ROOTS, content, root } from '../support/content.mjs'
import { edit } from '../support/random-edits.mjs'
import { Random } from '../support/random.mjs'

const CLIENTS = { min: 2, max: 4 }
const UPDATES = { min: 10, max: 45 }
/** An update that says nothing: no structs, no deletions. */
const EMPTY_BYTES = 2
/** Marks what a document got from another one, and does not have to pass on. */
export const REMOTE = Symbol('remote')

/**
 * The session of `seed`. Its updates, applied in their order, give its state without ever waiting for
 * one that is missing.
 *
 * @param {string} seed
 * @param {{ splitPairs?: boolean }} options
 */
export function session (seed, options = {}) {
  const random = new Random(seed)
  const server = new Server()
  const ids = clientIds(random, random.between(CLIENTS.min, CLIENTS.max))
  const clients = ids.map(id => new Client(id, server))
  const target = random.between(UPDATES.min, UPDATES.max)
  // Edits that change nothing send nothing: the second bound.
  for (let step = 0; server.updates.length < target && step < 8 * UPDATES.max; step++) {
    act(random, random.pick(clients), random.pick(clients), options)
  }
  for (const client of clients) if (!client.online) client.comeOnline()
  return { server, clients }
}

/** What the oracle prints of a session. */
export function report ({ server }) {
  const { ydoc, updates } = server
  return {
    updates: updates.map(base64),
    state_vector: base64(Y.encodeStateVector(ydoc)),
    state: base64(Y.encodeStateAsUpdate(ydoc)),
    json: content(ydoc)
  }
}

function act (random, client, other, options) {
  const dice = random.below(100)
  if (dice < 72) edit(random, client.ydoc, options)
  else if (dice < 78) client.undo(random)
  else if (dice < 84) client.goOffline()
  else if (dice < 94) client.comeOnline()
  else if (client !== other) client.takeFrom(other, random)
}

/** The document that all updates reach, in the order in which they do. */
class Server {
  constructor () {
    this.ydoc = new Y.Doc({ guid: 'server' })
    this.ydoc.clientID = 0
    this.updates = []
    this.clients = []
    this.inbox = []
    this.busy = false
    // Nested texts are tidied wherever they change, and Yjs sends such deletions out as its own.
    this.ydoc.on('update', (update, origin) => { if (origin !== REMOTE) this.#accept(update, null) })
  }

  /** Takes one update after the other, although what it relays may make clients send more. */
  receive (update, sender) {
    this.inbox.push({ update, sender })
    if (this.busy) return
    this.busy = true
    while (this.inbox.length > 0) {
      const { update, sender } = this.inbox.shift()
      if (update.length <= EMPTY_BYTES) continue
      this.#accept(update, sender)
      Y.applyUpdate(this.ydoc, update, REMOTE)
    }
    this.busy = false
  }

  #accept (update, sender) {
    this.updates.push(update)
    for (const client of this.clients) if (client !== sender && client.online) client.receive(update)
  }
}

class Client {
  constructor (id, server) {
    this.ydoc = new Y.Doc({ guid: String(id) })
    this.ydoc.clientID = id
    this.server = server
    this.online = true
    this.undoing = null
    server.clients.push(this)
    for (const name of Object.keys(ROOTS)) root(this.ydoc, name)
    this.ydoc.on('update', (update, origin) => {
      if (origin !== REMOTE && this.online) server.receive(update, this)
    })
  }

  receive (update) {
    Y.applyUpdate(this.ydoc, update, REMOTE)
  }

  goOffline () {
    this.online = false
  }

  /** Both sides exchange state vectors and give what the other lacks, as at a reconnect. */
  comeOnline () {
    const { ydoc, server } = this
    server.receive(Y.encodeStateAsUpdate(ydoc, Y.encodeStateVector(server.ydoc)), this)
    this.online = true
    this.receive(Y.encodeStateAsUpdate(server.ydoc, Y.encodeStateVector(ydoc)))
  }

  /** Hears from `other` directly. What it then knows may be new to the server: it has to reconnect. */
  takeFrom (other, random) {
    this.goOffline()
    this.receive(random.chance(0.5)
      ? Y.encodeStateAsUpdate(other.ydoc)
      : Y.encodeStateAsUpdate(other.ydoc, Y.encodeStateVector(this.ydoc)))
  }

  undo (random) {
    if (this.undoing === null) {
      const types = Object.keys(ROOTS).map(name => root(this.ydoc, name))
      this.undoing = new Y.UndoManager(types, { captureTimeout: 0 })
    } else if (random.chance(0.7)) this.undoing.undo()
    else this.undoing.redo()
  }
}

function clientIds (random, count) {
  const ids = new Set()
  while (ids.size < count) ids.add(random.chance(0.2) ? random.between(1, 300) : random.between(1, 0xfffffffe))
  return [...ids]
}

const base64 = bytes => Buffer.from(bytes).toString('base64')
