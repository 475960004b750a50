/**
 * What is saved: the bookkeeping behind `saved` and `unsaved`. Pure.
 *
 * Update frames of a connection are numbered from 1, and the server acknowledges the first n of
 * them. What was sent and not acknowledged when a connection ends has an unknown fate, so it counts
 * as unsent. The diff that answers the server's SyncStep1 holds whatever the server lacks; once it
 * is acknowledged, everything up to it is on disk, however it got there.
 */

/** Counts of changes and frames. */
export interface Ledger {
  /** Changes made here that no frame of this connection holds. */
  readonly unsent: number
  /** The copy holds something that came from elsewhere, such as a local database. */
  readonly untracked: boolean
  /** Update frames sent on this connection. */
  readonly sent: number
  /** The first so many of them are on disk, as the server says. */
  readonly acknowledged: number
  /** A frame that was refused, and what comes after it. */
  readonly hole: Hole | undefined
}

/** From the refused frame on nothing counts until a later diff has filled the hole. */
export interface Hole {
  /** The first refused frame. */
  readonly from: number
  /** The diff that holds what was refused. Undefined until the server has asked for one. */
  readonly until: number | undefined
}

/** A copy that is empty, or that holds something of which nobody has said where it is stored. */
export const create = (untracked: boolean): Ledger => ({
  unsent: 0,
  untracked,
  sent: 0,
  acknowledged: 0,
  hole: undefined,
})

/** A change was made that cannot be sent now. */
export const changed = (ledger: Ledger, local: boolean): Ledger =>
  local ? { ...ledger, unsent: ledger.unsent + 1 } : { ...ledger, untracked: true }

/** A change was sent as it happened. */
export const updateSent = (ledger: Ledger): Ledger => ({ ...ledger, sent: ledger.sent + 1 })

/** A diff was sent that holds everything the server lacks. */
export const diffSent = (ledger: Ledger): Ledger => {
  const diff = ledger.sent + 1
  const hole = ledger.hole && { ...ledger.hole, until: diff }
  return { ...ledger, unsent: 0, untracked: false, sent: diff, hole }
}

/** The first `frames` frames are on disk. Never more than were sent, never fewer than before. */
export const acknowledged = (ledger: Ledger, frames: number): Ledger => {
  const now = Math.max(ledger.acknowledged, Math.min(frames, ledger.sent))
  const filled = ledger.hole?.until !== undefined && now >= ledger.hole.until
  return { ...ledger, acknowledged: now, hole: filled ? undefined : ledger.hole }
}

/** Frame `frame` will not be saved. 0 stands for what was changed before this connection. */
export const refused = (ledger: Ledger, frame: number): Ledger => {
  if (frame < 1 || frame > ledger.sent) {
    return { ...ledger, unsent: Math.max(1, ledger.unsent) }
  }
  const from = Math.min(frame, ledger.hole?.from ?? frame)
  return { ...ledger, hole: { from, until: undefined } }
}

/** The server counts this copy as a reader's: what it did not refuse, it has. */
export const readOnly = (ledger: Ledger): Ledger => ({ ...ledger, untracked: false })

/** The connection is gone, and with it the numbers. */
export const disconnected = (ledger: Ledger): Ledger => {
  const inFlight = ledger.sent - countedFrames(ledger)
  return { ...create(ledger.untracked), unsent: ledger.unsent + inFlight }
}

/** What is not known to be on disk: frames under way, and changes that no frame holds. */
export const unsaved = (ledger: Ledger): number =>
  ledger.unsent + (ledger.untracked ? 1 : 0) + ledger.sent - countedFrames(ledger)

/** How many frames count: the acknowledged ones before a hole. */
const countedFrames = ({ acknowledged, hole }: Ledger): number =>
  hole === undefined ? acknowledged : Math.min(acknowledged, hole.from - 1)
