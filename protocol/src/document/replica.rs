//! The CRDT behind a document. The only file in the workspace that names yrs.
//!
//! yrs 0.28.1 can be crashed, hung or poisoned by updates that decode, so nothing reaches it that
//! the gate has not walked and fitted, and a replica that panics or reports an error is thrown away
//! and rebuilt from the log: half of such an update may have been integrated, and there is no
//! rollback.

use std::borrow::Cow;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};

use thiserror::Error;
use yrs::updates::decoder::Decode;
use yrs::{ClientID, Doc, OffsetKind, Options, ReadTxn, Transact, TransactionMut, Update};

use crate::document::limits::Limits;
use crate::document::stored::{Snapshot, StoredLog};
use crate::gate::{self, Budget, Fit, GateError, StateVector, Subdocuments, UpdateFacts};
use crate::id::Sequence;

/// Updates integrated per transaction while a log is replayed. yrs squashes neighbours when a
/// transaction ends: 10 to 1,000 is the fast range, one by one and all at once are slower.
const REPLAY_BATCH: usize = 100;

/// A yrs document that only ever holds complete history, and its state vector.
pub(crate) struct Replica {
    /// None once it failed; it must not be used then.
    doc: Option<Doc>,
    known: StateVector,
}

/// What applying an update did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    /// The document changed.
    Changed,
    /// Everything in it was known.
    Known,
}

/// Why an update could not be integrated. The replica is unusable from here on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ApplyError {
    /// yrs refused it.
    #[error("the update cannot be integrated: {reason}")]
    Refused {
        /// What yrs said.
        reason: String,
    },
    /// yrs panicked.
    #[error("the CRDT failed; the document is loaded afresh")]
    Panicked,
    /// yrs holds back a part of it, though nothing is missing.
    #[error("the update refers to itself in a circle")]
    Circular,
}

impl std::fmt::Debug for Replica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replica").field("known", &self.known).finish_non_exhaustive()
    }
}

impl Replica {
    pub(crate) fn new(subdocuments: Subdocuments) -> Self {
        let mut options = Options::with_guid_and_client_id("".into(), ClientID::new(0));
        options.offset_kind = OffsetKind::Utf16;
        options.cleanup_formatting = false;
        options.skip_gc = subdocuments == Subdocuments::Allowed;
        Self { doc: Some(Doc::with_options(options)), known: StateVector::new() }
    }

    /// How much of each client's history is here.
    pub(crate) fn known(&self) -> &StateVector {
        &self.known
    }

    /// The update without the part of a block that is known here. The received bytes, unless
    /// somebody typed while synchronising, or tries what [`gate::trim_known`] warns of.
    pub(crate) fn trim<'a>(
        &self,
        facts: &UpdateFacts,
        update: &'a [u8],
    ) -> Result<Cow<'a, [u8]>, GateError> {
        if facts.overlaps(&self.known) {
            gate::trim_known(update, &self.known).map(Cow::Owned)
        } else {
            Ok(Cow::Borrowed(update))
        }
    }

    /// Integrates an update that the gate has walked, that fits and is trimmed.
    pub(crate) fn apply(
        &mut self,
        facts: &UpdateFacts,
        update: &[u8],
    ) -> Result<Applied, ApplyError> {
        let applied = self.guarded(|doc| integrate(doc, &[Cow::Borrowed(update)]))?;
        facts.advance(&mut self.known);
        Ok(applied)
    }

    /// What a peer at `state` lacks. Always carries the whole delete set.
    pub(crate) fn diff(&mut self, state: &StateVector) -> Result<Vec<u8>, ApplyError> {
        // Clients unknown here cannot change the answer, and yrs hashes ids by identity: 80,000
        // chosen ids would cost seconds.
        let relevant = state
            .iter()
            .filter(|(client, _)| self.known.contains_key(client))
            .map(|(client, &clock)| (ClientID::new(client.get()), clock))
            .collect();
        let state = yrs::StateVector::new(relevant);
        // encode_diff, never encode_state_as_update: the latter merges what is pending, and that
        // is where a poisoned document panics.
        self.guarded(|doc| Ok(doc.transact().encode_diff_v1(&state)))
    }

    /// The whole document.
    pub(crate) fn state(&mut self) -> Result<Vec<u8>, ApplyError> {
        self.diff(&StateVector::new())
    }

    /// Runs `work` so that a panic or an error takes this replica out of use and nothing else.
    fn guarded<T>(
        &mut self,
        work: impl FnOnce(&Doc) -> Result<T, ApplyError>,
    ) -> Result<T, ApplyError> {
        let doc = self.doc.take().ok_or(ApplyError::Panicked)?;
        let result = catch_unwind(AssertUnwindSafe(|| work(&doc)));
        match result {
            Ok(Ok(value)) => {
                self.doc = Some(doc);
                Ok(value)
            }
            Ok(Err(error)) => {
                // Half integrated, but freeing it follows no link between blocks. Keeping it would
                // let one writer fill the memory with copies of the document.
                drop(catch_unwind(AssertUnwindSafe(|| drop(doc))));
                Err(error)
            }
            Err(_panic) => {
                // Interrupted at an unknown place: what it owns may be freed already.
                std::mem::forget(doc);
                Err(ApplyError::Panicked)
            }
        }
    }
}

fn integrate(doc: &Doc, updates: &[Cow<'_, [u8]>]) -> Result<Applied, ApplyError> {
    // A transaction commits when it is dropped. If one were dropped because something in it
    // panicked, that could panic again, and then the whole process would be aborted.
    let mut txn = ManuallyDrop::new(doc.transact_mut());
    let applied = apply_all(&mut txn, updates);
    drop(ManuallyDrop::into_inner(txn));
    applied
}

fn apply_all(
    txn: &mut TransactionMut<'_>,
    updates: &[Cow<'_, [u8]>],
) -> Result<Applied, ApplyError> {
    for update in updates {
        let update = Update::decode_v1(update)
            .map_err(|error| ApplyError::Refused { reason: error.to_string() })?;
        txn.apply_update(update)
            .map_err(|error| ApplyError::Refused { reason: error.to_string() })?;
    }
    if txn.has_missing_updates() {
        return Err(ApplyError::Circular);
    }
    Ok(if txn.has_changes() { Applied::Changed } else { Applied::Known })
}

/// A stored document, decoded and ready to be edited.
///
/// Decoding takes milliseconds to seconds and needs no document, so callers do it off their event
/// loop and hand the result to [`Input::Loaded`](super::Input::Loaded).
#[derive(Debug)]
pub struct LoadedDocument {
    pub(crate) replica: Replica,
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
            last: replay.last,
            snapshot_through: stored.snapshot.as_ref().map_or(Sequence::ZERO, |s| s.through),
            snapshot_bytes: loaded_bytes,
            tail_bytes,
        })
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
        if facts.fit(&self.replica.known) == Fit::Incomplete {
            return Err(DecodeError::Incomplete { sequence });
        }
        let update = self
            .replica
            .trim(&facts, update)
            .map_err(|error| DecodeError::Gate { sequence, error })?;
        facts.advance(&mut self.replica.known);
        self.batch.push(update);
        self.last = sequence;
        if self.batch.len() == REPLAY_BATCH { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), DecodeError> {
        let batch = std::mem::take(&mut self.batch);
        if batch.is_empty() {
            return Ok(());
        }
        match self.replica.guarded(|doc| integrate(doc, &batch)) {
            Ok(Applied::Changed | Applied::Known) => Ok(()),
            Err(error) => Err(DecodeError::Apply { sequence: self.last, error }),
        }
    }
}

/// Why a snapshot must not replace what it was made from.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum VerifyError {
    /// It cannot be read back.
    #[error("the snapshot cannot be read back: {0}")]
    Unreadable(#[from] DecodeError),
    /// It cannot be written out again.
    #[error("the snapshot cannot be encoded again: {0}")]
    Unwritable(#[from] ApplyError),
    /// It holds another history than the document.
    #[error("the snapshot holds other clocks than the document")]
    StateVector,
    /// It holds other deletions than it reads back as.
    #[error("the snapshot reads back with other deletions")]
    Deletions,
    /// Read back and written again, it is not the same.
    #[error("the snapshot of {bytes} bytes reads back as another state")]
    Content {
        /// Its size.
        bytes: usize,
    },
}

/// Reads a snapshot back into a fresh document and compares: the same clocks as the document it
/// was taken from (`known`), the same deletions, and the same blocks when it is read back twice.
///
/// The blocks of the snapshot itself may differ from those: a live document keeps neighbours apart
/// that yrs joins when it reads them.
///
/// # Errors
/// If anything differs. The log that the snapshot would cover must then stay.
pub fn verify_snapshot(
    snapshot: &Snapshot,
    known: &StateVector,
    limits: &Limits,
) -> Result<(), VerifyError> {
    let joined = read_back(snapshot.clone(), known, limits)?;
    if deletions(&joined.state) != deletions(&snapshot.state) {
        return Err(VerifyError::Deletions);
    }
    let unwalkable = |error| DecodeError::Gate { sequence: snapshot.through, error };
    let expected = gate::canonical(&joined.state).map_err(unwalkable)?;
    let again = read_back(joined, known, limits)?;
    if gate::canonical(&again.state).map_err(unwalkable)? != expected {
        return Err(VerifyError::Content { bytes: snapshot.state.len() });
    }
    Ok(())
}

/// The snapshot as a document writes it that was loaded from nothing else.
fn read_back(
    snapshot: Snapshot,
    known: &StateVector,
    limits: &Limits,
) -> Result<Snapshot, VerifyError> {
    let through = snapshot.through;
    let stored = StoredLog { snapshot: Some(snapshot), ..StoredLog::default() };
    let mut document = LoadedDocument::decode(&stored, limits)?;
    if document.known() != known {
        return Err(VerifyError::StateVector);
    }
    Ok(Snapshot { through, state: document.state()?.into() })
}

fn deletions(state: &[u8]) -> Option<yrs::IdSet> {
    Update::decode_v1(state).ok().map(|update| update.delete_set().clone())
}
