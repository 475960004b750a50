//! Group commit.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use bytes::Bytes;
use syncline_protocol::{
    DocumentName, Durability, Epoch, Sequence, Snapshot, StoredLog, Timestamp,
};
use syncline_server::store::memory::Memory;
use syncline_server::store::writer::{
    Durable, Progress, ProgressReceiver, StoreState, StoreWriter, Unstored, Urgency, WriterLimits,
    WriterStopped, WriterThread,
};
use syncline_server::store::{
    AppendError, DocumentInfo, Generation, Health, LoadError, Record, Salvaged, SnapshotError,
    Store,
};
use tokio::sync::watch;

use crate::subject::{assert_log, name, newest, record};

const DEADLINE: Duration = Duration::from_secs(20);

/// Wraps a store: its appends can be held up and made to fail.
#[derive(Debug, Default)]
struct Faulty {
    inner: Memory,
    held: Mutex<bool>,
    released: Condvar,
    failing: AtomicBool,
    panicking: AtomicBool,
    full: AtomicBool,
    appends: AtomicUsize,
    largest: AtomicUsize,
}

impl Faulty {
    fn hold(&self, held: bool) {
        *self.held.lock().unwrap() = held;
        self.released.notify_all();
    }

    fn wait(&self) {
        let held = self.held.lock().unwrap();
        drop(self.released.wait_while(held, |held| *held).unwrap());
    }
}

impl Store for Faulty {
    fn load(&self, name: &DocumentName, generation: Generation) -> Result<StoredLog, LoadError> {
        self.inner.load(name, generation)
    }

    fn append(&self, records: &[Record]) -> Result<(), AppendError> {
        self.appends.fetch_add(1, Ordering::AcqRel);
        self.largest.fetch_max(records.len(), Ordering::AcqRel);
        self.wait();
        assert!(!self.panicking.load(Ordering::Acquire), "told to panic");
        if self.failing.load(Ordering::Acquire) {
            let source = Arc::new(std::io::Error::from_raw_os_error(5));
            return Err(AppendError::Io { source });
        }
        if self.full.load(Ordering::Acquire) {
            return Err(AppendError::Stalled { reason: "full".to_owned() });
        }
        self.inner.append(records)
    }

    fn salvage(&self, name: &DocumentName) -> Result<Salvaged, LoadError> {
        self.inner.salvage(name)
    }

    fn replace_log(
        &self,
        document: &DocumentName,
        snapshot: &Snapshot,
    ) -> Result<(), SnapshotError> {
        self.inner.replace_log(document, snapshot)
    }

    fn rewrite(
        &self,
        name: &DocumentName,
        epoch: Epoch,
        state: Bytes,
    ) -> Result<Sequence, SnapshotError> {
        self.inner.rewrite(name, epoch, state)
    }

    fn epoch(&self) -> Epoch {
        self.inner.epoch()
    }

    fn durability(&self) -> Durability {
        self.inner.durability()
    }

    fn close(&self) -> Result<(), AppendError> {
        self.inner.close()
    }

    fn write_snapshot(&self, name: &DocumentName, state: &Snapshot) -> Result<(), SnapshotError> {
        self.inner.write_snapshot(name, state)
    }

    fn documents(&self) -> Vec<DocumentInfo> {
        self.inner.documents()
    }

    fn health(&self) -> Health {
        match self.full.load(Ordering::Acquire) {
            true => {
                let since = Timestamp::from_unix_ms(0);
                Health::Stalled { reason: "full".to_owned(), since }
            }
            false => self.inner.health(),
        }
    }
}

/// A writer whose thread is held up with the first record of `a`.
async fn stuck(
    limits: WriterLimits,
    progress: &Progress,
) -> (Arc<Faulty>, StoreWriter, WriterThread) {
    let store = Arc::new(Faulty::default());
    let (writer, thread) = StoreWriter::start(store.clone(), limits);
    store.hold(true);
    writer.append(record("a", 1), Urgency::Awaited, progress).await.unwrap();
    until(|| store.appends.load(Ordering::Acquire) == 1).await;
    (store, writer, thread)
}

#[tokio::test]
async fn store_20_each_document_learns_how_far_it_is_stored() {
    let store = Arc::new(Faulty::default());
    let (writer, thread) = StoreWriter::start(store.clone(), WriterLimits::DEFAULT);
    let mut documents: Vec<_> =
        (0..50).map(|number| (format!("d{number}"), Progress::new(Sequence::ZERO))).collect();
    for sequence in 1..=20 {
        for (document, (progress, _)) in &documents {
            writer.append(record(document, sequence), Urgency::Awaited, progress).await.unwrap();
        }
    }
    for (document, (_, durable)) in &mut documents {
        reach(durable, &Durable::Through(Sequence::new(20))).await;
        assert_log(&newest(&*store, document), document, None, 20);
    }
    thread.stop().await.unwrap();
}

#[tokio::test]
async fn store_20_what_queues_up_during_a_sync_is_stored_by_the_next_one() {
    let (progress, mut durable) = Progress::new(Sequence::ZERO);
    let (store, writer, thread) = stuck(WriterLimits::DEFAULT, &progress).await;
    for sequence in 2..=500 {
        writer.append(record("a", sequence), Urgency::Awaited, &progress).await.unwrap();
    }
    assert_eq!(durable.now(), Durable::Through(Sequence::ZERO), "nothing is stored yet");
    store.hold(false);
    reach(&mut durable, &Durable::Through(Sequence::new(500))).await;
    assert_eq!(store.appends.load(Ordering::Acquire), 2);
    assert_eq!(store.largest.load(Ordering::Acquire), 499);
    thread.stop().await.unwrap();
}

#[tokio::test]
async fn store_21_a_failure_is_told_once_for_all_and_is_final() {
    let store = Arc::new(Faulty::default());
    let (writer, thread) = StoreWriter::start(store.clone(), WriterLimits::DEFAULT);
    let mut state = writer.state();
    let (progress, mut durable) = Progress::new(Sequence::ZERO);
    writer.append(record("a", 1), Urgency::Awaited, &progress).await.unwrap();
    reach(&mut durable, &Durable::Through(Sequence::new(1))).await;
    assert_eq!(*state.borrow(), StoreState::Writable);
    store.failing.store(true, Ordering::Release);
    writer.append(record("a", 2), Urgency::Awaited, &progress).await.unwrap();
    let reason = failure(&mut state).await;
    assert!(reason.contains("cannot be written"), "{reason}");
    store.failing.store(false, Ordering::Release);
    writer.append(record("a", 3), Urgency::Awaited, &progress).await.unwrap();
    let unstored = within(thread.stop()).await.unwrap_err();
    assert_eq!((unstored.records, &unstored.reason), (2, &reason));
    assert_eq!(store.appends.load(Ordering::Acquire), 2, "a failed store is not asked again");
    assert_eq!(durable.now(), Durable::Through(Sequence::new(1)));
}

#[tokio::test]
async fn store_21_a_store_that_panics_counts_as_failed() {
    let store = Arc::new(Faulty::default());
    let (writer, thread) = StoreWriter::start(store.clone(), WriterLimits::DEFAULT);
    store.panicking.store(true, Ordering::Release);
    let (progress, _durable) = Progress::new(Sequence::ZERO);
    writer.append(record("a", 1), Urgency::Awaited, &progress).await.unwrap();
    assert!(failure(&mut writer.state()).await.contains("panicked"));
    assert_eq!(thread.stop().await.unwrap_err().records, 1);
}

#[tokio::test]
async fn store_21_one_document_out_of_order_does_not_fail_the_others() {
    let store = Arc::new(Faulty::default());
    let (writer, thread) = StoreWriter::start(store.clone(), WriterLimits::DEFAULT);
    let (first, mut first_durable) = Progress::new(Sequence::ZERO);
    let (wrong, mut wrong_durable) = Progress::new(Sequence::ZERO);
    store.hold(true);
    writer.append(record("first", 1), Urgency::Awaited, &first).await.unwrap();
    for sequence in 2..=3 {
        writer.append(record("wrong", sequence), Urgency::Awaited, &wrong).await.unwrap();
        writer.append(record("first", sequence), Urgency::Awaited, &first).await.unwrap();
    }
    store.hold(false);
    within(wrong_durable.wait_for(|wrong| matches!(wrong, Durable::Failed(_)))).await;
    assert_eq!(*writer.state().borrow(), StoreState::Writable);
    reach(&mut first_durable, &Durable::Through(Sequence::new(3))).await;
    assert_log(&newest(&*store, "wrong"), "wrong", None, 0);
    thread.stop().await.unwrap();
}

#[tokio::test]
async fn store_22_a_full_queue_makes_callers_wait() {
    let by_count = WriterLimits { queue_len: 2, ..WriterLimits::DEFAULT };
    let by_bytes = WriterLimits { queue_kib: 2, ..WriterLimits::DEFAULT };
    for limits in [by_count, by_bytes] {
        let (progress, mut durable) = Progress::new(Sequence::ZERO);
        let (store, writer, thread) = stuck(limits, &progress).await;
        let mut accepted = 1;
        while accepted < 100 {
            let record = record("a", accepted + 1);
            let wait = Duration::from_millis(200);
            if tokio::time::timeout(wait, writer.append(record, Urgency::Awaited, &progress))
                .await
                .is_err()
            {
                break;
            }
            accepted += 1;
        }
        assert!((2..=3).contains(&accepted), "{accepted} were taken");
        store.hold(false);
        let mut huge = record("a", accepted + 1);
        huge.update = vec![7; 1 << 20].into();
        within(writer.append(huge, Urgency::Awaited, &progress)).await.unwrap();
        reach(&mut durable, &Durable::Through(Sequence::new(accepted + 1))).await;
        thread.stop().await.unwrap();
    }
}

#[tokio::test]
async fn store_22_who_is_next_and_busy_holds_nobody_up() {
    let limits = WriterLimits { queue_len: 1, ..WriterLimits::DEFAULT };
    let (progress, mut durable) = Progress::new(Sequence::ZERO);
    let (store, writer, thread) = stuck(limits, &progress).await;
    writer.append(record("a", 2), Urgency::Awaited, &progress).await.unwrap();
    // Polled once, and then not any more.
    let mut busy = Box::pin(writer.append(record("a", 3), Urgency::Awaited, &progress));
    assert!(futures_util::poll!(&mut busy).is_pending());
    let (other, mut other_durable) = Progress::new(Sequence::ZERO);
    let mut next = Box::pin(writer.append(record("b", 1), Urgency::Awaited, &other));
    assert!(futures_util::poll!(&mut next).is_pending());
    store.hold(false);
    within(next).await.unwrap();
    reach(&mut other_durable, &Durable::Through(Sequence::new(1))).await;
    reach(&mut durable, &Durable::Through(Sequence::new(3))).await;
    busy.await.unwrap();
    thread.stop().await.unwrap();
}

#[tokio::test]
async fn store_23_stopping_stores_what_is_queued_and_takes_no_more() {
    let store = Arc::new(Faulty::default());
    let (writer, thread) = StoreWriter::start(store.clone(), WriterLimits::DEFAULT);
    let (progress, durable) = Progress::new(Sequence::ZERO);
    store.hold(true);
    for sequence in 1..=3000 {
        writer.append(record("a", sequence), Urgency::Awaited, &progress).await.unwrap();
    }
    let stopping = tokio::spawn(thread.stop());
    until(|| writer.is_stopping()).await;
    let late = writer.append(record("a", 3001), Urgency::Awaited, &progress).await;
    assert_eq!(late, Err(WriterStopped));
    store.hold(false);
    within(stopping).await.unwrap().unwrap();
    assert_eq!(durable.now(), Durable::Through(Sequence::new(3000)));
    assert_log(&newest(&*store, "a"), "a", None, 3000);
    assert!(store.largest.load(Ordering::Acquire) <= WriterLimits::DEFAULT.batch_len);
}

#[tokio::test]
async fn store_23_a_full_queue_does_not_keep_from_stopping() {
    let limits = WriterLimits { queue_len: 1, ..WriterLimits::DEFAULT };
    let (progress, _durable) = Progress::new(Sequence::ZERO);
    let (store, writer, thread) = stuck(limits, &progress).await;
    writer.append(record("a", 2), Urgency::Awaited, &progress).await.unwrap();
    let late =
        tokio::spawn(
            async move { writer.append(record("a", 3), Urgency::Awaited, &progress).await },
        );
    let stopping = tokio::spawn(thread.stop());
    store.hold(false);
    within(stopping).await.unwrap().unwrap();
    let late = within(late).await.unwrap();
    let stored = store.load(&name("a"), Generation::Newest).unwrap().last().get();
    assert_eq!(stored, if late.is_ok() { 3 } else { 2 });
}

#[tokio::test]
async fn store_45_what_nobody_waits_for_is_stored_together_with_others() {
    let store = Arc::new(Faulty::default());
    let (writer, thread) = StoreWriter::start(store.clone(), WriterLimits::DEFAULT);
    let (progress, mut durable) = Progress::new(Sequence::ZERO);
    // The first finds the thread asleep; however slow this machine is, all must be stored.
    for sequence in 1..=100 {
        writer.append(record("a", sequence), Urgency::Unwatched, &progress).await.unwrap();
    }
    reach(&mut durable, &Durable::Through(Sequence::new(100))).await;
    let gathered = store.appends.load(Ordering::Acquire);
    assert!(gathered < 100, "{gathered} syncs for 100 records that were handed over at once");
    // One that somebody waits for takes along what is before it, whoever that is of.
    let (other, mut other_durable) = Progress::new(Sequence::ZERO);
    writer.append(record("a", 101), Urgency::Unwatched, &progress).await.unwrap();
    writer.append(record("b", 1), Urgency::Awaited, &other).await.unwrap();
    reach(&mut other_durable, &Durable::Through(Sequence::new(1))).await;
    // Stored by then; whichever of the two documents is told first.
    assert_log(&newest(&*store, "a"), "a", None, 101);
    thread.stop().await.unwrap();
}

#[tokio::test]
async fn store_33_what_finds_no_room_is_held_and_stored_when_there_is_some() {
    let store = Arc::new(Faulty::default());
    let (writer, thread) = StoreWriter::start(store.clone(), WriterLimits::DEFAULT);
    let (progress, mut durable) = Progress::new(Sequence::ZERO);
    store.full.store(true, Ordering::Release);
    writer.append(record("a", 1), Urgency::Awaited, &progress).await.unwrap();
    stalled(&writer).await;
    writer.append(record("a", 2), Urgency::Awaited, &progress).await.unwrap();
    let tries = store.appends.load(Ordering::Acquire);
    until(|| store.appends.load(Ordering::Acquire) > tries).await;
    assert_eq!(durable.now(), Durable::Through(Sequence::ZERO));
    store.full.store(false, Ordering::Release);
    reach(&mut durable, &Durable::Through(Sequence::new(2))).await;
    assert_eq!(*writer.state().borrow(), StoreState::Writable);
    assert_log(&newest(&*store, "a"), "a", None, 2);
    thread.stop().await.unwrap();
}

#[tokio::test]
async fn store_33_a_store_that_is_stalled_from_the_start_is_tried_without_anything_to_store() {
    let store = Arc::new(Faulty::default());
    store.full.store(true, Ordering::Release);
    let (writer, thread) = StoreWriter::start(store.clone(), WriterLimits::DEFAULT);
    stalled(&writer).await;
    store.full.store(false, Ordering::Release);
    let mut state = writer.state();
    drop(within(state.wait_for(|state| *state == StoreState::Writable)).await.unwrap());
    thread.stop().await.unwrap();
}

#[tokio::test]
async fn store_33_a_stop_tries_once_more_and_says_what_it_could_not_store() {
    let limits = WriterLimits { batch_len: 2, ..WriterLimits::DEFAULT };
    for room_at_last in [true, false] {
        let store = Arc::new(Faulty::default());
        let (writer, thread) = StoreWriter::start(store.clone(), limits);
        let (progress, _durable) = Progress::new(Sequence::ZERO);
        store.full.store(true, Ordering::Release);
        for sequence in 1..=7 {
            writer.append(record("a", sequence), Urgency::Awaited, &progress).await.unwrap();
        }
        stalled(&writer).await;
        store.full.store(!room_at_last, Ordering::Release);
        let outcome = within(thread.stop()).await;
        let unstored = Unstored { records: 7, reason: "full".to_owned() };
        assert_eq!(outcome, if room_at_last { Ok(()) } else { Err(unstored) });
        let last = newest(&*store, "a").last().get();
        assert_eq!(last, if room_at_last { 7 } else { 0 });
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.unwrap()
}

async fn reach(durable: &mut ProgressReceiver, goal: &Durable) {
    within(durable.wait_for(|durable| durable == goal)).await;
}

async fn failure(state: &mut watch::Receiver<StoreState>) -> String {
    let failed = within(state.wait_for(|state| matches!(state, StoreState::Failed(_)))).await;
    match failed.unwrap().clone() {
        StoreState::Failed(reason) => reason,
        StoreState::Writable | StoreState::Stalled(_) => unreachable!("waited for a failure"),
    }
}

async fn stalled(writer: &StoreWriter) {
    let mut state = writer.state();
    let is_stalled = |state: &StoreState| *state == StoreState::Stalled("full".to_owned());
    drop(within(state.wait_for(is_stalled)).await.unwrap());
}

async fn until(condition: impl Fn() -> bool) {
    within(async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
