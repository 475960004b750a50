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

/** A provider that components share, and how many of them are mounted. */
interface Shared {
  readonly provider: SynclineProvider
  mounted: number
}

/** By document, address and name. A render that React throws away leaves nothing but an entry. */
const shared = new WeakMap<Doc, Map<string, Shared>>()

/**
 * A provider for `doc`, which components with the same `url`, `name` and `doc` share. It connects
 * when the first of them is mounted and is destroyed one tick after the last has gone, so that
 * StrictMode's second mount finds it alive. Other options are read when it is made; `token` and
 * `user` may change.
 *
 * `doc` must stay the same between renders: `const [doc] = useState(() => new Y.Doc())`.
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
    // The effects ran again without a render, after the provider was destroyed.
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
  // On a server no effect ever runs, and nothing may be left behind.
  if (isServer()) provider.destroy()
  return entry
}

function destroyIfUnused({ provider, mounted }: Shared): void {
  if (mounted === 0) provider.destroy()
}

/** What `read` returns, read again at each of `events`. It must be the same until they come. */
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

// One array each: a new one at every render would mean to subscribe anew.
const STATUS = ['status'] as const
const SYNC = ['sync'] as const
const SAVED = ['saved'] as const
const USERS = ['users'] as const

/** Whether there is a connection. */
export const useStatus = (provider: SynclineProvider): Status =>
  useProviderValue(provider, STATUS, () => provider.status, 'disconnected')

/** What is in the way, if something is: for example `store_unavailable`. */
export const useDetail = (provider: SynclineProvider): Problem | undefined =>
  useProviderValue(provider, STATUS, () => provider.detail, undefined)

/** Whether the server's state has arrived. */
export const useSynced = (provider: SynclineProvider): boolean =>
  useProviderValue(provider, SYNC, () => provider.synced, false)

/** Whether everything changed here is on disk. Undefined if the server does not say. */
export const useSaved = (provider: SynclineProvider): boolean | undefined =>
  useProviderValue(provider, SAVED, () => provider.saved, undefined)

/** How much of what was changed here is not known to be on disk. */
export const useUnsaved = (provider: SynclineProvider): number | undefined =>
  useProviderValue(provider, SAVED, () => provider.unsaved, undefined)

const NO_USERS: readonly Participant[] = []

/** All users with a name, the local one first. */
export const useUsers = (provider: SynclineProvider): readonly Participant[] =>
  useProviderValue(provider, USERS, () => provider.users, NO_USERS)
