//! A document's position in its log, and the snapshot under way.

use crate::document::limits::Limits;
use crate::document::replay::LoadedDocument;
use crate::document::stored::Snapshot;
use crate::id::Sequence;
use crate::validate::StateVector;

/// A snapshot smaller than this many updates is not worth writing when a document goes idle.
const IDLE_SNAPSHOT_UPDATES: u64 = 100;

/// How many times as long as the newest snapshot the log grows before the next. To encode one, read it
/// back twice and compare takes 0.17 µs a byte, and a keystroke logs 28 bytes: with 1 in place of 3
/// snapshots cost a third of all that a long document costs.
const TAIL_FACTOR: u64 = 3;

/// A document may log `snapshot_updates` for each so many bytes of its newest snapshot, before the next:
/// replaying 10,000 of them takes about as long as reading these bytes.
const LONG_BYTES: u64 = 80 << 10;

/// Positions in the log, and the snapshot under way.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// The last update accepted.
    pub(crate) last: Sequence,
    /// The last update known to be on disk.
    ///
    /// Acknowledged to clients only once it covers their own update, so a client that has seen
    /// `Saved` will find its work after a crash.
    pub(crate) persisted: Sequence,
    snapshot_through: Sequence,
    snapshot_bytes: u64,
    /// Bytes logged after that snapshot.
    tail_bytes: u64,
    snapshot: SnapshotProgress,
}

#[derive(Debug, Default)]
enum SnapshotProgress {
    #[default]
    None,
    /// Encoded, and waiting until every update in it is on disk: otherwise a crash could leave a
    /// log whose snapshot covers updates that the log itself lacks.
    Encoded { snapshot: Snapshot, known: StateVector, tail_bytes: u64 },
    /// Handed to the store.
    Writing { through: Sequence, bytes: u64, tail_bytes: u64 },
    /// The last one failed; the next is tried after as many updates again.
    Failed { at: Sequence },
}

/// The occasion of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Occasion {
    /// The document is in use.
    Live,
    /// The document is about to be dropped from memory.
    Idle,
}

impl Log {
    pub(crate) fn loaded(loaded: &LoadedDocument) -> Self {
        Self {
            last: loaded.last,
            persisted: loaded.last,
            snapshot_through: loaded.snapshot_through,
            snapshot_bytes: loaded.snapshot_bytes,
            tail_bytes: loaded.tail_bytes,
            snapshot: SnapshotProgress::None,
        }
    }

    /// Takes the next position for an update of `bytes` bytes.
    pub(crate) fn append(&mut self, bytes: usize) -> Sequence {
        self.last = self.last.next();
        self.tail_bytes += bytes as u64;
        self.last
    }

    /// What is not on disk will never be: nothing is under way any more.
    pub(crate) fn persist_failed(&mut self) {
        self.last = self.persisted;
    }

    /// Whether nothing is on its way to disk.
    pub(crate) fn is_settled(&self) -> bool {
        self.persisted == self.last
    }

    /// The document's size with `more` bytes. What is not compacted yet counts half: much of it
    /// is the cost of logging keystrokes one by one.
    pub(crate) fn bytes_with(&self, more: usize) -> u64 {
        let more = more as u64;
        (self.snapshot_bytes + more).max((self.snapshot_bytes + self.tail_bytes + more) / 2)
    }

    /// Whether a snapshot should be encoded now.
    pub(crate) fn snapshot_due(&self, limits: &Limits, occasion: Occasion) -> bool {
        let updates_since = |since: Sequence| self.last.get().saturating_sub(since.get());
        let updates = match self.snapshot {
            SnapshotProgress::Encoded { .. } | SnapshotProgress::Writing { .. } => return false,
            SnapshotProgress::Failed { at } => {
                return updates_since(at) >= limits.snapshot_updates;
            }
            SnapshotProgress::None => updates_since(self.snapshot_through),
        };
        match occasion {
            Occasion::Idle => updates >= IDLE_SNAPSHOT_UPDATES,
            Occasion::Live => {
                // Writing costs as much as the document is large, so a larger one waits longer: the
                // cost per logged byte stays constant.
                let bytes = limits.snapshot_bytes.max(TAIL_FACTOR * self.snapshot_bytes);
                let times = (self.snapshot_bytes / LONG_BYTES).max(1);
                updates >= limits.snapshot_updates.saturating_mul(times)
                    || (updates > 0 && self.tail_bytes >= bytes)
            }
        }
    }

    /// Whether a snapshot is on its way.
    pub(crate) fn is_snapshotting(&self) -> bool {
        matches!(self.snapshot, SnapshotProgress::Encoded { .. } | SnapshotProgress::Writing { .. })
    }

    pub(crate) fn snapshot_encoded(&mut self, state: Vec<u8>, known: StateVector) {
        let snapshot = Snapshot { through: self.last, state: state.into() };
        self.snapshot = SnapshotProgress::Encoded { snapshot, known, tail_bytes: self.tail_bytes };
    }

    /// Drops a snapshot that the store has not been given yet.
    pub(crate) fn abandon_snapshot(&mut self) {
        if matches!(self.snapshot, SnapshotProgress::Encoded { .. }) {
            self.snapshot = SnapshotProgress::None;
        }
    }

    /// The encoded snapshot, once every update in it is on disk.
    pub(crate) fn snapshot_ready(&mut self) -> Option<(Snapshot, StateVector)> {
        match std::mem::take(&mut self.snapshot) {
            SnapshotProgress::Encoded { snapshot, known, tail_bytes }
                if snapshot.through <= self.persisted =>
            {
                self.snapshot = SnapshotProgress::Writing {
                    through: snapshot.through,
                    bytes: snapshot.state.len() as u64,
                    tail_bytes,
                };
                Some((snapshot, known))
            }
            unchanged @ (SnapshotProgress::None
            | SnapshotProgress::Encoded { .. }
            | SnapshotProgress::Writing { .. }
            | SnapshotProgress::Failed { .. }) => {
                self.snapshot = unchanged;
                None
            }
        }
    }

    pub(crate) fn snapshot_written(&mut self) {
        if let SnapshotProgress::Writing { through, bytes, tail_bytes } = self.snapshot {
            self.snapshot_through = through;
            self.snapshot_bytes = bytes;
            self.tail_bytes = self.tail_bytes.saturating_sub(tail_bytes);
        }
        self.snapshot = SnapshotProgress::None;
    }

    pub(crate) fn snapshot_failed(&mut self) {
        self.snapshot = SnapshotProgress::Failed { at: self.last };
    }
}
