// Random edits over every shared type that Yjs 13 has, except subdocuments.
//
// The root types are fixed: see ROOTS in content.mjs.

import * as Y from 'yjs'
import { ROOTS, root } from './content.mjs'

const WORDS = [
  'a', 'be', 'sea', ' ', '\n', 'hello', 'Grüße', '漢字', 'e\u0301', 'n\u0303o\u0302', '\u200d',
  '😀', '👩‍👩‍👧', '🇩🇪', '𝒳𝒴', 'naïve', '\u0000', '"<&>', '\u05e9\u05dc\u05d5\u05dd'
]
const ATTRIBUTES = [
  { bold: true }, { bold: null }, { italic: true }, { italic: null }, { color: '#ff8800' }, { color: null },
  { link: { href: 'https://x.example/?a=1', rel: ['me', null] } }, { link: null }, { bold: true, italic: true }
]
const EMBEDS = [{ image: 'x.png' }, { formula: { tex: 'e=mc^2', n: [1, 2.5, null] } }, { mention: 7 }]
const NUMBERS = [
  0, 1, -1, 63, 64, -64, 2147483647, -2147483648, 2147483648, Number.MAX_SAFE_INTEGER,
  Number.MIN_SAFE_INTEGER, 0.5, -1.25, 0.1, 1e300, 5e-324, NaN, Infinity, -Infinity
]
// Without -0 and without bigints at either end, which yrs does not keep apart from numbers: values.test.mjs looks at each value alone.
const BIGINTS = [9007199254740993n, -9007199254740993n]
const KEYS = ['a', 'b', 'c', 'title', 'ключ', '😀']
const NODES = ['p', 'h1', 'li', 'img', 'x-note']
const XML_MARKS = [{ b: {} }, { b: null }, { i: {} }, { i: null }]
const DEPTH_MAX = 4
const LENGTH_MAX = 200

/**
 * Makes one random edit to `ydoc`, in a transaction of one to three operations.
 *
 * @param {import('./random.mjs').Random} random
 * @param {Y.Doc} ydoc
 * @param {{ splitPairs?: boolean, origin?: any }} options splitPairs: positions may fall between the
 *   halves of a surrogate pair, where Yjs puts U+FFFD for both
 */
export function edit (random, ydoc, { splitPairs = false, origin = null } = {}) {
  const operations = random.chance(0.8) ? 1 : random.between(2, 3)
  ydoc.transact(() => {
    for (let i = 0; i < operations; i++) {
      // Half of what people do is typing.
      const name = random.chance(0.4) ? 'text' : random.pick(Object.keys(ROOTS))
      editType(random, root(ydoc, name), { depth: 0, splitPairs })
    }
  }, origin)
}

function editType (random, type, context) {
  if (type instanceof Y.Text) editText(random, type, context)
  else if (type instanceof Y.Map) editMap(random, type, context)
  else if (type instanceof Y.Array) editArray(random, type, context)
  else if (type instanceof Y.XmlFragment) editXml(random, type, context)
}

function editText (random, text, context) {
  const marks = text instanceof Y.XmlText ? XML_MARKS : ATTRIBUTES
  const place = () => boundary(text, random.below(text.length + 1), context)
  const dice = random.below(100)
  if (text.length === 0 || (dice < 55 && text.length < LENGTH_MAX)) {
    const word = random.chance(0.9) ? random.pick(WORDS) : random.pick(WORDS) + random.pick(WORDS)
    if (random.chance(0.15)) text.insert(place(), word, random.pick(marks))
    else text.insert(place(), word)
  } else if (dice < 62 && text.length < LENGTH_MAX && !(text instanceof Y.XmlText)) {
    text.insertEmbed(place(), random.pick(EMBEDS), random.chance(0.3) ? random.pick(marks) : undefined)
  } else {
    const from = place()
    const to = boundary(text, Math.min(text.length, from + random.between(1, dice < 90 ? 6 : 40)), context)
    if (to <= from) return
    if (dice < 80) text.delete(from, to - from)
    else text.format(from, to - from, random.pick(marks))
  }
}

function editMap (random, map, context) {
  const key = random.pick(KEYS)
  const old = map.get(key)
  if (old instanceof Y.AbstractType && random.chance(0.7)) editType(random, old, deeper(context))
  else if (map.has(key) && random.chance(0.25)) map.delete(key)
  else map.set(key, value(random, context))
}

function editArray (random, array, context) {
  const dice = random.below(100)
  const at = random.below(array.length + 1)
  if (array.length === 0 || (dice < 50 && array.length < LENGTH_MAX)) {
    array.insert(at, Array.from({ length: random.between(1, 3) }, () => item(random, context)))
  } else if (dice < 75) {
    const from = random.below(array.length)
    array.delete(from, Math.min(array.length - from, random.between(1, 4)))
  } else {
    const nested = array.toArray().filter(held => held instanceof Y.AbstractType)
    if (nested.length > 0) editType(random, random.pick(nested), deeper(context))
    else array.push([item(random, context)])
  }
}

function editXml (random, node, context) {
  const dice = random.below(100)
  const children = node.toArray()
  if (node instanceof Y.XmlElement && dice < 20) {
    const key = random.pick(['id', 'class', 'href'])
    if (dice < 15) node.setAttribute(key, random.pick(WORDS))
    else node.removeAttribute(key)
  } else if (children.length === 0 || dice < 50) {
    node.insert(random.below(children.length + 1), [xmlNode(random, context)])
  } else if (dice < 60) {
    const from = random.below(children.length)
    node.delete(from, Math.min(children.length - from, random.between(1, 2)))
  } else {
    editType(random, random.pick(children), deeper(context))
  }
}

function xmlNode (random, context) {
  if (context.depth >= DEPTH_MAX || random.chance(0.5)) return new Y.XmlText(random.pick(WORDS))
  const element = new Y.XmlElement(random.pick(NODES))
  if (random.chance(0.5)) element.setAttribute('id', random.pick(WORDS))
  if (random.chance(0.5)) element.insert(0, [xmlNode(random, deeper(context))])
  return element
}

/** Any value that a Y.Array takes: bigint and undefined only inside another value. */
function item (random, context) {
  const any = value(random, context)
  return any === undefined || typeof any === 'bigint' ? [any] : any
}

/** Any value that a Y.Map takes. */
function value (random, context) {
  const dice = random.below(100)
  if (dice < 22) return random.pick(WORDS)
  if (dice < 42) return random.pick(NUMBERS)
  if (dice < 48) return random.chance(0.5)
  if (dice < 52) return null
  if (dice < 54) return undefined
  if (dice < 58) return random.pick(BIGINTS)
  if (dice < 63) return Uint8Array.from({ length: random.below(6) }, () => random.below(256))
  if (dice < 75 || context.depth >= DEPTH_MAX) return json(random, 0)
  if (dice < 82) return new Y.Text(random.pick(WORDS))
  if (dice < 89) return new Y.Map([[random.pick(KEYS), json(random, 1)], ['n', random.pick(NUMBERS)]])
  if (dice < 96) return Y.Array.from([[json(random, 1)], random.pick(NUMBERS)])
  return xmlNode(random, deeper(context))
}

function json (random, depth) {
  const dice = depth > 2 ? random.below(5) : random.below(7)
  if (dice === 0) return random.pick(WORDS)
  if (dice === 1) return random.pick(NUMBERS)
  if (dice === 2) return null
  if (dice === 3) return random.chance(0.5)
  if (dice === 4) return depth === 0 ? [] : undefined
  if (dice === 5) return Array.from({ length: random.below(4) }, () => json(random, depth + 1))
  return Object.fromEntries(Array.from({ length: random.below(4) }, () => [random.pick(KEYS), json(random, depth + 1)]))
}

const deeper = context => ({ ...context, depth: context.depth + 1 })

/** `index`, moved left by one where it would fall into a surrogate pair. */
function boundary (text, index, { splitPairs }) {
  if (splitPairs || index === 0) return index
  let rest = index
  for (let item = text._start; item !== null; item = item.right) {
    if (item.deleted || !item.countable) continue
    if (rest < item.length) {
      const string = item.content.str
      const inside = rest > 0 && typeof string === 'string' && isLow(string.charCodeAt(rest))
      return inside ? index - 1 : index
    }
    rest -= item.length
  }
  return index
}

const isLow = unit => unit >= 0xdc00 && unit <= 0xdfff
