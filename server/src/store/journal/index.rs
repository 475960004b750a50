//! What the journal holds, in memory: where every live record of every document lies.
//!
//! Live are a document's two latest snapshots and the updates after the older of them (after
//! nothing, while there is one snapshot or none). The index is a function of the set of intact
//! records, whatever order they are met in, so copies that cleaning moved forward, and duplicates
//! that a crash left behind, need no special case. Only of two snapshots at the same position the
//! later one in the journal counts.

use std::collections::BTreeMap;
use std::sync::Arc;

use syncline_protocol::{DocumentName, Sequence};

use crate::store::journal::record::{Fields, Kind};
use crate::store::journal::segment::Segment;
use crate::store::{DocumentInfo, Generation, LoadError};

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) segment: u64,
    pub(super) offset: u64,
    /// Length with the prefix.
    pub(super) bytes: usize,
}

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

/// A snapshot and where it lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct SnapshotAt {
    pub(super) through: Sequence,
    pub(super) at: Position,
    pub(super) digest: Digest,
}

/// A live record, named so that it can be found again after it has moved.
#[derive(Clone, Debug)]
pub(super) struct Live {
    pub(super) document: DocumentName,
    pub(super) kind: Kind,
    pub(super) sequence: Sequence,
    pub(super) at: Position,
}

/// All that a load reads, with the files held open: they may be deleted meanwhile.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) document: DocumentName,
    pub(super) snapshot: Option<SnapshotAt>,
    pub(super) updates: Vec<(Sequence, Position)>,
    pub(super) segments: BTreeMap<u64, Arc<Segment>>,
}

/// An unreadable record that seems to have been this document's.
#[derive(Clone, Copy, Debug)]
struct Suspect {
    sequence: Sequence,
    segment: u64,
    offset: u64,
}

#[derive(Debug, Default)]
struct Entry {
    newest: Option<SnapshotAt>,
    previous: Option<SnapshotAt>,
    updates: BTreeMap<Sequence, Position>,
    last: Sequence,
    suspects: Vec<Suspect>,
}

#[derive(Debug)]
struct SegmentState {
    segment: Arc<Segment>,
    bytes: u64,
    live: u64,
    /// Kept for whoever wants to rescue what is in it; cleaning leaves it alone.
    damaged: bool,
}

#[derive(Debug, Default)]
pub(super) struct Index {
    documents: BTreeMap<DocumentName, Entry>,
    segments: Segments,
}

impl Index {
    pub(super) fn add_segment(&mut self, segment: Arc<Segment>, bytes: u64) {
        let state = SegmentState { segment, bytes, live: 0, damaged: false };
        self.segments.0.insert(state.segment.number, state);
    }

    /// `segment` has become `bytes` longer.
    pub(super) fn grow(&mut self, segment: u64, bytes: u64) {
        if let Some(state) = self.segments.0.get_mut(&segment) {
            state.bytes += bytes;
        }
    }

    pub(super) fn mark_damaged(&mut self, segment: u64) {
        if let Some(state) = self.segments.0.get_mut(&segment) {
            state.damaged = true;
        }
    }

    /// Takes note of an intact record. False if its document has no valid name.
    pub(super) fn insert(&mut self, fields: &Fields<'_>, at: Position) -> bool {
        if !self.documents.contains_key(fields.document) {
            let Ok(name) = fields.document.parse::<DocumentName>() else { return false };
            self.documents.insert(name, Entry::default());
        }
        let Some(entry) = self.documents.get_mut(fields.document) else { return false };
        entry.last = entry.last.max(fields.sequence);
        match fields.kind {
            Kind::Update => entry.insert_update(fields.sequence, at, &mut self.segments),
            Kind::Snapshot => {
                let digest = Digest::of(fields.payload);
                let snapshot = SnapshotAt { through: fields.sequence, at, digest };
                entry.insert_snapshot(snapshot, &mut self.segments);
            }
        }
        true
    }

    /// Takes note of an unreadable record that says it is one of `document`.
    pub(super) fn suspect(
        &mut self,
        document: DocumentName,
        sequence: Sequence,
        (segment, offset): (u64, u64),
    ) {
        let entry = self.documents.entry(document).or_default();
        entry.suspects.push(Suspect { sequence, segment, offset });
    }

    /// The last position of `document`.
    pub(super) fn last(&self, document: &str) -> Sequence {
        self.documents.get(document).map_or(Sequence::ZERO, |entry| entry.last)
    }

    /// The position of its newest snapshot.
    pub(super) fn newest_through(&self, document: &str) -> Option<Sequence> {
        self.documents.get(document)?.newest.map(|snapshot| snapshot.through)
    }

    /// Every document whose newest snapshot is intact.
    pub(super) fn documents_with_snapshot(&self) -> Vec<DocumentName> {
        let with = self.documents.iter().filter(|(_, entry)| entry.newest.is_some());
        with.map(|(name, _)| name.clone()).collect()
    }

    pub(super) fn infos(&self) -> Vec<DocumentInfo> {
        let info = |(name, entry): (&DocumentName, &Entry)| DocumentInfo {
            name: name.clone(),
            last: entry.last,
            bytes: entry.bytes(),
        };
        self.documents.iter().map(info).collect()
    }

    /// What to read for `document`; `Damaged` if that would leave something out.
    pub(super) fn plan(
        &self,
        document: &DocumentName,
        generation: Generation,
    ) -> Result<Plan, LoadError> {
        let mut plan = Plan {
            document: document.clone(),
            snapshot: None,
            updates: Vec::new(),
            segments: BTreeMap::new(),
        };
        let Some(entry) = self.documents.get(document) else { return Ok(plan) };
        plan.snapshot = match generation {
            Generation::Newest => entry.newest,
            Generation::Previous => entry.previous,
        };
        let base = plan.snapshot.map_or(Sequence::ZERO, |snapshot| snapshot.through);
        let after = entry.updates.range(after(base)..);
        plan.updates = after.map(|(sequence, at)| (*sequence, *at)).collect();
        entry.check(base, &plan.updates)?;
        let snapshot = plan.snapshot.iter().map(|snapshot| snapshot.at);
        for at in snapshot.chain(plan.updates.iter().map(|(_, at)| *at)) {
            if !plan.segments.contains_key(&at.segment)
                && let Some(state) = self.segments.0.get(&at.segment)
            {
                plan.segments.insert(at.segment, Arc::clone(&state.segment));
            }
        }
        Ok(plan)
    }

    /// The sealed segment with the most dead bytes, if more than half of the journal and more than
    /// `segment_bytes` is dead.
    pub(super) fn victim(&self, segment_bytes: u64) -> Option<Arc<Segment>> {
        let cleanable = || self.segments.0.values().filter(|state| !state.damaged);
        let total: u64 = cleanable().map(|state| state.bytes).sum();
        let dead: u64 = cleanable().map(SegmentState::dead).sum();
        if dead <= segment_bytes || dead <= total / 2 {
            return None;
        }
        let head = self.segments.0.last_key_value().map(|(number, _)| *number);
        let sealed = cleanable().filter(|state| Some(state.segment.number) != head);
        let most = sealed.max_by_key(|state| state.dead())?;
        // Otherwise the garbage is in the head, and goes when that is sealed.
        (most.dead() >= most.bytes / 4).then(|| Arc::clone(&most.segment))
    }

    /// The live records of a segment in the order in which they lie.
    pub(super) fn live_in(&self, segment: u64) -> Vec<Live> {
        let mut live = Vec::new();
        for (document, entry) in &self.documents {
            let snapshots = [entry.newest, entry.previous].into_iter().flatten();
            let snapshots = snapshots.map(|found| (Kind::Snapshot, found.through, found.at));
            let updates = entry.updates.iter().map(|(at, place)| (Kind::Update, *at, *place));
            for (kind, sequence, at) in snapshots.chain(updates) {
                if at.segment == segment {
                    live.push(Live { document: document.clone(), kind, sequence, at });
                }
            }
        }
        live.sort_by_key(|record| record.at);
        live
    }

    /// A live record has been copied to `to`. Nothing changes if it has died meanwhile.
    pub(super) fn relocate(&mut self, record: &Live, to: Position) {
        let Some(entry) = self.documents.get_mut(&record.document) else { return };
        let place = match record.kind {
            Kind::Update => entry.updates.get_mut(&record.sequence),
            Kind::Snapshot => [&mut entry.newest, &mut entry.previous]
                .into_iter()
                .flatten()
                .map(|snapshot| &mut snapshot.at)
                .find(|at| **at == record.at),
        };
        if let Some(place) = place.filter(|at| **at == record.at) {
            *place = to;
            self.segments.occupy(to);
            self.segments.release(record.at);
        }
    }

    /// Forgets a segment from which everything live has been copied.
    pub(super) fn remove_segment(&mut self, segment: u64) {
        self.segments.0.remove(&segment);
    }
}

impl Entry {
    fn insert_update(&mut self, sequence: Sequence, at: Position, segments: &mut Segments) {
        if self.previous.is_some_and(|previous| sequence <= previous.through) {
            return;
        }
        segments.occupy(at);
        if let Some(duplicate) = self.updates.insert(sequence, at) {
            segments.release(duplicate);
        }
    }

    fn insert_snapshot(&mut self, snapshot: SnapshotAt, segments: &mut Segments) {
        let newest = self.newest.map(|newest| newest.through);
        let previous = self.previous.map(|previous| previous.through);
        let replaced = if newest.is_none_or(|newest| snapshot.through > newest) {
            let before = self.newest.replace(snapshot);
            if before.is_some() { std::mem::replace(&mut self.previous, before) } else { None }
        } else if newest == Some(snapshot.through) {
            self.newest.replace(snapshot)
        } else if previous.is_none_or(|previous| snapshot.through >= previous) {
            self.previous.replace(snapshot)
        } else {
            return;
        };
        segments.occupy(snapshot.at);
        if let Some(replaced) = replaced {
            segments.release(replaced.at);
        }
        if let Some(previous) = self.previous {
            let live = self.updates.split_off(&after(previous.through));
            for (_, dead) in std::mem::replace(&mut self.updates, live) {
                segments.release(dead);
            }
        }
    }

    fn check(&self, base: Sequence, updates: &[(Sequence, Position)]) -> Result<(), LoadError> {
        let mut end = base;
        for (sequence, _) in updates {
            if *sequence != after(end) {
                let reason = format!("update {} is missing, the next is {sequence}", after(end));
                return Err(LoadError::Damaged { reason });
            }
            end = *sequence;
        }
        if end < self.last {
            let reason = format!("updates after {end} are missing, the last was {}", self.last);
            return Err(LoadError::Damaged { reason });
        }
        if let Some(lost) = self.suspects.iter().find(|suspect| suspect.sequence > end) {
            let Suspect { sequence, segment, offset } = lost;
            let reason = format!(
                "the record of position {sequence} in segment {segment} at byte {offset} is unreadable"
            );
            return Err(LoadError::Damaged { reason });
        }
        Ok(())
    }

    fn bytes(&self) -> u64 {
        let base = self.newest.map_or(Sequence::ZERO, |newest| newest.through);
        let updates = self.updates.range(after(base)..).map(|(_, at)| at.bytes as u64);
        self.newest.map_or(0, |newest| newest.at.bytes as u64) + updates.sum::<u64>()
    }
}

impl SegmentState {
    fn dead(&self) -> u64 {
        self.bytes.saturating_sub(self.live)
    }
}

#[derive(Debug, Default)]
struct Segments(BTreeMap<u64, SegmentState>);

impl Segments {
    fn occupy(&mut self, at: Position) {
        if let Some(state) = self.0.get_mut(&at.segment) {
            state.live += at.bytes as u64;
        }
    }

    fn release(&mut self, at: Position) {
        if let Some(state) = self.0.get_mut(&at.segment) {
            state.live = state.live.saturating_sub(at.bytes as u64);
        }
    }
}

fn after(sequence: Sequence) -> Sequence {
    Sequence::new(sequence.get().saturating_add(1))
}
