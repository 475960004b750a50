/**
 * The connection as a pure state machine: a state and an event yield the next state and commands.
 * Timers, sockets, the clock and randomness are in connection.ts.
 *
 * Connection attempts are numbered. Events of an earlier attempt (a late token, a late close) are
 * ignored, so there is at most one connection.
 */

import { ceiling, restartCeiling } from './backoff.ts'
import {
  EPOCH_MISMATCH,
  hintFor,
  isTransient,
  parseReason,
  type Reaction,
  reactionTo,
} from './close-code.ts'
import * as ledger from './ledger.ts'
import type { Closed, Command, Event, Phase, Problem, State, Step } from './state.ts'
import { type Limits, type Message, SUBPROTOCOL, type Welcome } from './wire.ts'

/** Whether a socket exists or is being opened. */
export const isLive = ({ phase }: State): boolean =>
  phase === 'authorizing' || phase === 'connecting' || phase === 'open'

/** The server's size limits in bytes. Infinity until it announces them. */
export const limitsOf = ({ extended, welcome }: State): Pick<Limits, 'message' | 'update'> =>
  (extended && welcome?.limits) || { message: Infinity, update: Infinity }

/** Unacknowledged frames plus unsent changes. Undefined if the server sends no acknowledgements. */
export const unsavedOf = (state: State): number | undefined =>
  state.dialect === 'y-websocket' ? undefined : ledger.unsaved(state.ledger)

/** The transition function. */
export function step(state: State, event: Event): Step {
  if (state.phase === 'destroyed') return [state, []]
  if ('attempt' in event && event.attempt !== state.attempt) return [state, []]
  switch (event.type) {
    case 'connect':
      return connect(state)
    case 'disconnect':
      return disconnect({ ...state, wanted: false }, 'idle')
    case 'destroy':
      return disconnect({ ...state, wanted: false }, 'destroyed')
    case 'want':
      return event.wanted ? connect(state) : disableReconnect(state)
    case 'token':
      return authorized(state, event.token)
    case 'failed':
      return isLive(state) ? scheduleRetry(state, 'retry', closeIfLive(state)) : [state, []]
    case 'opened':
      return opened(state, event.protocol)
    case 'closed':
      return closed(state, event, event.reaction ?? reactionTo(event.code))
    case 'retry':
    case 'online':
      return state.phase === 'waiting' ? attempt(state) : [state, []]
    case 'changed':
      return changed(state, event.update, event.local)
    case 'received':
      return state.phase === 'open'
        ? received(detectDialect(state, event.message), event.message)
        : [state, []]
    case 'epochLearned':
      return [{ ...state, epoch: state.epoch ?? event.epoch }, []]
  }
}

function connect(state: State): Step {
  const wanted = { ...state, wanted: true }
  if (isLive(state)) return [wanted, []]
  // An explicit connect after a refusal implies that the cause was fixed.
  return attempt(
    state.phase === 'stopped' ? { ...wanted, failures: 0, rejected: undefined } : wanted,
  )
}

/** Keeps an open connection but does not reconnect after its loss. */
function disableReconnect(state: State): Step {
  const unwanted = { ...state, wanted: false }
  return state.phase === 'waiting' ? disconnect(unwanted, 'idle') : [unwanted, []]
}

function attempt(state: State): Step {
  const number = state.attempt + 1
  const next: State = { ...state, phase: 'authorizing', attempt: number }
  return [next, [{ do: 'authorize', attempt: number }]]
}

function authorized(state: State, token: string | undefined): Step {
  if (state.phase === 'open') {
    if (token === undefined || token === state.token) return [state, []]
    return [{ ...state, token }, [{ do: 'sendToken', token }]]
  }
  if (state.phase !== 'authorizing') return [state, []]
  const { attempt, epoch, rejected } = state
  if (rejected !== undefined && rejected.token === token) return stop(state, rejected.closed, [])
  return [{ ...state, phase: 'connecting', token }, [{ do: 'open', attempt, token, epoch }]]
}

function opened(state: State, protocol: string): Step {
  if (state.phase !== 'connecting') return [state, []]
  const extended = protocol === SUBPROTOCOL
  const dialect = extended ? state.dialect : 'y-websocket'
  const next: State = { ...state, phase: 'open', extended, dialect, problem: undefined }
  return [next, [{ do: 'startSync' }]]
}

function closed(state: State, { code, reason }: Closed, reaction: Reaction): Step {
  if (state.phase !== 'connecting' && state.phase !== 'open') return [state, []]
  const close = { code, reason }
  switch (reaction) {
    case 'retry':
    case 'spread': {
      const problem = reason === '' ? undefined : parseReason(reason)
      return scheduleRetry({ ...state, problem }, reaction, [])
    }
    case 'renew': {
      if (state.rejected !== undefined) return stop(state, close, [])
      const rejected = { token: state.token, closed: close }
      return scheduleRetry({ ...state, rejected, problem: parseReason(reason) }, 'retry', [])
    }
    case 'mismatch':
      return mismatched(state, close, epochInReason(reason, state.epoch), [])
    case 'stop':
      return stop(state, close, [])
  }
}

/** The server's epoch, if the close reason names it. */
function epochInReason(reason: string, held: string | undefined): string | undefined {
  return reason.match(/\b[0-9a-f]{16}\b/g)?.find(epoch => epoch !== held)
}

function mismatched(
  state: State,
  close: Closed,
  offered: string | undefined,
  leading: readonly Command[],
): Step {
  const mismatch = { held: state.epoch ?? '', offered }
  const emit: Command = { do: 'emit', notice: { event: 'epoch-mismatch', mismatch } }
  return stop(state, close, [...leading, emit])
}

/** Ends the connection on request. Unacknowledged frames count as unsaved. */
function disconnect(state: State, phase: Phase): Step {
  return [{ ...disconnected(state, phase), problem: undefined }, closeIfLive(state)]
}

function stop(state: State, closed: Closed, leading: readonly Command[]): Step {
  const next = {
    ...disconnected(state, 'stopped'),
    wanted: false,
    problem: parseReason(closed.reason),
  }
  return [next, [...leading, { do: 'emit', notice: { event: 'closed', closed } }]]
}

function scheduleRetry(
  state: State,
  reaction: 'retry' | 'spread',
  leading: readonly Command[],
): Step {
  if (!state.wanted) return [disconnected(state, 'idle'), leading]
  const failures = state.failures + 1
  const { attempt, backoffMax } = state
  const delay =
    reaction === 'spread' ? restartCeiling(failures, backoffMax) : ceiling(failures, backoffMax)
  const wait: Command = { do: 'wait', attempt, ceiling: delay }
  return [{ ...disconnected(state, 'waiting'), failures }, [...leading, wait]]
}

function disconnected(state: State, phase: Phase): State {
  const connection = { extended: false, receivedFirstFrame: false, synced: false, streaming: false }
  return { ...state, ...connection, phase, ledger: ledger.disconnected(state.ledger) }
}

const closeIfLive = (state: State): readonly Command[] => (isLive(state) ? [{ do: 'close' }] : [])

function changed(state: State, update: Uint8Array, local: boolean): Step {
  const unsent = { ...state, ledger: ledger.changed(state.ledger, local) }
  if (!state.streaming) return [unsent, []]
  if (state.wanted && update.length > limitsOf(state).update) {
    // Too large for an update frame. Reconnect: the limit of the initial diff is higher.
    const [next, commands] = attempt(disconnected(unsent, 'waiting'))
    return [next, [...closeIfLive(state), ...commands]]
  }
  return [{ ...state, ledger: ledger.updateSent(state.ledger) }, [{ do: 'sendUpdate', update }]]
}

const EXTENSIONS: readonly Message['kind'][] = [
  'welcome',
  'saved',
  'refused',
  'tokenWanted',
  'unknown',
]

/**
 * Some servers select the first offered subprotocol without implementing it. The first frame of
 * Syncline is Welcome. A server with another first frame is treated as y-websocket until it sends an
 * extension.
 */
function detectDialect(state: State, { kind }: Message): State {
  if (state.extended && EXTENSIONS.includes(kind)) {
    return { ...state, receivedFirstFrame: true, dialect: 'syncline.v1' }
  }
  return state.receivedFirstFrame
    ? state
    : { ...state, receivedFirstFrame: true, dialect: 'y-websocket' }
}

function received(state: State, message: Message): Step {
  switch (message.kind) {
    case 'syncStep1': {
      const next = { ...state, streaming: true, ledger: ledger.diffSent(state.ledger) }
      return [next, [{ do: 'sendDiff', stateVector: message.stateVector }]]
    }
    case 'syncStep2': {
      // A server that answers before it asks never asks, so changes can be streamed from here.
      const next = { ...state, synced: true, streaming: true, failures: 0, rejected: undefined }
      return [next, [{ do: 'apply', update: message.update }]]
    }
    case 'update':
      return [state, [{ do: 'apply', update: message.update }]]
    case 'presence':
      return [state, [{ do: 'applyPresence', entries: message.entries }]]
    case 'queryPresence':
      return [state, [{ do: 'sendPresence' }]]
    case 'denied':
      return refused(state, undefined, parseReason(message.reason))
    default:
      return state.extended ? extension(state, message) : [state, []]
  }
}

function extension(state: State, message: Message): Step {
  switch (message.kind) {
    case 'welcome':
      return welcomed(state, message.welcome)
    case 'saved': {
      const next = ledger.acknowledged(state.ledger, message.frames)
      const isResolved = next.hole === undefined && state.welcome?.quarantined !== true
      return [{ ...state, ledger: next, problem: isResolved ? undefined : state.problem }, []]
    }
    case 'refused': {
      const { frame, code, text } = message
      return refused({ ...state, ledger: ledger.refused(state.ledger, frame) }, frame, {
        code,
        text,
      })
    }
    case 'tokenWanted':
      return [state, [{ do: 'authorize', attempt: state.attempt }]]
    default:
      return [state, []]
  }
}

function refused(state: State, frame: number | undefined, why: Problem): Step {
  const refusal = { ...why, hint: hintFor(why.code), frame }
  // Each keystroke is refused while the cause lasts; report one problem.
  const isNew = isTransient(why.code) && why.code !== state.problem?.code
  const problem = isNew ? why : state.problem
  return [{ ...state, problem }, [{ do: 'emit', notice: { event: 'refused', refusal } }]]
}

const QUARANTINED: Problem = {
  code: 'document_quarantined',
  text: 'read-only until an operator releases the document',
}

function welcomed(state: State, welcome: Welcome): Step {
  const { epoch } = welcome
  if (state.epoch !== undefined && epoch !== undefined && epoch !== state.epoch) {
    // The server did not compare the epochs. Close before any content is exchanged.
    const reason = `epoch_mismatch: local ${state.epoch}, server ${epoch}`
    const close: Command = { do: 'close', code: EPOCH_MISMATCH }
    return mismatched(state, { code: EPOCH_MISMATCH, reason }, epoch, [close])
  }
  const next: State = {
    ...state,
    welcome,
    epoch: state.epoch ?? epoch,
    problem: welcome.quarantined ? QUARANTINED : state.problem,
    ledger: welcome.access === 'read' ? ledger.readOnly(state.ledger) : state.ledger,
  }
  return [next, [{ do: 'emit', notice: { event: 'welcome', welcome } }]]
}
