/** lib0 encoding: integers with 7 bits per byte, low first; length-prefixed buffers and strings. */

/** Reads values of a frame in order. Methods throw at its end. */
export class Reader {
  readonly #bytes: Uint8Array
  #position = 0

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
  }

  /** Whether unread bytes remain. */
  get hasMore(): boolean {
    return this.#position < this.#bytes.length
  }

  /** An integer up to 2^53 - 1. */
  uint(): number {
    let value = 0
    for (let factor = 1; ; factor *= 128) {
      const byte = this.#bytes[this.#position++]
      if (byte === undefined) throw new Error('truncated frame')
      value += (byte & 127) * factor
      if (!Number.isSafeInteger(value)) throw new Error('integer above 2^53 - 1')
      if (byte < 128) return value
    }
  }

  /** Length-prefixed bytes, as a view of the frame. */
  buffer(): Uint8Array {
    const end = this.uint() + this.#position
    if (end > this.#bytes.length) throw new Error('truncated frame')
    const bytes = this.#bytes.subarray(this.#position, end)
    this.#position = end
    return bytes
  }

  /** A length-prefixed UTF-8 string. */
  string(): string {
    return new TextDecoder().decode(this.buffer())
  }
}

/** Encodes integers, followed by an optional length-prefixed buffer. */
export function frame(integers: readonly number[], buffer?: Uint8Array): Uint8Array {
  const head: number[] = []
  for (let rest of buffer ? [...integers, buffer.length] : integers) {
    for (; rest > 127; rest = Math.floor(rest / 128)) head.push((rest % 128) | 128)
    head.push(rest)
  }
  const bytes = new Uint8Array(head.length + (buffer?.length ?? 0))
  bytes.set(head)
  if (buffer) bytes.set(buffer, head.length)
  return bytes
}
