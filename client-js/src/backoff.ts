/** How long to wait before the next attempt, at most. The driver draws from zero to it. */

const FIRST_MS = 200
const SPREAD_MS = 5_000
/** Beyond this the doubling has passed every useful cap. */
const DOUBLINGS_MAX = 20

/** The ceiling after `failures` attempts in a row that did not sync: doubles, up to `max`. */
export const ceiling = (failures: number, max: number): number =>
  Math.min(max, FIRST_MS * 2 ** Math.min(failures - 1, DOUBLINGS_MAX))

/** The ceiling after a restart of the server, when everybody comes back at once. */
export const spread = (failures: number, max: number): number =>
  Math.min(max, Math.max(SPREAD_MS, ceiling(failures, max)))
