// A seeded generator (sfc32), so that a failing run can be repeated from the seed it printed.

/** @param {string} text */
function hash (text) {
  let h = 0x811c9dc5
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193)
  return h >>> 0
}

export class Random {
  /** @param {string | number | bigint} seed */
  constructor (seed) {
    const text = String(seed)
    this.a = hash(text)
    this.b = hash(text + '/b')
    this.c = hash(text + '/c')
    this.d = 1
    for (let i = 0; i < 12; i++) this.uint32()
  }

  uint32 () {
    const t = (((this.a + this.b) | 0) + this.d) | 0
    this.d = (this.d + 1) | 0
    this.a = this.b ^ (this.b >>> 9)
    this.b = (this.c + (this.c << 3)) | 0
    this.c = (this.c << 21) | (this.c >>> 11)
    this.c = (this.c + t) | 0
    return t >>> 0
  }

  /** An integer in [0, end). */
  below (end) {
    return Math.floor((this.uint32() / 0x100000000) * end)
  }

  /** An integer in [low, high]. */
  between (low, high) {
    return low + this.below(high - low + 1)
  }

  chance (probability) {
    return this.uint32() / 0x100000000 < probability
  }

  pick (list) {
    return list[this.below(list.length)]
  }
}

/** The seed for this run: given by SYNCLINE_SEED, else fresh. Always printed. */
export function runSeed (t) {
  const seed = process.env.SYNCLINE_SEED ?? String(Math.floor(Math.random() * 2 ** 32))
  t.diagnostic(`SYNCLINE_SEED=${seed}`)
  return seed
}
