//! Looking at a journal without holding it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use syncline_protocol::Sequence;
use syncline_server::store::embedded::Embedded;
use syncline_server::store::{Damage, Generation, OpenError, Store};
use tempfile::TempDir;

use crate::subject::{
    TINY, assert_log, edit, name, newest, open_journal, records, records_end, segments, snapshot,
};

fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(folder.join("journal")).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

#[test]
fn store_35_a_reader_sees_what_a_running_store_holds_and_changes_nothing() {
    let folder = TempDir::new().unwrap();
    let store = open_journal(folder.path(), TINY);
    for document in ["a", "b"] {
        store.append(&records(document, 1..=30)).unwrap();
        store.write_snapshot(&name(document), &snapshot(document, 20, 300)).unwrap();
    }
    let before = contents(folder.path());
    let mut reader = Embedded::read(folder.path()).unwrap();
    assert_eq!((reader.epoch(), reader.documents()), (store.epoch(), store.documents()));
    for document in ["a", "b", "unwritten"] {
        for generation in [Generation::Newest, Generation::Previous] {
            let read = reader.load(&name(document), generation).unwrap();
            assert_eq!(read, store.load(&name(document), generation).unwrap());
        }
        let salvaged = reader.salvage(&name(document)).unwrap();
        assert_eq!(salvaged, store.salvage(&name(document)).unwrap());
    }
    assert_eq!((reader.damage(), reader.torn_tail()), (&[][..], None));
    assert!(contents(folder.path()) == before);
}

#[test]
fn store_35_a_reader_keeps_up_with_cleaning() {
    let folder = TempDir::new().unwrap();
    let store = open_journal(folder.path(), TINY);
    store.append(&records("idle", 1..=20)).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let mut looks = 0;
            while !done.load(Ordering::Acquire) || looks == 0 {
                let mut reader = Embedded::read(folder.path()).unwrap();
                assert_eq!(reader.damage(), []);
                for _ in 0..20 {
                    let idle = reader.load(&name("idle"), Generation::Newest).unwrap();
                    assert_log(&idle, "idle", None, 20);
                    let busy = reader.salvage(&name("busy")).unwrap();
                    assert_eq!(busy.reason, None);
                }
                looks += 1;
            }
        });
        for round in 1..=150 {
            store.append(&records("busy", round * 5 - 4..=round * 5)).unwrap();
            store.write_snapshot(&name("busy"), &snapshot("busy", round * 5, 300)).unwrap();
        }
        done.store(true, Ordering::Release);
        reading.join().unwrap();
    });
}

#[test]
fn store_35_a_torn_tail_is_no_damage_and_stays() {
    let folder = TempDir::new().unwrap();
    open_journal(folder.path(), TINY).append(&records("a", 1..=3)).unwrap();
    let path = &segments(folder.path())[0];
    let len = records_end(path);
    File::options().write(true).open(path).unwrap().set_len(len - 5).unwrap();
    let mut reader = Embedded::read(folder.path()).unwrap();
    assert_eq!(reader.damage(), []);
    let torn = reader.torn_tail().unwrap();
    assert_eq!((torn.segment, torn.offset + torn.bytes), (1, len - 5));
    assert_log(&reader.load(&name("a"), Generation::Newest).unwrap(), "a", None, 2);
    assert_eq!(fs::metadata(path).unwrap().len(), len - 5);
}

#[test]
fn store_35_every_damage_is_told_with_its_place_and_its_document() {
    let folder = TempDir::new().unwrap();
    let store = open_journal(folder.path(), TINY);
    for sequence in 1..=40 {
        store.append(&records("a", [sequence])).unwrap();
        store.append(&records("b", [sequence])).unwrap();
    }
    store.close().unwrap();
    drop(store);
    let paths = segments(folder.path());
    let (path, at) = paths
        .iter()
        .find_map(|path| {
            let bytes = fs::read(path).unwrap();
            Some((path, bytes.windows(4).position(|window| window == b"b#20")?))
        })
        .unwrap();
    edit(path, |bytes| bytes[at] ^= 1);
    let reader = Embedded::read(folder.path()).unwrap();
    let [Damage::Record { suspect, offset, bytes, .. }, Damage::Document { document, reason }] =
        reader.damage()
    else {
        panic!("{:?}", reader.damage())
    };
    assert_eq!(*suspect, Some((name("b"), Sequence::new(20))));
    assert!((*offset..offset + bytes).contains(&(at as u64)));
    assert_eq!(*document, name("b"));
    assert!(reason.contains("update 20 is missing"), "{reason}");

    let told = || {
        let reader = Embedded::read(folder.path()).unwrap();
        reader.damage().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    edit(&paths[1], |bytes| bytes[..80].fill(7));
    assert!(told().contains("both headers") && told().contains("document b"), "{}", told());
    fs::remove_file(paths.last().unwrap()).unwrap();
    assert!(told().contains("was closed at"), "{}", told());
}

#[test]
fn store_35_a_folder_without_a_journal_is_an_error() {
    let folder = TempDir::new().unwrap();
    let nothing = Embedded::read(folder.path());
    assert!(matches!(nothing, Err(OpenError::Io { .. })), "{nothing:?}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn store_34_a_large_journal_needs_few_descriptors() {
    let folder = TempDir::new().unwrap();
    let store = open_journal(folder.path(), 300);
    for sequence in 1..=400 {
        store.append(&records("a", [sequence])).unwrap();
    }
    assert!(segments(folder.path()).len() > 100);
    drop(store);
    let store = open_journal(folder.path(), 300);
    for _ in 0..2 {
        assert_log(&newest(&store, "a"), "a", None, 400);
        let open = fs::read_dir("/proc/self/fd").unwrap();
        let open = open.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
        let open = open.filter(|path| path.starts_with(folder.path())).count();
        assert!((1..70).contains(&open), "{open} descriptors");
    }
}

#[test]
fn store_36_a_full_cleaning_leaves_only_what_is_live() {
    let folder = TempDir::new().unwrap();
    let store = open_journal(folder.path(), TINY);
    store.append(&records("idle", 1..=30)).unwrap();
    for round in 1..=30 {
        store.append(&records("busy", round * 5 - 4..=round * 5)).unwrap();
        store.write_snapshot(&name("busy"), &snapshot("busy", round * 5, 300)).unwrap();
    }
    let everything = || {
        let load = |document, generation| store.load(&name(document), generation).unwrap();
        [Generation::Newest, Generation::Previous]
            .map(|generation| (load("idle", generation), load("busy", generation)))
    };
    let holds = |needle: &[u8]| {
        let bytes = contents(folder.path());
        bytes.values().any(|bytes| bytes.windows(needle.len()).any(|window| window == needle))
    };
    let before = everything();
    assert!(holds(b"busy#144"), "the last updates that died are still there");
    let mut told = Vec::new();
    store.clean_fully(|done, of| told.push((done, of))).unwrap();
    let of = told[0].1;
    assert!(of > 0 && told == (0..=of).map(|done| (done, of)).collect::<Vec<_>>(), "{told:?}");
    assert!(everything() == before);
    assert!(!holds(b"busy#144") && holds(b"busy#146") && holds(b"idle#1"));
    told.clear();
    store.clean_fully(|done, of| told.push((done, of))).unwrap();
    assert_eq!(told, [(0, 0)], "there is nothing left to do");
    store.close().unwrap();
    drop(store);
    let store = open_journal(folder.path(), TINY);
    assert_log(&newest(&store, "busy"), "busy", Some(&snapshot("busy", 150, 300)), 150);
}
