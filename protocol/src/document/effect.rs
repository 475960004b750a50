//! Effects of a document.

use bytes::Bytes;

use crate::close::Close;
use crate::document::stored::Snapshot;
use crate::id::{Sequence, SessionId};
use crate::time::Timestamp;
use crate::validate::StateVector;
use crate::wire::ServerMessage;

/// An action for the caller. Effects are carried out in the order they are listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Read the stored log and answer with `Loaded` or `LoadFailed`. Never asked while an append is
    /// under way.
    Load,
    /// Put a message into a session's queue.
    Send {
        /// The session.
        to: SessionId,
        /// The message, to be encoded in the session's dialect.
        message: ServerMessage,
        /// What to do when the queue is full.
        delivery: Delivery,
    },
    /// Store an update; answered with `Persisted` once it is on disk.
    Append {
        /// Its position in the log.
        sequence: Sequence,
        /// The received bytes.
        update: Bytes,
        /// Its sender.
        session: SessionId,
    },
    /// Read the state back, compare it, store it; answered with `SnapshotEnded`. Everything in it
    /// is already on disk as updates.
    Snapshot {
        /// The state.
        snapshot: Snapshot,
        /// The clocks it must hold.
        state_vector: StateVector,
    },
    /// Read the stored log, [`compare`](super::compare) it with this state, and answer with
    /// `Compared`. No update is under way, and no snapshot is asked for before the answer.
    Compare {
        /// The state, and the position that the log must end at.
        live: Snapshot,
        /// Its clocks.
        state_vector: StateVector,
    },
    /// Close a session's socket. The document has already forgotten the session.
    Close {
        /// The session.
        session: SessionId,
        /// Why.
        close: Close,
    },
    /// Drop the document: it has no sessions and everything is on disk.
    Unload,
}

/// What happens to a message when its queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The queue is dropped as a whole and `Overflowed` is the next input. A single update is never
    /// skipped: two copies would differ in silence.
    Required,
    /// The message is skipped. Presence is renewed anyway.
    Skippable,
}

/// One input being handled: when, and the effects so far.
pub(super) struct Turn<'a> {
    pub(super) now: Timestamp,
    pub(super) effects: &'a mut Vec<Effect>,
}

impl Turn<'_> {
    /// Puts a message into a session's queue.
    pub(super) fn send(&mut self, to: SessionId, message: ServerMessage, delivery: Delivery) {
        self.effects.push(Effect::Send { to, message, delivery });
    }
}
