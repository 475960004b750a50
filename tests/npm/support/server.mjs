// Runs the binary under test.

import { spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { existsSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { createInterface } from 'node:readline'
import { SignJWT } from 'jose'
import { until } from './wait.mjs'

const READY_MS = 15_000
const STOP_MS = 15_000
const LOG_LINES_MAX = 60

export const SECRET = 'tests/npm: at least 32 bytes long'

/** SYNCLINE_BIN, else the newest build of this working tree. */
export function binary () {
  if (process.env.SYNCLINE_BIN) return process.env.SYNCLINE_BIN
  const target = fileURLToPath(new URL('../../../target', import.meta.url))
  const built = ['release', 'debug'].map(profile => join(target, profile, 'syncline')).filter(existsSync)
  built.sort((a, b) => statSync(b).mtimeMs - statSync(a).mtimeMs)
  if (built.length === 0) throw new Error('no binary: run `cargo build` or set SYNCLINE_BIN')
  return built[0]
}

/**
 * Starts `syncline serve`, or `syncline dev` with a secret of its own, on a free port and an empty data folder, both of which outlive restarts.
 * Whatever happens, it is gone when the test `t` ends.
 */
export async function startServer (t, { command = 'serve', env = {} } = {}) {
  const data = await mkdtemp(join(tmpdir(), 'syncline-npm-'))
  const server = new Server(data, command, env)
  t.after(async () => {
    await server.kill9()
    await rm(data, { recursive: true, force: true })
  })
  await server.start()
  return server
}

class Server {
  constructor (data, command, env) {
    this.data = data
    this.command = command
    this.env = env
    this.port = 0
    this.process = null
    this.log = []
  }

  get wsUrl () {
    return `ws://127.0.0.1:${this.port}/ws`
  }

  get httpUrl () {
    return `http://127.0.0.1:${this.port}`
  }

  async start () {
    const secret = this.command === 'serve' ? { SYNCLINE_JWT_SECRET: SECRET } : {}
    const child = spawn(binary(), [this.command, '--listen', `127.0.0.1:${this.port}`, '--data', this.data], {
      env: { ...process.env, ...secret, ...this.env },
      stdio: ['ignore', 'pipe', 'pipe']
    })
    this.process = child
    let first = null
    let failure = null
    child.on('error', error => { failure = error })
    createInterface({ input: child.stdout }).on('line', line => { first ??= line })
    createInterface({ input: child.stderr }).on('line', line => {
      this.log.push(line)
      if (this.log.length > LOG_LINES_MAX) this.log.shift()
    })
    await until(() => first !== null || failure !== null || exited(child), {
      within: READY_MS, what: () => `a ready line on stdout; log:\n${this.log.join('\n')}`
    })
    if (first === null) throw new Error(`no ready line: ${failure ?? `exit ${child.exitCode}`}; log:\n${this.log.join('\n')}`)
    this.ready = JSON.parse(first)
    if (this.ready.event !== 'ready') throw new Error(`the first line is not the ready line: ${first}`)
    this.port = Number(new URL(this.ready.url).port)
  }

  /** Stops as an operator would, and checks that it says so with 0. */
  async stop () {
    this.process.kill('SIGTERM')
    await this.#gone('exit after SIGTERM')
    const { exitCode, signalCode } = this.process
    if (exitCode !== 0) throw new Error(`SIGTERM: exit ${exitCode ?? signalCode}; log:\n${this.log.join('\n')}`)
  }

  async kill9 () {
    if (this.process === null || exited(this.process)) return
    this.process.kill('SIGKILL')
    await this.#gone('exit after SIGKILL')
  }

  /** Stops, with `how` either 'stop' or 'kill9', and starts on the same folder and the same port. */
  async restart (how = 'stop') {
    await this[how]()
    await this.start()
  }

  #gone (what) {
    const child = this.process
    return until(() => exited(child), { within: STOP_MS, what: () => `${what}; log:\n${this.log.join('\n')}` })
  }
}

// A process that never started has no pid and no exit code.
const exited = child => child.pid === undefined || child.exitCode !== null || child.signalCode !== null

/**
 * A token. Times are offsets from now, in seconds; `expires: null` leaves the claim out.
 *
 * @param {Record<string, 'read' | 'write' | 'admin'>} access
 */
export function token (access, { sub = 'tester', name = 'Tester', expires = 3600, notBefore, secret = SECRET } = {}) {
  const now = Math.floor(Date.now() / 1000)
  const jwt = new SignJWT({ name, access }).setProtectedHeader({ alg: 'HS256', typ: 'JWT' }).setSubject(sub).setIssuedAt(now)
  if (expires !== null) jwt.setExpirationTime(now + expires)
  if (notBefore !== undefined) jwt.setNotBefore(now + notBefore)
  return jwt.sign(new TextEncoder().encode(secret))
}
