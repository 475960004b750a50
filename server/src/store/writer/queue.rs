//! What waits for the writer thread, and when the thread is woken for it.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::{Batch, Progress, Urgency, Waiting, WriterLimits, cost};
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
}

/// Why something was not queued.
#[derive(Debug)]
pub(super) enum PushError {
    /// There is no room for it.
    Full(Queued),
    /// Nothing is taken any more.
    Closed,
}

/// The queue.
#[derive(Debug)]
pub(super) struct Queue {
    limits: WriterLimits,
    state: Mutex<State>,
    changed: Condvar,
    /// Told when there is room again, or will be none.
    room: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Queued>,
    bytes: usize,
    /// Of what waits or is being stored, at least one for each record.
    kib: u64,
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
    pub(super) fn new(limits: WriterLimits) -> Self {
        Self { limits, state: Mutex::default(), changed: Condvar::new(), room: Notify::new() }
    }

    /// Puts a record in, if there is room.
    pub(super) fn push(&self, queued: Queued) -> Result<(), PushError> {
        let mut state = self.state();
        if state.is_closed {
            return Err(PushError::Closed);
        }
        let (kib, kib_max) = (self.kib(&queued), u64::from(self.limits.queue_kib));
        if state.waiting.len() >= self.limits.queue_len || state.kib + kib > kib_max {
            return Err(PushError::Full(queued));
        }
        let gathers_until = match queued.urgency {
            Urgency::Awaited => Instant::now(),
            Urgency::Unwatched => state.due.unwrap_or_else(|| Instant::now() + GATHER),
        };
        let is_sooner = state.due.is_none_or(|due| gathers_until < due);
        state.due = Some(state.due.map_or(gathers_until, |due| due.min(gathers_until)));
        state.bytes += cost(&queued.record);
        state.kib += kib;
        state.waiting.push_back(queued);
        let wakes = match state.thread {
            Thread::Busy => false,
            Thread::Idle => true,
            Thread::Gathering => is_sooner || state.is_full(&self.limits),
        };
        drop(state);
        if wakes {
            self.changed.notify_all();
        }
        Ok(())
    }

    /// What waits.
    pub(super) fn waiting(&self) -> Waiting {
        let state = self.state();
        Waiting { records: state.waiting.len() as u64, bytes: state.kib * 1024 }
    }

    /// Completes when there may be room, or none any more; also if that happens before it is
    /// awaited.
    pub(super) fn room(&self) -> Notified<'_> {
        self.room.notified()
    }

    /// What a record takes of the room. One that is longer than all of it waits until it is alone.
    fn kib(&self, queued: &Queued) -> u64 {
        let kib = cost(&queued.record).div_ceil(1024) as u64;
        kib.clamp(1, u64::from(self.limits.queue_kib))
    }

    /// A batch is stored, or given up.
    pub(super) fn release(&self, kib: u64) {
        self.state().kib -= kib;
        self.room.notify_waiters();
    }

    /// Waits for records and moves as many as fit into a batch. None once it is closed and empty.
    pub(super) fn take(&self) -> Option<Batch> {
        let limits = &self.limits;
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
            batch.kib += self.kib(&queued);
            batch.push(queued);
        }
        if state.waiting.is_empty() {
            state.due = None;
        }
        drop(state);
        self.room.notify_waiters();
        Some(batch)
    }

    /// Takes no more, and has the thread come for what is there at once.
    pub(super) fn close(&self) {
        self.state().is_closed = true;
        self.changed.notify_all();
        self.room.notify_waiters();
    }

    /// Whether nothing is taken any more.
    pub(super) fn is_closed(&self) -> bool {
        self.state().is_closed
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
