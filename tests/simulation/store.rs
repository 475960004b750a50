//! A store that makes appends durable in groups and late, stalls, fails for good, and loses what was
//! not durable in a crash.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use syncline_protocol::{Epoch, LoggedUpdate, Sequence, Snapshot, StoredLog};

use crate::random::Rng;

#[expect(clippy::struct_excessive_bools, reason = "independent facts, not a state")]
#[derive(Debug, Default)]
pub(crate) struct Store {
    /// What a crash leaves.
    pub(crate) durable: StoredLog,
    queue: VecDeque<LoggedUpdate>,
    /// How many of the queue are being written; the rest waits for the next group.
    group: usize,
    /// Whether it has refused an update of the document.
    pub(crate) has_failed: bool,
    /// Whether it takes nothing; what it was given it keeps.
    pub(crate) stall: Stall,
    /// Whether a record cannot be read.
    pub(crate) is_damaged: bool,
    /// Who wrote histories that were replaced.
    pub(crate) replaced: BTreeSet<u64>,
    /// Updates that were acknowledged to a client.
    pub(crate) acknowledged: Vec<Bytes>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stall {
    #[default]
    Writable,
    Stalled,
    /// Until the process is started again.
    Final,
}

impl Store {
    pub(crate) fn new() -> Self {
        let durable = StoredLog { epoch: Epoch::new(1), ..StoredLog::default() };
        Self { durable, ..Self::default() }
    }

    /// Queues an update. Returns whether a group must be started.
    pub(crate) fn append(&mut self, sequence: Sequence, update: Bytes) -> bool {
        let last = self.queue.back().map_or(self.durable.last(), |logged| logged.sequence);
        assert_eq!(sequence, last.next(), "sequences are contiguous");
        self.queue.push_back(LoggedUpdate { sequence, update, ..LoggedUpdate::default() });
        if self.group > 0 {
            return false;
        }
        self.start_group()
    }

    pub(crate) fn start_group(&mut self) -> bool {
        self.group = self.queue.len();
        self.group > 0
    }

    /// The group is on disk.
    pub(crate) fn end_group(&mut self) -> Sequence {
        self.durable.updates.extend(self.queue.drain(..self.group));
        self.group = 0;
        self.durable.last()
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.queue.is_empty()
    }

    pub(crate) fn write_snapshot(&mut self, snapshot: Snapshot) {
        assert!(!self.is_damaged, "a quarantined document is never written");
        assert!(snapshot.through <= self.durable.last(), "a snapshot covers what is on disk");
        let before = self.durable.snapshot.as_ref().map_or(Sequence::ZERO, |old| old.through);
        assert!(snapshot.through >= before, "a snapshot never goes back");
        self.durable.updates.retain(|logged| logged.sequence > snapshot.through);
        self.durable.snapshot = Some(snapshot);
    }

    /// The writer fails for good. Some of what was queued may still have reached the disk.
    pub(crate) fn fail(&mut self, rng: &mut Rng) {
        self.has_failed = true;
        let reached = rng.index(self.queue.len() + 1);
        self.durable.updates.extend(self.queue.drain(..reached));
        self.queue.clear();
        self.group = 0;
    }

    /// The process dies and starts again.
    pub(crate) fn crash(&mut self, rng: &mut Rng) {
        self.fail(rng);
        self.has_failed = false;
        self.stall = Stall::Writable;
    }

    /// One record takes the place of everything. What was said of the old history is void.
    pub(crate) fn rewrite(&mut self, epoch: Epoch, state: Bytes) {
        let through = self.durable.last().next();
        let snapshot = Some(Snapshot { through, state });
        self.durable = StoredLog { epoch, snapshot, updates: Vec::new() };
        self.acknowledged.clear();
        self.is_damaged = false;
    }

    /// A record becomes unreadable. Returns whether there was one.
    pub(crate) fn damage(&mut self, rng: &mut Rng, poison: Vec<u8>) -> bool {
        let updates = &mut self.durable.updates;
        if updates.is_empty() {
            return false;
        }
        let at = rng.index(updates.len());
        updates[at].update = if rng.one_in(2) { vec![9, 9, 9].into() } else { poison.into() };
        self.is_damaged = true;
        true
    }
}
