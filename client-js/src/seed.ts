import { applyUpdate, Doc, encodeStateAsUpdate } from 'yjs'
import { isUntouched } from './doc-replica.ts'
import type { SynclineProvider } from './provider.ts'

/** When to seed. */
export interface SeedOptions {
  /** Whether `doc` still needs the content. By default: nothing was ever written to it. */
  readonly when?: (doc: Doc) => boolean
  /** Gives up waiting. */
  readonly signal?: AbortSignal
}

/** The origin of the transaction that seeds: undo managers do not track it. */
export const SEED_ORIGIN = 'syncline-seed'

/** Yjs draws client ids below this, so no editing client ever has the id of a seed. */
const CLIENT_ID_LIMIT = 2 ** 32
/** Beyond this a number is not exact. */
const SAFE_INTEGER_LIMIT = 2 ** 53

/**
 * Creates the first content of a document once, though fifty clients try at the same moment.
 *
 * Waits until the server's state is here, and does nothing if somebody has written already.
 * Otherwise `fill` writes to a scratch document, under a client id made from the content itself and
 * from clock 0 on. Whoever seeds with the same content therefore makes the very same items, and Yjs
 * keeps one of each: merging equal seeds is like receiving one update twice. Another content has
 * another id, so two versions of an application that meet in one empty document show both, as any
 * two concurrent writers would, but never corrupt each other.
 *
 * `fill` must do the same each time: no random values, no dates. It is run three times, and a
 * difference is an error. Bind the editor after seeding: some bindings write an empty paragraph.
 *
 * @returns whether this client added the content.
 * @throws if `fill` is not deterministic, or if the provider stops before it has synced.
 */
export async function seed(
  provider: SynclineProvider,
  fill: (doc: Doc) => void,
  { when = isUntouched, signal }: SeedOptions = {},
): Promise<boolean> {
  await provider.whenSynced(signal ? { signal } : {})
  if (provider.access === 'read' || !when(provider.doc)) return false
  applyUpdate(provider.doc, makeSeed(fill), SEED_ORIGIN)
  return true
}

/** The update that {@link seed} applies: equal bytes for equal content, wherever it is made. */
export function makeSeed(fill: (doc: Doc) => void): Uint8Array {
  const draft = encodeFill(fill, CLIENT_ID_LIMIT)
  const repeat = encodeFill(fill, CLIENT_ID_LIMIT)
  if (draft.length !== repeat.length || draft.some((byte, index) => byte !== repeat[index])) {
    throw new Error('fill differs between runs: remove random values and dates')
  }
  return encodeFill(
    fill,
    CLIENT_ID_LIMIT + (hash53(draft) % (SAFE_INTEGER_LIMIT - CLIENT_ID_LIMIT)),
  )
}

function encodeFill(fill: (doc: Doc) => void, clientID: number): Uint8Array {
  const doc = new Doc()
  doc.clientID = clientID
  doc.transact(() => fill(doc))
  const update = encodeStateAsUpdate(doc)
  doc.destroy()
  return update
}

/** 53 bits of two 32-bit hashes (cyrb53). Not against an attacker: one who may write needs no seed. */
function hash53(bytes: Uint8Array): number {
  let a = 0xdeadbeef
  let b = 0x41c6ce57
  for (const byte of bytes) {
    a = Math.imul(a ^ byte, 2654435761)
    b = Math.imul(b ^ byte, 1597334677)
  }
  a = Math.imul(a ^ (a >>> 16), 2246822507) ^ Math.imul(b ^ (b >>> 13), 3266489909)
  b = Math.imul(b ^ (b >>> 16), 2246822507) ^ Math.imul(a ^ (a >>> 13), 3266489909)
  return 2 ** 32 * (b & 0x1fffff) + (a >>> 0)
}
