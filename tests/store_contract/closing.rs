//! What a clean end leaves behind, and what opening makes of it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use syncline_server::store::embedded::Embedded;
use syncline_server::store::embedded::disk::FaultPlan;
use syncline_server::store::{Generation, LoadError, OpenError, Store};
use tempfile::TempDir;

use crate::subject::{
    assert_log, copy_journal, edit, journal_options, name, newest, open_journal, position_of,
    records, segments, update,
};

const SEGMENT_BYTES: u64 = 2048;

#[test]
fn store_30_closing_records_the_end_and_writing_forgets_it() {
    let folder = closed();
    assert!(end(folder.path()).exists());
    let store = open_journal(folder.path(), SEGMENT_BYTES);
    assert!(!end(folder.path()).exists(), "opening writes");
    store.close().unwrap();
    store.close().unwrap();
    assert!(end(folder.path()).exists());
    store.append(&records("a", [41])).unwrap();
    assert!(!end(folder.path()).exists(), "a store that is written to is not closed");
    assert_log(&newest(&store, "a"), "a", None, 41);
}

#[test]
fn store_30_a_journal_that_lost_its_end_is_refused_whatever_is_missing() {
    let original = closed();
    let last = segments(original.path()).pop().unwrap();
    let len = fs::metadata(&last).unwrap().len();
    for missing in (1..=len).step_by(7).chain([len]) {
        let folder = copy_journal(original.path());
        let path = folder.path().join("journal").join(last.file_name().unwrap());
        File::options().write(true).open(&path).unwrap().set_len(len - missing).unwrap();
        refuse(folder.path(), missing);
        fs::remove_file(&path).unwrap();
        refuse(folder.path(), len);
    }
}

#[track_caller]
fn refuse(folder: &Path, expected: u64) {
    let refused = Embedded::open(journal_options(folder, SEGMENT_BYTES, FaultPlan::NONE));
    let error = refused.unwrap_err();
    let is_told = matches!(error, OpenError::Shortened { missing, .. } if missing == expected);
    assert!(is_told, "{expected} in {error:?}");
    let text = error.to_string();
    assert!(text.contains(&format!("{expected} bytes")) && text.contains("backup"), "{text}");
}

#[test]
fn store_30_the_loss_can_be_accepted() {
    let folder = closed();
    fs::remove_file(segments(folder.path()).pop().unwrap()).unwrap();
    fs::remove_file(end(folder.path())).unwrap();
    let store = open_journal(folder.path(), SEGMENT_BYTES);
    let last = newest(&store, "a").last().get();
    assert!((1..40).contains(&last), "{last}");
    store.append(&records("a", [last + 1])).unwrap();
}

#[test]
fn store_30_damage_in_the_last_batch_of_a_closed_journal_is_no_torn_tail() {
    let folder = TempDir::new().unwrap();
    let store = open_journal(folder.path(), 64 << 20);
    store.append(&records("a", 1..=3)).unwrap();
    store.close().unwrap();
    drop(store);
    let path = &segments(folder.path())[0];
    // The last record before the seal.
    edit(path, |bytes| {
        let at = position_of(&update("a", 3), bytes);
        bytes[at] ^= 1;
    });
    let store = open_journal(folder.path(), 64 << 20);
    let refused = store.load(&name("a"), Generation::Newest);
    assert!(matches!(refused, Err(LoadError::Damaged { .. })), "{refused:?}");
}

#[test]
fn store_30_an_end_that_is_damaged_or_outdated_costs_nothing() {
    let original = closed();
    let bytes = fs::metadata(end(original.path())).unwrap().len();
    for at in 0..bytes as usize {
        let folder = copy_journal(original.path());
        edit(&end(folder.path()), |bytes| bytes[at] ^= 1 << (at % 8));
        assert_log(&newest(&open_journal(folder.path(), SEGMENT_BYTES), "a"), "a", None, 40);
    }
    let outdated = fs::read(end(original.path())).unwrap();
    let store = open_journal(original.path(), SEGMENT_BYTES);
    for sequence in 41..=80 {
        store.append(&records("a", [sequence])).unwrap();
        fs::write(end(original.path()), &outdated).unwrap();
        let copy = copy_journal(original.path());
        let last = newest(&open_journal(copy.path(), SEGMENT_BYTES), "a").last().get();
        assert_eq!(last, sequence);
    }
}

#[test]
fn store_30_a_seal_proves_the_last_batch() {
    let folder = TempDir::new().unwrap();
    open_journal(folder.path(), 64 << 20).append(&records("a", 1..=3)).unwrap();
    // Opened again and killed: what it found is proven by the seal that it wrote.
    drop(open_journal(folder.path(), 64 << 20));
    edit(&segments(folder.path())[0], |bytes| {
        let at = position_of(&update("a", 3), bytes);
        bytes[at] ^= 1;
    });
    let store = open_journal(folder.path(), 64 << 20);
    assert!(store.load(&name("a"), Generation::Newest).is_err(), "damage, not a torn tail");
}

/// Several segments, closed.
fn closed() -> TempDir {
    let folder = TempDir::new().unwrap();
    let store = open_journal(folder.path(), SEGMENT_BYTES);
    for sequence in 1..=40 {
        store.append(&records("a", [sequence])).unwrap();
    }
    store.close().unwrap();
    folder
}

fn end(folder: &Path) -> PathBuf {
    folder.join("journal/end")
}
