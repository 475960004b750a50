//! A document as a store returns it.

use std::sync::Arc;

use bytes::Bytes;

use crate::id::{Epoch, Sequence};
use crate::time::Timestamp;

/// A compacted state that stands for every update up to and including `through`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The last update that the state contains.
    pub through: Sequence,
    /// A Yjs v1 update that holds the whole document.
    pub state: Bytes,
}

/// One update as it was received, at its position in the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoggedUpdate {
    /// Its position.
    pub sequence: Sequence,
    /// When the server accepted it.
    pub time: Timestamp,
    /// The verified identity that sent it; empty when it had none.
    pub author: Arc<str>,
    /// The client's own bytes, a Yjs v1 update.
    pub update: Bytes,
}

/// Everything stored for one document: a snapshot, and the updates after it in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredLog {
    /// The identity of the history.
    pub epoch: Epoch,
    /// The state to begin with. None: the log begins at the first update.
    pub snapshot: Option<Snapshot>,
    /// The updates after the snapshot, ascending and without a gap.
    pub updates: Vec<LoggedUpdate>,
}

impl StoredLog {
    /// The first `count` records of this log, its snapshot counted as one.
    pub(crate) fn records_before(&self, count: usize) -> Self {
        let updates = count.saturating_sub(usize::from(self.snapshot.is_some()));
        Self {
            epoch: self.epoch,
            snapshot: self.snapshot.clone().filter(|_| count > 0),
            updates: self.updates.iter().take(updates).cloned().collect(),
        }
    }

    /// The last position that this log holds.
    #[must_use]
    pub fn last(&self) -> Sequence {
        let snapshot = self.snapshot.as_ref().map_or(Sequence::ZERO, |snapshot| snapshot.through);
        self.updates.last().map_or(snapshot, |logged| logged.sequence)
    }
}
