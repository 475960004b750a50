/** The badge: a short description of the provider's state. */

import type { Closed, Problem, Status } from '../../src/index.ts'

export type BadgeState =
  | 'connecting'
  | 'live'
  | 'saving'
  | 'saved'
  | 'offline'
  | 'trouble'
  | 'refused'

export interface Badge {
  readonly state: BadgeState
  readonly text: string
}

/** Input of {@link badgeOf}. */
export interface ProviderState {
  readonly status: Status
  readonly synced: boolean
  readonly unsaved: number | undefined
  readonly detail: Problem | undefined
  readonly closed: Closed | undefined
  /** Whether the provider reconnects: the user has not switched it off. */
  readonly wanted: boolean
  /** Whether this window has changed the document. */
  readonly wrote: boolean
}

const PROBLEMS: Readonly<Record<string, string>> = {
  store_unavailable: 'Not saving: store unavailable',
  document_quarantined: 'Not saving: quarantined',
  forbidden_write: 'Not saved: read only',
}

export function badgeOf(provider: ProviderState): Badge {
  const { status, synced, unsaved, detail, closed, wanted, wrote } = provider
  if (closed !== undefined) {
    return {
      state: 'refused',
      text: `Refused: ${closed.reason.split(':')[0]?.replaceAll('_', ' ')}`,
    }
  }
  if (status !== 'connected') {
    const kept = unsaved ? ', changes kept here' : ''
    if (!wanted) return { state: 'offline', text: `Offline${kept}` }
    if (status === 'disconnected') return { state: 'offline', text: `Reconnecting${kept}` }
    return { state: 'connecting', text: `Connecting${kept}` }
  }
  if (detail !== undefined) {
    return { state: 'trouble', text: PROBLEMS[detail.code] ?? 'Not saving' }
  }
  if (!synced) return { state: 'connecting', text: 'Loading' }
  if (unsaved) return { state: 'saving', text: 'Saving' }
  return wrote && unsaved === 0
    ? { state: 'saved', text: 'Saved' }
    : { state: 'live', text: 'Live' }
}
