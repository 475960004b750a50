//! The latest SyncStep2. Sessions that join or fall behind together lack the same, and encoding a
//! large document costs more than everything else about it.

use crate::document::replica::{ApplyError, Replica};
use crate::time::{Millis, Timestamp};
use crate::validate::StateVector;
use crate::wire::SyncMessage;

/// How long an answer is kept after its last use. It is as large as the document may be.
const KEPT: Millis = Millis::from_secs(5);

/// An answer that is valid until the document changes.
#[derive(Debug, Default)]
pub(crate) struct DiffCache(Option<CachedDiff>);

#[derive(Debug)]
struct CachedDiff {
    /// The state that the client declared, without unknown clients.
    base: StateVector,
    answer: SyncMessage,
    asked_at: Timestamp,
}

impl DiffCache {
    /// The SyncStep2 for a client at `base`; the cached one if it is for the same state.
    ///
    /// # Errors
    /// If the CRDT fails.
    pub(crate) fn get(
        &mut self,
        now: Timestamp,
        base: &StateVector,
        replica: &mut Replica,
    ) -> Result<SyncMessage, ApplyError> {
        if let Some(kept) = self.0.as_mut().filter(|kept| kept.base == *base) {
            kept.asked_at = now;
            return Ok(kept.answer.clone());
        }
        let answer = SyncMessage::step_2(&replica.diff(base)?);
        self.0 = Some(CachedDiff { base: base.clone(), answer: answer.clone(), asked_at: now });
        Ok(answer)
    }

    /// The document has changed.
    pub(crate) fn forget(&mut self) {
        self.0 = None;
    }

    /// When it expires unless it is used.
    pub(crate) fn expires_at(&self) -> Option<Timestamp> {
        self.0.as_ref().map(|kept| kept.asked_at + KEPT)
    }

    /// Forgets an expired answer.
    pub(crate) fn sweep(&mut self, now: Timestamp) {
        if self.expires_at().is_some_and(|at| at <= now) {
            self.forget();
        }
    }
}
