//! What waits for the writer thread, and when the thread is woken for it.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;

use super::{Batch, Progress, Urgency, WriterLimits, WriterStopped, cost};
use crate::store::Record;

/// How long records that nobody waits for gather. Each sync costs two task switches and the disk's
/// own work, and a thousand keystrokes a second need fifty of them, not a thousand. Whoever
/// wrote such a record still has it, and brings it back if the machine dies meanwhile.
const GATHER: Duration = Duration::from_millis(20);

/// A record and what comes with it.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) record: Record,
    pub(super) progress: Progress,
    pub(super) urgency: Urgency,
    /// Free again as soon as the record is taken.
    pub(super) slot: OwnedSemaphorePermit,
    /// Free again when it is stored.
    pub(super) room: OwnedSemaphorePermit,
}

/// The queue. Its bounds are the permits of what is in it.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Queued>,
    bytes: usize,
    /// When the thread is to begin with what waits.
    due: Option<Instant>,
    thread: Thread,
    is_closed: bool,
}

/// What the writer thread is doing, and so what it must be woken for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Thread {
    /// It looks at the queue when it is done.
    #[default]
    Busy,
    /// It sleeps until there is something.
    Idle,
    /// It sleeps until what waits is due, or enough for a batch.
    Gathering,
}

impl Queue {
    /// Puts a record in.
    pub(super) fn push(&self, queued: Queued, limits: &WriterLimits) -> Result<(), WriterStopped> {
        let mut state = self.state();
        if state.is_closed {
            return Err(WriterStopped);
        }
        let gathers_until = match queued.urgency {
            Urgency::Awaited => Instant::now(),
            Urgency::Unwatched => state.due.unwrap_or_else(|| Instant::now() + GATHER),
        };
        let is_sooner = state.due.is_none_or(|due| gathers_until < due);
        state.due = Some(state.due.map_or(gathers_until, |due| due.min(gathers_until)));
        state.bytes += cost(&queued.record);
        state.waiting.push_back(queued);
        let wakes = match state.thread {
            Thread::Busy => false,
            Thread::Idle => true,
            Thread::Gathering => is_sooner || state.is_full(limits),
        };
        drop(state);
        if wakes {
            self.changed.notify_all();
        }
        Ok(())
    }

    /// Waits for records and moves as many as fit into a batch. None once it is closed and empty.
    pub(super) fn take(&self, limits: &WriterLimits) -> Option<Batch> {
        let mut state = self.state();
        loop {
            let now = Instant::now();
            state = match state.due {
                Some(due) if due <= now || state.is_closed || state.is_full(limits) => break,
                Some(due) => {
                    state.thread = Thread::Gathering;
                    let woken = self.changed.wait_timeout(state, due - now);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
                None if state.is_closed => return None,
                None => {
                    state.thread = Thread::Idle;
                    self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
                }
            };
        }
        state.thread = Thread::Busy;
        let mut batch = Batch::default();
        while batch.has_room(limits)
            && let Some(queued) = state.waiting.pop_front()
        {
            state.bytes -= cost(&queued.record);
            batch.push(queued);
        }
        if state.waiting.is_empty() {
            state.due = None;
        }
        Some(batch)
    }

    /// Takes no more, and has the thread come for what is there at once.
    pub(super) fn close(&self) {
        self.state().is_closed = true;
        self.changed.notify_all();
    }

    /// Returns after `patience`, or when the queue is closed, and whether it is.
    pub(super) fn wait_closed(&self, patience: Duration) -> bool {
        let waited =
            self.changed.wait_timeout_while(self.state(), patience, |state| !state.is_closed);
        waited.unwrap_or_else(PoisonError::into_inner).0.is_closed
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every critical section leaves the state whole at each point.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_full(&self, limits: &WriterLimits) -> bool {
        self.waiting.len() >= limits.batch_len || self.bytes >= limits.batch_bytes
    }
}
