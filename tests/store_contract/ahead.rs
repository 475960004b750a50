//! The zeros that the last segment has behind its records while it grows.

use std::fs;
use std::io;

use syncline_server::store::embedded::Embedded;
use syncline_server::store::embedded::disk::{DiskCall, FaultPlan};
use syncline_server::store::{Generation, Record, Store};
use tempfile::TempDir;

use crate::subject::{
    assert_log, copy_journal, edit, journal_options, name, newest, open_journal, position_of,
    record, records, records_end, segments, update,
};

const SEGMENT_BYTES: u64 = 200 << 10;
const ROOM_BYTES: u64 = 64 << 10;

#[test]
fn store_46_the_file_grows_in_steps_and_ends_with_its_last_record_once_it_is_full_or_closed() {
    let folder = TempDir::new().unwrap();
    let store = open_journal(folder.path(), SEGMENT_BYTES);
    let mut lengths = Vec::new();
    for sequence in 1.. {
        // Long, so that a file is full after some hundred.
        let long = Record { update: vec![7; 500].into(), ..record("a", sequence) };
        store.append(&[long]).unwrap();
        let files = segments(folder.path());
        if files.len() > 2 {
            break;
        }
        let last = files.last().unwrap();
        let length = fs::metadata(last).unwrap().len();
        assert!(length - records_end(last) <= ROOM_BYTES, "more zeros than a step");
        lengths.push((files.len(), length));
    }
    lengths.dedup();
    let steps = [ROOM_BYTES, 2 * ROOM_BYTES, 3 * ROOM_BYTES, SEGMENT_BYTES];
    let expected: Vec<_> =
        [1, 2].into_iter().flat_map(|file| steps.map(|bytes| (file, bytes))).collect();
    assert_eq!(lengths, expected);
    store.close().unwrap();
    for file in segments(folder.path()) {
        let (length, end) = (fs::metadata(&file).unwrap().len(), records_end(&file));
        // A seal, which is the last record of a journal that was closed, ends with some zeros itself.
        assert!(length - end < 40, "{} has {length} bytes for {end}", file.display());
    }
}

#[test]
fn store_46_zeros_behind_the_last_record_are_no_torn_tail_and_go_when_it_is_opened() {
    let folder = TempDir::new().unwrap();
    // Not closed, as after a crash.
    open_journal(folder.path(), SEGMENT_BYTES).append(&records("a", 1..=5)).unwrap();
    let path = &segments(folder.path())[0];
    let end = records_end(path);
    assert!(end < fs::metadata(path).unwrap().len());
    let mut reader = Embedded::read(folder.path()).unwrap();
    assert_eq!((reader.damage(), reader.torn_tail()), (&[][..], None));
    assert_log(&reader.load(&name("a"), Generation::Newest).unwrap(), "a", None, 5);
    // Opened on a disk that takes nothing: all that could be done is to cut them off.
    let copy = copy_journal(folder.path());
    let broken = FaultPlan::new(|op| {
        let is_write = op.call == DiskCall::Write;
        if is_write { Err(io::Error::from_raw_os_error(5)) } else { Ok(()) }
    });
    Embedded::open(journal_options(copy.path(), SEGMENT_BYTES, broken)).unwrap_err();
    assert_eq!(fs::metadata(&segments(copy.path())[0]).unwrap().len(), end);
    let store = open_journal(folder.path(), SEGMENT_BYTES);
    assert_log(&newest(&store, "a"), "a", None, 5);
    store.append(&records("a", 6..=7)).unwrap();
    drop(store);
    assert_log(&newest(&open_journal(folder.path(), SEGMENT_BYTES), "a"), "a", None, 7);
}

#[test]
fn store_46_a_record_that_ends_with_zeros_keeps_them() {
    let folder = TempDir::new().unwrap();
    let mut last = record("a", 1);
    last.update = vec![0; 300].into();
    open_journal(folder.path(), SEGMENT_BYTES).append(&[last]).unwrap();
    let log = newest(&open_journal(folder.path(), SEGMENT_BYTES), "a");
    assert_eq!(log.updates[0].update, vec![0; 300]);
}

#[test]
fn store_46_zeros_in_front_of_what_was_acknowledged_are_damage() {
    let folder = TempDir::new().unwrap();
    let store = open_journal(folder.path(), SEGMENT_BYTES);
    store.append(&records("a", 1..=5)).unwrap();
    store.close().unwrap();
    drop(store);
    edit(&segments(folder.path())[0], |bytes| {
        let at = position_of(&update("a", 3), bytes);
        bytes[at..].fill(0);
    });
    let mut reader = Embedded::read(folder.path()).unwrap();
    assert!(!reader.damage().is_empty() && reader.torn_tail().is_none());
    reader.load(&name("a"), Generation::Newest).unwrap_err();
}
