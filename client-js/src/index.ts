/**
 * The Yjs provider for Syncline.
 *
 * @module client
 */

export { hintFor, isTransient, type Reaction, reactionTo } from './close-code.ts'
export { isUntouched } from './doc-replica.ts'
export { SynclineError } from './error.ts'
export type { SavedEvent, Status, StatusEvent } from './events.ts'
export type { TokenSource } from './options.ts'
export { colorOf, type Participant, type User, type UserFields } from './presence.ts'
export {
  type CreateOptions,
  createProvider,
  type ProviderEvents,
  type ProviderOptions,
  SynclineProvider,
} from './provider.ts'
export { makeSeed, SEED_ORIGIN, type SeedOptions, seed } from './seed.ts'
export type { Socket, SocketClass } from './socket.ts'
export type { Closed, Dialect, EpochMismatch, Problem, Refusal } from './state.ts'
export { type Access, type Durability, type Limits, SUBPROTOCOL, type Welcome } from './wire.ts'
