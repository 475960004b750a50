//! Counts of one document. They are added to the process's counts once for each turn, so that an
//! update costs the same for any number of readers.

use std::collections::VecDeque;

use syncline_protocol::document::{Document, UpdateOutcome};
use syncline_protocol::wire::ClientMessage;
use syncline_protocol::{Limit, Sequence};
use tokio::time::Instant;

use crate::metrics::labels::Kind;
use crate::metrics::{Label, METRICS};

/// Counts of this turn, and the updates under way to disk.
#[derive(Debug, Default)]
pub(super) struct TaskStats {
    messages: [u64; Kind::ALL.len()],
    received_bytes: u64,
    frames_sent: u64,
    sent_bytes: u64,
    /// Accepted updates, a batch for each turn. Bounded by the store's queue.
    under_way: VecDeque<AcceptedBatch>,
    /// Whether the last batch is of this turn.
    is_open: bool,
}

#[derive(Debug)]
struct AcceptedBatch {
    last: Sequence,
    updates: u64,
    began: Instant,
}

impl TaskStats {
    /// A client's message arrived.
    pub(super) fn received(&mut self, message: &ClientMessage) {
        if let Some(count) = self.messages.get_mut(Kind::of(message).index()) {
            *count += 1;
        }
        self.received_bytes += message.payload_len() as u64;
    }

    /// A frame was offered to a session's queue, which may have to drop it.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.frames_sent += 1;
        self.sent_bytes += bytes as u64;
    }

    /// An update was accepted.
    pub(super) fn accepted(&mut self, sequence: Sequence, now: Instant) {
        match self.under_way.back_mut() {
            Some(batch) if self.is_open => {
                batch.last = sequence;
                batch.updates += 1;
            }
            _ => {
                self.is_open = true;
                self.under_way.push_back(AcceptedBatch { last: sequence, updates: 1, began: now });
            }
        }
    }

    /// Everything up to `through` is on disk.
    pub(super) fn durable(&mut self, through: Sequence, now: Instant) {
        while let Some(batch) = self.under_way.pop_front_if(|batch| batch.last <= through) {
            METRICS.durable.times(now - batch.began, batch.updates);
        }
        if self.under_way.is_empty() {
            self.under_way = VecDeque::new();
        }
    }

    /// No update under way will be on disk.
    pub(super) fn lost(&mut self) {
        self.under_way = VecDeque::new();
    }

    /// Adds this turn's counts to those of the process.
    pub(super) fn report(&mut self, document: &mut Document) {
        self.is_open = false;
        if self.received_bytes > 0 || self.messages != [0; Kind::ALL.len()] {
            for kind in Kind::ALL {
                let count = self.messages.get_mut(kind.index()).map(std::mem::take);
                METRICS.messages.add(kind, count.unwrap_or(0));
            }
            METRICS.received_bytes.add(std::mem::take(&mut self.received_bytes));
        }
        METRICS.frames_sent.add(std::mem::take(&mut self.frames_sent));
        METRICS.sent_bytes.add(std::mem::take(&mut self.sent_bytes));
        let counts = document.take_counts();
        for outcome in UpdateOutcome::ALL {
            METRICS.updates.add(outcome, counts.updates(outcome));
        }
        METRICS.hits(Limit::PresenceClients, counts.presence_ignored);
    }
}
