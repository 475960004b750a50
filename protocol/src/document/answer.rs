//! The latest answer to a SyncStep1. People who open a document together ask the same, and
//! encoding a large document costs more than everything else about a join.

use bytes::Bytes;

use crate::gate::StateVector;
use crate::time::{Millis, Timestamp};

/// How long an answer that nobody asks for is kept. It is as large as the document may be.
const KEPT: Millis = Millis::from_secs(5);

/// An answer that is right until the document changes.
#[derive(Debug, Default)]
pub(crate) struct Answer(Option<Kept>);

#[derive(Debug)]
struct Kept {
    /// What the client said it has, as far as the document knows it.
    base: StateVector,
    frame: Bytes,
    asked_at: Timestamp,
}

impl Answer {
    /// The frame for a client that has `base`, if it is the one that is kept.
    pub(crate) fn get(&mut self, now: Timestamp, base: &StateVector) -> Option<Bytes> {
        let kept = self.0.as_mut().filter(|kept| kept.base == *base)?;
        kept.asked_at = now;
        Some(kept.frame.clone())
    }

    pub(crate) fn keep(&mut self, now: Timestamp, base: StateVector, frame: Bytes) {
        self.0 = Some(Kept { base, frame, asked_at: now });
    }

    /// The document has changed.
    pub(crate) fn forget(&mut self) {
        self.0 = None;
    }

    /// When it is to be forgotten because nobody asks.
    pub(crate) fn expires_at(&self) -> Option<Timestamp> {
        self.0.as_ref().map(|kept| kept.asked_at + KEPT)
    }

    /// Forgets what nobody has asked for in time.
    pub(crate) fn sweep(&mut self, now: Timestamp) {
        if self.expires_at().is_some_and(|at| at <= now) {
            self.forget();
        }
    }
}
