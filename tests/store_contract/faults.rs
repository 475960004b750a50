//! Every call to the disk fails once.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use syncline_server::store::embedded::Embedded;
use syncline_server::store::embedded::disk::{DiskCall, FaultPlan};
use syncline_server::store::{AppendError, Health, SnapshotError, Store};
use tempfile::TempDir;

use crate::power::{PowerCut, Random};
use crate::subject::{
    assert_log, journal_options, name, newest, open_journal, previous, records, records_end,
    snapshot,
};

const SEGMENT_BYTES: u64 = 2048;
const ROUNDS: u64 = 8;
const EIO: i32 = 5;
/// No room, the quota, too many files of the process or of the system.
const NO_ROOM: [i32; 4] = [28, 122, 24, 23];

/// How far each document got.
#[derive(Clone, Copy, Default)]
struct Reached {
    /// What `append` has returned `Ok` for.
    acknowledged: u64,
    /// What has been asked for.
    offered: u64,
    /// The newest snapshot that was acknowledged.
    snapshot: u64,
}

/// Fails the `k`-th call with the error `number`; returns which call that was, once it has come.
fn fail_once(k: usize, number: i32) -> (FaultPlan, Arc<Mutex<Option<DiskCall>>>) {
    let calls = AtomicUsize::new(0);
    let hit = Arc::new(Mutex::new(None));
    let told = Arc::clone(&hit);
    let plan = FaultPlan::new(move |op| {
        if calls.fetch_add(1, Ordering::Relaxed) != k {
            return Ok(());
        }
        *told.lock().unwrap() = Some(op.call);
        Err(io::Error::from_raw_os_error(number))
    });
    (plan, hit)
}

#[test]
fn store_19_after_a_fault_at_any_call_nothing_is_acknowledged_and_nothing_is_lost() {
    let mut hits = BTreeMap::new();
    for k in 0.. {
        let folder = TempDir::new().unwrap();
        let (plan, hit) = fail_once(k, EIO);
        let ran = run(folder.path(), plan);
        let Some(call) = *hit.lock().unwrap() else {
            assert_eq!(ran.reached["a"].acknowledged, ROUNDS * 3, "all is stored without a fault");
            break;
        };
        assert_eq!(ran.stalls, 0);
        *hits.entry(format!("{call:?}")).or_insert(0) += 1;
        verify(folder.path(), &ran.reached, call);
    }
    for call in ["Create", "Write", "Sync", "SyncFolder", "Remove"] {
        assert!(hits.get(call).is_some_and(|hits| *hits > 2), "{call} in {hits:?}");
    }
}

#[test]
fn store_31_without_room_at_any_call_the_same_batch_is_stored_later() {
    let (mut survived, mut stalls) = (BTreeMap::new(), 0);
    for k in 0.. {
        let folder = TempDir::new().unwrap();
        let (plan, hit) = fail_once(k, NO_ROOM[k % NO_ROOM.len()]);
        let ran = run(folder.path(), plan);
        let Some(call) = *hit.lock().unwrap() else { break };
        if matches!(call, DiskCall::Write | DiskCall::Create) && ran.stage != Stage::Opening {
            assert!(ran.stage != Stage::Failed, "{call:?} for want of room is no failure");
            assert_eq!(ran.reached["a"].acknowledged, ROUNDS * 3, "it went on");
            *survived.entry(format!("{call:?}")).or_insert(0) += 1;
            stalls += ran.stalls;
        }
        if call == DiskCall::Sync {
            assert!(ran.stage != Stage::Writing, "a sync is never tried again");
        }
        verify(folder.path(), &ran.reached, call);
    }
    for call in ["Create", "Write"] {
        assert!(survived.get(call).is_some_and(|hits| *hits > 2), "{call} in {survived:?}");
    }
    assert!(stalls > 10, "{stalls} stalls");
}

#[test]
fn store_31_a_batch_that_cannot_be_taken_back_ends_writing() {
    for k in 0.. {
        let folder = TempDir::new().unwrap();
        let calls = AtomicUsize::new(0);
        let no_more_calls = Arc::new(AtomicBool::new(true));
        let reached_k = Arc::clone(&no_more_calls);
        let plan = FaultPlan::new(move |op| {
            let number = calls.fetch_add(1, Ordering::Relaxed);
            if number == k {
                reached_k.store(false, Ordering::Relaxed);
                return Err(io::Error::from_raw_os_error(NO_ROOM[0]));
            }
            let takes_back = matches!(op.call, DiskCall::Truncate | DiskCall::Remove);
            if number > k && takes_back { Err(io::Error::from_raw_os_error(EIO)) } else { Ok(()) }
        });
        let ran = run(folder.path(), plan);
        if no_more_calls.load(Ordering::Relaxed) {
            break;
        }
        assert_eq!(ran.stalls, 0);
        verify(folder.path(), &ran.reached, DiskCall::Truncate);
    }
}

/// How far a run came before it ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Opening,
    Writing,
    Failed,
}

struct Ran {
    stage: Stage,
    stalls: usize,
    reached: BTreeMap<&'static str, Reached>,
}

fn run(folder: &Path, plan: FaultPlan) -> Ran {
    let reached = ["a", "b", "idle"].map(|name| (name, <_>::default())).into();
    let mut ran = Ran { stage: Stage::Opening, stalls: 0, reached };
    let Ok(store) = Embedded::open(journal_options(folder, SEGMENT_BYTES, plan)) else {
        return ran;
    };
    ran.stage = Stage::Writing;
    for round in 1..=ROUNDS {
        for document in ["a", "b", "idle"] {
            // Cleaning has to carry it along.
            if document != "idle" || round == 1 {
                ran.step(&store, document);
            }
        }
    }
    let is_failed = matches!(store.health(), Health::Failed { .. });
    assert_eq!(ran.stage == Stage::Failed, is_failed, "{:?}", store.health());
    let mut closed = store.close();
    if matches!(closed, Err(AppendError::Stalled { .. })) {
        closed = store.close();
    }
    if closed.is_err() {
        ran.stage = Stage::Failed;
    }
    ran
}

/// Some are written among the updates, some apart.
fn state_bytes(through: u64) -> usize {
    if through.is_multiple_of(2) { 400 } else { 700 }
}

impl Ran {
    fn step(&mut self, store: &Embedded, document: &'static str) {
        let reached = self.reached.get_mut(document).unwrap();
        let batch = records(document, reached.offered + 1..=reached.offered + 3);
        let mut appended = store.append(&batch);
        if matches!(appended, Err(AppendError::Stalled { .. })) {
            self.stalls += 1;
            assert!(matches!(store.health(), Health::Stalled { .. }));
            assert_eq!(newest(store, document).last().get(), reached.acknowledged);
            appended = store.append(&batch);
        }
        match appended {
            Ok(()) => {
                assert!(self.stage == Stage::Writing, "an acknowledgement after a failure");
                assert_eq!(store.health(), Health::Writable);
                reached.offered += 3;
                reached.acknowledged = reached.offered;
            }
            Err(AppendError::Io { .. }) => {
                assert!(self.stage == Stage::Writing, "the failure is told once");
                reached.offered += 3;
                self.stage = Stage::Failed;
            }
            Err(error) => {
                assert!(matches!(error, AppendError::Poisoned { .. }), "{error:?}");
                self.stage = Stage::Failed;
            }
        }
        if reached.acknowledged == reached.offered {
            let state = snapshot(document, reached.acknowledged, state_bytes(reached.acknowledged));
            match store.write_snapshot(&name(document), &state) {
                Ok(()) => reached.snapshot = reached.acknowledged,
                Err(SnapshotError::Journal { source: AppendError::Stalled { .. } }) => {
                    assert_eq!(store.health(), Health::Writable, "appends go on");
                }
                Err(_) => self.stage = Stage::Failed,
            }
        }
        // Cleaning, after a snapshot that was written, fails on its own.
        if matches!(store.health(), Health::Failed { .. }) {
            self.stage = Stage::Failed;
        }
        let last = newest(store, document).last().get();
        assert_eq!(last, reached.acknowledged, "still readable");
    }
}

fn verify(folder: &Path, reached: &BTreeMap<&str, Reached>, call: DiskCall) {
    {
        let store = open_journal(folder, SEGMENT_BYTES);
        for (document, Reached { acknowledged, offered, snapshot: through }) in reached {
            for log in [newest(&store, document), previous(&store, document)] {
                let base = log.snapshot.as_ref().map(|base| base.through.get());
                let expected =
                    base.map(|through| snapshot(document, through, state_bytes(through)));
                let last = log.last().get();
                assert_log(&log, document, expected.as_ref(), last);
                assert!(last >= *acknowledged && last <= *offered, "{call:?}: {last}");
            }
            let base = newest(&store, document).snapshot.map_or(0, |base| base.through.get());
            assert!(base >= *through, "{call:?}: a snapshot is gone");
        }
    }
    let store = open_journal(folder, SEGMENT_BYTES);
    let last = newest(&store, "a").last().get();
    store.append(&records("a", last + 1..=last + 10)).unwrap();
    assert_eq!(newest(&store, "a").last().get(), last + 10);
}

#[test]
fn store_2_a_power_cut_at_any_call_loses_nothing_that_was_acknowledged() {
    let mut random = Random(1);
    for k in 1.. {
        let folder = TempDir::new().unwrap();
        let watched = PowerCut::watch(folder.path());
        let plan = watched.plan(move |number, _| match number < k {
            true => Ok(()),
            false => Err(io::Error::other("the power is gone")),
        });
        let ran = run(folder.path(), plan);
        if watched.calls() <= k {
            break;
        }
        watched.cut(&mut random);
        verify(folder.path(), &ran.reached, DiskCall::Sync);
    }
}

#[test]
fn store_31_a_power_cut_after_a_stall_at_any_call_loses_nothing_that_was_acknowledged() {
    let mut random = Random(3);
    for k in (0..).step_by(7) {
        let mut no_more_calls = false;
        for stall in (0..k).rev().take(9) {
            let folder = TempDir::new().unwrap();
            let watched = PowerCut::watch(folder.path());
            let plan = watched.plan(move |number, _| match number {
                _ if number >= k => Err(io::Error::other("the power is gone")),
                _ if number == stall => Err(io::Error::from_raw_os_error(NO_ROOM[0])),
                _ => Ok(()),
            });
            let ran = run(folder.path(), plan);
            no_more_calls = watched.calls() <= k;
            watched.cut(&mut random);
            verify(folder.path(), &ran.reached, DiskCall::Sync);
        }
        if no_more_calls {
            break;
        }
    }
}

#[test]
fn store_19_a_fault_while_opening_is_an_error_and_the_next_open_works() {
    for k in 0..6 {
        let folder = TempDir::new().unwrap();
        open_journal(folder.path(), SEGMENT_BYTES).append(&records("a", 1..=5)).unwrap();
        let segment = folder.path().join("journal").join(format!("{:020}.wal", 1));
        let len = records_end(&segment);
        File::options().write(true).open(&segment).unwrap().set_len(len - 1).unwrap();
        let calls = AtomicUsize::new(0);
        let plan = FaultPlan::new(move |_| match calls.fetch_add(1, Ordering::Relaxed) == k {
            true => Err(io::Error::from_raw_os_error(5)),
            false => Ok(()),
        });
        drop(Embedded::open(journal_options(folder.path(), SEGMENT_BYTES, plan)));
        assert_log(&newest(&open_journal(folder.path(), SEGMENT_BYTES), "a"), "a", None, 4);
    }
}
