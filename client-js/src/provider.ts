import { ObservableV2 } from 'lib0/observable'
import { Awareness, removeAwarenessStates } from 'y-protocols/awareness'
import type { Doc, Transaction } from 'yjs'
import { address, documentUrl } from './address.ts'
import { type Reaction, reactionTo } from './close-code.ts'
import { Connection, type ConnectionHost } from './connection.ts'
import { DocReplica, isUntouched } from './doc-replica.ts'
import { SynclineError } from './error.ts'
import type { SavedEvent, Status, StatusEvent } from './events.ts'
import { isLive, unsavedOf } from './machine.ts'
import type { ConnectionOptions } from './options.ts'
import {
  hideWithPage,
  makeUser,
  type Participant,
  participants,
  type UserFields,
} from './presence.ts'
import { isServer, platformSocket, type Socket } from './socket.ts'
import {
  type Closed,
  type Dialect,
  type EpochMismatch,
  initialState,
  type Notice,
  type Problem,
  type Refusal,
  type State,
} from './state.ts'
import { TabChannel } from './tabs.ts'
import { type Access, presence, syncStep1, update, type Welcome } from './wire.ts'

const BACKOFF_MAX_MS = 10_000

/** Options of the constructor. */
export interface ProviderOptions extends ConnectionOptions {
  /** Decides whether to reconnect after a close. Not called for an epoch mismatch. */
  readonly shouldReconnect?: (event: CloseEvent, provider: SynclineProvider) => boolean
}

/** Arguments of {@link createProvider}. */
export interface CreateOptions extends ProviderOptions {
  /** The server's URL: `wss://your.host/ws`. */
  readonly url: string
  /** The document's name. */
  readonly name: string
  /** The document. `destroy` leaves it intact. */
  readonly doc: Doc
}

/** Events and their arguments. Events of y-websocket have the same arguments. */
export type ProviderEvents = {
  /** The status or the current problem changed. */
  readonly status: (event: StatusEvent) => void
  /** The server's state was received on this connection, or the connection was lost. */
  readonly sync: (synced: boolean) => void
  /** Same as `sync`. */
  readonly synced: (synced: boolean) => void
  /** A socket closed; null if the client closed it. */
  readonly 'connection-close': (event: CloseEvent | null, provider: SynclineProvider) => void
  /** A socket or a token request failed. Retried unless `closed` follows. */
  readonly 'connection-error': (error: unknown, provider: SynclineProvider) => void
  /** The provider stopped after a permanent refusal. */
  readonly closed: (closed: Closed, provider: SynclineProvider) => void
  /** `saved` or `unsaved` changed. */
  readonly saved: (event: SavedEvent) => void
  /** The server refused a frame. The change stays in the local document. */
  readonly refused: (refusal: Refusal) => void
  /** The server's first message on a connection, repeated when the access changes. */
  readonly welcome: (welcome: Welcome) => void
  /** The document's epoch differs from the server's. Continue with `restartWith`. */
  readonly 'epoch-mismatch': (mismatch: EpochMismatch) => void
  /** The list of users changed. */
  readonly users: (users: readonly Participant[]) => void
  /** The provider was destroyed. */
  readonly destroy: (provider: SynclineProvider) => void
}

/** The client IDs of an awareness update, as y-protocols emits them. */
interface AwarenessChange {
  readonly added: number[]
  readonly updated: number[]
  readonly removed: number[]
}

/**
 * Synchronizes a Yjs document with a Syncline server. Has the constructor, properties and events of
 * y-websocket's `WebsocketProvider`, and adds token renewal, refusals with a reason, and `saved`,
 * which means on disk.
 */
export class SynclineProvider extends ObservableV2<ProviderEvents> {
  /** The synchronized document. */
  readonly doc: Doc
  /** Presence states of all clients. */
  readonly awareness: Awareness
  /** The server's URL, without a trailing slash. */
  readonly serverUrl: string
  /** The document's name. */
  readonly roomname: string
  /** Query parameters, read at the next connection attempt. */
  params: Record<string, string>
  readonly #options: ProviderOptions
  readonly #replica: DocReplica
  readonly #connection: Connection
  readonly #tabs: TabChannel
  readonly #disposers: (() => void)[] = []
  #users: readonly Participant[] = []
  /** The epoch replaced by `restartWith`. Other tabs may still have it. */
  #rejectedEpoch: string | undefined

  /** Same arguments as y-websocket's `WebsocketProvider`. */
  constructor(serverUrl: string, name: string, doc: Doc, options: ProviderOptions = {}) {
    super()
    this.doc = doc
    this.awareness = options.awareness ?? new Awareness(doc)
    this.serverUrl = serverUrl.replace(/\/+$/, '')
    this.roomname = name
    this.params = options.params ?? {}
    this.#options = options
    const backoffMax = options.maxBackoffTime ?? BACKOFF_MAX_MS
    const state = initialState({ epoch: options.epoch, untracked: !isUntouched(doc), backoffMax })
    this.#replica = new DocReplica(doc, this.awareness, this)
    this.#connection = new Connection(state, this.#replica, this.#connectionHost())
    this.#tabs = new TabChannel(`${this.serverUrl}/${name}`, this.#replica, {
      epoch: () => this.epoch,
      isRejected: epoch => epoch === this.#rejectedEpoch,
      epochLearned: epoch => this.#connection.dispatch({ type: 'epochLearned', epoch }),
    })
    this.#users = participants(this.awareness)
    this.#subscribe()
    if (options.user !== undefined) this.setUser(options.user)
    if (options.connect ?? (!isServer() || options.WebSocketPolyfill !== undefined)) this.connect()
  }

  /** Same as `doc`, as in Hocuspocus. */
  get document(): Doc {
    return this.doc
  }

  /** Same as `roomname`, as in Hocuspocus. */
  get name(): string {
    return this.roomname
  }

  /** The document's URL with `params`, without the token. */
  get url(): string {
    return documentUrl(this.serverUrl, this.roomname, this.params)
  }

  /** The current socket. */
  get ws(): Socket | null {
    return this.#connection.socket
  }

  /** Connection status. */
  get status(): Status {
    return statusOf(this.#connection.state)
  }

  /** The current problem. */
  get detail(): Problem | undefined {
    return this.#connection.state.problem
  }

  /** Whether the status is `connected`. */
  get wsconnected(): boolean {
    return this.status === 'connected'
  }

  /** Whether the status is `connecting`. */
  get wsconnecting(): boolean {
    return this.status === 'connecting'
  }

  /** Same as `wsconnected`, as in Hocuspocus. */
  get isConnected(): boolean {
    return this.wsconnected
  }

  /** Whether the server's state was received on this connection. */
  get synced(): boolean {
    return this.#connection.state.synced
  }

  /** Same as `synced`, as in Hocuspocus. */
  get isSynced(): boolean {
    return this.synced
  }

  /** Whether to reconnect after the connection is lost. */
  get shouldConnect(): boolean {
    return this.#connection.state.wanted
  }

  /** Setting it to false keeps an open connection. */
  set shouldConnect(wanted: boolean) {
    this.#connection.dispatch({ type: 'want', wanted })
  }

  /** Whether all changes are on the server's disk. Undefined without acknowledgements. */
  get saved(): boolean | undefined {
    return this.unsaved === undefined ? undefined : this.unsaved === 0
  }

  /** Unacknowledged frames plus unsent changes. Undefined without acknowledgements. */
  get unsaved(): number | undefined {
    return unsavedOf(this.#connection.state)
  }

  /** Identifies the document's history. Store it with the document and pass it as an option. */
  get epoch(): string | undefined {
    return this.#connection.state.epoch
  }

  /** The latest Welcome message. */
  get welcome(): Welcome | undefined {
    return this.#connection.state.welcome
  }

  /** The access that the token grants. Undefined before the first Welcome. */
  get access(): Access | undefined {
    return this.welcome?.access
  }

  /** The protocol of the server. Undefined before its first frame. */
  get dialect(): Dialect | undefined {
    return this.#connection.state.dialect
  }

  /** All users with a name, the local one first. The same array until the list changes. */
  get users(): readonly Participant[] {
    return this.#users
  }

  /** Sets the `user` field of the local presence. The default colour is `colorOf(name)`. */
  setUser(fields: UserFields): void {
    const state = this.awareness.getLocalState() ?? {}
    this.awareness.setLocalState({ ...state, user: makeUser(fields) })
  }

  /** Connects, and reconnects after losses. Also restarts a stopped provider. */
  connect(): void {
    this.#connection.dispatch({ type: 'connect' })
  }

  /** Disconnects until the next `connect`. Unsaved changes stay in the document. */
  disconnect(): void {
    this.#connection.send(presence(this.#replica.presenceRemoval()))
    this.#connection.dispatch({ type: 'disconnect' })
  }

  /** Disconnects and removes all listeners and timers. Leaves the document intact. */
  override destroy(): void {
    this.disconnect()
    this.#connection.dispatch({ type: 'destroy' })
    for (const dispose of this.#disposers.splice(0).reverse()) dispose()
    this.emit('destroy', [this])
    super.destroy()
  }

  /**
   * Resolves when the server's state has been received.
   *
   * @throws SynclineError if the provider stopped or was destroyed.
   */
  whenSynced(options: { signal?: AbortSignal } = {}): Promise<void> {
    return this.#waitUntil(() => this.synced, options.signal)
  }

  /**
   * Resolves when all changes are on the server's disk.
   *
   * @throws SynclineError if the provider stopped or was destroyed, or if the server sends no
   *   acknowledgements.
   */
  whenSaved(options: { signal?: AbortSignal } = {}): Promise<void> {
    return this.#waitUntil(() => {
      if (this.dialect === 'y-websocket' && this.synced) {
        throw new SynclineError('not_supported', 'this server does not acknowledge updates')
      }
      return this.saved === true
    }, options.signal)
  }

  /**
   * Destroys this provider and returns a connected one for `doc`, which must be empty. For use
   * after `epoch-mismatch`, when the server has replaced the history of the document.
   */
  restartWith(doc: Doc): SynclineProvider {
    const { awareness: _, epoch: __, ...options } = this.#options
    const presenceState = this.awareness.getLocalState()
    this.destroy()
    const successor = new SynclineProvider(this.serverUrl, this.roomname, doc, {
      ...options,
      params: this.params,
      connect: false,
    })
    successor.#rejectedEpoch = this.epoch
    if (presenceState?.user !== undefined) successor.setUser(presenceState.user)
    successor.connect()
    return successor
  }

  #connectionHost(): ConnectionHost {
    const { token, protocols = [], dialect, WebSocketPolyfill } = this.#options
    return {
      token: () => (typeof token === 'function' ? token() : token),
      socketClass: () => WebSocketPolyfill ?? platformSocket(),
      address: (token, epoch) =>
        address(this.url, token, epoch, protocols, dialect === 'y-websocket'),
      reactionTo: event => this.#reactionTo(event),
      stateChanged: (before, after) => this.#emitChanges(before, after),
      emit: notice => this.#emitNotice(notice),
      socketClosed: event => this.emit('connection-close', [event, this]),
      socketFailed: error => this.emit('connection-error', [error, this]),
    }
  }

  #subscribe(): void {
    const { doc, awareness } = this
    const docChanged = (
      bytes: Uint8Array,
      origin: unknown,
      _: Doc,
      { local }: Transaction,
    ): void => {
      if (origin === this) return
      this.#connection.dispatch({ type: 'changed', update: bytes, local })
      this.#tabs.publish(update(bytes))
    }
    const presenceChanged = ({ added, updated, removed }: AwarenessChange): void => {
      // Send only the local state; the server relays those of other clients.
      if (![...added, ...updated, ...removed].includes(awareness.clientID)) return
      const entries = this.#replica.presence() ?? this.#replica.presenceRemoval()
      this.#connection.send(presence(entries))
      this.#tabs.publish(presence(entries))
    }
    const usersChanged = (): void => {
      this.#users = participants(awareness)
      this.emit('users', [this.#users])
    }
    const docDestroyed = (): void => this.destroy()
    const online = (): void => this.#connection.dispatch({ type: 'online' })

    doc.on('update', docChanged)
    doc.on('destroy', docDestroyed)
    awareness.on('update', presenceChanged)
    awareness.on('change', usersChanged)
    this.#disposers.push(() => {
      doc.off('update', docChanged)
      doc.off('destroy', docDestroyed)
      awareness.off('update', presenceChanged)
      awareness.off('change', usersChanged)
      if (this.#options.awareness === undefined) awareness.destroy()
    })
    this.#disposers.push(hideWithPage(awareness))
    if (typeof addEventListener !== 'undefined') {
      addEventListener('online', online)
      this.#disposers.push(() => removeEventListener('online', online))
    }
    const interval = this.#options.resyncInterval ?? -1
    if (interval > 0) {
      const resync = (): void => this.#connection.send(syncStep1(this.#replica.stateVector()))
      const timer = setInterval(resync, interval)
      this.#disposers.push(() => clearInterval(timer))
    }
  }

  #reactionTo(event: CloseEvent): Reaction | undefined {
    const { shouldReconnect } = this.#options
    const standard = reactionTo(event.code)
    if (shouldReconnect === undefined || standard === 'mismatch') return standard
    if (!shouldReconnect(event, this)) return 'stop'
    return standard === 'stop' ? 'retry' : standard
  }

  /** Emits the events for the differences between two states. */
  #emitChanges(before: State, after: State): void {
    this.#updateTabs(before, after)
    if (before.phase === 'open' && after.phase !== 'open') this.#removeRemotePresence()
    if (statusOf(before) !== statusOf(after) || before.problem !== after.problem) {
      const status = statusOf(after)
      this.emit('status', [after.problem ? { status, detail: after.problem } : { status }])
    }
    if (before.synced !== after.synced) {
      this.emit('synced', [after.synced])
      this.emit('sync', [after.synced])
      this.doc.emit('sync', [after.synced, this.doc])
    }
    const unsaved = unsavedOf(after)
    if (unsavedOf(before) !== unsaved) {
      this.emit('saved', [{ saved: unsaved === undefined ? undefined : unsaved === 0, unsaved }])
    }
  }

  #updateTabs(before: State, after: State): void {
    if (this.#options.disableBc || usesTabs(before) === usesTabs(after)) return
    if (usesTabs(after)) this.#tabs.open()
    else this.#tabs.close()
  }

  /** Without a connection, removals by other clients are not received. */
  #removeRemotePresence(): void {
    const { awareness } = this
    const others = [...awareness.getStates().keys()].filter(id => id !== awareness.clientID)
    removeAwarenessStates(awareness, others, this)
  }

  #emitNotice(notice: Notice): void {
    switch (notice.event) {
      case 'welcome':
        return this.emit('welcome', [notice.welcome])
      case 'refused':
        return this.emit('refused', [notice.refusal])
      case 'closed':
        return this.emit('closed', [notice.closed, this])
      case 'epoch-mismatch':
        return this.emit('epoch-mismatch', [notice.mismatch])
    }
  }

  /** Resolves when `condition` holds; rejects when the provider stops or is destroyed. */
  async #waitUntil(condition: () => boolean, signal: AbortSignal | undefined): Promise<void> {
    const isSettled = (): boolean => {
      signal?.throwIfAborted()
      const { phase, problem } = this.#connection.state
      if (condition()) return true
      if (phase === 'destroyed') throw new SynclineError('destroyed', 'the provider was destroyed')
      if (phase === 'stopped') {
        throw new SynclineError(problem?.code ?? 'unknown', problem?.text ?? 'refused')
      }
      return false
    }
    const events = ['status', 'sync', 'saved', 'closed', 'destroy'] as const
    let wake = (): void => {}
    const listener = (): void => wake()
    for (const event of events) this.on(event, listener)
    signal?.addEventListener('abort', listener)
    try {
      while (!isSettled()) {
        await new Promise<void>(resolve => {
          wake = resolve
        })
      }
    } finally {
      for (const event of events) this.off(event, listener)
      signal?.removeEventListener('abort', listener)
    }
  }
}

/** Creates a provider from named arguments. */
export function createProvider({ url, name, doc, ...options }: CreateOptions): SynclineProvider {
  return new SynclineProvider(url, name, doc, options)
}

function statusOf({ phase }: State): Status {
  if (phase === 'open') return 'connected'
  return phase === 'authorizing' || phase === 'connecting' ? 'connecting' : 'disconnected'
}

/** Whether to exchange updates with other tabs: while connected or reconnecting. */
const usesTabs = (state: State): boolean => state.wanted || isLive(state)
