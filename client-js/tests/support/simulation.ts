// A simulated environment of the machine: a server with a disk, an unreliable network, no clock.
// Executes the machine's commands and checks its invariants.

import { step, unsavedOf } from '../../src/machine.ts'
import { type Command, type Event, initialState, type State } from '../../src/state.ts'
import type { Message } from '../../src/wire.ts'
import { WELCOME } from './frames.ts'

/** Actions of the network, the server and the user. */
export type Move =
  | {
      readonly do: 'connect' | 'disconnect' | 'online' | 'edit' | 'load' | 'token' | 'tokenFailure'
    }
  | { readonly do: 'open' | 'retry' | 'timeout' | 'ask' | 'answer' | 'store' | 'acknowledge' }
  | { readonly do: 'refuse'; readonly code: string }
  | { readonly do: 'want'; readonly wanted: boolean }
  | { readonly do: 'acknowledgeRefused' | 'stale' }
  | { readonly do: 'close'; readonly code: number }

/** A change, identified by a number. */
type Change = number

interface Frame {
  readonly changes: readonly Change[]
  refused: boolean
  /** Whether it is a diff, which depends on no earlier frame. */
  readonly isDiff: boolean
}

/** The server's state of one connection. */
interface Session {
  readonly attempt: number
  /** Whether the socket is open. */
  open: boolean
  readonly frames: Frame[]
  /** The number of acknowledged frames. */
  acknowledged: number
  asked: boolean
}

export class Simulation {
  state: State
  /** Sockets opened by the machine and closed by neither side. */
  readonly sockets = new Set<number>()
  /** Pending token requests, by attempt. */
  readonly fetching = new Set<number>()
  /** The attempt of the pending backoff timer. */
  waiting: number | undefined
  session: Session | undefined
  /** Changes on the server's disk. */
  readonly disk = new Set<Change>()
  /** Changes in the local document. */
  readonly local = new Set<Change>()
  readonly log: string[] = []
  attempts = 0

  readonly extended: boolean

  constructor(extended = true) {
    this.extended = extended
    this.state = initialState({ epoch: undefined, untracked: false, backoffMax: 1_000 })
  }

  dispatch(event: Event): void {
    const [state, commands] = step(this.state, event)
    this.log.push(`${event.type} -> ${state.phase} [${commands.map(command => command.do)}]`)
    this.state = state
    for (const command of commands) this.#execute(command)
    this.#check()
  }

  #execute(command: Command): void {
    switch (command.do) {
      case 'authorize':
        this.fetching.add(command.attempt)
        return
      case 'open':
        this.sockets.add(command.attempt)
        this.attempts += 1
        this.session = {
          attempt: command.attempt,
          open: false,
          frames: [],
          acknowledged: 0,
          asked: false,
        }
        return
      case 'close':
        this.sockets.delete(this.session?.attempt ?? -1)
        this.session = undefined
        return
      case 'wait':
        this.waiting = command.attempt
        return
      case 'sendDiff': {
        // The diff contains all local changes.
        this.session?.frames.push({ changes: [...this.local], refused: false, isDiff: true })
        return
      }
      case 'sendUpdate':
        this.session?.frames.push({
          changes: [command.update[0] ?? 0],
          refused: false,
          isDiff: false,
        })
        return
    }
  }

  #check(): void {
    const { state, sockets, fetching, waiting } = this
    if (sockets.size > 1) throw new Error(`two sockets: ${[...sockets]}`)
    // A destroyed machine ignores events, so its state is outdated.
    if (state.phase === 'destroyed') return
    if (unsavedOf(state) === 0 && state.dialect === 'syncline.v1') {
      const lacking = [...this.local].filter(change => !this.disk.has(change))
      if (lacking.length > 0) throw new Error(`unsaved is 0, but ${lacking} are not on disk`)
    }
    // Each phase has a pending event unless the machine is not wanted.
    const { phase, wanted, attempt } = state
    const hasNext = {
      idle: !wanted,
      authorizing: fetching.has(attempt),
      connecting: sockets.has(attempt),
      open: sockets.has(attempt),
      waiting: waiting === attempt,
      stopped: !wanted,
    }[phase]
    if (!hasNext) throw new Error(`no pending event in ${phase}`)
    const isConnected = phase === 'connecting' || phase === 'open'
    if (!isConnected && sockets.size > 0) throw new Error(`leaked socket in ${phase}`)
  }

  /** Performs a move. No effect if it does not apply. */
  move(move: Move): void {
    const { attempt } = this.state
    const session = this.session
    const isOpen = session?.open === true
    switch (move.do) {
      case 'connect':
      case 'disconnect':
      case 'online':
        return this.dispatch({ type: move.do })
      case 'want':
        return this.dispatch({ type: 'want', wanted: move.wanted })
      case 'edit':
      case 'load': {
        const change = this.local.size + 1
        this.local.add(change)
        return this.dispatch({
          type: 'changed',
          update: new Uint8Array([change]),
          local: move.do === 'edit',
        })
      }
      case 'token':
      case 'tokenFailure': {
        const [fetched] = this.fetching
        if (fetched === undefined) return
        this.fetching.delete(fetched)
        if (move.do === 'tokenFailure') return this.dispatch({ type: 'failed', attempt: fetched })
        return this.dispatch({ type: 'token', attempt: fetched, token: `token ${fetched}` })
      }
      case 'open':
        if (session === undefined || session.open) return
        session.open = true
        this.dispatch({
          type: 'opened',
          attempt: session.attempt,
          protocol: this.extended ? 'syncline.v1' : '',
        })
        if (this.extended) this.#deliver({ kind: 'welcome', welcome: WELCOME })
        return
      case 'retry':
        if (this.waiting === undefined) return
        this.dispatch({ type: 'retry', attempt: this.waiting })
        return
      case 'timeout':
        return this.dispatch({ type: 'failed', attempt })
      case 'ask':
        if (!isOpen || session === undefined) return
        session.asked = true
        return this.#deliver({ kind: 'syncStep1', stateVector: new Uint8Array([0]) })
      case 'answer':
        if (isOpen) this.#deliver({ kind: 'syncStep2', update: new Uint8Array([0, 0]) })
        return
      case 'store':
        // Stores the frames before the first refused one, and later diffs.
        for (const frame of this.#takeable())
          for (const change of frame.changes) this.disk.add(change)
        return
      case 'acknowledge': {
        if (session === undefined || !isOpen || !this.extended) return
        const frames = this.#watermark()
        if (frames > session.acknowledged) {
          session.acknowledged = frames
          this.#deliver({ kind: 'saved', frames })
        }
        return
      }
      case 'acknowledgeRefused':
        // A faulty server acknowledges a refused frame together with later known ones.
        if (session === undefined || !isOpen || !session.frames.some(frame => frame.refused)) return
        if (session.frames.every(frame => frame.refused || this.#isStored(frame))) {
          this.#deliver({ kind: 'saved', frames: session.frames.length })
        }
        return
      case 'refuse': {
        if (session === undefined || !isOpen || !this.extended) return
        const index = session.frames.findIndex(
          (frame, i) => i >= session.acknowledged && !frame.refused && !this.#isStored(frame),
        )
        const frame = session.frames[index]
        if (frame === undefined) return
        frame.refused = true
        return this.#deliver({ kind: 'refused', frame: index + 1, code: move.code, text: 'no' })
      }
      case 'close': {
        if (session === undefined) return
        this.sockets.delete(session.attempt)
        this.session = undefined
        return this.dispatch({
          type: 'closed',
          attempt: session.attempt,
          code: move.code,
          reason: 'word: why',
        })
      }
      case 'stale':
        this.dispatch({ type: 'token', attempt: attempt - 1, token: 'late' })
        this.dispatch({ type: 'opened', attempt: attempt - 1, protocol: 'syncline.v1' })
        this.dispatch({
          type: 'received',
          attempt: attempt - 1,
          message: { kind: 'saved', frames: 99 },
        })
        return this.dispatch({ type: 'closed', attempt: attempt - 1, code: 1006, reason: '' })
    }
  }

  /** Runs a reliable network, server and disk until no event is pending. */
  settle(): void {
    for (let round = 0; round < 4; round++) {
      // Complete the token requests of earlier attempts.
      while (this.fetching.size > 1) this.move({ do: 'token' })
      for (const name of [
        'retry',
        'token',
        'open',
        'ask',
        'answer',
        'store',
        'acknowledge',
      ] as const) {
        this.move({ do: name })
      }
    }
  }

  #deliver(message: Message): void {
    const attempt = this.session?.attempt
    if (attempt !== undefined) this.dispatch({ type: 'received', attempt, message })
  }

  #isStored(frame: Frame): boolean {
    return frame.changes.every(change => this.disk.has(change))
  }

  #takeable(): Frame[] {
    let isBroken = false
    return (this.session?.frames ?? []).filter(frame => {
      if (frame.isDiff && !frame.refused) isBroken = false
      else if (frame.refused) isBroken = true
      return !isBroken
    })
  }

  /** The highest watermark whose frames are all on disk. */
  #watermark(): number {
    const frames = this.session?.frames ?? []
    const missing = frames.findIndex(frame => !this.#isStored(frame))
    return missing < 0 ? frames.length : missing
  }
}
