//! Disks that are full or slow, and appends that do not wait for the disk.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use syncline_protocol::{Durability, Epoch};
use syncline_server::store::embedded::disk::{DiskCall, DiskOp, FaultPlan};
use syncline_server::store::embedded::{Embedded, EmbeddedOptions};
use syncline_server::store::{AppendError, Generation, Health, SnapshotError, Store};
use tempfile::TempDir;

use crate::power::{PowerCut, Random};
use crate::subject::{
    assert_log, journal_options, name, newest, open_journal, record, records, segments, snapshot,
};

const DEADLINE: Duration = Duration::from_secs(20);

/// Calls can be held up, and are counted.
#[derive(Clone, Debug, Default)]
struct Gate(Arc<State>);

#[derive(Debug, Default)]
struct State {
    held: Mutex<bool>,
    released: Condvar,
    waiting: AtomicUsize,
    syncs: AtomicUsize,
}

impl Gate {
    /// Holds up the calls for which `holds` says so, while [`Gate::hold`] does.
    fn plan(&self, holds: fn(DiskOp<'_>) -> bool) -> FaultPlan {
        let gate = Arc::clone(&self.0);
        FaultPlan::new(move |op| {
            if op.call == DiskCall::Sync {
                gate.syncs.fetch_add(1, Ordering::AcqRel);
            }
            if holds(op) {
                let held = gate.held.lock().unwrap();
                gate.waiting.fetch_add(usize::from(*held), Ordering::AcqRel);
                drop(gate.released.wait_while(held, |held| *held).unwrap());
            }
            Ok(())
        })
    }

    fn hold(&self, held: bool) {
        *self.0.held.lock().unwrap() = held;
        self.0.released.notify_all();
    }

    fn syncs(&self) -> usize {
        self.0.syncs.load(Ordering::Acquire)
    }

    fn is_waited_at(&self) -> bool {
        self.0.waiting.load(Ordering::Acquire) > 0
    }
}

/// Lets calls fail with the error `number`.
fn failing(number: i32, fails: impl Fn(DiskOp<'_>) -> bool + Send + Sync + 'static) -> FaultPlan {
    FaultPlan::new(move |op| match fails(op) {
        true => Err(io::Error::from_raw_os_error(number)),
        false => Ok(()),
    })
}

fn until(condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < DEADLINE, "it never came");
        thread::yield_now();
    }
}

#[test]
fn store_31_a_full_disk_opens_for_reading_and_goes_on_when_there_is_room() {
    let folder = TempDir::new().unwrap();
    let store = open_journal(folder.path(), 2048);
    store.append(&records("a", 1..=9)).unwrap();
    store.close().unwrap();
    drop(store);
    let full = Arc::new(AtomicBool::new(true));
    let is_full = Arc::clone(&full);
    let plan = failing(28, move |op| {
        is_full.load(Ordering::Acquire) && matches!(op.call, DiskCall::Write | DiskCall::Create)
    });
    for _ in 0..2 {
        let store = Embedded::open(journal_options(folder.path(), 2048, plan.clone())).unwrap();
        let Health::Stalled { reason, .. } = store.health() else { panic!("{:?}", store.health()) };
        assert!(reason.contains("space"), "{reason}");
        assert_log(&newest(&store, "a"), "a", None, 9);
        for batch in [records("a", [10]), Vec::new()] {
            let stalled = store.append(&batch);
            assert!(matches!(stalled, Err(AppendError::Stalled { .. })), "{stalled:?}");
        }
        let rewritten = store.rewrite(&name("a"), Epoch::new(7), snapshot("a", 10, 90).state);
        let Err(SnapshotError::Journal { source: AppendError::Stalled { .. } }) = rewritten else {
            panic!("{rewritten:?}")
        };
        assert_log(&newest(&store, "a"), "a", None, 9);
    }
    let store = Embedded::open(journal_options(folder.path(), 2048, plan)).unwrap();
    full.store(false, Ordering::Release);
    store.append(&[]).unwrap();
    assert_eq!(store.health(), Health::Writable);
    store.append(&records("a", [10])).unwrap();
    drop(store);
    assert_log(&newest(&open_journal(folder.path(), 2048), "a"), "a", None, 10);
}

#[test]
fn store_38_a_disk_that_does_not_answer_is_told_while_it_does_not() {
    let folder = TempDir::new().unwrap();
    let gate = Gate::default();
    let plan = gate.plan(|op| op.call == DiskCall::Sync);
    let patience = Duration::from_millis(20);
    let options = EmbeddedOptions { patience, ..journal_options(folder.path(), 2048, plan) };
    let store = Embedded::open(options).unwrap();
    assert_eq!(store.health(), Health::Writable);
    gate.hold(true);
    thread::scope(|scope| {
        scope.spawn(|| store.append(&records("a", [1])).unwrap());
        until(|| matches!(store.health(), Health::Stalled { .. }));
        let Health::Stalled { reason, .. } = store.health() else { panic!("it is held") };
        assert!(reason.contains("not answered"), "{reason}");
        assert_log(&newest(&store, "a"), "a", None, 0);
        gate.hold(false);
    });
    assert_eq!(store.health(), Health::Writable);
    assert_log(&newest(&store, "a"), "a", None, 1);
}

fn at_os(folder: &Path, faults: FaultPlan) -> Embedded {
    let options = journal_options(folder, 24 << 10, faults);
    Embedded::open(EmbeddedOptions { durability: Durability::Os, ..options }).unwrap()
}

#[test]
fn store_32_at_os_appends_do_not_wait_for_a_sync_and_survive_the_process() {
    let folder = TempDir::new().unwrap();
    let gate = Gate::default();
    let store = at_os(folder.path(), gate.plan(|op| op.call == DiskCall::Sync));
    assert_eq!(store.durability(), Durability::Os);
    let opened = gate.syncs();
    gate.hold(true);
    for sequence in 1..=20 {
        store.append(&records("a", [sequence])).unwrap();
    }
    assert!(gate.syncs() <= opened + 1, "at most the one behind them");
    // Files are shared by all who look at them: so it is after a kill.
    assert_log(
        &Embedded::read(folder.path()).unwrap().load(&name("a"), Generation::Newest).unwrap(),
        "a",
        None,
        20,
    );
    gate.hold(false);
    drop(store);
    assert_log(&newest(&at_os(folder.path(), FaultPlan::NONE), "a"), "a", None, 20);
}

#[test]
fn store_32_at_os_what_was_written_is_synced_soon_and_with_snapshots_and_on_close() {
    let ends: [fn(&Embedded, &PowerCut); 3] = [
        |_, watched| {
            let before = watched.calls();
            // The sync, and the call after it that shows that it has returned.
            until(|| watched.calls() > before);
        },
        |store, _| store.write_snapshot(&name("b"), &snapshot("b", 0, 50)).unwrap(),
        |store, _| store.close().unwrap(),
    ];
    for (end, seed) in ends.into_iter().zip(0..) {
        let folder = TempDir::new().unwrap();
        let watched = PowerCut::watch(folder.path());
        let store = at_os(folder.path(), watched.plan(|_, _| Ok(())));
        for sequence in 1..=300 {
            store.append(&records("a", [sequence])).unwrap();
        }
        end(&store, &watched);
        drop(store);
        watched.cut(&mut Random(seed));
        assert_log(&newest(&at_os(folder.path(), FaultPlan::NONE), "a"), "a", None, 300);
    }
}

#[test]
fn store_32_at_os_a_power_cut_leaves_a_beginning_of_every_log() {
    let mut shorter = 0;
    for seed in 0..40 {
        let folder = TempDir::new().unwrap();
        let watched = PowerCut::watch(folder.path());
        let store = at_os(folder.path(), watched.plan(|_, _| Ok(())));
        for sequence in 1..=100 {
            store.append(&[record("a", sequence), record("b", sequence)]).unwrap();
        }
        drop(store);
        watched.cut(&mut Random(seed));
        let store = at_os(folder.path(), FaultPlan::NONE);
        for document in ["a", "b"] {
            let log = newest(&store, document);
            assert_log(&log, document, None, log.last().get());
            shorter += usize::from(log.last().get() < 100);
        }
    }
    assert!(shorter > 5, "{shorter}");
}

#[test]
fn store_32_at_os_a_sync_that_fails_behind_the_appends_ends_writing() {
    let folder = TempDir::new().unwrap();
    let fails = Arc::new(AtomicBool::new(false));
    let is_failing = Arc::clone(&fails);
    let plan =
        failing(5, move |op| op.call == DiskCall::Sync && is_failing.load(Ordering::Acquire));
    let store = at_os(folder.path(), plan);
    fails.store(true, Ordering::Release);
    store.append(&records("a", [1])).unwrap();
    until(|| matches!(store.health(), Health::Failed { .. }));
    fails.store(false, Ordering::Release);
    let refused = store.append(&records("a", [2]));
    assert!(matches!(refused, Err(AppendError::Poisoned { .. })), "{refused:?}");
    assert_log(&newest(&store, "a"), "a", None, 1);
}

#[test]
fn store_37_appends_do_not_wait_for_a_long_snapshot() {
    let folder = TempDir::new().unwrap();
    let gate = Gate::default();
    let apart = |op: DiskOp<'_>| {
        op.call == DiskCall::Write && op.path.extension().is_some_and(|end| end == "new")
    };
    let store = Embedded::open(journal_options(folder.path(), 64 << 20, gate.plan(apart))).unwrap();
    store.append(&records("a", 1..=3)).unwrap();
    let long = snapshot("a", 3, 5 << 20);
    gate.hold(true);
    thread::scope(|scope| {
        scope.spawn(|| store.write_snapshot(&name("a"), &long).unwrap());
        until(|| gate.is_waited_at());
        store.append(&records("b", 1..=3)).unwrap();
        store.append(&records("a", [4])).unwrap();
        assert_log(&newest(&store, "a"), "a", None, 4);
        gate.hold(false);
    });
    assert_log(&newest(&store, "a"), "a", Some(&long), 4);
    drop(store);
    let store = open_journal(folder.path(), 64 << 20);
    assert_log(&newest(&store, "a"), "a", Some(&long), 4);
    assert_log(&newest(&store, "b"), "b", None, 3);
}

#[test]
fn store_37_a_long_snapshot_that_finds_no_room_leaves_nothing_behind() {
    let folder = TempDir::new().unwrap();
    let plan = failing(28, |op| {
        op.call == DiskCall::Write && op.path.extension().is_some_and(|end| end == "new")
    });
    let store = Embedded::open(journal_options(folder.path(), 2048, plan)).unwrap();
    store.append(&records("a", 1..=3)).unwrap();
    for _ in 0..3 {
        let failed = store.write_snapshot(&name("a"), &snapshot("a", 3, 5000));
        let Err(SnapshotError::Journal { source: AppendError::Stalled { .. } }) = failed else {
            panic!("{failed:?}")
        };
        assert_eq!(store.health(), Health::Writable);
        store.append(&records("b", [newest(&store, "b").last().get() + 1])).unwrap();
    }
    drop(store);
    let files = std::fs::read_dir(folder.path().join("journal")).unwrap().count();
    assert_eq!(files, segments(folder.path()).len());
    let store = open_journal(folder.path(), 2048);
    assert_log(&newest(&store, "a"), "a", None, 3);
    assert_log(&newest(&store, "b"), "b", None, 3);
}
