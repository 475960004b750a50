//! Inputs of a document.

use crate::access::Grant;
use crate::document::availability::StoreAvailability;
use crate::document::replay::LoadedDocument;
use crate::id::{Epoch, Sequence, SessionId};
use crate::wire::{ClientMessage, Dialect};

/// An event. Inputs are handled one after the other, in the order they arrive.
#[derive(Debug)]
pub enum Input {
    /// Answers [`Effect::Load`](super::Effect::Load).
    Loaded(Box<LoadedDocument>),
    /// Answers [`Effect::Load`](super::Effect::Load): what is stored cannot be read.
    LoadFailed,
    /// Answers the next message that was deferred while the document was loaded; see
    /// [`Document::next_deferred`](super::Document::next_deferred).
    Continue,
    /// A verified client joins.
    Joined {
        /// Its session.
        session: SessionId,
        /// Its rights.
        grant: Grant,
        /// Its encoding.
        dialect: Dialect,
        /// The history that its client names.
        epoch: Option<Epoch>,
    },
    /// Another grant holds for a session: a new token, or a revocation.
    Granted {
        /// The session.
        session: SessionId,
        /// Its rights.
        grant: Grant,
    },
    /// A session's client sent a message.
    Received {
        /// The session.
        session: SessionId,
        /// The message.
        message: ClientMessage,
    },
    /// A session's queue overflowed and was dropped; nothing reaches it until `Drained`.
    Overflowed {
        /// The session.
        session: SessionId,
    },
    /// A session that overflowed has written everything it still held.
    Drained {
        /// The session.
        session: SessionId,
    },
    /// A session's socket is gone.
    Left {
        /// The session.
        session: SessionId,
    },
    /// Updates up to here are on disk.
    Persisted {
        /// The last of them.
        through: Sequence,
    },
    /// The store refused an update of this document alone.
    PersistFailed,
    /// The store takes updates again, or none of any document at the moment.
    Store(StoreAvailability),
    /// Answers [`Effect::Snapshot`](super::Effect::Snapshot).
    SnapshotEnded(SnapshotOutcome),
    /// Compare the document with its log, as soon as all of it is there.
    Check,
    /// Answers [`Effect::Compare`](super::Effect::Compare).
    Compared(CheckOutcome),
    /// The time named by [`Document::next_deadline`](super::Document::next_deadline) has come.
    Deadline,
    /// Its memory is needed for other documents. Ignored while it has sessions.
    MakeRoom,
    /// The server is stopping.
    Drain,
}

/// How a comparison of a document with its log ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckOutcome {
    /// They are the same.
    Same,
    /// They are not.
    Different,
    /// They were not compared.
    Unknown,
}

/// How the writing of a snapshot ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotOutcome {
    /// It was read back, found equal, and is on disk.
    Written,
    /// It was not written. The log still holds everything.
    Failed,
}
