// The only two ways in which a test may spend time.

import { setTimeout as pause } from 'node:timers/promises'

/**
 * Waits until `predicate` returns something truthy, and returns that.
 *
 * @param {() => any} predicate may be async; throwing ends the wait
 * @param {{ within: number, what: string | (() => string), every?: number }} options milliseconds
 */
export async function until (predicate, { within, what, every = 20 }) {
  const deadline = performance.now() + within
  for (;;) {
    const result = await predicate()
    if (result) return result
    if (performance.now() >= deadline) {
      throw new Error(`not within ${within} ms: ${typeof what === 'function' ? what() : what}`)
    }
    await pause(every)
  }
}

/**
 * Watches for `during` milliseconds that `predicate` stays falsy. Throws as soon as it does not.
 *
 * @param {() => any} predicate
 * @param {{ during: number, what: string, every?: number }} options milliseconds
 */
export async function never (predicate, { during, what, every = 20 }) {
  const end = performance.now() + during
  while (performance.now() < end) {
    const result = await predicate()
    if (result) {
      const when = Math.round(during - (end - performance.now()))
      throw new Error(`must not happen, but did after ${when} ms: ${what} (${result})`)
    }
    await pause(every)
  }
}
