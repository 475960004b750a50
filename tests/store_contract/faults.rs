//! Every call to the disk fails once.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use syncline_server::store::disk::{DiskCall, FaultPlan};
use syncline_server::store::embedded::Embedded;
use syncline_server::store::{AppendError, Store};
use tempfile::TempDir;

use crate::subject::{
    assert_log, journal_options, name, newest, open_journal, previous, records, snapshot,
};

const SEGMENT_BYTES: u64 = 2048;
const ROUNDS: u64 = 8;

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

#[test]
fn store_19_after_a_fault_at_any_call_nothing_is_acknowledged_and_nothing_is_lost() {
    let mut hits = BTreeMap::new();
    for k in 0.. {
        let folder = TempDir::new().unwrap();
        let calls = Arc::new(AtomicUsize::new(0));
        let hit = Arc::new(Mutex::new(None));
        let plan = {
            let (calls, hit) = (Arc::clone(&calls), Arc::clone(&hit));
            FaultPlan::new(move |call| {
                if calls.fetch_add(1, Ordering::Relaxed) != k {
                    return Ok(());
                }
                *hit.lock().unwrap() = Some(call);
                Err(io::Error::from_raw_os_error(if k % 2 == 0 { 5 } else { 28 }))
            })
        };
        let reached = run(folder.path(), plan);
        let Some(call) = *hit.lock().unwrap() else {
            assert!(
                reached["a"].acknowledged == ROUNDS * 3,
                "without a fault everything is stored"
            );
            break;
        };
        *hits.entry(format!("{call:?}")).or_insert(0) += 1;
        verify(folder.path(), &reached, call);
    }
    for call in ["Create", "Write", "Sync", "SyncFolder", "Remove"] {
        assert!(hits.get(call).is_some_and(|hits| *hits > 2), "{call} in {hits:?}");
    }
}

fn run(folder: &Path, plan: FaultPlan) -> BTreeMap<&'static str, Reached> {
    let mut reached: BTreeMap<_, Reached> =
        ["a", "b", "idle"].map(|name| (name, <_>::default())).into();
    let Ok(store) = Embedded::open(journal_options(folder, SEGMENT_BYTES, plan)) else {
        return reached;
    };
    let mut failed = false;
    for round in 1..=ROUNDS {
        for (document, reached) in &mut reached {
            // Cleaning has to carry it along.
            if *document == "idle" && round > 1 {
                continue;
            }
            let batch = records(document, reached.offered + 1..=reached.offered + 3);
            match store.append(&batch) {
                Ok(()) => {
                    assert!(!failed, "an acknowledgement after a failure");
                    reached.offered += 3;
                    reached.acknowledged = reached.offered;
                }
                Err(AppendError::Io { .. }) => {
                    assert!(!failed, "the failure is told once");
                    reached.offered += 3;
                    failed = true;
                }
                Err(error) => {
                    assert!(matches!(error, AppendError::Poisoned { .. }), "{error:?}");
                    failed = true;
                }
            }
            if reached.acknowledged == reached.offered {
                let state = snapshot(document, reached.acknowledged, 400);
                if store.write_snapshot(&name(document), &state).is_ok() {
                    reached.snapshot = reached.acknowledged;
                }
            }
            assert_eq!(
                newest(&store, document).last().get(),
                reached.acknowledged,
                "still readable"
            );
        }
    }
    assert!(!failed || store.health().is_err());
    reached
}

fn verify(folder: &Path, reached: &BTreeMap<&str, Reached>, call: DiskCall) {
    for _ in 0..2 {
        let store = open_journal(folder, SEGMENT_BYTES);
        for (document, Reached { acknowledged, offered, snapshot: through }) in reached {
            for log in [newest(&store, document), previous(&store, document)] {
                let base = log.snapshot.as_ref().map(|base| base.through.get());
                let expected = base.map(|through| snapshot(document, through, 400));
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

/// What a power cut leaves when the disk has not written a byte more than it was made to.
#[derive(Default)]
struct Durable {
    /// The length of each segment when it was last synced.
    lengths: BTreeMap<PathBuf, u64>,
    /// What the running sync will make of them.
    syncing: Option<BTreeMap<PathBuf, u64>>,
}

impl Durable {
    /// Sees each call before it is made, and with it that the one before has returned.
    fn observe(&mut self, folder: &Path, call: Option<DiskCall>) {
        if let Some(synced) = self.syncing.take() {
            self.lengths = synced;
        }
        if call == Some(DiskCall::Sync) {
            // The one that is synced is the one that grows, the last.
            let mut synced = self.lengths.clone();
            synced.extend(lengths(folder).pop_last());
            self.syncing = Some(synced);
        }
    }

    fn cut_power(&self, folder: &Path) {
        for (path, len) in lengths(folder) {
            let kept = self.lengths.get(&path).copied().unwrap_or(0).min(len);
            File::options().write(true).open(path).unwrap().set_len(kept).unwrap();
        }
    }
}

fn lengths(folder: &Path) -> BTreeMap<PathBuf, u64> {
    let entries = fs::read_dir(folder.join("journal")).unwrap().map(Result::unwrap);
    entries.map(|entry| (entry.path(), entry.metadata().unwrap().len())).collect()
}

#[test]
fn store_2_a_power_cut_at_any_call_loses_nothing_that_was_acknowledged() {
    for k in 2.. {
        let folder = TempDir::new().unwrap();
        let calls = Arc::new(AtomicUsize::new(0));
        let durable = Arc::new(Mutex::new(Durable::default()));
        let plan = {
            let (calls, durable) = (Arc::clone(&calls), Arc::clone(&durable));
            let folder = folder.path().to_owned();
            FaultPlan::new(move |call| {
                let on = calls.fetch_add(1, Ordering::Relaxed) < k;
                durable.lock().unwrap().observe(&folder, on.then_some(call));
                if on { Ok(()) } else { Err(io::Error::other("the power is gone")) }
            })
        };
        let reached = run(folder.path(), plan);
        if calls.load(Ordering::Relaxed) <= k {
            break;
        }
        durable.lock().unwrap().cut_power(folder.path());
        verify(folder.path(), &reached, DiskCall::Sync);
    }
}

#[test]
fn store_19_a_fault_while_opening_is_an_error_and_the_next_open_works() {
    for k in 0..6 {
        let folder = TempDir::new().unwrap();
        open_journal(folder.path(), SEGMENT_BYTES).append(&records("a", 1..=5)).unwrap();
        let segment = folder.path().join("journal").join(format!("{:020}.wal", 1));
        let len = fs::metadata(&segment).unwrap().len();
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
