/** Upper bounds of the reconnect delay, in milliseconds. The delay is uniform in [0, bound). */

const INITIAL_MS = 200
const RESTART_MS = 5_000
/** Caps the exponent: 200 ms * 2^20 exceeds any useful maximum. */
const DOUBLINGS_MAX = 20

/** The bound after `failures` consecutive attempts without a sync: doubles, up to `max`. */
export const ceiling = (failures: number, max: number): number =>
  Math.min(max, INITIAL_MS * 2 ** Math.min(failures - 1, DOUBLINGS_MAX))

/** The bound after a server restart: at least 5 s, because all clients reconnect together. */
export const restartCeiling = (failures: number, max: number): number =>
  Math.min(max, Math.max(RESTART_MS, ceiling(failures, max)))
