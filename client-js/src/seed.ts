import { applyUpdate, Doc, encodeStateAsUpdate } from 'yjs'
import { isUntouched } from './doc-replica.ts'
import type { SynclineProvider } from './provider.ts'

/** Options of {@link seed}. */
export interface SeedOptions {
  /** Whether `doc` needs the content. Default: {@link isUntouched}. */
  readonly when?: (doc: Doc) => boolean
  /** Aborts waiting for the sync. */
  readonly signal?: AbortSignal
}

/** The origin of the seeding transaction. Undo managers do not track it. */
export const SEED_ORIGIN = 'syncline-seed'

/** Yjs chooses client IDs below this, so none equals the ID of a seed. */
const CLIENT_ID_LIMIT = 2 ** 32
/** Integers up to here are exact. */
const SAFE_INTEGER_LIMIT = 2 ** 53

/**
 * Creates the initial content of a document exactly once, even if many clients seed concurrently.
 *
 * Waits for the sync and does nothing if the document was written to. Otherwise runs `fill` on a
 * scratch document whose client ID is a hash of the content, with clocks from 0. Equal content thus
 * yields identical items, and Yjs merges equal seeds like one update received twice. Different
 * content has a different ID: two seeds in one empty document are both kept, as with any concurrent
 * writers.
 *
 * `fill` must be deterministic: no random values, no dates. It runs three times, and a difference
 * between the first two is an error. Bind editors after seeding: some write an empty paragraph.
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

/** The update that {@link seed} applies. Equal content yields equal bytes on every client. */
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

/** cyrb53: 53 bits from two 32-bit hashes. Not collision-resistant against attackers. */
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
