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

/** The options of y-websocket, and ours. */
export interface ProviderOptions extends ConnectionOptions {
  /** Whether to try again after a close, where the code alone does not decide it for you. */
  readonly shouldReconnect?: (event: CloseEvent, provider: SynclineProvider) => boolean
}

/** Everything in one object. */
export interface CreateOptions extends ProviderOptions {
  /** Where editors connect to: `wss://your.host/ws`. */
  readonly url: string
  /** The document's name. */
  readonly name: string
  /** The document, which stays yours. */
  readonly doc: Doc
}

/** What a provider emits, and with what. Those of y-websocket have its arguments. */
export type ProviderEvents = {
  /** Connecting, connected or disconnected, or something else is in the way now. */
  readonly status: (event: StatusEvent) => void
  /** Whether the server's state has arrived on this connection. */
  readonly sync: (synced: boolean) => void
  /** The same as `sync`. */
  readonly synced: (synced: boolean) => void
  /** A socket closed; null if it was closed from here. */
  readonly 'connection-close': (event: CloseEvent | null, provider: SynclineProvider) => void
  /** A socket failed, or no token could be had. It is tried again, unless `closed` follows. */
  readonly 'connection-error': (error: unknown, provider: SynclineProvider) => void
  /** Trying again is pointless: the provider has stopped. */
  readonly closed: (closed: Closed, provider: SynclineProvider) => void
  /** `saved` or `unsaved` is another one. */
  readonly saved: (event: SavedEvent) => void
  /** The server does not take a frame. The change stays in the document. */
  readonly refused: (refusal: Refusal) => void
  /** The server has said what it is; `provider.epoch` is known from here. */
  readonly welcome: (welcome: Welcome) => void
  /** The server has another history of the document: `restartWith`. */
  readonly 'epoch-mismatch': (mismatch: EpochMismatch) => void
  /** Somebody came, went, or changed. */
  readonly users: (users: readonly Participant[]) => void
  /** The provider has ended. */
  readonly destroy: (provider: SynclineProvider) => void
}

/** An awareness update's clients, as y-protocols emits them. */
interface AwarenessChange {
  readonly added: number[]
  readonly updated: number[]
  readonly removed: number[]
}

/**
 * Keeps a Yjs document in sync with a Syncline server: in place of y-websocket's
 * `WebsocketProvider`, with its constructor, properties and events, and with what Syncline adds:
 * tokens that are renewed, refusals that say why, and `saved`, which means on disk.
 */
export class SynclineProvider extends ObservableV2<ProviderEvents> {
  /** The document. */
  readonly doc: Doc
  /** Presence. */
  readonly awareness: Awareness
  /** Where editors connect to, without a slash at its end. */
  readonly serverUrl: string
  /** The document's name. */
  readonly roomname: string
  /** Query parameters, read at the next connect. */
  params: Record<string, string>
  readonly #options: ProviderOptions
  readonly #replica: DocReplica
  readonly #connection: Connection
  readonly #tabs: TabChannel
  readonly #disposers: (() => void)[] = []
  #users: readonly Participant[] = []
  /** A history that was given up. Other tabs may still hold it. */
  #rejectedEpoch: string | undefined

  /** A provider for `name` at `serverUrl`, in the shape of y-websocket. */
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

  /** The document, as Hocuspocus calls it. */
  get document(): Doc {
    return this.doc
  }

  /** The document's name, as Hocuspocus calls it. */
  get name(): string {
    return this.roomname
  }

  /** The document's address, with `params`. */
  get url(): string {
    return documentUrl(this.serverUrl, this.roomname, this.params)
  }

  /** The socket, while there is one. */
  get ws(): Socket | null {
    return this.#connection.socket
  }

  /** Whether there is a connection. */
  get status(): Status {
    return statusOf(this.#connection.state)
  }

  /** What is in the way, if something is. */
  get detail(): Problem | undefined {
    return this.#connection.state.problem
  }

  /** Whether frames flow. */
  get wsconnected(): boolean {
    return this.status === 'connected'
  }

  /** Whether an attempt is under way. */
  get wsconnecting(): boolean {
    return this.status === 'connecting'
  }

  /** Whether frames flow. */
  get isConnected(): boolean {
    return this.wsconnected
  }

  /** Whether the server's state has arrived on this connection. */
  get synced(): boolean {
    return this.#connection.state.synced
  }

  /** Whether the server's state has arrived on this connection. */
  get isSynced(): boolean {
    return this.synced
  }

  /** Whether to come back after a loss. */
  get shouldConnect(): boolean {
    return this.#connection.state.wanted
  }

  /** Setting it to false leaves an open connection open. */
  set shouldConnect(wanted: boolean) {
    this.#connection.dispatch({ type: 'want', wanted })
  }

  /** Whether everything here is on disk at the server. Undefined if the server does not say. */
  get saved(): boolean | undefined {
    return this.unsaved === undefined ? undefined : this.unsaved === 0
  }

  /** Frames that are not known to be on disk, and changes that are not sent. */
  get unsaved(): number | undefined {
    return unsavedOf(this.#connection.state)
  }

  /** The history that the document belongs to: store it beside the document, and give it back. */
  get epoch(): string | undefined {
    return this.#connection.state.epoch
  }

  /** What the server said of itself, last. */
  get welcome(): Welcome | undefined {
    return this.#connection.state.welcome
  }

  /** What we may do, if the server has said so. */
  get access(): Access | undefined {
    return this.welcome?.access
  }

  /** What the server speaks. Undefined until one has spoken. */
  get dialect(): Dialect | undefined {
    return this.#connection.state.dialect
  }

  /** Everybody who is here, ourselves first. The same array until somebody changes. */
  get users(): readonly Participant[] {
    return this.#users
  }

  /** Says who we are to others. The colour follows from the name, unless it is given. */
  setUser(fields: UserFields): void {
    const state = this.awareness.getLocalState() ?? {}
    this.awareness.setLocalState({ ...state, user: makeUser(fields) })
  }

  /** Connects, and keeps coming back. Also after a refusal, once its cause is gone. */
  connect(): void {
    this.#connection.dispatch({ type: 'connect' })
  }

  /** Leaves, and stays away. What is not saved stays in the document. */
  disconnect(): void {
    this.#connection.send(presence(this.#replica.presenceRemoval()))
    this.#connection.dispatch({ type: 'disconnect' })
  }

  /** Ends everything that the constructor began. The document stays yours. */
  override destroy(): void {
    this.disconnect()
    this.#connection.dispatch({ type: 'destroy' })
    for (const dispose of this.#disposers.splice(0).reverse()) dispose()
    this.emit('destroy', [this])
    super.destroy()
  }

  /**
   * Resolves once the server's state is here.
   *
   * @throws SynclineError if the provider stopped for good or was destroyed.
   */
  whenSynced(options: { signal?: AbortSignal } = {}): Promise<void> {
    return this.#waitUntil(() => this.synced, options.signal)
  }

  /**
   * Resolves once everything that was changed until then is on disk at the server.
   *
   * @throws SynclineError if the provider stopped for good or was destroyed, or if the server does
   *   not say what it saved.
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
   * A new provider for an empty document, in place of this one, which is destroyed: after
   * `epoch-mismatch`, when this copy belongs to a history that the server no longer has.
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
      // Everybody speaks for themselves: what others said is not said again.
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

  /** Emits what differs. */
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

  /** Nobody tells us any more when they leave. */
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

  /** Resolves when `condition`, and rejects when that can no longer be. */
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

/** A provider from one object. */
export function createProvider({ url, name, doc, ...options }: CreateOptions): SynclineProvider {
  return new SynclineProvider(url, name, doc, options)
}

function statusOf({ phase }: State): Status {
  if (phase === 'open') return 'connected'
  return phase === 'authorizing' || phase === 'connecting' ? 'connecting' : 'disconnected'
}

/** Whether the other tabs are talked with: as long as a server would be. */
const usesTabs = (state: State): boolean => state.wanted || isLive(state)
