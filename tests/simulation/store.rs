//! A store that makes appends durable in groups and late, fails for good, and loses what was not
//! durable in a crash.

use std::collections::VecDeque;

use bytes::Bytes;
use syncline_protocol::{LoggedUpdate, Sequence, Snapshot, StoredLog};

use crate::random::Rng;

#[derive(Debug, Default)]
pub(crate) struct Store {
    /// What a crash leaves.
    pub(crate) durable: StoredLog,
    queue: VecDeque<LoggedUpdate>,
    /// How many of the queue are being written; the rest waits for the next group.
    group: usize,
    pub(crate) has_failed: bool,
    /// Updates that a client was told are saved.
    pub(crate) acknowledged: Vec<Bytes>,
}

impl Store {
    /// Queues an update. Returns whether a group must be started.
    pub(crate) fn append(&mut self, sequence: Sequence, update: Bytes) -> bool {
        let last = self.queue.back().map_or(self.durable.last(), |logged| logged.sequence);
        assert_eq!(sequence, last.next(), "sequences are contiguous");
        self.queue.push_back(LoggedUpdate { sequence, update });
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
    }
}
