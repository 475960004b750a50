// What a document says, in a form that can be compared.

import * as Y from 'yjs'

/** The root types that the random edits use. */
export const ROOTS = { text: 'text', map: 'map', array: 'array', xml: 'xml' }

const DEFINE = {
  text: (ydoc, name) => ydoc.getText(name),
  map: (ydoc, name) => ydoc.getMap(name),
  array: (ydoc, name) => ydoc.getArray(name),
  xml: (ydoc, name) => ydoc.getXmlFragment(name)
}

export const root = (ydoc, name) => DEFINE[ROOTS[name]](ydoc, name)

/**
 * The content of all root types: text as its delta, XML as its string, maps and arrays as JSON, and
 * keys in order. What JSON has no form for is `{"$bytes": base64}`, `{"$bigint": "1"}`,
 * `{"$number": "NaN" | "Infinity" | "-Infinity"}` or `{"$undefined": true}`.
 *
 * Call it after the updates have been applied to a fresh document: the root types are only given
 * their kind here, so Yjs had no reason to tidy formatting marks and so to change the state.
 */
export function content (ydoc) {
  const result = {}
  for (const name of new Set([...Object.keys(ROOTS), ...ydoc.share.keys()].sort())) {
    const kind = ROOTS[name] ?? guess(ydoc.share.get(name))
    result[name] = plain(DEFINE[kind](ydoc, name))
  }
  return result
}

/** The kind of a root that nobody named, from what it holds. */
function guess (type) {
  if (type instanceof Y.Text) return 'text'
  if (type instanceof Y.Map) return 'map'
  if (type instanceof Y.Array) return 'array'
  if (type instanceof Y.XmlFragment) return 'xml'
  for (let item = type._start; item !== null; item = item.right) {
    const held = item.content
    if (held instanceof Y.ContentString || held instanceof Y.ContentFormat || held instanceof Y.ContentEmbed) return 'text'
    if (held instanceof Y.ContentType && (held.type instanceof Y.XmlElement || held.type instanceof Y.XmlText)) return 'xml'
    if (!(held instanceof Y.ContentDeleted)) return 'array'
  }
  return type._map.size > 0 ? 'map' : 'array'
}

function plain (value) {
  switch (typeof value) {
    case 'undefined': return { $undefined: true }
    case 'bigint': return { $bigint: String(value) }
    case 'number': return Number.isFinite(value) ? value : { $number: String(value) }
    case 'object': break
    default: return value
  }
  if (value === null) return null
  if (value instanceof Uint8Array) return { $bytes: Buffer.from(value).toString('base64') }
  if (Array.isArray(value)) return value.map(plain)
  if (value instanceof Y.XmlText || value instanceof Y.XmlFragment) return value.toString()
  if (value instanceof Y.Text) return value.toDelta().map(plain)
  if (value instanceof Y.Array) return value.toArray().map(plain)
  const entries = value instanceof Y.Map ? [...value.entries()] : Object.entries(value)
  return Object.fromEntries(entries.map(([key, held]) => [key, plain(held)]).sort(byKey))
}

const byKey = ([a], [b]) => (a < b ? -1 : 1)

/** Whether updates are waiting for others that have not arrived. */
export const isPending = ydoc => ydoc.store.pendingStructs !== null || ydoc.store.pendingDs !== null

/**
 * The whole state, what is deleted included, as text that two documents of equal history share. Loading it
 * afresh undoes the differences in how runs of items were cut up on the way. Not the encoded bytes:
 * in them the keys of an object stand in whatever order the last encoder had them.
 */
export function state (ydoc) {
  const fresh = new Y.Doc()
  Y.applyUpdate(fresh, Y.encodeStateAsUpdate(ydoc))
  const clients = [...fresh.store.clients].sort(([a], [b]) => a - b)
  return JSON.stringify(clients.map(([client, structs]) => [client, structs.map(struct)]))
}

function struct (struct) {
  const { id, length, deleted, origin, rightOrigin, parent, parentSub, content } = struct
  if (!(struct instanceof Y.Item)) return [id.clock, length, struct.constructor.name]
  // Its parent follows from its neighbours, where it has any.
  const under = origin === null && rightOrigin === null ? [parent._item?.id ?? rootName(parent), parentSub] : []
  return [id.clock, length, deleted, origin, rightOrigin, under, content.constructor.name, held(content)]
}

const rootName = type => [...type.doc.share].find(([, root]) => root === type)[0]

function held (content) {
  if (content instanceof Y.ContentType) return content.type.constructor.name
  if (content instanceof Y.ContentFormat) return [content.key, plain(content.value)]
  return content.getContent().map(plain)
}
