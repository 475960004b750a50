//! Which update frames of a session are on disk.

use std::collections::VecDeque;

use crate::id::Sequence;

/// The watermark behind `Saved`.
#[derive(Debug, Default)]
pub(crate) struct Receipts {
    frames: u64,
    /// Frame counts and the sequence each waits for, both ascending. One entry per sequence under
    /// way, so the store's own queue bounds it.
    waiting: VecDeque<(u64, Sequence)>,
    saved: u64,
}

impl Receipts {
    /// The watermark.
    pub(crate) fn saved(&self) -> u64 {
        self.saved
    }

    /// Counts an update frame and returns its number.
    pub(crate) fn count(&mut self) -> u64 {
        self.frames += 1;
        self.frames
    }

    /// How many have been counted.
    pub(crate) fn frames(&self) -> u64 {
        self.frames
    }

    /// Every frame so far is saved once `sequence` is.
    pub(crate) fn await_sequence(&mut self, sequence: Sequence) {
        match self.waiting.back_mut() {
            Some((frames, last)) if *last == sequence => *frames = self.frames,
            _ => self.waiting.push_back((self.frames, sequence)),
        }
    }

    /// Everything up to `through` is on disk. Returns the new watermark if it moved.
    pub(crate) fn persisted(&mut self, through: Sequence) -> Option<u64> {
        let before = self.saved;
        while let Some(&(frames, sequence)) = self.waiting.front() {
            if sequence > through {
                break;
            }
            self.saved = frames;
            self.waiting.pop_front();
        }
        (self.saved > before).then_some(self.saved)
    }
}
