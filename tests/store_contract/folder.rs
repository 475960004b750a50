//! The data folder of the embedded store as a whole.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use syncline_protocol::Epoch;
use syncline_server::store::embedded::Embedded;
use syncline_server::store::embedded::disk::{DiskCall, FaultPlan};
use syncline_server::store::embedded::restore::Restore;
use syncline_server::store::{OpenError, Store};
use tempfile::TempDir;

use crate::subject::{
    TINY, assert_log, name, newest, open, open_journal, options, previous, records, snapshot,
};

#[test]
fn store_15_a_second_open_of_the_folder_is_refused_with_the_pid() {
    let folder = TempDir::new().unwrap();
    let first = open(folder.path(), TINY);
    let second = Embedded::open(options(folder.path(), TINY, FaultPlan::NONE));
    let Err(OpenError::InUse { path, pid }) = second else { panic!("{second:?}") };
    assert_eq!((path.as_path(), pid), (folder.path(), std::process::id()));
    drop(first);
    open(folder.path(), TINY).append(&records("a", 1..=1)).unwrap();
}

#[test]
fn store_15_missing_parents_of_the_folder_are_created() {
    let folder = TempDir::new().unwrap();
    let deep = folder.path().join("some/where");
    open(&deep, TINY).append(&records("a", 1..=1)).unwrap();
    assert_log(&newest(&open(&deep, TINY), "a"), "a", None, 1);
}

/// Opens or fills the folder at a path and is seen by the plan.
type Begin = fn(&Path, FaultPlan) -> Result<(), OpenError>;

#[test]
fn store_15_the_folder_and_its_parents_survive_a_power_cut() {
    let begins: [Begin; 2] = [
        |path, plan| Embedded::open(options(path, TINY, plan)).map(drop),
        |path, plan| Restore::begin_with(path, Epoch::new(7), plan).map(drop),
    ];
    for begin in begins {
        let folder = TempDir::new().unwrap();
        let deep = folder.path().join("some/where");
        let synced = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&synced);
        let plan = FaultPlan::new(move |op| {
            if op.call == DiskCall::SyncFolder {
                seen.lock().unwrap().push(op.path.to_owned());
            }
            Ok(())
        });
        begin(&deep, plan.clone()).unwrap();
        let expected = [folder.path().to_owned(), folder.path().join("some")];
        assert_eq!(synced.lock().unwrap()[..2], expected);
        let refuses = FaultPlan::new(|op| {
            let fails = op.call == DiskCall::SyncFolder;
            if fails { Err(io::Error::from_raw_os_error(5)) } else { Ok(()) }
        });
        let failed = begin(&folder.path().join("another"), refuses);
        let Err(OpenError::Io { path, .. }) = failed else { panic!("{failed:?}") };
        assert_eq!(path, folder.path().join("another"));
    }
}

#[test]
fn store_31_a_lock_file_that_takes_no_pid_keeps_no_folder_from_opening() {
    let folder = TempDir::new().unwrap();
    let lock = folder.path().join("syncline.lock");
    // A pipe can be locked and not written at a place in it.
    assert!(Command::new("mkfifo").arg(&lock).status().unwrap().success());
    open_journal(folder.path(), TINY).append(&records("a", 1..=1)).unwrap();
}

#[test]
fn store_15_a_pid_is_written_over_a_longer_one_without_cutting_the_file() {
    let folder = TempDir::new().unwrap();
    let lock = folder.path().join("syncline.lock");
    fs::write(&lock, "4294967295\n").unwrap();
    let store = open_journal(folder.path(), TINY);
    assert_eq!(fs::metadata(&lock).unwrap().len(), 11);
    let second = Embedded::open(options(folder.path(), TINY, FaultPlan::NONE));
    let Err(OpenError::InUse { pid, .. }) = second else { panic!("{second:?}") };
    assert_eq!(pid, std::process::id());
    drop(store);
}

#[test]
fn store_17_the_journal_stays_bounded_and_alone_suffices() {
    let folder = TempDir::new().unwrap();
    let idle = snapshot("idle", 3, 700);
    let mut largest = 0;
    {
        let store = open(folder.path(), TINY);
        store.append(&records("idle", 1..=3)).unwrap();
        store.write_snapshot(&name("idle"), &idle).unwrap();
        for round in 1..=200 {
            store.append(&records("busy", round * 5 - 4..=round * 5)).unwrap();
            store.write_snapshot(&name("busy"), &snapshot("busy", round * 5, 900)).unwrap();
            largest = largest.max(journal_bytes(folder.path()));
        }
    }
    // Live are two snapshots of 900 bytes, one of 700 and ten updates: about 3.5 kB.
    assert!(largest < 8 * TINY, "{largest} bytes");
    fs::remove_dir_all(folder.path().join("sled")).unwrap();
    let store = open(folder.path(), TINY);
    assert_log(&newest(&store, "busy"), "busy", Some(&snapshot("busy", 1000, 900)), 1000);
    assert_log(&previous(&store, "busy"), "busy", Some(&snapshot("busy", 995, 900)), 1000);
    assert_log(&newest(&store, "idle"), "idle", Some(&idle), 3);
    assert_log(&previous(&store, "idle"), "idle", None, 3);
}

#[test]
fn store_17_loads_and_appends_go_on_while_segments_are_cleaned() {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path(), TINY);
    store.append(&records("idle", 1..=20)).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut loads = 0;
            while !done.load(Ordering::Acquire) || loads == 0 {
                assert_log(&newest(&store, "idle"), "idle", None, 20);
                let busy = newest(&store, "busy");
                let base = busy.snapshot.as_ref();
                let expected = base.map(|base| snapshot("busy", base.through.get(), 900));
                assert_log(&busy, "busy", expected.as_ref(), busy.last().get());
                loads += 1;
            }
        });
        for round in 1..=200 {
            store.append(&records("busy", round * 5 - 4..=round * 5)).unwrap();
            store.write_snapshot(&name("busy"), &snapshot("busy", round * 5, 900)).unwrap();
        }
        done.store(true, Ordering::Release);
        reader.join().unwrap();
    });
}

#[test]
fn store_18_without_its_cache_the_store_opens_and_loads_the_same() {
    let folder = TempDir::new().unwrap();
    fill(folder.path());
    fs::remove_dir_all(folder.path().join("sled")).unwrap();
    check(folder.path());
    check(folder.path());
}

#[test]
fn store_18_garbage_in_any_file_of_the_cache_changes_nothing() {
    let original = TempDir::new().unwrap();
    fill(original.path());
    let files = |folder: &Path| {
        let entries = fs::read_dir(folder.join("sled")).unwrap();
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| path.is_file());
        paths.sort();
        paths
    };
    let spoils: [fn(&mut Vec<u8>); 5] = [
        |bytes| bytes.clear(),
        |bytes| bytes.truncate(bytes.len() / 2),
        |bytes| bytes.fill(0xa5),
        |bytes| bytes.iter_mut().step_by(97).for_each(|byte| *byte ^= 0x10),
        |bytes| bytes.iter_mut().skip(100).for_each(|byte| *byte = 0),
    ];
    for index in 0..files(original.path()).len() {
        for spoil in spoils {
            let folder = TempDir::new().unwrap();
            fill(folder.path());
            if let Some(path) = files(folder.path()).get(index) {
                let mut bytes = fs::read(path).unwrap();
                spoil(&mut bytes);
                fs::write(path, bytes).unwrap();
            }
            check(folder.path());
            check(folder.path());
        }
    }
}

#[test]
fn store_18_a_file_where_the_cache_should_be_changes_nothing() {
    let folder = TempDir::new().unwrap();
    fill(folder.path());
    fs::remove_dir_all(folder.path().join("sled")).unwrap();
    fs::write(folder.path().join("sled"), "not a folder").unwrap();
    check(folder.path());
    let entries = fs::read_dir(folder.path()).unwrap();
    let mut names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(names.any(|name| name.starts_with("sled.damaged-")), "it is kept");
}

#[test]
fn store_18_the_cache_serves_a_snapshot_whose_copy_in_the_journal_rots() {
    let folder = TempDir::new().unwrap();
    fill(folder.path());
    // Both the one that was written along and the one that is filled again.
    for _ in 0..2 {
        let store = open(folder.path(), TINY);
        let journal = fs::read_dir(folder.path().join("journal")).unwrap();
        let intact: Vec<_> = journal
            .map(|entry| entry.unwrap().path())
            .map(|path| (fs::read(&path).unwrap(), path))
            .collect();
        for (bytes, path) in &intact {
            let mut rotten = bytes.clone();
            let at = bytes.windows(9).rposition(|window| window == b"through 8");
            at.into_iter().for_each(|at| rotten[at] ^= 1);
            fs::write(path, rotten).unwrap();
        }
        assert_log(&newest(&store, "a"), "a", Some(&snapshot("a", 8, 9000)), 9);
        drop(store);
        for (bytes, path) in intact {
            fs::write(path, bytes).unwrap();
        }
        fs::remove_dir_all(folder.path().join("sled")).unwrap();
    }
}

#[test]
fn store_18_a_cache_that_breaks_while_running_changes_nothing() {
    let folder = TempDir::new().unwrap();
    fill(folder.path());
    {
        let store = open(folder.path(), TINY);
        let db = File::options().write(true).open(folder.path().join("sled/db")).unwrap();
        db.set_len(0).unwrap();
        for number in 0..30 {
            let document = format!("late-{number}");
            let state = snapshot(&document, 3, 200_000);
            store.append(&records(&document, 1..=3)).unwrap();
            store.write_snapshot(&name(&document), &state).unwrap();
            assert_log(&newest(&store, &document), &document, Some(&state), 3);
            assert_log(&newest(&store, "a"), "a", Some(&snapshot("a", 8, 9000)), 9);
            db.set_len(0).unwrap();
        }
    }
    check(folder.path());
}

fn fill(folder: &Path) {
    let store = open(folder, TINY);
    for document in ["a", "b"] {
        store.append(&records(document, 1..=9)).unwrap();
        store.write_snapshot(&name(document), &snapshot(document, 4, 9000)).unwrap();
        store.write_snapshot(&name(document), &snapshot(document, 8, 9000)).unwrap();
    }
}

fn check(folder: &Path) {
    let store = open(folder, TINY);
    for document in ["a", "b"] {
        let (four, eight) = (snapshot(document, 4, 9000), snapshot(document, 8, 9000));
        assert_log(&newest(&store, document), document, Some(&eight), 9);
        assert_log(&previous(&store, document), document, Some(&four), 9);
        store.write_snapshot(&name(document), &eight).unwrap();
    }
}

fn journal_bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder.join("journal")).unwrap();
    entries.map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}
