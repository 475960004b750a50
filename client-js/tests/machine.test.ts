// Property tests of the state machine in a simulated environment. After each step the simulation
// checks that there is at most one socket, that an event is pending, and that "saved" is correct.

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { step, unsavedOf } from '../src/machine.ts'
import { type Command, type Event, initialState, type State } from '../src/state.ts'
import { WELCOME } from './support/frames.ts'
import { type Move, Simulation } from './support/simulation.ts'

const CODES = [1000, 1001, 1005, 1006, 1011, 1012, 4400, 4401, 4403, 4404, 4409, 4413, 4503]

/** Weighted moves, so that a refusal often coincides with a premature acknowledgement. */
const weighted = (weight: number, ...moves: Move[]) => ({
  weight,
  arbitrary: fc.constantFrom(...moves),
})
const anyMove: fc.Arbitrary<Move> = fc.oneof(
  weighted(
    8,
    { do: 'edit' },
    { do: 'token' },
    { do: 'open' },
    { do: 'store' },
    { do: 'acknowledge' },
  ),
  weighted(6, { do: 'connect' }, { do: 'retry' }, { do: 'ask' }, { do: 'answer' }),
  weighted(4, { do: 'refuse', code: 'store_unavailable' }, { do: 'acknowledgeRefused' }),
  weighted(1, { do: 'refuse', code: 'forbidden_write' }, { do: 'load' }, { do: 'stale' }),
  weighted(1, { do: 'want', wanted: true }, { do: 'want', wanted: false }),
  weighted(1, { do: 'disconnect' }, { do: 'online' }, { do: 'tokenFailure' }, { do: 'timeout' }),
  weighted(1, ...CODES.map(code => ({ do: 'close', code }) as const)),
)
const schedule = fc.array(anyMove, { maxLength: 120, size: 'max' })

const RUNS = { numRuns: 3_000 }

/** Runs a schedule; errors contain the log. */
function runMoves(simulation: Simulation, moves: readonly Move[]): Simulation {
  try {
    for (const move of moves) simulation.move(move)
  } catch (error) {
    throw new Error(`${(error as Error).message}\n${simulation.log.join('\n')}`)
  }
  return simulation
}

test('provider_1_single_socket_no_deadlock_and_correct_saved', () => {
  fc.assert(
    fc.property(schedule, fc.boolean(), (moves, extended) => {
      runMoves(new Simulation(extended), moves)
    }),
    RUNS,
  )
})

test('provider_2_any_state_recovers_to_synced_and_saved', () => {
  fc.assert(
    fc.property(schedule, moves => {
      const simulation = runMoves(new Simulation(), moves)
      // Drop refusals of the earlier session and restart a stopped machine.
      simulation.move({ do: 'close', code: 1006 })
      simulation.move({ do: 'connect' })
      simulation.settle()
      expect(simulation.state.phase, simulation.log.join('\n')).toBe('open')
      expect(simulation.state.synced).toBe(true)
      expect(unsavedOf(simulation.state), simulation.log.join('\n')).toBe(0)
      expect([...simulation.disk].sort()).toEqual([...simulation.local].sort())
    }),
    RUNS,
  )
})

test('provider_3_destroyed_is_final', () => {
  fc.assert(
    fc.property(schedule, schedule, (before, after) => {
      const simulation = runMoves(new Simulation(), before)
      simulation.dispatch({ type: 'destroy' })
      expect(simulation.sockets.size).toBe(0)
      const end = simulation.state
      runMoves(simulation, after)
      expect(simulation.state).toBe(end)
      expect(simulation.sockets.size).toBe(0)
    }),
    RUNS,
  )
})

test('states are immutable', () => {
  const frozen = (state: State): State =>
    Object.freeze({ ...state, ledger: Object.freeze({ ...state.ledger }) })
  fc.assert(
    fc.property(schedule, moves => {
      const simulation = new Simulation()
      for (const move of moves) {
        simulation.state = frozen(simulation.state)
        simulation.move(move)
      }
    }),
    { numRuns: 300 },
  )
})

/** A machine with events dispatched by the test. */
class ManualMachine {
  state: State
  commands: readonly Command[] = []

  constructor(options: { epoch?: string } = {}) {
    this.state = initialState({ epoch: options.epoch, untracked: false, backoffMax: 60_000 })
  }

  /** Dispatches `events` and keeps the commands of the last one. */
  on(...events: Event[]): this {
    for (const event of events) {
      const [state, commands] = step(this.state, event)
      this.state = state
      this.commands = commands
    }
    return this
  }

  get commandNames(): string[] {
    return this.commands.map(command => command.do)
  }

  opened(token?: string, protocol = 'syncline.v1'): this {
    this.on({ type: 'connect' })
    const { attempt } = this.state
    return this.on({ type: 'token', attempt, token }, { type: 'opened', attempt, protocol })
  }

  receives(...messages: Parameters<typeof message>[1][]): this {
    for (const one of messages) this.on(message(this.state.attempt, one))
    return this
  }

  closes(code: number, reason = ''): this {
    return this.on({ type: 'closed', attempt: this.state.attempt, code, reason })
  }

  retries(token?: string): this {
    this.on({ type: 'retry', attempt: this.state.attempt })
    return this.on({ type: 'token', attempt: this.state.attempt, token })
  }
}

const message = (
  attempt: number,
  what: Extract<Event, { type: 'received' }>['message'],
): Event => ({
  type: 'received',
  attempt,
  message: what,
})
const STEP_1 = { kind: 'syncStep1', stateVector: new Uint8Array([0]) } as const
const STEP_2 = { kind: 'syncStep2', update: new Uint8Array([0, 0]) } as const
const EDIT: Event = { type: 'changed', update: new Uint8Array([1]), local: true }

describe('sending', () => {
  test('provider_4_offline_changes_become_one_diff', () => {
    const machine = new ManualMachine().on(EDIT, EDIT).opened().on(EDIT)
    expect(machine.commandNames).toEqual([])
    expect(unsavedOf(machine.state)).toBe(3)
    machine.receives(STEP_1)
    expect(machine.commandNames).toEqual(['sendDiff'])
    expect(unsavedOf(machine.receives({ kind: 'welcome', welcome: WELCOME }).state)).toBe(1)
    expect(machine.on(EDIT).commandNames).toEqual(['sendUpdate'])
  })

  test('a reader sends changes after sync even without SyncStep1', () => {
    const machine = new ManualMachine()
      .opened()
      .receives({ kind: 'welcome', welcome: { ...WELCOME, access: 'read' } }, STEP_2)
    expect(machine.on(EDIT).commandNames).toEqual(['sendUpdate'])
    machine.receives({ kind: 'refused', frame: 1, code: 'forbidden_write', text: 'no' })
    expect(machine.commands).toMatchObject([
      { notice: { refusal: { code: 'forbidden_write', frame: 1 } } },
    ])
    expect(unsavedOf(machine.state)).toBe(1)
    expect(machine.state.problem).toBeUndefined()
  })

  test('a store failure is reported until refused changes are saved', () => {
    const machine = new ManualMachine()
      .opened()
      .receives({ kind: 'welcome', welcome: WELCOME }, STEP_1, STEP_2)
    machine
      .on(EDIT)
      .receives({ kind: 'refused', frame: 2, code: 'store_unavailable', text: 'disk full' })
    expect(machine.state.problem).toEqual({ code: 'store_unavailable', text: 'disk full' })
    machine.receives({ kind: 'saved', frames: 1 })
    expect(machine.state.problem).toBeDefined()
    machine.receives(STEP_1, { kind: 'saved', frames: 3 })
    expect(machine.state.problem).toBeUndefined()
    expect(unsavedOf(machine.state)).toBe(0)
  })
})

test('shouldConnect = false keeps the socket but not reconnecting', () => {
  const away: Event = { type: 'want', wanted: false }
  const machine = new ManualMachine().opened().on(away)
  expect([machine.state.phase, machine.commandNames]).toEqual(['open', []])
  expect(machine.closes(1006).state.phase).toBe('idle')
  expect(new ManualMachine().opened().closes(1006).on(away).state.phase).toBe('idle')
})

test('repeated transient refusals are one problem', () => {
  const machine = new ManualMachine()
    .opened()
    .receives({ kind: 'welcome', welcome: WELCOME }, STEP_1)
    .on(EDIT, EDIT)
  const refusal = { kind: 'refused', code: 'store_unavailable', text: 'full' } as const
  const { problem } = machine.receives({ ...refusal, frame: 2 }).state
  expect(machine.receives({ ...refusal, frame: 3 }).state.problem).toBe(problem)
  expect(machine.commandNames).toEqual(['emit'])
})

test('disconnect clears the problem', () => {
  const machine = new ManualMachine().opened().closes(4503, 'overloaded: too many documents')
  expect(machine.state.problem).toEqual({ code: 'overloaded', text: 'too many documents' })
  expect(machine.on({ type: 'disconnect' }).state).toMatchObject({
    phase: 'idle',
    problem: undefined,
  })
})

describe('reconnecting', () => {
  const ceilingOf = (machine: ManualMachine): number =>
    machine.commands.flatMap(c => (c.do === 'wait' ? [c.ceiling] : []))[0] ?? -1

  test('provider_5_backoff_doubles_up_to_a_cap_and_resets_on_sync', () => {
    const machine = new ManualMachine().opened()
    const ceilings: number[] = []
    for (let i = 0; i < 12; i++) {
      ceilings.push(ceilingOf(machine.closes(1006)))
      machine.retries()
    }
    expect(ceilings.slice(0, 4)).toEqual([200, 400, 800, 1_600])
    expect(ceilings.at(-1)).toBe(60_000)
    const { attempt } = machine.state
    machine.on({ type: 'opened', attempt, protocol: 'syncline.v1' }).receives(STEP_2)
    expect(ceilingOf(machine.closes(1006))).toBe(200)
  })

  test('a server restart raises the backoff ceiling to 5 s', () => {
    expect(
      ceilingOf(new ManualMachine().opened().receives(STEP_2).closes(1012, 'draining: restart')),
    ).toBe(5_000)
  })

  test('the online event ends the backoff', () => {
    expect(new ManualMachine().opened().closes(1006).on({ type: 'online' }).commandNames).toEqual([
      'authorize',
    ])
  })

  test.each([4400, 4403, 4404, 4413, 4499])('provider_6_no_retry_after_%i', code => {
    const machine = new ManualMachine().opened().closes(code, 'word: why')
    expect(machine.commandNames).toEqual(['emit'])
    expect(machine.state.phase).toBe('stopped')
    expect(
      machine.on({ type: 'online' }, { type: 'retry', attempt: machine.state.attempt })
        .commandNames,
    ).toEqual([])
    expect(machine.on({ type: 'connect' }).commandNames).toEqual(['authorize'])
  })
})

describe('tokens', () => {
  test('provider_7_a_refused_token_is_replaced_once', () => {
    const machine = new ManualMachine().opened('old').closes(4401, 'token_expired: 42 s ago')
    expect(machine.commandNames).toEqual(['wait'])
    expect(machine.retries('new').commands).toMatchObject([{ do: 'open', token: 'new' }])
    const again = machine.closes(4401, 'token_expired: still')
    expect(again.state.phase).toBe('stopped')
    expect(again.commands).toMatchObject([
      { notice: { closed: { code: 4401, reason: 'token_expired: still' } } },
    ])
  })

  test('a refused token is not retried', () => {
    const machine = new ManualMachine()
      .opened('old')
      .closes(4401, 'token_invalid: no')
      .retries('old')
    expect(machine.state.phase).toBe('stopped')
    expect(machine.commands).toMatchObject([{ notice: { closed: { code: 4401 } } }])
  })

  test('a connection failure does not count as a token refusal', () => {
    const machine = new ManualMachine()
      .opened('old')
      .closes(4401)
      .retries('new')
      .closes(1006)
      .retries('new')
    expect(machine.commandNames).toEqual(['open'])
  })

  test('a token that synced may be refused later', () => {
    const machine = new ManualMachine().opened('one').closes(4401).retries('two')
    const { attempt } = machine.state
    machine.on({ type: 'opened', attempt, protocol: 'syncline.v1' }).receives(STEP_2).closes(4401)
    expect(machine.retries('three').commandNames).toEqual(['open'])
  })

  test('provider_8_requested_token_is_sent_if_it_differs', () => {
    const machine = new ManualMachine()
      .opened('one')
      .receives({ kind: 'tokenWanted', secondsLeft: 30 })
    expect(machine.commandNames).toEqual(['authorize'])
    const { attempt } = machine.state
    expect(machine.on({ type: 'token', attempt, token: 'one' }).commandNames).toEqual([])
    expect(machine.on({ type: 'token', attempt, token: 'two' }).commands).toEqual([
      { do: 'sendToken', token: 'two' },
    ])
    expect(machine.state.phase).toBe('open')
  })
})

describe('epochs', () => {
  const held = '00000000000000aa'
  const other = '00000000000000bb'

  test('provider_9_first_epoch_is_sent_with_later_attempts', () => {
    const machine = new ManualMachine()
      .opened()
      .receives({ kind: 'welcome', welcome: { ...WELCOME, epoch: held } })
    machine.closes(1006).retries()
    expect(machine.commands).toMatchObject([{ do: 'open', epoch: held }])
  })

  test('provider_10_mismatch_stops_and_reports_both_epochs', () => {
    const machine = new ManualMachine({ epoch: held })
      .opened()
      .closes(4409, `epoch_mismatch: it is ${other} now, not ${held}`)
    expect(machine.commands).toMatchObject([
      { notice: { event: 'epoch-mismatch', mismatch: { held, offered: other } } },
      { notice: { event: 'closed' } },
    ])
    expect(machine.state.phase).toBe('stopped')
  })

  test('provider_10_client_detects_mismatch_before_any_merge', () => {
    const machine = new ManualMachine({ epoch: held })
      .opened()
      .receives({ kind: 'welcome', welcome: { ...WELCOME, epoch: other } })
    expect(machine.commands[0]).toEqual({ do: 'close', code: 4409 })
    expect(machine.commands[1]).toMatchObject({ notice: { mismatch: { held, offered: other } } })
    expect(machine.receives(STEP_1, STEP_2).commandNames).toEqual([])
  })

  test('a server without an epoch is not compared', () => {
    const machine = new ManualMachine({ epoch: held })
      .opened()
      .receives({ kind: 'welcome', welcome: WELCOME })
    expect(machine.state.epoch).toBe(held)
    expect(machine.state.phase).toBe('open')
  })
})

describe('dialects', () => {
  test('provider_11_saved_is_undefined_without_the_subprotocol', () => {
    const machine = new ManualMachine()
      .opened(undefined, '')
      .receives(STEP_1, STEP_2, { kind: 'saved', frames: 1 })
    expect(machine.state.dialect).toBe('y-websocket')
    expect(unsavedOf(machine.state)).toBeUndefined()
  })

  test('provider_11_dialect_is_detected_by_the_first_frame', () => {
    const machine = new ManualMachine().opened().receives(STEP_1)
    expect(machine.state.dialect).toBe('y-websocket')
    expect(
      new ManualMachine().opened().receives({ kind: 'welcome', welcome: WELCOME }, STEP_1).state
        .dialect,
    ).toBe('syncline.v1')
  })
})
