/** A socket that never opens, for tests with fake timers. */
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

/** A socket class that records its instances in `made`. */
export const fakeSocket = (made: FakeSocket[]) =>
  class extends FakeSocket {
    constructor() {
      super()
      made.push(this)
    }
  }
