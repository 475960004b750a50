// The oracle is only worth asking if it is right itself.

import { test } from 'node:test'
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import * as Y from 'yjs'
import { content, isPending, state } from '../support/content.mjs'
import { Random, runSeed } from '../support/random.mjs'
import { session } from './sessions.mjs'

const ORACLE = fileURLToPath(new URL('oracle.mjs', import.meta.url))
const SESSIONS = 150

const unbase64 = text => new Uint8Array(Buffer.from(text, 'base64'))
const base64 = bytes => Buffer.from(bytes).toString('base64')

/** A running oracle: `ask` for one answer, `stream` for several. */
function startOracle (t) {
  const child = spawn(process.execPath, [ORACLE], { stdio: ['pipe', 'pipe', 'inherit'] })
  t.after(() => child.kill())
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const next = async () => {
    const { value, done } = await lines.next()
    assert.ok(!done, 'the oracle has ended')
    return JSON.parse(value)
  }
  const send = request => child.stdin.write((typeof request === 'string' ? request : JSON.stringify(request)) + '\n')
  return {
    child,
    ask: request => { send(request); return next() },
    stream: async (request, count) => {
      send(request)
      const answers = []
      while (answers.length < count) answers.push(await next())
      return answers
    }
  }
}

test('oracle_sessions_hold_what_they_promise', async t => {
  const seed = runSeed(t)
  const oracle = startOracle(t)
  const sessions = await oracle.stream({ op: 'sessions', seed, count: SESSIONS }, SESSIONS)
  for (const { seed, updates, state_vector: stateVector, state: merged, json, error } of sessions) {
    assert.equal(error, undefined)
    const ydoc = new Y.Doc()
    for (const update of updates) {
      Y.applyUpdate(ydoc, unbase64(update))
      assert.ok(!isPending(ydoc), `${seed}: an update came before what it needs`)
    }
    assert.equal(base64(Y.encodeStateVector(ydoc)), stateVector, seed)
    const whole = new Y.Doc()
    Y.applyUpdate(whole, unbase64(merged))
    assert.equal(state(ydoc), state(whole), seed)
    assert.deepEqual(JSON.parse(JSON.stringify(content(ydoc))), json, seed)
    assert.deepEqual(JSON.parse(JSON.stringify(content(whole))), json, seed)
  }
})

test('oracle_sessions_end_with_equal_clients', async t => {
  const seed = runSeed(t)
  for (let i = 0; i < SESSIONS; i++) {
    const { server, clients } = session(`${seed}/${i}`)
    const expected = state(server.ydoc)
    for (const client of clients) assert.equal(state(client.ydoc), expected, `${seed}/${i}`)
  }
})

test('oracle_sessions_hold_with_split_surrogate_pairs', async t => {
  const seed = runSeed(t)
  const oracle = startOracle(t)
  const sessions = await oracle.stream({ op: 'sessions', seed, count: 30, split_pairs: true }, 30)
  for (const { updates, state_vector: stateVector } of sessions) {
    const ydoc = new Y.Doc()
    for (const update of updates) Y.applyUpdate(ydoc, unbase64(update))
    assert.equal(base64(Y.encodeStateVector(ydoc)), stateVector)
  }
})

test('oracle_sessions_repeat_by_seed', async t => {
  const oracle = startOracle(t)
  const first = await oracle.stream({ op: 'sessions', seed: 7, count: 5 }, 5)
  assert.deepEqual(await oracle.stream({ op: 'sessions', seed: 7, count: 5 }, 5), first)
  assert.deepEqual(await oracle.stream({ op: 'sessions', seed: 7, from: 3, count: 2 }, 2), first.slice(3))
  const [other] = await oracle.stream({ op: 'sessions', seed: 8, count: 1 }, 1)
  assert.notDeepEqual(other, first[0])
})

test('oracle_sessions_hold_every_kind_of_content', async t => {
  const oracle = startOracle(t)
  const sessions = await oracle.stream({ op: 'sessions', seed: 'kinds', count: 300 }, 300)
  const text = JSON.stringify(sessions.map(({ json }) => json))
  for (const kind of [
    '"$bytes"', '"$bigint"', '"$undefined"', '"NaN"', '"-Infinity"', '1e+300', '-2147483648', '"attributes":{"bold":true}',
    '"insert":{"image":"x.png"}', '"href":"https', '<p', 'id=\\"', '<b>', '👩‍👩‍👧', 'e\u0301', ':null', ':true'
  ]) assert.ok(text.includes(kind), `${kind} does not occur`)
  assert.ok(sessions.some(({ json }) => [json.map, ...json.array].some(held => Array.isArray(held?.a))))
})

test('oracle_compare_tells_equal_from_different', async t => {
  const oracle = startOracle(t)
  const ydoc = new Y.Doc()
  ydoc.getText('text').insert(0, 'hello')
  const before = base64(Y.encodeStateAsUpdate(ydoc))
  const stateVector = Y.encodeStateVector(ydoc)
  ydoc.getText('text').delete(0, 1)
  const after = base64(Y.encodeStateAsUpdate(ydoc))
  ydoc.getText('text').insert(0, 'J')
  const hole = base64(Y.encodeStateAsUpdate(ydoc, stateVector))

  assert.equal((await oracle.ask({ op: 'compare', a: before, b: before })).equal, true)
  const deleted = await oracle.ask({ op: 'compare', a: before, b: after })
  assert.equal(deleted.equal, false)
  assert.equal(deleted.same_state, false)
  assert.equal(deleted.pending, false)
  assert.deepEqual(deleted.json_a.text, [{ insert: 'hello' }])
  assert.deepEqual(deleted.json_b.text, [{ insert: 'ello' }])
  assert.equal((await oracle.ask({ op: 'compare', a: before, b: hole })).pending, true)
})

test('oracle_clients_converge_when_driven_from_outside', async t => {
  const seed = runSeed(t)
  const random = new Random(seed)
  const oracle = startOracle(t)
  const ids = [1, 2, 3]
  for (const id of ids) assert.deepEqual(await oracle.ask({ op: 'new', id, client_id: id * 1000 }), { ok: true })
  // Everyone hears everything in the same order; what `apply` makes a client send is sent on as well.
  const queue = []
  for (let i = 0; i < 60; i++) {
    const from = random.pick(ids)
    const { updates, error } = await oracle.ask({ op: 'edit', id: from, seed: `${seed}/${i}` })
    assert.equal(error, undefined)
    queue.push(...updates.map(update => ({ from, update })))
    if (random.chance(0.5)) await deliver()
  }
  await deliver()
  async function deliver () {
    while (queue.length > 0) {
      const { from, update } = queue.shift()
      for (const id of ids) {
        if (id === from) continue
        const { updates, pending } = await oracle.ask({ op: 'apply', id, update })
        assert.equal(pending, false)
        queue.push(...updates.map(update => ({ from: id, update })))
      }
    }
  }

  const answers = []
  for (const id of ids) answers.push(await oracle.ask({ op: 'json', id }))
  assert.deepEqual(answers[1], answers[0])
  assert.deepEqual(answers[2], answers[0])
  const { state_vector: stateVector } = await oracle.ask({ op: 'state_vector', id: 1 })
  assert.deepEqual(unbase64((await oracle.ask({ op: 'diff', id: 2, state_vector: stateVector })).update)[0], 0)
  const whole = await oracle.ask({ op: 'diff', id: 1 })
  const ydoc = new Y.Doc()
  Y.applyUpdate(ydoc, unbase64(whole.update))
  assert.equal((await oracle.ask({ op: 'text', id: 1 })).text, ydoc.getText('text').toString())
  for (const id of ids) assert.deepEqual(await oracle.ask({ op: 'free', id }), { ok: true })
  assert.match((await oracle.ask({ op: 'json', id: 1 })).error, /no client 1/)
})

test('oracle_answers_bad_input_and_lives', async t => {
  const oracle = startOracle(t)
  await oracle.ask({ op: 'new', id: 1, client_id: 5 })
  for (const bad of [
    'not json', '[]', 'null', '7', '{}', { op: 'toString' }, { op: 'constructor' }, { op: 'nothing' },
    { op: 'sessions', seed: 1 }, { op: 'sessions', count: 1 }, { op: 'sessions', seed: 1, count: -1 },
    { op: 'compare', a: 'AAA' }, { op: 'compare', a: 'AAA=', b: '!' },
    { op: 'compare', a: base64(Uint8Array.of(1, 1, 1)), b: '' },
    { op: 'new', id: 1, client_id: 6 }, { op: 'new', id: 2 }, { op: 'edit', id: 9, seed: 1 }, { op: 'edit', id: 1 },
    { op: 'apply', id: 1, update: base64(Uint8Array.of(255, 255, 255, 255)) }, { op: 'apply', id: 1 },
    { op: 'free', id: 3 }
  ]) assert.equal(typeof (await oracle.ask(bad)).error, 'string', JSON.stringify(bad))
  assert.deepEqual(await oracle.ask({ op: 'text', id: 1 }), { text: '' })
  oracle.child.stdin.end()
  const code = await new Promise(resolve => oracle.child.on('exit', resolve))
  assert.equal(code, 0)
})
