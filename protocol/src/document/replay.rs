//! From a stored log to a document that can be edited.

use std::borrow::Cow;

use thiserror::Error;

use crate::document::limits::Limits;
use crate::document::replica::{ApplyError, Replica};
use crate::document::stored::{Snapshot, StoredLog};
use crate::gate::{self, Budget, Fit, GateError, StateVector};
use crate::id::{Epoch, Sequence};

/// Updates integrated per transaction while a log is replayed. yrs squashes neighbours when a
/// transaction ends: 10 to 1,000 is the fast range, one by one and all at once are slower.
const REPLAY_BATCH: usize = 100;

/// A stored document, decoded and ready to be edited.
///
/// Decoding takes milliseconds to seconds and needs no document, so callers do it off their event
/// loop and hand the result to [`Input::Loaded`](super::Input::Loaded).
#[derive(Debug)]
pub struct LoadedDocument {
    pub(crate) replica: Replica,
    pub(crate) epoch: Epoch,
    pub(crate) last: Sequence,
    pub(crate) snapshot_through: Sequence,
    pub(crate) snapshot_bytes: u64,
    pub(crate) tail_bytes: u64,
}

/// Why a stored document cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// A stored record breaks the gate's rules.
    #[error("the record at sequence {sequence} breaks a rule of the update format: {error}")]
    Gate {
        /// The record.
        sequence: Sequence,
        /// The rule.
        error: GateError,
    },
    /// A stored record refers to something that is not there.
    #[error("the record at sequence {sequence} refers to updates that are not stored")]
    Incomplete {
        /// The record.
        sequence: Sequence,
    },
    /// A record is missing or out of place.
    #[error("the log holds sequence {found} where {expected} should be")]
    OutOfOrder {
        /// The record that should be here.
        expected: Sequence,
        /// The record that is.
        found: Sequence,
    },
    /// The CRDT refuses a batch of records.
    #[error("the records up to sequence {sequence} cannot be replayed: {error}")]
    Apply {
        /// The last record of the batch.
        sequence: Sequence,
        /// Its failure.
        error: ApplyError,
    },
}

impl LoadedDocument {
    /// Rebuilds the document from its log, in sequence order and through the gate.
    ///
    /// # Errors
    /// If a record is damaged, missing, or refused by the CRDT.
    pub fn decode(stored: &StoredLog, limits: &Limits) -> Result<Self, DecodeError> {
        let mut replay = Replay::new(limits.stored);
        let mut loaded_bytes = 0;
        if let Some(Snapshot { through, state }) = &stored.snapshot {
            replay.push(*through, state)?;
            replay.flush()?;
            replay.last = *through;
            loaded_bytes = state.len() as u64;
        }
        let mut tail_bytes = 0;
        for logged in &stored.updates {
            let expected = replay.last.next();
            if logged.sequence != expected {
                return Err(DecodeError::OutOfOrder { expected, found: logged.sequence });
            }
            replay.push(logged.sequence, &logged.update)?;
            tail_bytes += logged.update.len() as u64;
        }
        replay.flush()?;
        Ok(Self {
            replica: replay.replica,
            epoch: stored.epoch,
            last: replay.last,
            snapshot_through: stored.snapshot.as_ref().map_or(Sequence::ZERO, |s| s.through),
            snapshot_bytes: loaded_bytes,
            tail_bytes,
        })
    }

    /// The history that it is.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Where its log ends.
    #[must_use]
    pub fn last(&self) -> Sequence {
        self.last
    }

    /// How much of each client's history it holds.
    #[must_use]
    pub fn known(&self) -> &StateVector {
        self.replica.known()
    }

    /// The whole document as one update.
    ///
    /// # Errors
    /// If the CRDT cannot encode it.
    pub fn state(&mut self) -> Result<Vec<u8>, ApplyError> {
        self.replica.state()
    }
}

/// Records on their way into a replica, a batch at a time.
struct Replay<'a> {
    replica: Replica,
    budget: Budget,
    batch: Vec<Cow<'a, [u8]>>,
    last: Sequence,
}

impl<'a> Replay<'a> {
    fn new(budget: Budget) -> Self {
        let replica = Replica::new(budget.subdocuments);
        Self { replica, budget, batch: Vec::new(), last: Sequence::ZERO }
    }

    fn push(&mut self, sequence: Sequence, update: &'a [u8]) -> Result<(), DecodeError> {
        let facts = gate::walk_update(update, &self.budget)
            .map_err(|error| DecodeError::Gate { sequence, error })?;
        if facts.fit(self.replica.known()) == Fit::Incomplete {
            return Err(DecodeError::Incomplete { sequence });
        }
        let update = self
            .replica
            .trim(&facts, update)
            .map_err(|error| DecodeError::Gate { sequence, error })?;
        self.replica.foresee(&facts);
        self.batch.push(update);
        self.last = sequence;
        if self.batch.len() == REPLAY_BATCH { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), DecodeError> {
        let batch = std::mem::take(&mut self.batch);
        if batch.is_empty() {
            return Ok(());
        }
        let applied = self.replica.apply_batch(&batch);
        applied.map_err(|error| DecodeError::Apply { sequence: self.last, error })
    }
}
