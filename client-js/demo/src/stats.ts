/** The measurements next to the editor. */

import * as Y from 'yjs'
import type { SynclineProvider } from '../../src/index.ts'
import { byId, clock, size } from './dom.ts'

const TRIP_EVERY_MS = 5_000
const SIZE_AFTER_MS = 300

const DURABILITY = {
  fsync: '“Saved” means synced to disk: it survives a power cut.',
  os: '“Saved” means passed to the OS: it survives a crash of the server.',
  memory: 'This server keeps documents in memory only.',
} as const

/** Shows the measurements until the page is closed. */
export function showStats(provider: SynclineProvider): void {
  const { doc } = provider
  const set = (id: string, text: string): void => {
    byId(`stat-${id}`).textContent = text
  }
  const measureSize = (): void => set('bytes', size(Y.encodeStateAsUpdate(doc).length))
  let sizeTimer: ReturnType<typeof setTimeout> | undefined
  let changedAt: number | undefined
  doc.on('update', (_: Uint8Array, origin: unknown) => {
    if (origin !== provider) changedAt ??= performance.now()
    clearTimeout(sizeTimer)
    sizeTimer = setTimeout(measureSize, SIZE_AFTER_MS)
  })
  provider.on('saved', ({ saved, unsaved }) => {
    set('unsaved', unsaved === undefined ? 'unknown' : unsaved === 0 ? 'nothing' : `${unsaved}`)
    if (saved !== true || changedAt === undefined) return
    set('disk', `${Math.max(1, Math.round(performance.now() - changedAt))} ms`)
    set('saved', clock(new Date()))
    changedAt = undefined
  })
  provider.on('users', users => set('people', String(Math.max(1, users.length))))
  provider.on('welcome', ({ durability }) => set('durability', DURABILITY[durability]))
  provider.on('sync', synced => {
    if (synced) measureSize()
  })
  const measureRoundTrip = async (): Promise<void> => {
    if (document.hidden || provider.status !== 'connected') return set('trip', '–')
    const startedAt = performance.now()
    try {
      await fetch('/healthz', { cache: 'no-store' })
      set('trip', `${(performance.now() - startedAt).toFixed(1)} ms`)
    } catch {
      set('trip', '–')
    }
  }
  setInterval(measureRoundTrip, TRIP_EVERY_MS)
  provider.on('status', () => void measureRoundTrip())
}
