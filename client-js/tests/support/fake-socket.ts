// Sockets that never open, for tests with fake timers.

/** A socket that never opens. */
export class FakeSocket {
  binaryType = ''
  protocol = ''
  readyState = 0
  onopen = null
  onmessage = null
  onclose: ((event: { code: number; reason: string }) => void) | null = null
  onerror = null
  send(): void {}
  close(): void {
    this.readyState = 3
  }
}

/** A class of them that puts each into `made`. */
export const fakeSocket = (made: FakeSocket[]) =>
  class extends FakeSocket {
    constructor() {
      super()
      made.push(this)
    }
  }
