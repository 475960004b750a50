/** Executes the commands of the state machine: sockets, timers, tokens, frames. */

import type { Address } from './address.ts'
import { type Reaction, TOO_LARGE } from './close-code.ts'
import type { DocReplica } from './doc-replica.ts'
import { isLive, limitsOf, step } from './machine.ts'
import { OPEN, type Socket, type SocketClass } from './socket.ts'
import type { Command, Event, Notice, State } from './state.ts'
import * as wire from './wire.ts'

/** Closes a connection without a frame for this long. The server sends one every 20 s. */
const RECEIVE_TIMEOUT_MS = 30_000
const CHECK_MS = 3_000

/** Callbacks of a {@link Connection} into its provider. */
export interface ConnectionHost {
  token(): string | undefined | PromiseLike<string | undefined>
  socketClass(): SocketClass | PromiseLike<SocketClass>
  address(token: string | undefined, epoch: string | undefined): Address
  /** Overrides the response to a close. Undefined: the default for the close code. */
  reactionTo(event: CloseEvent): Reaction | undefined
  /** Called after each event, once all commands except `emit` are executed. */
  stateChanged(before: State, after: State): void
  emit(notice: Notice): void
  /** `event` is null if the client closed the socket. */
  socketClosed(event: CloseEvent | null): void
  socketFailed(error: unknown): void
}

/** Drives one state machine. */
export class Connection {
  #state: State
  readonly #replica: DocReplica
  readonly #host: ConnectionHost
  readonly #events: Event[] = []
  #isDispatching = false
  #socketClass: SocketClass | undefined
  #socket: Socket | null = null
  #retryTimer: ReturnType<typeof setTimeout> | undefined
  #watchdog: ReturnType<typeof setInterval> | undefined
  #lastReceivedAt = 0

  constructor(state: State, replica: DocReplica, host: ConnectionHost) {
    this.#state = state
    this.#replica = replica
    this.#host = host
  }

  get state(): State {
    return this.#state
  }

  get socket(): Socket | null {
    return this.#socket
  }

  /** Queues events: one that a listener dispatches runs after the current one is finished. */
  dispatch(event: Event): void {
    this.#events.push(event)
    if (this.#isDispatching) return
    this.#isDispatching = true
    for (let next = this.#events.shift(); next; next = this.#events.shift()) this.#handle(next)
    this.#isDispatching = false
  }

  /** Sends a frame without recording it. Drops it if the connection is not open. */
  send(frame: Uint8Array): void {
    if (this.#state.phase !== 'open' || this.#socket?.readyState !== OPEN) return
    this.#socket.send(frame as Uint8Array<ArrayBuffer>)
  }

  #handle(event: Event): void {
    const before = this.#state
    const [after, commands] = step(before, event)
    this.#state = after
    this.#setTimers(after)
    for (const command of commands) this.#guard(() => this.#execute(command))
    this.#guard(() => this.#host.stateChanged(before, after))
    for (const command of commands) {
      if (command.do === 'emit') this.#guard(() => this.#host.emit(command.notice))
    }
  }

  /** Rethrows errors of listeners asynchronously, so that they do not interrupt the dispatch. */
  #guard(run: () => void): void {
    try {
      run()
    } catch (error) {
      queueMicrotask(() => {
        throw error
      })
    }
  }

  #setTimers(state: State): void {
    if (state.phase !== 'waiting') clearTimeout(this.#retryTimer)
    if (!isLive(state)) {
      clearInterval(this.#watchdog)
      this.#watchdog = undefined
    } else if (this.#watchdog === undefined) {
      this.#lastReceivedAt = performance.now()
      this.#watchdog = setInterval(() => {
        if (performance.now() - this.#lastReceivedAt > RECEIVE_TIMEOUT_MS)
          this.#fail(this.#state.attempt)
      }, CHECK_MS)
    }
  }

  #execute(command: Command): void {
    const replica = this.#replica
    switch (command.do) {
      case 'authorize':
        return this.#authorize(command.attempt)
      case 'open':
        return this.#open(command.attempt, this.#host.address(command.token, command.epoch))
      case 'close':
        return this.#close(command.code)
      case 'wait': {
        const retry = (): void => this.dispatch({ type: 'retry', attempt: command.attempt })
        this.#retryTimer = setTimeout(retry, Math.random() * command.ceiling)
        return
      }
      case 'startSync':
        this.send(wire.syncStep1(replica.stateVector()))
        return replica.renewPresence()
      case 'sendDiff':
        return this.#sendDiff(wire.syncStep2(replica.diff(command.stateVector)))
      case 'sendUpdate':
        return this.send(wire.update(command.update))
      case 'sendToken':
        return this.send(wire.token(command.token))
      case 'apply':
        return replica.apply(command.update)
      case 'applyPresence':
        return replica.applyPresence(command.entries)
      case 'sendPresence': {
        const entries = replica.presence()
        if (entries !== undefined) this.send(wire.presence(entries))
        return
      }
      case 'emit':
        return
    }
  }

  /** Checks the size first: the server's close for an oversize frame may not arrive. */
  #sendDiff(frame: Uint8Array): void {
    const { attempt } = this.#state
    const { message } = limitsOf(this.#state)
    if (frame.length <= message) return this.send(frame)
    const reason = `message_too_large: ${frame.length} bytes of changes, at most ${message}`
    this.#close(TOO_LARGE)
    this.dispatch({ type: 'closed', attempt, code: TOO_LARGE, reason })
  }

  /** Synchronous if the token and the class are: `connect()` then creates the socket at once. */
  #authorize(attempt: number): void {
    const failed = (error: unknown): void => {
      if (attempt !== this.#state.attempt || !isLive(this.#state)) return
      this.#host.socketFailed(error)
      // While open, keep the connection: the server closes it when the old token expires.
      if (this.#state.phase === 'authorizing') this.#fail(attempt)
    }
    const authorized = (token: string | undefined, socketClass: SocketClass): void => {
      this.#socketClass = socketClass
      this.dispatch({ type: 'token', attempt, token })
    }
    try {
      const token = this.#host.token()
      const socketClass = this.#host.socketClass()
      if (isPromise(token) || isPromise(socketClass)) {
        Promise.all([token, socketClass]).then(pair => authorized(...pair), failed)
      } else {
        authorized(token, socketClass)
      }
    } catch (error) {
      failed(error)
    }
  }

  #open(attempt: number, { url, protocols }: Address): void {
    let socket: Socket
    try {
      if (this.#socketClass === undefined) return
      socket = new this.#socketClass(url, protocols)
    } catch (error) {
      // An invalid URL, or ws: on an https: page. Permanent, so a retry would throw again.
      this.#host.socketFailed(error)
      const reason = `bad_request: ${error instanceof Error ? error.message : error}`
      this.dispatch({ type: 'closed', attempt, code: 4400, reason })
      return
    }
    socket.binaryType = 'arraybuffer'
    socket.onopen = () => {
      this.#lastReceivedAt = performance.now()
      this.dispatch({ type: 'opened', attempt, protocol: socket.protocol })
    }
    socket.onmessage = (event: MessageEvent) => this.#receive(attempt, event.data)
    socket.onerror = (event: globalThis.Event) => this.#host.socketFailed(event)
    socket.onclose = (event: CloseEvent) => {
      this.#detach(socket)
      this.#guard(() => this.#host.socketClosed(event))
      const { code, reason } = event
      const reaction = this.#host.reactionTo(event)
      this.dispatch({ type: 'closed', attempt, code, reason, reaction })
    }
    this.#socket = socket
  }

  #receive(attempt: number, data: unknown): void {
    this.#lastReceivedAt = performance.now()
    try {
      if (typeof data === 'string') throw new Error('text frame, expected binary')
      const message = wire.decode(new Uint8Array(data as ArrayBuffer))
      this.dispatch({ type: 'received', attempt, message })
    } catch (error) {
      // The next sync restores what this frame contained.
      this.#host.socketFailed(error)
      this.#fail(attempt)
    }
  }

  #close(code?: number): void {
    const socket = this.#socket
    if (socket === null) return
    this.#detach(socket)
    this.#guard(() => this.#host.socketClosed(null))
    socket.close(code ?? 1000)
  }

  /** Removes the listeners, so that late events of a closing socket are ignored. */
  #detach(socket: Socket): void {
    socket.onopen = socket.onmessage = socket.onclose = null
    // Node throws on an `error` event without a listener.
    socket.onerror = () => {}
    this.#socket = null
  }

  #fail(attempt: number): void {
    this.dispatch({ type: 'failed', attempt })
  }
}

const isPromise = (value: unknown): value is PromiseLike<unknown> =>
  typeof (value as PromiseLike<unknown> | null)?.then === 'function'
