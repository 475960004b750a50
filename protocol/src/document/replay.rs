//! Replays a stored log into a document that can be edited.

use std::borrow::Cow;

use thiserror::Error;

use crate::document::limits::Limits;
use crate::document::replica::{ApplyError, Replica};
use crate::document::stored::{Snapshot, StoredLog};
use crate::id::{Epoch, Sequence};
use crate::validate::{self, Budget, Fit, StateVector, ValidationError};

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
    /// Why it is read-only.
    pub(crate) quarantine: Option<String>,
}

/// Why a stored document cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// A stored record is invalid.
    #[error("the record at sequence {sequence} breaks a rule of the update format: {error}")]
    Invalid {
        /// The record.
        sequence: Sequence,
        /// The rule.
        error: ValidationError,
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
    /// Rebuilds the document from its log, in sequence order, validated again.
    ///
    /// # Errors
    /// If a record is damaged, missing, or refused by the CRDT.
    pub fn decode(stored: &StoredLog, limits: &Limits) -> Result<Self, DecodeError> {
        let mut replay = Replay::new(limits.stored);
        replay.read(stored, usize::MAX)?;
        Ok(replay.into_document(stored))
    }

    /// Rebuilds the document from its log as far as that goes. If a record cannot be replayed, the
    /// document is what the records before it make, it is quarantined, and the failure is returned
    /// with it. Without a readable snapshot that is the empty document.
    #[must_use]
    pub fn salvage(stored: &StoredLog, limits: &Limits) -> (Self, Option<DecodeError>) {
        let mut replay = Replay::new(limits.stored);
        let Err(mut error) = replay.read(stored, usize::MAX) else {
            return (replay.into_document(stored), None);
        };
        // A batch fails as a whole, so what follows the last good one is read record by record.
        // That replica ends on the bad record too; the last one stops before it.
        let mut good = replay.integrated;
        let mut replay = Replay::new(limits.stored);
        if let Err(exact) = replay.read(stored, good) {
            error = exact;
        }
        good = replay.integrated;
        let before = stored.records_before(good);
        let mut replay = Replay::new(limits.stored);
        if let Err(again) = replay.read(&before, good) {
            // It was read a moment ago, so the cause is unknown.
            error = again;
            replay = Replay::new(limits.stored);
        }
        let mut document = replay.into_document(&before);
        document.quarantine(error.to_string());
        (document, Some(error))
    }

    /// Makes the document read-only, for a cause that the log will name. The first cause stays.
    pub fn quarantine(&mut self, cause: impl Into<String>) {
        self.quarantine.get_or_insert_with(|| cause.into());
    }

    /// The epoch of its history.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The last position in its log.
    #[must_use]
    pub fn last(&self) -> Sequence {
        self.last
    }

    /// How much of each client's history it holds.
    #[must_use]
    pub fn state_vector(&self) -> &StateVector {
        self.replica.state_vector()
    }

    /// The whole document as one update.
    ///
    /// # Errors
    /// If the CRDT cannot encode it.
    pub fn state(&mut self) -> Result<Vec<u8>, ApplyError> {
        self.replica.state()
    }
}

/// Replays records into a replica, a batch at a time.
struct Replay<'a> {
    replica: Replica,
    budget: Budget,
    batch: Vec<Cow<'a, [u8]>>,
    last: Sequence,
    /// Records in the replica, the snapshot among them.
    integrated: usize,
    tail_bytes: u64,
}

impl<'a> Replay<'a> {
    fn new(budget: Budget) -> Self {
        let replica = Replica::new(budget.subdocuments);
        Self {
            replica,
            budget,
            batch: Vec::new(),
            last: Sequence::ZERO,
            integrated: 0,
            tail_bytes: 0,
        }
    }

    /// Reads a whole log, record by record from the one with the index `singly` on.
    fn read(&mut self, stored: &'a StoredLog, singly: usize) -> Result<(), DecodeError> {
        if let Some(Snapshot { through, state }) = &stored.snapshot {
            self.push(*through, state)?;
            self.flush()?;
        }
        for logged in &stored.updates {
            let expected = self.last.next();
            if logged.sequence != expected {
                return Err(DecodeError::OutOfOrder { expected, found: logged.sequence });
            }
            self.push(logged.sequence, &logged.update)?;
            self.tail_bytes += logged.update.len() as u64;
            if self.batch.len() == REPLAY_BATCH || self.integrated + self.batch.len() > singly {
                self.flush()?;
            }
        }
        self.flush()
    }

    fn into_document(self, stored: &StoredLog) -> LoadedDocument {
        let snapshot = stored.snapshot.as_ref();
        LoadedDocument {
            replica: self.replica,
            epoch: stored.epoch,
            last: self.last,
            snapshot_through: snapshot.map_or(Sequence::ZERO, |snapshot| snapshot.through),
            snapshot_bytes: snapshot.map_or(0, |snapshot| snapshot.state.len() as u64),
            tail_bytes: self.tail_bytes,
            quarantine: None,
        }
    }

    fn push(&mut self, sequence: Sequence, update: &'a [u8]) -> Result<(), DecodeError> {
        let facts = validate::walk_update(update, &self.budget)
            .map_err(|error| DecodeError::Invalid { sequence, error })?;
        if facts.fit(self.replica.state_vector()) == Fit::Incomplete {
            return Err(DecodeError::Incomplete { sequence });
        }
        let update = self
            .replica
            .admit(&facts, update)
            .map_err(|error| DecodeError::Invalid { sequence, error })?;
        self.replica.preload_clocks(&facts);
        self.batch.push(update);
        self.last = sequence;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), DecodeError> {
        let batch = std::mem::take(&mut self.batch);
        if batch.is_empty() {
            return Ok(());
        }
        let applied = self.replica.apply_batch(&batch);
        applied.map_err(|error| DecodeError::Apply { sequence: self.last, error })?;
        self.integrated += batch.len();
        Ok(())
    }
}
