//! Group commit: one thread takes whatever has queued up, stores it with one sync, and tells each
//! document how far it has come.
//!
//! While the disk is busy with one batch the next one gathers, so a batch grows with the load. An
//! update whose author is told when it is on disk is stored at once; others wait a moment for
//! company. Only a batch for which there is no room is held and tried again, and what comes after
//! it waits in the queue.

mod progress;
mod queue;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{oneshot, watch};
use tracing::error;

pub use self::progress::{Durable, Progress, ProgressReceiver};
use self::queue::{PushError, Queue, Queued};
use crate::metrics::METRICS;
use crate::store::{AppendError, Health, Record, Store};

/// How long a batch waits for room before it is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// How much may wait, and how much is stored at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriterLimits {
    /// Records that wait at most, beside the batch that is being stored.
    pub queue_len: usize,
    /// KiB that wait or are being stored at most. A longer record waits until it is alone.
    pub queue_kib: u32,
    /// Records that one sync covers at most.
    pub batch_len: usize,
    /// Bytes after which no further record is taken into a batch.
    pub batch_bytes: usize,
}

impl WriterLimits {
    /// 8,192 records or 32 MiB wait; 1,024 records or 4 MiB go in one batch.
    pub const DEFAULT: Self =
        Self { queue_len: 8192, queue_kib: 32 << 10, batch_len: 1024, batch_bytes: 4 << 20 };
}

/// Whether anybody waits to hear that a record is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// Its author is told. It is stored at once, with all that waits before it.
    Awaited,
    /// Nobody does. It may wait 50 ms for others, so that one sync does for all.
    Unwatched,
}

/// Whether anything is stored at the moment, of whichever document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreState {
    /// It is.
    Writable,
    /// Nothing is, for this reason. What was handed over waits, and is stored when that has passed.
    Stalled(String),
    /// Nothing will be until the process is started again.
    Failed(String),
}

/// The writer has been stopped; the record was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the store writer has stopped")]
pub struct WriterStopped;

/// Why a record was not queued.
#[derive(Debug, Error)]
pub enum TryAppendError {
    /// There is no room for it at the moment. Here it is.
    #[error("the store's queue is full")]
    Full(Record),
    /// There will be no room.
    #[error(transparent)]
    Stopped(#[from] WriterStopped),
}

/// The writer has stopped, and not everything that was handed over is stored.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{records} updates could not be stored: {reason}")]
pub struct Unstored {
    /// How many are not.
    pub records: usize,
    /// Why.
    pub reason: String,
}

/// Hands records to the writer thread.
#[derive(Clone, Debug)]
pub struct StoreWriter {
    inlet: Arc<Inlet>,
    state: watch::Receiver<StoreState>,
}

/// What waits in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Records, without those that are being stored.
    pub records: u64,
    /// Their bytes and those of what is being stored, each rounded up to a KiB.
    pub bytes: u64,
}

/// The thread behind every [`StoreWriter`]. It ends on [`WriterThread::stop`], or when all of
/// them and this are gone.
#[derive(Debug)]
pub struct WriterThread {
    inlet: Arc<Inlet>,
    ended: oneshot::Receiver<()>,
    thread: JoinHandle<Result<(), Unstored>>,
}

/// The way in. The queue is closed when nobody is left who could use it.
#[derive(Debug)]
struct Inlet {
    queue: Arc<Queue>,
}

impl Drop for Inlet {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl StoreWriter {
    /// Starts the thread.
    ///
    /// # Panics
    /// If the system gives no thread: at start, where nothing is lost by it.
    pub fn start(store: Arc<dyn Store>, limits: WriterLimits) -> (Self, WriterThread) {
        let limits = WriterLimits {
            queue_len: limits.queue_len.max(1),
            queue_kib: limits.queue_kib.max(1),
            ..limits
        };
        let queue = Arc::new(Queue::new(limits));
        let inlet = Arc::new(Inlet { queue: Arc::clone(&queue) });
        let (end, ended) = oneshot::channel::<()>();
        let initial = match store.health() {
            Health::Writable => StoreState::Writable,
            Health::Stalled { reason, .. } => StoreState::Stalled(reason),
            Health::Failed { reason } => StoreState::Failed(reason),
        };
        let (state, states) = watch::channel(initial);
        let work = Work { store, queue, state, lost: None };
        #[expect(clippy::expect_used, reason = "documented; a server without threads cannot run")]
        let thread = thread::Builder::new()
            .name("syncline-store".to_owned())
            .spawn(move || {
                let outcome = work.run();
                drop(end);
                outcome
            })
            .expect("the system gives no thread");
        let writer = Self { inlet: Arc::clone(&inlet), state: states };
        (writer, WriterThread { inlet, ended, thread })
    }

    /// Whether anything is stored at the moment, and news of that.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<StoreState> {
        self.state.clone()
    }

    /// Queues `record`, if there is room and nobody waits for it; how it fares is told through
    /// `progress`. Records of one document must be handed over one after the other.
    ///
    /// # Errors
    /// If there is no room, or the writer has been stopped.
    pub fn try_append(
        &self,
        record: Record,
        urgency: Urgency,
        progress: &Progress,
    ) -> Result<(), TryAppendError> {
        let queued = Queued { record, progress: progress.clone(), urgency };
        self.inlet.queue.push(queued).map_err(|error| match error {
            PushError::Full(queued) => TryAppendError::Full(queued.record),
            PushError::Closed => TryAppendError::Stopped(WriterStopped),
        })
    }

    /// Like [`Self::try_append`], but waits while the queue is full. Dropping the future before it
    /// is done leaves the record out.
    ///
    /// # Errors
    /// If the writer has been stopped.
    pub async fn append(
        &self,
        record: Record,
        urgency: Urgency,
        progress: &Progress,
    ) -> Result<(), WriterStopped> {
        let queued = Queued { record, progress: progress.clone(), urgency };
        self.inlet.queue.stand_in_line(queued).await.map_err(|_| WriterStopped)
    }

    /// How much waits. Does not wait itself.
    #[must_use]
    pub fn waiting(&self) -> Waiting {
        self.inlet.queue.waiting()
    }

    /// Whether [`WriterThread::stop`] has been called.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.inlet.queue.is_closed()
    }
}

impl WriterThread {
    /// Takes no more, stores what is queued, and returns when that is done. What still finds no
    /// room is given up.
    ///
    /// # Errors
    /// If anything that was handed over is not stored.
    pub async fn stop(self) -> Result<(), Unstored> {
        self.inlet.queue.close();
        // Fails only if the thread has ended before.
        drop(self.ended.await);
        let panicked = |_| Unstored { records: 0, reason: "the writer panicked".to_owned() };
        self.thread.join().unwrap_or_else(|panic| Err(panicked(panic)))
    }
}

/// What a record counts for in the bounds.
fn cost(record: &Record) -> usize {
    record.update.len() + record.author.len() + record.document.as_str().len() + 64
}

struct Work {
    store: Arc<dyn Store>,
    queue: Arc<Queue>,
    state: watch::Sender<StoreState>,
    /// What was taken and not stored.
    lost: Option<Unstored>,
}

/// The records of a batch, and beside each who is to be told.
#[derive(Default)]
struct Batch {
    records: Vec<Record>,
    progress: Vec<Progress>,
    bytes: usize,
    /// Room in the queue that is free again once the batch is stored.
    kib: u64,
}

impl Drop for Work {
    /// Whatever ends the thread before its time, nobody must go on as if there were one.
    fn drop(&mut self) {
        if thread::panicking() {
            self.enter(StoreState::Failed("the thread that stores updates panicked".to_owned()));
            self.queue.close();
        }
    }
}

impl Work {
    fn run(mut self) -> Result<(), Unstored> {
        if matches!(*self.state.borrow(), StoreState::Stalled(_)) {
            // Nobody offers anything to a store that says it is stalled.
            self.store(Batch::default());
        }
        while let Some(batch) = self.queue.take() {
            let kib = batch.kib;
            self.store(batch);
            self.queue.release(kib);
        }
        self.lost.take().map_or(Ok(()), Err)
    }

    /// Stores a batch. Waits for room, unless the thread has to stop.
    fn store(&mut self, mut batch: Batch) {
        let mut is_last_try = false;
        loop {
            let state = self.state.borrow().clone();
            if let StoreState::Failed(reason) = state {
                return self.lose(&batch, &reason);
            }
            match self.append(&batch.records) {
                Ok(()) => {
                    self.enter(StoreState::Writable);
                    batch.count();
                    return batch.publish();
                }
                Err(AppendError::Stalled { reason }) => {
                    self.enter(StoreState::Stalled(reason.clone()));
                    if is_last_try {
                        return self.lose(&batch, &reason);
                    }
                    is_last_try = self.queue.wait_closed(RETRY);
                }
                // The mistake is one document's; the others must not pay for it.
                Err(error) if batch.refuse(&error) => {}
                Err(error) => self.enter(StoreState::Failed(chain(&error))),
            }
        }
    }

    fn enter(&self, state: StoreState) {
        self.state.send_if_modified(|known| {
            let is_news = *known != state;
            *known = state;
            is_news
        });
    }

    fn lose(&mut self, batch: &Batch, reason: &str) {
        let records = batch.records.len();
        if records > 0 {
            let lost = Unstored { records: 0, reason: reason.to_owned() };
            self.lost.get_or_insert(lost).records += records;
        }
    }

    fn append(&self, records: &[Record]) -> Result<(), AppendError> {
        let outcome = catch_unwind(AssertUnwindSafe(|| self.store.append(records)));
        let panicked = |_| AppendError::Poisoned { reason: "the store panicked".to_owned() };
        outcome.map_err(panicked)?
    }
}

impl Batch {
    fn has_room(&self, limits: &WriterLimits) -> bool {
        self.records.len() < limits.batch_len.max(1) && self.bytes < limits.batch_bytes.max(1)
    }

    fn push(&mut self, queued: Queued) {
        let Queued { record, progress, urgency: _ } = queued;
        self.bytes += cost(&record);
        self.records.push(record);
        self.progress.push(progress);
    }

    fn count(&self) {
        if !self.records.is_empty() {
            METRICS.batches.add(self.records.len() as u64, 1);
            let bytes = self.records.iter().map(|record| record.update.len() as u64).sum();
            METRICS.stored_bytes.add(bytes);
        }
    }

    /// Tells each document how far it is stored. Backwards: its last update is all the news.
    fn publish(&self) {
        for (record, progress) in self.records.iter().zip(&self.progress).rev() {
            progress.advance(record.sequence);
        }
    }

    /// Takes the records of the document out that `error` is about. False if it is about none.
    fn refuse(&mut self, error: &AppendError) -> bool {
        let (AppendError::OutOfOrder { document, .. } | AppendError::TooLarge { document, .. }) =
            error
        else {
            return false;
        };
        error!(%document, %error, "Refused an update, which must not happen.");
        let reason = error.to_string();
        let before = self.records.len();
        let records = std::mem::take(&mut self.records);
        let progress = std::mem::take(&mut self.progress);
        for (record, progress) in records.into_iter().zip(progress) {
            if record.document == *document {
                progress.fail(&reason);
            } else {
                self.records.push(record);
                self.progress.push(progress);
            }
        }
        self.records.len() < before
    }
}

fn chain(error: &AppendError) -> String {
    match error {
        AppendError::Io { source } => format!("{error}: {source}"),
        AppendError::Poisoned { .. }
        | AppendError::Stalled { .. }
        | AppendError::OutOfOrder { .. }
        | AppendError::TooLarge { .. } => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::Memory;

    #[test]
    fn store_21_a_thread_that_panics_leaves_a_store_that_has_failed() {
        let queue = Arc::new(Queue::new(WriterLimits::DEFAULT));
        let (state, states) = watch::channel(StoreState::Writable);
        let store: Arc<dyn Store> = Arc::new(Memory::default());
        let work = Work { store, queue: Arc::clone(&queue), state, lost: None };
        let ended = thread::spawn(move || {
            let _work = work;
            panic!("told to");
        });
        assert!(ended.join().is_err());
        assert!(queue.is_closed());
        assert!(matches!(&*states.borrow(), StoreState::Failed(_)));
    }
}
