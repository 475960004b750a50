//! How much of each segment is live.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::store::Size;
use crate::store::embedded::journal::index::Position;
use crate::store::embedded::journal::segment::{HEADER_BYTES, Segment};

#[derive(Debug)]
struct State {
    segment: Arc<Segment>,
    bytes: u64,
    live: u64,
    /// Bytes that every segment needs and nobody misses: its header and its seals.
    overhead: u64,
    /// Kept for whoever wants to rescue what is in it; cleaning leaves it alone.
    damaged: bool,
}

/// The segments of a journal, by number.
#[derive(Debug, Default)]
pub(super) struct Segments(BTreeMap<u64, State>);

impl Segments {
    pub(super) fn add(&mut self, segment: Arc<Segment>, bytes: u64) {
        let overhead = HEADER_BYTES as u64;
        let state = State { segment, bytes, live: 0, overhead, damaged: false };
        self.0.insert(state.segment.number, state);
    }

    pub(super) fn size(&self) -> Size {
        let bytes = self.0.values().map(|state| state.bytes).sum();
        Size { bytes, files: self.0.len() as u64 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn remove(&mut self, segment: u64) {
        self.0.remove(&segment);
    }

    pub(super) fn get(&self, segment: u64) -> Option<&Arc<Segment>> {
        self.0.get(&segment).map(|state| &state.segment)
    }

    /// `segment` is `bytes` long now.
    pub(super) fn set_len(&mut self, segment: u64, bytes: u64) {
        self.change(segment, |state| state.bytes = bytes);
    }

    pub(super) fn mark_damaged(&mut self, segment: u64) {
        self.change(segment, |state| state.damaged = true);
    }

    /// The record at `at` is live.
    pub(super) fn occupy(&mut self, at: Position) {
        self.change(at.segment, |state| state.live += at.bytes as u64);
    }

    /// The record at `at` is dead.
    pub(super) fn release(&mut self, at: Position) {
        self.change(at.segment, |state| state.live = state.live.saturating_sub(at.bytes as u64));
    }

    /// The record at `at` is a seal.
    pub(super) fn spend(&mut self, at: Position) {
        self.change(at.segment, |state| state.overhead += at.bytes as u64);
    }

    /// A sealed segment that can be deleted as it is; or else the one with the most dead bytes, if
    /// more than half of the journal and more than `segment_bytes` is dead.
    pub(super) fn victim(&self, segment_bytes: u64) -> Option<Arc<Segment>> {
        let cleanable = || self.0.values().filter(|state| !state.damaged);
        let head = self.0.last_key_value().map(|(number, _)| *number);
        let sealed = || cleanable().filter(|state| Some(state.segment.number) != head);
        if let Some(empty) = sealed().find(|state| state.live == 0) {
            return Some(Arc::clone(&empty.segment));
        }
        let total: u64 = cleanable().map(|state| state.bytes).sum();
        let dead: u64 = cleanable().map(State::dead).sum();
        if dead <= segment_bytes || dead <= total / 2 {
            return None;
        }
        let most = sealed().max_by_key(|state| state.dead())?;
        // Otherwise the garbage is in the head, and goes when that is sealed.
        (most.dead() >= most.bytes / 4).then(|| Arc::clone(&most.segment))
    }

    /// Every segment that holds dead records, and whether the head is one of them.
    pub(super) fn wasteful(&self) -> (Vec<Arc<Segment>>, bool) {
        let wastes = |state: &&State| !state.damaged && state.bytes > state.live + state.overhead;
        let wasteful = self.0.values().filter(wastes).map(|state| Arc::clone(&state.segment));
        let head = self.0.last_key_value().is_some_and(|(_, head)| wastes(&head));
        (wasteful.collect(), head)
    }

    fn change(&mut self, segment: u64, change: impl FnOnce(&mut State)) {
        if let Some(state) = self.0.get_mut(&segment) {
            change(state);
        }
    }
}

impl State {
    fn dead(&self) -> u64 {
        self.bytes.saturating_sub(self.live)
    }
}
