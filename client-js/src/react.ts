'use client'
/**
 * Hooks for React 18.2 and newer.
 *
 * @module react
 */

import { useCallback, useEffect, useReducer, useRef, useSyncExternalStore } from 'react'
import type { Doc } from 'yjs'
import type { Status } from './events.ts'
import type { Participant } from './presence.ts'
import {
  type CreateOptions,
  createProvider,
  type ProviderEvents,
  type SynclineProvider,
} from './provider.ts'
import { isServer } from './socket.ts'
import type { Problem } from './state.ts'

/** A shared provider and its number of mounted components. */
interface Shared {
  readonly provider: SynclineProvider
  mounted: number
}

/** Keyed by document, then by URL and name. A discarded render leaves only an entry here. */
const shared = new WeakMap<Doc, Map<string, Shared>>()

/**
 * A provider shared by all components with the same `url`, `name` and `doc`. Connects when the
 * first one mounts. Destroyed one tick after the last one unmounts, so that it survives StrictMode's
 * second mount. Changes of `token` and `user` take effect; other options are read once.
 *
 * `doc` must be stable between renders: `const [doc] = useState(() => new Y.Doc())`.
 */
export function useProvider(options: CreateOptions): SynclineProvider {
  const latest = useRef(options)
  const [, forceRender] = useReducer((count: number) => count + 1, 0)
  const { provider } = entryFor(options, latest)
  const { user, connect = true } = options

  useEffect(() => {
    latest.current = options
  })
  useEffect(() => {
    const entry = entryFor(latest.current, latest)
    // The effect reran without a render, after the provider was destroyed.
    if (entry.provider !== provider) return forceRender()
    entry.mounted += 1
    if (connect) provider.connect()
    return () => {
      entry.mounted -= 1
      setTimeout(() => destroyIfUnused(entry))
    }
  }, [provider, connect])
  const userJson = JSON.stringify(user)
  useEffect(() => {
    if (userJson !== undefined) provider.setUser(JSON.parse(userJson))
  }, [provider, userJson])
  return provider
}

function entryFor(options: CreateOptions, latest: { readonly current: CreateOptions }): Shared {
  const { url, name, doc } = options
  const byAddress = shared.get(doc) ?? new Map<string, Shared>()
  shared.set(doc, byAddress)
  const address = JSON.stringify([url, name])
  const existing = byAddress.get(address)
  if (existing !== undefined) return existing
  const { token, ...rest } = options
  const latestToken = () => {
    const { token } = latest.current
    return typeof token === 'function' ? token() : token
  }
  const provider = createProvider({
    ...rest,
    ...(token === undefined ? {} : { token: latestToken }),
    connect: false,
  })
  provider.once('destroy', () => byAddress.delete(address))
  const entry = { provider, mounted: 0 }
  byAddress.set(address, entry)
  // Effects do not run on a server, so release the provider here.
  if (isServer()) provider.destroy()
  return entry
}

function destroyIfUnused({ provider, mounted }: Shared): void {
  if (mounted === 0) provider.destroy()
}

/** The result of `read`, refreshed on `events`. It must be stable between them. */
function useProviderValue<Value>(
  provider: SynclineProvider,
  events: readonly (keyof ProviderEvents & string)[],
  read: () => Value,
  serverValue: Value,
): Value {
  const subscribe = useCallback(
    (onChange: () => void) => {
      for (const event of events) provider.on(event, onChange)
      return () => {
        for (const event of events) provider.off(event, onChange)
      }
    },
    [provider, events],
  )
  return useSyncExternalStore(subscribe, read, () => serverValue)
}

// Constant arrays: a new array on each render would resubscribe.
const STATUS = ['status'] as const
const SYNC = ['sync'] as const
const SAVED = ['saved'] as const
const USERS = ['users'] as const

/** Connection status. */
export const useStatus = (provider: SynclineProvider): Status =>
  useProviderValue(provider, STATUS, () => provider.status, 'disconnected')

/** The current problem, for example `store_unavailable`. */
export const useDetail = (provider: SynclineProvider): Problem | undefined =>
  useProviderValue(provider, STATUS, () => provider.detail, undefined)

/** Whether the server's state was received. */
export const useSynced = (provider: SynclineProvider): boolean =>
  useProviderValue(provider, SYNC, () => provider.synced, false)

/** Whether all changes are on the server's disk. Undefined without acknowledgements. */
export const useSaved = (provider: SynclineProvider): boolean | undefined =>
  useProviderValue(provider, SAVED, () => provider.saved, undefined)

/** Unacknowledged frames plus unsent changes. Undefined without acknowledgements. */
export const useUnsaved = (provider: SynclineProvider): number | undefined =>
  useProviderValue(provider, SAVED, () => provider.unsaved, undefined)

const NO_USERS: readonly Participant[] = []

/** All users with a name, the local one first. */
export const useUsers = (provider: SynclineProvider): readonly Participant[] =>
  useProviderValue(provider, USERS, () => provider.users, NO_USERS)
