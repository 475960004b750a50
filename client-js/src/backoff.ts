/** How long to wait before the next attempt, at most. The driver draws from zero to it. */

const INITIAL_MS = 200
const RESTART_MS = 5_000
/** Beyond this the doubling has passed every useful cap. */
const DOUBLINGS_MAX = 20

/** The ceiling after `failures` attempts in a row that did not sync: doubles, up to `max`. */
export const ceiling = (failures: number, max: number): number =>
  Math.min(max, INITIAL_MS * 2 ** Math.min(failures - 1, DOUBLINGS_MAX))

/** The ceiling after a restart of the server, when everybody comes back at once. */
export const restartCeiling = (failures: number, max: number): number =>
  Math.min(max, Math.max(RESTART_MS, ceiling(failures, max)))
