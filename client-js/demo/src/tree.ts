/** The content of a Yjs document as a tree. Read from its items, so roots need no type. */

import * as Y from 'yjs'

/** A shared type or a value. */
export interface TreeNode {
  /** A map key or a list index. Empty in a text. */
  readonly key: string
  readonly kind: string
  /** The value of a leaf, or the tag of an element. */
  readonly value: string
  readonly children: readonly TreeNode[]
}

const CHILDREN_MAX = 200
const TEXT_MAX = 2_000

/** One tree for each root. */
export function treeOf(doc: Y.Doc): TreeNode[] {
  return [...doc.share].map(([name, type]) => branch(name, type))
}

type AnyType = Y.Doc['share'] extends Map<string, infer Root> ? Root : never

const KINDS = new Map<unknown, string>([
  [Y.Map, 'Map'],
  [Y.Array, 'Array'],
  [Y.Text, 'Text'],
  [Y.XmlElement, 'Element'],
  [Y.XmlFragment, 'Fragment'],
  [Y.XmlText, 'XmlText'],
  [Y.XmlHook, 'Hook'],
])

/** Infers the type of a root without a local definition from its first item. */
function guess(type: AnyType): string {
  const first = type._start?.content
  if (first === undefined) return type._map.size > 0 ? 'Map' : 'root'
  if (first instanceof Y.ContentString || first instanceof Y.ContentFormat) return 'Text'
  const holdsXml = first instanceof Y.ContentType && first.type instanceof Y.XmlElement
  return holdsXml ? 'Fragment' : 'Array'
}

function branch(key: string, type: AnyType): TreeNode {
  const kind = KINDS.get(type.constructor) ?? guess(type)
  const value = type instanceof Y.XmlElement ? `<${type.nodeName}>` : ''
  const entries: TreeNode[] = []
  for (const [name, item] of type._map) {
    if (!item.deleted) entries.push(...leaves(name, item.content))
  }
  const items: TreeNode[] = []
  let text = ''
  const flush = (): void => {
    if (text === '') return
    const cut = text.length > TEXT_MAX
    const value = cut ? `${text.slice(0, TEXT_MAX)}… (${text.length} characters)` : text
    items.push({ key: '', kind: 'text', value, children: [] })
    text = ''
  }
  let index = 0
  for (let item = type._start; item !== null && items.length <= CHILDREN_MAX; item = item.right) {
    if (item.deleted) continue
    if (item.content instanceof Y.ContentString) {
      text += item.content.str
      index += item.length
      continue
    }
    flush()
    items.push(...leaves(item.countable ? String(index) : '', item.content))
    if (item.countable) index += item.length
  }
  flush()
  const rest = items.length > CHILDREN_MAX ? [more()] : []
  return { key, kind, value, children: [...entries, ...items.slice(0, CHILDREN_MAX), ...rest] }
}

const more = (): TreeNode => ({ key: '', kind: 'note', value: 'and more', children: [] })

function leaves(key: string, content: unknown): TreeNode[] {
  const leaf = (kind: string, value: string): TreeNode => ({ key, kind, value, children: [] })
  if (content instanceof Y.ContentType) return [branch(key, content.type)]
  if (content instanceof Y.ContentAny) return content.arr.map(value => leaf('value', show(value)))
  if (content instanceof Y.ContentJSON) return content.arr.map(value => leaf('value', show(value)))
  if (content instanceof Y.ContentString) return [leaf('text', content.str)]
  if (content instanceof Y.ContentEmbed) return [leaf('embed', show(content.embed))]
  if (content instanceof Y.ContentFormat) {
    return [leaf('format', `${String(content.key)}: ${show(content.value)}`)]
  }
  if (content instanceof Y.ContentBinary) return [leaf('bytes', `${content.content.length}`)]
  if (content instanceof Y.ContentDoc) return [leaf('subdocument', content.doc.guid)]
  return []
}

function show(value: unknown): string {
  const text = JSON.stringify(value) ?? 'undefined'
  return text.length > TEXT_MAX ? `${text.slice(0, TEXT_MAX)}…` : text
}

/** The lengths that an update adds, by client, and deletes. */
export function describe(update: Uint8Array, nameOf: (client: number) => string): string {
  const { structs, ds } = Y.decodeUpdate(update)
  const added = new Map<number, number>()
  for (const { id, length } of structs) added.set(id.client, (added.get(id.client) ?? 0) + length)
  let deleted = 0
  for (const ranges of ds.clients.values()) for (const { len } of ranges) deleted += len
  const words = [...added].map(([client, count]) => `${nameOf(client)} +${count}`)
  if (deleted > 0) words.push(`−${deleted}`)
  return words.join(', ') || 'nothing new'
}
