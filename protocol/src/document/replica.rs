//! The CRDT behind a document. In product code, the only file that names yrs.
//!
//! yrs 0.28.1 can be crashed, hung or poisoned by updates that decode. So it is given validated and
//! fitting updates only, and a replica that panics or reports an error is thrown away
//! and rebuilt from the log: half of such an update may have been integrated, and there is no
//! rollback.

use std::borrow::Cow;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};

use thiserror::Error;
use yrs::updates::decoder::Decode;
use yrs::{ClientID, Doc, IdSet, OffsetKind, Options, ReadTxn, Transact, TransactionMut, Update};

use crate::validate::{
    ParentIndex, Section, StateVector, Subdocuments, UpdateFacts, ValidationError,
};

/// A yrs document that only ever holds complete history, and its state vector.
pub(crate) struct Replica {
    /// None once it failed; it must not be used then.
    doc: Option<Doc>,
    state_vector: StateVector,
    parents: ParentIndex,
    /// Cached delete set; None once an update was applied.
    deleted: Option<IdSet>,
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
    #[error("the CRDT failed; the document is loaded again")]
    Panicked,
    /// yrs holds back a part of it, though nothing is missing.
    #[error("the update refers to itself in a circle")]
    Circular,
}

impl std::fmt::Debug for Replica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replica").field("state_vector", &self.state_vector).finish_non_exhaustive()
    }
}

impl Replica {
    pub(crate) fn new(subdocuments: Subdocuments) -> Self {
        let mut options = Options::with_guid_and_client_id("".into(), ClientID::new(0));
        options.offset_kind = OffsetKind::Utf16;
        options.cleanup_formatting = false;
        options.skip_gc = subdocuments == Subdocuments::Allowed;
        Self {
            doc: Some(Doc::with_options(options)),
            state_vector: StateVector::new(),
            parents: ParentIndex::default(),
            deleted: None,
        }
    }

    /// How much of each client's history it holds.
    pub(crate) fn state_vector(&self) -> &StateVector {
        &self.state_vector
    }

    /// Records the parent of every block of a fitting update, and returns the bytes to integrate, log
    /// and relay: the received ones, unless the client typed while it synchronised, wrote into deleted
    /// content, or tries what [`trim_known`](crate::validate::trim_known) warns of. Afterwards the
    /// update has to be integrated.
    pub(crate) fn admit<'a>(
        &mut self,
        facts: &UpdateFacts,
        update: &'a [u8],
    ) -> Result<Cow<'a, [u8]>, ValidationError> {
        self.parents.admit(facts, &self.state_vector, update)
    }

    /// Integrates an update that was admitted.
    pub(crate) fn apply(
        &mut self,
        facts: &UpdateFacts,
        update: &[u8],
    ) -> Result<Applied, ApplyError> {
        self.deleted = None;
        let applied = self.guarded(|doc| integrate(doc, &[Cow::Borrowed(update)]))?;
        facts.advance(&mut self.state_vector);
        Ok(applied)
    }

    /// Whether everything that an update inserts or deletes is known.
    pub(crate) fn holds(&mut self, facts: &UpdateFacts, update: &[u8]) -> Result<bool, ApplyError> {
        let knows = |section: &Section| {
            self.state_vector.get(&section.client).is_some_and(|&clock| section.end <= clock)
        };
        if !facts.sections.iter().all(knows) {
            return Ok(false);
        }
        if !facts.deletes {
            return Ok(true);
        }
        let deleted = match self.deleted.take() {
            Some(deleted) => deleted,
            None => self.guarded(|doc| Ok(doc.transact().snapshot().delete_set))?,
        };
        let holds = self.guarded(|_| {
            let update = Update::decode_v1(update)
                .map_err(|error| ApplyError::Refused { reason: error.to_string() })?;
            Ok(update.delete_set().diff(&deleted).is_empty())
        });
        self.deleted = Some(deleted);
        holds
    }

    /// Integrates updates of a log in one transaction. They were admitted one after the other, each
    /// against what the ones before it bring; see [`Self::preload_clocks`].
    pub(crate) fn apply_batch(&mut self, updates: &[Cow<'_, [u8]>]) -> Result<(), ApplyError> {
        self.guarded(|doc| integrate(doc, updates)).map(drop)
    }

    /// Raises the clocks to those after an update that the next [`Self::apply_batch`] will bring.
    pub(crate) fn preload_clocks(&mut self, facts: &UpdateFacts) {
        facts.advance(&mut self.state_vector);
    }

    /// The updates that a peer at `state` lacks. Always carries the whole delete set.
    pub(crate) fn diff(&mut self, state: &StateVector) -> Result<Vec<u8>, ApplyError> {
        // Clients unknown here cannot change the answer, and yrs hashes ids by identity: 80,000
        // chosen ids would cost seconds.
        let relevant = state
            .iter()
            .filter(|(client, _)| self.state_vector.contains_key(client))
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
    // There is no other transaction, so there is nothing to wait for.
    let txn = doc.try_transact_mut();
    let txn = txn.map_err(|error| ApplyError::Refused { reason: error.to_string() })?;
    let mut txn = ManuallyDrop::new(txn);
    let applied = apply_all(&mut txn, updates);
    drop(ManuallyDrop::into_inner(txn));
    applied
}

fn apply_all(
    txn: &mut TransactionMut<'_>,
    updates: &[Cow<'_, [u8]>],
) -> Result<Applied, ApplyError> {
    for update in updates {
        #[cfg(feature = "failpoint")]
        failpoint(update)?;
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

/// A valid update that holds this text fails in the CRDT.
#[cfg(feature = "failpoint")]
pub const FAILPOINT: &str = "\u{0}failpoint";

/// An update that holds this text panics outside of the CRDT, where the panic is not caught.
#[cfg(feature = "failpoint")]
pub const PANIC_POINT: &str = "\u{0}panic point";

/// Panics if the update asks for it.
#[cfg(feature = "failpoint")]
#[expect(clippy::panic, reason = "that is what it is for, in tests")]
pub(crate) fn panic_point(update: &[u8]) {
    if update.windows(PANIC_POINT.len()).any(|window| window == PANIC_POINT.as_bytes()) {
        panic!("a test asked for it");
    }
}

#[cfg(feature = "failpoint")]
fn failpoint(update: &[u8]) -> Result<(), ApplyError> {
    match update.windows(FAILPOINT.len()).any(|window| window == FAILPOINT.as_bytes()) {
        true => Err(ApplyError::Refused { reason: "a test asked for it".to_owned() }),
        false => Ok(()),
    }
}

/// The deletions in an encoded state; None if it cannot be read.
pub(crate) fn deletions(state: &[u8]) -> Option<IdSet> {
    Update::decode_v1(state).ok().map(|update| update.delete_set().clone())
}
