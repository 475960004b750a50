/** Carries out what the machine decides: sockets, timers, tokens, frames. */

import type { Address } from './address.ts'
import { type Reaction, TOO_LARGE } from './close-code.ts'
import type { DocReplica } from './doc-replica.ts'
import { isLive, limitsOf, step } from './machine.ts'
import { OPEN, type Socket, type SocketClass } from './socket.ts'
import type { Command, Event, Notice, State } from './state.ts'
import * as wire from './wire.ts'

/** A connection on which nothing was heard for so long is given up. The server speaks every 20 s. */
const RECEIVE_TIMEOUT_MS = 30_000
const CHECK_MS = 3_000

/** What a connection needs of the provider around it. */
export interface ConnectionHost {
  token(): string | undefined | PromiseLike<string | undefined>
  socketClass(): SocketClass | PromiseLike<SocketClass>
  address(token: string | undefined, epoch: string | undefined): Address
  /** What the application wants to happen after a close. Undefined: what the code asks for. */
  reactionTo(event: CloseEvent): Reaction | undefined
  /** The state is another one, and everything but what is told has been done. */
  stateChanged(before: State, after: State): void
  emit(notice: Notice): void
  /** A socket closed; null if it was closed from here. */
  socketClosed(event: CloseEvent | null): void
  socketFailed(error: unknown): void
}

/** Runs a machine. */
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

  /** Takes events one after the other: what a listener causes waits for the other listeners. */
  dispatch(event: Event): void {
    this.#events.push(event)
    if (this.#isDispatching) return
    this.#isDispatching = true
    for (let next = this.#events.shift(); next; next = this.#events.shift()) this.#handle(next)
    this.#isDispatching = false
  }

  /** Sends a frame that is not counted. What cannot be sent now is not sent later. */
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

  /** An application's listener that throws must not stop what follows. The platform reports it. */
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

  /** A frame that is too large to be read would be refused by a close that may not arrive. */
  #sendDiff(frame: Uint8Array): void {
    const { attempt } = this.#state
    const { message } = limitsOf(this.#state)
    if (frame.length <= message) return this.send(frame)
    const reason = `message_too_large: ${frame.length} bytes of changes, at most ${message}`
    this.#close(TOO_LARGE)
    this.dispatch({ type: 'closed', attempt, code: TOO_LARGE, reason })
  }

  /** Without waiting where nothing has to be waited for: `connect()` then makes a socket at once. */
  #authorize(attempt: number): void {
    const failed = (error: unknown): void => {
      if (attempt !== this.#state.attempt || !isLive(this.#state)) return
      this.#host.socketFailed(error)
      // In-band, the server ends the connection when the old token ends; that is soon enough.
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
      // An address that cannot be, or ws: on a page that came by https: it would throw again.
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
      // What was lost with this frame comes with the next sync.
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

  /** A socket that still flushes, or reports that it was closed too early, has nothing to say. */
  #detach(socket: Socket): void {
    socket.onopen = socket.onmessage = socket.onclose = null
    // Without a listener Node throws.
    socket.onerror = () => {}
    this.#socket = null
  }

  #fail(attempt: number): void {
    this.dispatch({ type: 'failed', attempt })
  }
}

const isPromise = (value: unknown): value is PromiseLike<unknown> =>
  typeof (value as PromiseLike<unknown> | null)?.then === 'function'
