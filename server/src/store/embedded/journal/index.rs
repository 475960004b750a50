//! What the journal holds, in memory: where every live record of every document lies.
//!
//! The index is a function of the set of intact records, whatever order they are met in, so copies
//! that cleaning moved forward, and duplicates that a crash left behind, need no special case. Only
//! of two states at the same position the later one in the journal counts.

use std::collections::BTreeMap;
use std::sync::Arc;

use syncline_protocol::{DocumentName, Epoch, Sequence};

use crate::store::embedded::journal::entry::{Entry, StateAt, Suspect};
use crate::store::embedded::journal::record::{Fields, Kind, Lineage};
use crate::store::embedded::journal::segment::Segment;
use crate::store::embedded::journal::segments::Segments;
use crate::store::{DocumentInfo, Generation, LoadError};

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) segment: u64,
    pub(super) offset: u64,
    /// Length with the prefix.
    pub(super) bytes: usize,
}

/// A live record, named so that it can be found again after it has moved.
#[derive(Clone, Debug)]
pub(super) struct Live {
    pub(super) document: DocumentName,
    pub(super) kind: Kind,
    pub(super) sequence: Sequence,
    pub(super) at: Position,
}

/// All that a load reads, with the segments held: they may be deleted meanwhile.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) document: DocumentName,
    pub(super) epoch: Epoch,
    pub(super) base: Option<StateAt>,
    pub(super) updates: Vec<(Sequence, Position)>,
    pub(super) segments: BTreeMap<u64, Arc<Segment>>,
}

/// What a salvage may read.
#[derive(Debug)]
pub(super) struct Remains {
    /// The history that it is part of.
    pub(super) epoch: Epoch,
    /// From which states it can begin, the best first.
    pub(super) plans: Vec<Plan>,
    /// The last position there is a sign of.
    pub(super) last: Sequence,
    /// What is wrong with the first plan as far as the index knows.
    pub(super) reason: Option<LoadError>,
}

#[derive(Debug)]
pub(super) struct Index {
    /// The store's.
    epoch: Epoch,
    /// Each by itself: a node of the tree has room for eleven and is half full.
    documents: BTreeMap<DocumentName, Box<Entry>>,
    pub(super) segments: Segments,
}

impl Index {
    pub(super) fn new(epoch: Epoch) -> Self {
        Self { epoch, documents: BTreeMap::new(), segments: Segments::default() }
    }

    /// The store's epoch, which is that of every document whose history was never replaced.
    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Takes note of an intact record. False if its document has no valid name.
    pub(super) fn insert(&mut self, fields: &Fields<'_>, at: Position) -> bool {
        if fields.kind == Kind::Seal {
            self.segments.spend(at);
            return true;
        }
        if let Some(entry) = self.documents.get_mut(fields.document) {
            entry.insert(fields, at, &mut self.segments);
            return true;
        }
        let Ok(name) = fields.document.parse::<DocumentName>() else { return false };
        let entry = self.documents.entry(name).or_default();
        entry.insert(fields, at, &mut self.segments);
        true
    }

    /// Takes note of an unreadable record that says it is one of `document`.
    pub(super) fn suspect(&mut self, document: DocumentName, suspect: Suspect) {
        self.documents.entry(document).or_default().suspect(suspect);
    }

    fn entry(&self, document: &str) -> Option<&Entry> {
        self.documents.get(document).map(Box::as_ref)
    }

    /// The last position of `document`.
    pub(super) fn last(&self, document: &str) -> Sequence {
        self.entry(document).map_or(Sequence::ZERO, Entry::last)
    }

    /// The last position of `document` that there is a sign of, readable or not.
    pub(super) fn highest(&self, document: &str) -> Sequence {
        self.entry(document).map_or(Sequence::ZERO, Entry::highest)
    }

    /// The position of its newest state.
    pub(super) fn newest_through(&self, document: &str) -> Option<Sequence> {
        self.entry(document)?.newest().map(|state| state.through)
    }

    /// What its next snapshot belongs to.
    pub(super) fn lineage(&self, document: &str) -> Lineage {
        let unwritten = Entry::default();
        self.entry(document).unwrap_or(&unwritten).lineage(self.epoch)
    }

    /// Every document whose newest state is intact.
    pub(super) fn documents_with_state(&self) -> Vec<DocumentName> {
        let with = self.documents.iter().filter(|(_, entry)| entry.newest().is_some());
        with.map(|(name, _)| name.clone()).collect()
    }

    /// Every name of which anything is stored.
    pub(super) fn names(&self) -> Vec<DocumentName> {
        self.documents.keys().cloned().collect()
    }

    pub(super) fn infos(&self) -> Vec<DocumentInfo> {
        self.documents.iter().filter_map(|(name, entry)| entry.info(name, self.epoch)).collect()
    }

    /// What to read for `document`; `Damaged` if that would leave something out.
    pub(super) fn plan(
        &self,
        document: &DocumentName,
        generation: Generation,
    ) -> Result<Plan, LoadError> {
        let unwritten = Entry::default();
        let entry = self.entry(document.as_str()).unwrap_or(&unwritten);
        let plan = self.plan_from(document, entry, entry.base(generation)?);
        entry.check(plan.base, &plan.updates)?;
        Ok(plan)
    }

    /// Every document that cannot be loaded whole, and why.
    pub(super) fn incomplete(&self) -> Vec<(DocumentName, String)> {
        let reason = |entry: &Entry| {
            let base = entry.newest();
            entry.check(base, &entry.updates_after(base)).err().map(|error| error.to_string())
        };
        let documents = self.documents.iter();
        documents.filter_map(|(name, entry)| Some((name.clone(), reason(entry)?))).collect()
    }

    /// What is left to read of `document`, whatever is wrong with it.
    pub(super) fn remains(&self, document: &DocumentName) -> Remains {
        let unwritten = Entry::default();
        let entry = self.entry(document.as_str()).unwrap_or(&unwritten);
        let plan = |base| self.plan_from(document, entry, base);
        let plans: Vec<_> = entry.bases().into_iter().map(plan).collect();
        let first = plans.first();
        let reason = first.and_then(|plan| entry.check(plan.base, &plan.updates).err());
        let epoch = entry.lineage(self.epoch).epoch;
        Remains { epoch, plans, last: entry.highest(), reason }
    }

    fn plan_from(&self, document: &DocumentName, entry: &Entry, base: Option<StateAt>) -> Plan {
        let updates = entry.updates_after(base);
        let mut segments = BTreeMap::new();
        let base_at = base.iter().map(|state| state.at);
        for at in base_at.chain(updates.iter().map(|(_, at)| *at)) {
            if !segments.contains_key(&at.segment)
                && let Some(segment) = self.segments.get(at.segment)
            {
                segments.insert(at.segment, Arc::clone(segment));
            }
        }
        let epoch = entry.lineage(self.epoch).epoch;
        Plan { document: document.clone(), epoch, base, updates, segments }
    }

    /// The live records of a segment in the order in which they lie.
    pub(super) fn live_in(&self, segment: u64) -> Vec<Live> {
        let mut live = Vec::new();
        for (document, entry) in &self.documents {
            let here = entry.live().filter(|(.., at)| at.segment == segment);
            live.extend(here.map(|(kind, sequence, at)| Live {
                document: document.clone(),
                kind,
                sequence,
                at,
            }));
        }
        live.sort_by_key(|record| record.at);
        live
    }

    /// A live record has been copied to `to`. Nothing changes if it has died meanwhile.
    pub(super) fn relocate(&mut self, record: &Live, to: Position) {
        let Live { document, kind, sequence, at } = record;
        let entry = self.documents.get_mut(document);
        if entry.is_some_and(|entry| entry.relocate(*kind, *sequence, *at, to)) {
            self.segments.occupy(to);
            self.segments.release(*at);
        }
    }
}
