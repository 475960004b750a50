//! The path of an update into a document: validation, fit, yrs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use syncline_protocol::ClientId;
use syncline_protocol::validate::{
    Budget, Fit, ParentIndex, StateVector, Subdocuments, UpdateFacts, ValidationError, walk_update,
};
use yrs::updates::decoder::Decode;
use yrs::{Doc, OffsetKind, Options, ReadTxn, Transact, Update};

/// Subdocuments are allowed where a test is about something else.
pub(crate) const WITH_SUBDOCUMENTS: Budget =
    Budget { subdocuments: Subdocuments::Allowed, ..Budget::LIVE };

/// The outcome of an update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Refused(ValidationError),
    Known,
    Incomplete,
    Applied,
    /// yrs failed: the document has to be rebuilt.
    Failed(String),
}

/// A document with validation in front.
pub(crate) struct Replica {
    pub(crate) doc: Doc,
    pub(crate) known: StateVector,
    pub(crate) places: ParentIndex,
    budget: Budget,
}

impl Replica {
    pub(crate) fn new(budget: Budget) -> Self {
        Self {
            doc: doc(u64::from(u32::MAX)),
            known: StateVector::new(),
            places: ParentIndex::default(),
            budget,
        }
    }

    pub(crate) fn deliver(&mut self, bytes: &[u8]) -> Outcome {
        match walk_update(bytes, &self.budget) {
            Ok(facts) => self.apply(bytes, &facts),
            Err(error) => Outcome::Refused(error),
        }
    }

    fn apply(&mut self, bytes: &[u8], facts: &UpdateFacts) -> Outcome {
        match facts.fit(&self.known) {
            Fit::Known => return Outcome::Known,
            Fit::Incomplete => return Outcome::Incomplete,
            Fit::Ready => {}
        }
        let admitted = match self.places.admit(facts, &self.known, bytes) {
            Ok(admitted) => admitted,
            Err(error) => return Outcome::Refused(error),
        };
        let update = Update::decode_v1(&admitted).unwrap();
        match self.doc.transact_mut().apply_update(update) {
            Ok(()) => {
                facts.advance(&mut self.known);
                Outcome::Applied
            }
            Err(error) => Outcome::Failed(error.to_string()),
        }
    }

    /// Asserts that the document is whole: nothing pending, what we count is what yrs counts, and
    /// its snapshot is valid and loads to the same state.
    pub(crate) fn check(&self) {
        assert!(!self.doc.transact().has_missing_updates(), "something is pending");
        assert_eq!(state_vector(&self.doc), self.known, "validation counts as yrs does");
        let snapshot = encode(&self.doc);
        let stored = Budget { subdocuments: self.budget.subdocuments, ..Budget::STORED };
        let mut reloaded = Self::new(stored);
        match reloaded.deliver(&snapshot) {
            Outcome::Applied => {}
            Outcome::Known if self.known.is_empty() => {}
            other @ (Outcome::Refused(_)
            | Outcome::Known
            | Outcome::Incomplete
            | Outcome::Failed(_)) => panic!("the snapshot does not load: {other:?}"),
        }
        assert_eq!(state_vector(&reloaded.doc), self.known, "the snapshot loads in full");
        assert!(!reloaded.doc.transact().has_missing_updates(), "the snapshot leaves something");
    }
}

/// A document as the server creates it.
pub(crate) fn doc(client: u64) -> Doc {
    Doc::with_options(Options {
        client_id: yrs::block::ClientID::new(client),
        offset_kind: OffsetKind::Utf16,
        ..Options::default()
    })
}

pub(crate) fn encode(doc: &Doc) -> Vec<u8> {
    doc.transact().encode_diff_v1(&yrs::StateVector::default())
}

pub(crate) fn state_vector(doc: &Doc) -> StateVector {
    let clocks = doc.transact().state_vector();
    clocks.iter().map(|(id, clock)| (ClientId::new(id.get()).unwrap(), *clock)).collect()
}

/// Runs `test` on a stack that is large enough for whatever yrs recurses into, and returns None
/// when it panicked.
pub(crate) fn isolated<T: Send>(test: impl FnOnce() -> T + Send) -> Option<T> {
    thread::scope(|scope| {
        thread::Builder::new()
            .stack_size(256 << 20)
            .spawn_scoped(scope, || catch_unwind(AssertUnwindSafe(test)).ok())
            .unwrap()
            .join()
            .unwrap()
    })
}
