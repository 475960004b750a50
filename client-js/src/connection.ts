/** Carries out what the machine decides: sockets, timers, tokens, frames. */

import type { Address } from './address.ts'
import { type Reaction, TOO_LARGE } from './close-code.ts'
import type { DocReplica } from './doc-replica.ts'
import { isLive, limitsOf, step } from './machine.ts'
import { OPEN, type Socket, type SocketClass } from './socket.ts'
import type { Command, Event, Notice, State } from './state.ts'
import * as wire from './wire.ts'

/** A connection on which nothing was heard for so long is given up. The server speaks every 20 s. */
const SILENCE_MS = 30_000
const CHECK_MS = 3_000

/** What a connection needs of the provider around it. */
export interface Port {
  token(): string | undefined | PromiseLike<string | undefined>
  socketClass(): SocketClass | PromiseLike<SocketClass>
  address(token: string | undefined, epoch: string | undefined): Address
  /** What the application wants to happen after a close. Undefined: what the code asks for. */
  reactionTo(event: CloseEvent): Reaction | undefined
  /** The state is another one, and everything but what is told has been done. */
  moved(before: State, after: State): void
  tell(notice: Notice): void
  /** A socket closed; null if it was closed from here. */
  socketClosed(event: CloseEvent | null): void
  socketFailed(error: unknown): void
}

/** Runs a machine. */
export class Connection {
  #state: State
  readonly #replica: DocReplica
  readonly #port: Port
  readonly #events: Event[] = []
  #isHandling = false
  #socketClass: SocketClass | undefined
  #socket: Socket | null = null
  #retryTimer: ReturnType<typeof setTimeout> | undefined
  #watchdog: ReturnType<typeof setInterval> | undefined
  #heardAt = 0

  constructor(state: State, replica: DocReplica, port: Port) {
    this.#state = state
    this.#replica = replica
    this.#port = port
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
    if (this.#isHandling) return
    this.#isHandling = true
    for (let next = this.#events.shift(); next; next = this.#events.shift()) this.#handle(next)
    this.#isHandling = false
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
    for (const command of commands) this.#guard(() => this.#carryOut(command))
    this.#guard(() => this.#port.moved(before, after))
    for (const command of commands) {
      if (command.do === 'tell') this.#guard(() => this.#port.tell(command.notice))
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
      this.#heardAt = performance.now()
      this.#watchdog = setInterval(() => {
        if (performance.now() - this.#heardAt > SILENCE_MS) this.#fail(this.#state.attempt)
      }, CHECK_MS)
    }
  }

  #carryOut(command: Command): void {
    const replica = this.#replica
    switch (command.do) {
      case 'authorize':
        return this.#authorize(command.attempt)
      case 'open':
        return this.#open(command.attempt, this.#port.address(command.token, command.epoch))
      case 'close':
        return this.#close(command.code)
      case 'wait': {
        const retry = (): void => this.dispatch({ type: 'retry', attempt: command.attempt })
        this.#retryTimer = setTimeout(retry, Math.random() * command.ceiling)
        return
      }
      case 'greet':
        this.send(wire.syncStep1(replica.stateVector()))
        return replica.renewPresence()
      case 'reconcile':
        return this.#reconcile(wire.syncStep2(replica.diff(command.stateVector)))
      case 'sendUpdate':
        return this.send(wire.update(command.update))
      case 'sendToken':
        return this.send(wire.token(command.token))
      case 'apply':
        return replica.apply(command.update)
      case 'applyPresence':
        return replica.applyPresence(command.entries)
      case 'sayPresence': {
        const entries = replica.presence()
        if (entries !== undefined) this.send(wire.presence(entries))
        return
      }
      case 'tell':
        return
    }
  }

  /** A frame that is too large to be read would be refused by a close that may not arrive. */
  #reconcile(frame: Uint8Array): void {
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
      this.#port.socketFailed(error)
      // In-band, the server ends the connection when the old token ends; that is soon enough.
      if (this.#state.phase === 'authorizing') this.#fail(attempt)
    }
    const authorized = (token: string | undefined, socketClass: SocketClass): void => {
      this.#socketClass = socketClass
      this.dispatch({ type: 'token', attempt, token })
    }
    try {
      const token = this.#port.token()
      const socketClass = this.#port.socketClass()
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
      this.#port.socketFailed(error)
      const reason = `bad_request: ${error instanceof Error ? error.message : error}`
      this.dispatch({ type: 'closed', attempt, code: 4400, reason })
      return
    }
    socket.binaryType = 'arraybuffer'
    socket.onopen = () => {
      this.#heardAt = performance.now()
      this.dispatch({ type: 'opened', attempt, protocol: socket.protocol })
    }
    socket.onmessage = (event: MessageEvent) => this.#receive(attempt, event.data)
    socket.onerror = (event: globalThis.Event) => this.#port.socketFailed(event)
    socket.onclose = (event: CloseEvent) => {
      this.#forget(socket)
      this.#guard(() => this.#port.socketClosed(event))
      const { code, reason } = event
      const reaction = this.#port.reactionTo(event)
      this.dispatch({ type: 'closed', attempt, code, reason, reaction })
    }
    this.#socket = socket
  }

  #receive(attempt: number, data: unknown): void {
    this.#heardAt = performance.now()
    try {
      if (typeof data === 'string') throw new Error('a frame of text')
      const message = wire.decode(new Uint8Array(data as ArrayBuffer))
      this.dispatch({ type: 'received', attempt, message })
    } catch (error) {
      // What was lost with this frame comes with the next sync.
      this.#port.socketFailed(error)
      this.#fail(attempt)
    }
  }

  #close(code?: number): void {
    const socket = this.#socket
    if (socket === null) return
    this.#forget(socket)
    this.#guard(() => this.#port.socketClosed(null))
    socket.close(code ?? 1000)
  }

  /** A socket that still flushes, or reports that it was closed too early, has nothing to say. */
  #forget(socket: Socket): void {
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
