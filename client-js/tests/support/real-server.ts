// The server binary, started by tests/npm, and tokens for it.

import { onTestFinished } from 'vitest'
import { SECRET, startServer as start } from '../../../tests/npm/support/server.mjs'
import { type Duration, mintToken } from '../../src/server.ts'
import type { Access } from '../../src/wire.ts'

/** A running server. `stop`, `kill9`, `start` and `restart` keep the port and the data. */
export interface RealServer {
  readonly wsUrl: string
  start(): Promise<void>
  stop(): Promise<void>
  kill9(): Promise<void>
  restart(how?: 'stop' | 'kill9'): Promise<void>
}

/** Runs a server until the test ends. */
export const startServer = (): Promise<RealServer> =>
  start({ after: onTestFinished }) as Promise<RealServer>

/** A valid token for one document. */
export const tokenFor = (name: string, access: Access = 'write', ttl: Duration = '1h'): string =>
  mintToken(SECRET, { access: { [name]: access }, sub: 'tester', name: 'Tester', ttl })
