/**
 * Tracks acknowledgements, for `saved` and `unsaved`. Pure.
 *
 * Update frames of a connection are numbered from 1; the server acknowledges a prefix of them.
 * Frames without acknowledgement at the end of a connection may or may not be stored, so they count
 * as unsent. The diff that answers the server's SyncStep1 contains everything the server lacks: its
 * acknowledgement means that all earlier changes are on disk.
 */

/** Counts of changes and frames. Frame numbers are those of the current connection. */
export interface Ledger {
  /** Local changes in no frame of this connection. */
  readonly unsent: number
  /** The document has content of unknown storage state, for example from a local database. */
  readonly untracked: boolean
  /** Update frames sent on this connection. */
  readonly sent: number
  /** The server's watermark: frames 1 to `acknowledged` are on disk. */
  readonly acknowledged: number
  /** Set while a refused frame is not yet replaced by a diff. */
  readonly hole: Hole | undefined
}

/** A refused frame: later acknowledgements do not count until a diff with its content is saved. */
export interface Hole {
  /** The first refused frame. */
  readonly from: number
  /** The diff with the refused content. Undefined until the server requests it. */
  readonly until: number | undefined
}

/** The initial ledger. `untracked`: the document already has content. */
export const create = (untracked: boolean): Ledger => ({
  unsent: 0,
  untracked,
  sent: 0,
  acknowledged: 0,
  hole: undefined,
})

/** Records a change that is not sent. Not `local`: it came from another tab or a database. */
export const changed = (ledger: Ledger, local: boolean): Ledger =>
  local ? { ...ledger, unsent: ledger.unsent + 1 } : { ...ledger, untracked: true }

/** Records an update frame. */
export const updateSent = (ledger: Ledger): Ledger => ({ ...ledger, sent: ledger.sent + 1 })

/** Records a diff, which contains all unsent and untracked changes. */
export const diffSent = (ledger: Ledger): Ledger => {
  const diff = ledger.sent + 1
  const hole = ledger.hole && { ...ledger.hole, until: diff }
  return { ...ledger, unsent: 0, untracked: false, sent: diff, hole }
}

/** Raises the watermark to `frames`, limited to the frames sent. It never decreases. */
export const acknowledged = (ledger: Ledger, frames: number): Ledger => {
  const now = Math.max(ledger.acknowledged, Math.min(frames, ledger.sent))
  const filled = ledger.hole?.until !== undefined && now >= ledger.hole.until
  return { ...ledger, acknowledged: now, hole: filled ? undefined : ledger.hole }
}

/** Records the refusal of frame `frame`. 0: changes from before this connection. */
export const refused = (ledger: Ledger, frame: number): Ledger => {
  if (frame < 1 || frame > ledger.sent) {
    return { ...ledger, unsent: Math.max(1, ledger.unsent) }
  }
  const from = Math.min(frame, ledger.hole?.from ?? frame)
  return { ...ledger, hole: { from, until: undefined } }
}

/** Clears `untracked`: the server refuses every change of a reader that it does not have. */
export const readOnly = (ledger: Ledger): Ledger => ({ ...ledger, untracked: false })

/** Resets the frame numbers; unacknowledged frames become unsent changes. */
export const disconnected = (ledger: Ledger): Ledger => {
  const inFlight = ledger.sent - countedFrames(ledger)
  return { ...create(ledger.untracked), unsent: ledger.unsent + inFlight }
}

/** The number of unsent changes and unacknowledged frames. */
export const unsaved = (ledger: Ledger): number =>
  ledger.unsent + (ledger.untracked ? 1 : 0) + ledger.sent - countedFrames(ledger)

/** Acknowledged frames before the hole. */
const countedFrames = ({ acknowledged, hole }: Ledger): number =>
  hole === undefined ? acknowledged : Math.min(acknowledged, hole.from - 1)
