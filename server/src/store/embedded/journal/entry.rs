//! What the journal holds of one document.
//!
//! Live are its two latest states and the updates after the older of them (after nothing, while
//! there is one state or none). What a later origin has replaced is dead whatever it is: every
//! state says how far that reaches, so nothing rises again when the origin's own record has gone.

use syncline_protocol::{DocumentName, Epoch, Sequence};

use crate::store::embedded::journal::index::Position;
use crate::store::embedded::journal::record::{Fields, Kind, Lineage};
use crate::store::embedded::journal::segments::Segments;
use crate::store::embedded::journal::updates::Updates;
use crate::store::{DocumentInfo, Generation, LoadError};

/// A Yjs update without anything in it.
const NOTHING: [u8; 2] = [0, 0];

/// Tells one state from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Digest {
    pub(crate) bytes: usize,
    pub(crate) crc: u32,
}

impl Digest {
    pub(crate) fn of(state: &[u8]) -> Self {
        Self { bytes: state.len(), crc: crc32c::crc32c(state) }
    }
}

/// A state and where it lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct StateAt {
    pub(super) through: Sequence,
    pub(super) at: Position,
    pub(super) digest: Digest,
    /// Snapshot or origin.
    pub(super) kind: Kind,
    /// It says that the document has nothing in it.
    is_nothing: bool,
}

/// An unreadable record that seems to have been this document's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Suspect {
    pub(super) sequence: Sequence,
    pub(super) segment: u64,
    pub(super) offset: u64,
}

#[derive(Debug, Default)]
pub(super) struct Entry {
    newest: Option<StateAt>,
    previous: Option<StateAt>,
    updates: Updates,
    last: Sequence,
    /// The last origin: what is not after it is dead, but for itself.
    origin: Sequence,
    suspects: Vec<Suspect>,
}

impl Entry {
    /// Takes note of an intact record.
    pub(super) fn insert(&mut self, fields: &Fields<'_>, at: Position, segments: &mut Segments) {
        self.last = self.last.max(fields.sequence);
        let Some(lineage) = fields.kind.lineage() else {
            return self.insert_update(fields.sequence, at, segments);
        };
        let state = StateAt {
            through: fields.sequence,
            at,
            digest: Digest::of(fields.payload),
            kind: fields.kind,
            is_nothing: fields.payload.is_empty() || fields.payload == NOTHING,
        };
        self.insert_state(state, lineage, segments);
    }

    pub(super) fn suspect(&mut self, suspect: Suspect) {
        self.suspects.push(suspect);
    }

    /// The last position of an intact record.
    pub(super) fn last(&self) -> Sequence {
        self.last
    }

    /// The last position there is a sign of.
    pub(super) fn highest(&self) -> Sequence {
        self.suspects.iter().map(|suspect| suspect.sequence).fold(self.last, Sequence::max)
    }

    pub(super) fn newest(&self) -> Option<StateAt> {
        self.newest
    }

    /// What a state that is written next belongs to.
    pub(super) fn lineage(&self, store: Epoch) -> Lineage {
        let newest = self.newest.and_then(|state| state.kind.lineage());
        newest.unwrap_or(Lineage { epoch: store, origin: Sequence::ZERO })
    }

    pub(super) fn info(&self, name: &DocumentName, store: Epoch) -> Option<DocumentInfo> {
        let is_deleted = self.origin > Sequence::ZERO
            && self.newest.is_some_and(|state| state.is_nothing && state.through == self.last);
        let base = self.newest.map_or(Sequence::ZERO, |newest| newest.through);
        let updates = self.updates.behind(base).map(|(_, at)| at.bytes as u64);
        (!is_deleted).then(|| DocumentInfo {
            name: name.clone(),
            epoch: self.lineage(store).epoch,
            last: self.last,
            bytes: self.newest.map_or(0, |newest| newest.at.bytes as u64) + updates.sum::<u64>(),
        })
    }

    /// The state that a generation begins with.
    pub(super) fn base(&self, generation: Generation) -> Result<Option<StateAt>, LoadError> {
        match generation {
            Generation::Newest => Ok(self.newest),
            Generation::Previous if self.previous.is_none() && self.origin > Sequence::ZERO => {
                Err(LoadError::NoPrevious { origin: self.origin })
            }
            Generation::Previous => Ok(self.previous),
        }
    }

    /// The states there are to begin with, the best first. None: the log begins at nothing.
    pub(super) fn bases(&self) -> Vec<Option<StateAt>> {
        let states = [self.newest, self.previous].into_iter().flatten().map(Some);
        let nothing = (self.origin == Sequence::ZERO).then_some(None);
        states.chain(nothing).collect()
    }

    pub(super) fn updates_after(&self, base: Option<StateAt>) -> Vec<(Sequence, Position)> {
        let base = base.map_or(Sequence::ZERO, |state| state.through);
        self.updates.behind(base).collect()
    }

    /// Whether `base` and `updates` are all there is.
    pub(super) fn check(
        &self,
        base: Option<StateAt>,
        updates: &[(Sequence, Position)],
    ) -> Result<(), LoadError> {
        let damaged = |reason| Err(LoadError::Damaged { reason });
        let (count, end) = unbroken(base, updates);
        if let Some((next, _)) = updates.get(count) {
            return damaged(format!("update {} is missing, the next is {next}", after(end)));
        }
        if end < self.last {
            return damaged(format!("updates after {end} are missing, the last was {}", self.last));
        }
        match self.suspects.iter().find(|suspect| suspect.sequence > end) {
            None => Ok(()),
            Some(lost) => damaged(unreadable(lost.sequence, (lost.segment, lost.offset))),
        }
    }

    /// Every live record: its kind, position in the log, and place.
    pub(super) fn live(&self) -> impl Iterator<Item = (Kind, Sequence, Position)> {
        let states = [self.newest, self.previous].into_iter().flatten();
        let states = states.map(|state| (state.kind, state.through, state.at));
        states.chain(self.updates.iter().map(|(at, place)| (Kind::Update, at, place)))
    }

    /// Notes that a live record was copied from one place to another. False if it is not live, or
    /// not there any more.
    pub(super) fn relocate(
        &mut self,
        kind: Kind,
        sequence: Sequence,
        from: Position,
        to: Position,
    ) -> bool {
        match kind {
            Kind::Update => {
                let is_there = self.updates.get(sequence) == Some(from);
                is_there && self.updates.insert(sequence, to).is_some()
            }
            Kind::Snapshot(_) | Kind::Origin(_) => {
                let states = [&mut self.newest, &mut self.previous].into_iter().flatten();
                let mut places = states.map(|state| &mut state.at);
                places.find(|place| **place == from).map(|place| *place = to).is_some()
            }
            Kind::Seal => false,
        }
    }

    fn insert_update(&mut self, sequence: Sequence, at: Position, segments: &mut Segments) {
        let covered = self.previous.map_or(self.origin, |previous| previous.through);
        if sequence <= covered {
            return;
        }
        segments.occupy(at);
        if let Some(duplicate) = self.updates.insert(sequence, at) {
            segments.release(duplicate);
        }
    }

    fn insert_state(&mut self, state: StateAt, lineage: Lineage, segments: &mut Segments) {
        if lineage.origin < self.origin {
            return;
        }
        if lineage.origin > self.origin {
            self.origin = lineage.origin;
            let replaced = [self.newest.take(), self.previous.take()];
            replaced.iter().flatten().for_each(|state| segments.release(state.at));
            self.drop_updates(lineage.origin, segments);
        }
        let newest = self.newest.map(|newest| newest.through);
        let previous = self.previous.map(|previous| previous.through);
        let replaced = if newest.is_none_or(|newest| state.through > newest) {
            let before = self.newest.replace(state);
            if before.is_some() { std::mem::replace(&mut self.previous, before) } else { None }
        } else if newest == Some(state.through) {
            self.newest.replace(state)
        } else if previous.is_none_or(|previous| state.through >= previous) {
            self.previous.replace(state)
        } else {
            return;
        };
        segments.occupy(state.at);
        if let Some(replaced) = replaced {
            segments.release(replaced.at);
        }
        if let Some(previous) = self.previous {
            self.drop_updates(previous.through, segments);
        }
    }

    /// The updates up to `through` are dead.
    fn drop_updates(&mut self, through: Sequence, segments: &mut Segments) {
        self.updates.remove_through(through).into_iter().for_each(|dead| segments.release(dead));
    }
}

/// How many of `updates` follow `base` without a gap, and the position of the last of them.
pub(super) fn unbroken(
    base: Option<StateAt>,
    updates: &[(Sequence, Position)],
) -> (usize, Sequence) {
    let mut end = base.map_or(Sequence::ZERO, |state| state.through);
    let mut count = 0;
    for (sequence, _) in updates {
        if *sequence != after(end) {
            break;
        }
        end = *sequence;
        count += 1;
    }
    (count, end)
}

/// What is said of a record that cannot be read.
pub(super) fn unreadable(sequence: Sequence, (segment, offset): (u64, u64)) -> String {
    format!("the record of position {sequence} in segment {segment} at byte {offset} is unreadable")
}

pub(super) fn after(sequence: Sequence) -> Sequence {
    Sequence::new(sequence.get().saturating_add(1))
}
