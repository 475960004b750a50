//! What waits for the writer thread, and when the thread is woken for it.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::store::Record;
use crate::store::writer::{Batch, Progress, Urgency, Waiting, WriterLimits, cost};

/// How long records that nobody waits for gather. Each sync costs two task switches and the disk's
/// own work, and a thousand keystrokes a second need twenty of them, not a thousand. Whoever
/// wrote such a record still has it, and brings it back if the machine dies meanwhile.
const GATHER: Duration = Duration::from_millis(50);

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
    /// There is no room for it, or others wait for that.
    Full(Queued),
    /// Nothing is taken any more.
    Closed,
}

/// A record for which there is no room, and who is told once there is.
#[derive(Debug)]
struct Waiter {
    queued: Queued,
    taken: oneshot::Sender<()>,
}

/// The queue.
#[derive(Debug)]
pub(super) struct Queue {
    limits: WriterLimits,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Queued>,
    /// Served in order, so that a long record is not passed by short ones for ever. Bounded by whoever
    /// waits: a document hands over one record after the other.
    line: VecDeque<Waiter>,
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
        Self { limits, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Puts a record in, if there is room.
    pub(super) fn push(&self, queued: Queued) -> Result<(), PushError> {
        let mut state = self.state();
        if state.is_closed {
            return Err(PushError::Closed);
        }
        if !state.line.is_empty() || !state.has_room(&queued, &self.limits) {
            return Err(PushError::Full(queued));
        }
        let is_sooner = state.add(queued, &self.limits);
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

    /// Puts a record in the line for room, which it leaves at once if there is some. Told once it is in
    /// the queue, which it is left out of if nobody listens any more; the sender is gone if nothing is
    /// taken any more.
    pub(super) fn stand_in_line(&self, queued: Queued) -> oneshot::Receiver<()> {
        let (taken, told) = oneshot::channel();
        let mut state = self.state();
        if !state.is_closed {
            state.line.push_back(Waiter { queued, taken });
            state.admit(&self.limits);
            drop(state);
            self.changed.notify_all();
        }
        told
    }

    /// What waits.
    pub(super) fn waiting(&self) -> Waiting {
        let state = self.state();
        Waiting { records: state.waiting.len() as u64, bytes: state.kib * 1024 }
    }

    /// A batch is stored, or given up.
    pub(super) fn release(&self, kib: u64) {
        let mut state = self.state();
        state.kib -= kib;
        state.admit(&self.limits);
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
            batch.kib += limits.kib(&queued.record);
            batch.push(queued);
        }
        if state.waiting.is_empty() {
            state.due = None;
        }
        state.admit(limits);
        Some(batch)
    }

    /// Takes no more, and has the thread come for what is there at once.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        state.line.clear();
        drop(state);
        self.changed.notify_all();
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

impl WriterLimits {
    /// What a record takes of the room. One that is longer than all of it waits until it is alone.
    fn kib(&self, record: &Record) -> u64 {
        let kib = cost(record).div_ceil(1024) as u64;
        kib.clamp(1, u64::from(self.queue_kib))
    }
}

impl State {
    /// Whether there is enough for a batch.
    fn is_full(&self, limits: &WriterLimits) -> bool {
        self.waiting.len() >= limits.batch_len || self.bytes >= limits.batch_bytes
    }

    fn has_room(&self, queued: &Queued, limits: &WriterLimits) -> bool {
        let kib = self.kib + limits.kib(&queued.record);
        self.waiting.len() < limits.queue_len && kib <= u64::from(limits.queue_kib)
    }

    /// Adds a record. Whether the thread has to begin sooner than it was to.
    fn add(&mut self, queued: Queued, limits: &WriterLimits) -> bool {
        let due = match queued.urgency {
            Urgency::Awaited => Instant::now(),
            Urgency::Unwatched => self.due.unwrap_or_else(|| Instant::now() + GATHER),
        };
        let is_sooner = self.due.is_none_or(|known| due < known);
        self.due = Some(self.due.map_or(due, |known| known.min(due)));
        self.bytes += cost(&queued.record);
        self.kib += limits.kib(&queued.record);
        self.waiting.push_back(queued);
        is_sooner
    }

    /// Takes in whoever is next in the line, as far as there is room.
    fn admit(&mut self, limits: &WriterLimits) {
        while let Some(next) = self.line.front()
            && (next.taken.is_closed() || self.has_room(&next.queued, limits))
            && let Some(Waiter { queued, taken }) = self.line.pop_front()
        {
            // Whoever has gone meanwhile does not want it stored.
            if taken.send(()).is_ok() {
                self.add(queued, limits);
            }
        }
    }
}
