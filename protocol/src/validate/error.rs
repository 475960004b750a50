//! Errors of validation.

use thiserror::Error;

use crate::id::ClientId;
use crate::wire::varint::ReadError;

/// Why bytes are invalid. Offsets count from the first byte.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ValidationError {
    /// An integer, count, length or text is malformed.
    #[error(transparent)]
    Unreadable(#[from] ReadError),
    /// Bytes follow the end.
    #[error("{left} bytes follow the end at byte {offset}")]
    TrailingBytes {
        /// Where the end is.
        offset: usize,
        /// How many bytes follow.
        left: usize,
    },
    /// A client is listed twice.
    #[error("client {client} is listed twice")]
    RepeatedClient {
        /// The client.
        client: ClientId,
    },
    /// A client is listed without blocks.
    #[error("client {client} is listed without blocks")]
    EmptySection {
        /// The client.
        client: ClientId,
    },
    /// A client is listed without deletions.
    #[error("client {client} is listed without deletions")]
    EmptyDeletions {
        /// The client.
        client: ClientId,
    },
    /// A block has no content.
    #[error("the block at byte {offset} has length 0")]
    EmptyBlock {
        /// Where it begins.
        offset: usize,
    },
    /// A deletion deletes nothing.
    #[error("the deletion at byte {offset} has length 0")]
    EmptyRange {
        /// Where it begins.
        offset: usize,
    },
    /// A deletion begins before the one in front of it ends.
    #[error("the deletion at byte {offset} begins at clock {clock}, the one before ends at {end}")]
    UnsortedRange {
        /// Where it is.
        offset: usize,
        /// Its first clock.
        clock: u32,
        /// The end of its predecessor.
        end: u32,
    },
    /// A clock with its length added is too large.
    #[error("{len} clocks from {clock} (byte {offset}) reach 2^31 - 256 or more")]
    ClockTooLarge {
        /// Where the block or deletion begins.
        offset: usize,
        /// Its clock.
        clock: u32,
        /// Its length.
        len: u64,
    },
    /// A kind of block that current Yjs does not write or yrs does not read.
    #[error("the block at byte {offset} is of an unsupported kind (first byte {info:#04x})")]
    UnsupportedBlock {
        /// Where it begins.
        offset: usize,
        /// Its first byte: flags and kind.
        info: u8,
    },
    /// A subdocument, while they are refused.
    #[error("the block at byte {offset} is a subdocument, and subdocuments are not enabled here")]
    SubdocumentRefused {
        /// Where the block begins.
        offset: usize,
    },
    /// A kind of shared type that current Yjs does not write or yrs does not read.
    #[error("the shared type at byte {offset} is of the unsupported kind {tag}")]
    UnsupportedType {
        /// Where it is.
        offset: usize,
        /// Its kind.
        tag: u8,
    },
    /// The parent is neither a name nor a block.
    #[error("the parent at byte {offset} is of the unknown kind {tag}")]
    UnknownParent {
        /// Where it is.
        offset: usize,
        /// Its kind.
        tag: u64,
    },
    /// A kind of value that lib0 does not have.
    #[error("the value at byte {offset} is of the unknown kind {tag}")]
    UnknownValue {
        /// Where it is.
        offset: usize,
        /// Its kind.
        tag: u8,
    },
    /// Arrays and objects are nested too deeply.
    #[error("the value at byte {offset} is nested deeper than {max} levels")]
    ValueTooDeep {
        /// The first array or object that is too deep.
        offset: usize,
        /// The limit.
        max: usize,
    },
    /// Text that should be JSON, and that yrs or a browser would refuse.
    #[error("the JSON at byte {offset} is unreadable: {reason}")]
    BadJson {
        /// Where its length begins.
        offset: usize,
        /// What is wrong with it.
        reason: Box<str>,
    },
    /// A block refers to itself or to a later block of its own client.
    #[error(
        "block {block} refers to clock {clock} of its own client (byte {offset}), which is not before it"
    )]
    ForwardReference {
        /// Where the reference is.
        offset: usize,
        /// The clock that is referred to.
        clock: u32,
        /// The clock of the block.
        block: u32,
    },
    /// Blocks of several clients refer to each other in a circle.
    #[error("the blocks of client {client} and others wait for one another")]
    CircularReference {
        /// One of the clients.
        client: ClientId,
    },
    /// The neighbours of a block lie in different lists or entries.
    #[error(
        "the neighbours of the block at clock {clock} of client {client} are in different lists or entries"
    )]
    TornBlock {
        /// Whose block it is.
        client: ClientId,
        /// Its clock.
        clock: u32,
    },
    /// A block puts several values under one key.
    #[error("the block at clock {clock} of client {client} puts several values under one key")]
    SeveralValues {
        /// Whose block it is.
        client: ClientId,
        /// Its first clock that is not deleted.
        clock: u32,
    },
    /// Shared types are nested too deeply.
    #[error(
        "the shared type at clock {clock} of client {client} is nested deeper than {max} levels"
    )]
    TypesTooDeep {
        /// Whose type it is.
        client: ClientId,
        /// Its clock.
        clock: u32,
        /// The limit.
        max: u32,
    },
    /// More shared types or keys than can be numbered.
    #[error("the document has 2^32 shared types or keys")]
    TooManyTypes,
    /// More clients than the budget has.
    #[error("the update has blocks or deletions of {clients} clients, at most {max} are allowed")]
    ClientsOverBudget {
        /// How many it has.
        clients: usize,
        /// The limit.
        max: usize,
    },
    /// Client ids that were chosen to collide in hash maps.
    #[error("{clients} clients have ids with the same lowest 12 bits, at most {max} may")]
    CollidingClients {
        /// How many there are.
        clients: usize,
        /// The limit.
        max: usize,
    },
    /// More delete ranges than the budget has.
    #[error("the update deletes {ranges} ranges or more, at most {max} are allowed")]
    DeleteRangesOverBudget {
        /// How many were announced up to this one.
        ranges: usize,
        /// The limit.
        max: usize,
    },
    /// A presence state that is larger than the budget.
    #[error("the presence of client {client} is {bytes} bytes long, at most {max} are allowed")]
    PresenceStateOverBudget {
        /// Whose state it is.
        client: ClientId,
        /// Its length.
        bytes: usize,
        /// The limit.
        max: usize,
    },
}

impl ValidationError {
    /// Whether a limit was hit, so that less of the same would pass; otherwise the bytes are wrong.
    #[must_use]
    pub fn is_budget(&self) -> bool {
        matches!(
            self,
            Self::ValueTooDeep { .. }
                | Self::TypesTooDeep { .. }
                | Self::TooManyTypes
                | Self::ClientsOverBudget { .. }
                | Self::CollidingClients { .. }
                | Self::DeleteRangesOverBudget { .. }
                | Self::PresenceStateOverBudget { .. }
        )
    }
}
