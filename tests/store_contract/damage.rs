//! Torn tails, flipped bits and forged bytes in a journal of the embedded store.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use syncline_protocol::StoredLog;
use syncline_server::store::embedded::Embedded;
use syncline_server::store::embedded::disk::{DiskCall, FaultPlan};
use syncline_server::store::{Damage, Generation, LoadError, OpenError, Store};
use tempfile::TempDir;

use crate::subject::{
    TINY, assert_log, copy_journal, edit, journal_options, name, newest, open_journal, position_of,
    previous, record, records, records_end, segments, snapshot, update,
};

const LARGE: u64 = 64 << 20;

#[test]
fn store_11_a_torn_tail_is_cut_at_every_byte_of_the_last_three_records() {
    let original = TempDir::new().unwrap();
    let mut ends = Vec::new();
    {
        let store = open_journal(original.path(), LARGE);
        for sequence in 1..=8 {
            store.append(&[record("a", sequence)]).unwrap();
            ends.push(records_end(&segments(original.path())[0]));
        }
    }
    for cut in ends[4]..=ends[7] {
        let folder = copy_journal(original.path());
        fs::File::options()
            .write(true)
            .open(&segments(folder.path())[0])
            .unwrap()
            .set_len(cut)
            .unwrap();
        let kept = ends.iter().filter(|end| **end <= cut).count() as u64;
        {
            let store = open_journal(folder.path(), LARGE);
            assert_log(&newest(&store, "a"), "a", None, kept);
            store.append(&records("a", kept + 1..=kept + 2)).unwrap();
        }
        assert_log(&newest(&open_journal(folder.path(), LARGE), "a"), "a", None, kept + 2);
    }
}

#[test]
fn store_11_a_segment_whose_creation_was_interrupted_is_no_damage() {
    let original = TempDir::new().unwrap();
    drop(written(original.path()));
    let last = segments(original.path()).pop().unwrap();
    let next = last.with_file_name(format!("{:020}.wal", number(&last) + 1));
    let header = fs::read(&last).unwrap();
    for bytes in [0, 1, 39, 40, 79, 80] {
        for content in [vec![0; bytes], header[..bytes.min(79)].to_vec()] {
            let folder = copy_journal(original.path());
            let path = folder.path().join("journal").join(next.file_name().unwrap());
            fs::write(&path, content).unwrap();
            let store = open_journal(folder.path(), TINY);
            let last = newest(&store, "b").last().get();
            assert_log(&newest(&store, "b"), "b", None, last);
            store.append(&records("b", last + 1..=last + 20)).unwrap();
            assert_log(&newest(&store, "b"), "b", None, last + 20);
        }
    }
}

#[test]
fn store_13_a_segment_in_the_middle_that_lost_its_header_is_refused_however_short() {
    let original = TempDir::new().unwrap();
    written(original.path()).close().unwrap();
    let count = segments(original.path()).len();
    assert!(count > 2, "{count}");
    for place in 0..count - 1 {
        for bytes in [0, 1, 39, 40, 79, 80] {
            let folder = copy_journal(original.path());
            let path = segments(folder.path())[place].clone();
            edit(&path, |content| {
                content.truncate(bytes);
                content.iter_mut().skip(79).for_each(|byte| *byte ^= 1);
                content.iter_mut().take(1).for_each(|byte| *byte ^= 1);
            });
            let refused = Embedded::open(journal_options(folder.path(), TINY, FaultPlan::NONE));
            let Err(OpenError::Unreadable { path: told, bytes: len }) = refused else {
                panic!("{bytes} bytes left of {}: {refused:?}", path.display())
            };
            assert_eq!((&told, len), (&path, bytes as u64));
            assert_eq!(fs::metadata(&path).unwrap().len(), len, "it is left as it is");
            let reader = Embedded::read(folder.path()).unwrap();
            let lost = Damage::Headers { segment: number(&path), bytes: len };
            assert!(reader.damage().contains(&lost), "{:?}", reader.damage());
        }
    }
}

#[test]
fn store_11_a_leftover_segment_is_gone_for_good_before_the_next_one_is_created() {
    let folder = TempDir::new().unwrap();
    drop(written(folder.path()));
    let last = number(&segments(folder.path()).pop().unwrap());
    let path = |number: u64| folder.path().join(format!("journal/{number:020}.wal"));
    fs::write(path(last + 1), []).unwrap();
    let calls = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&calls);
    let plan = FaultPlan::new(move |op| {
        seen.lock().unwrap().push((op.call, op.path.to_owned()));
        Ok(())
    });
    drop(Embedded::open(journal_options(folder.path(), TINY, plan)).unwrap());
    let calls = calls.lock().unwrap();
    let place = |call: &(DiskCall, PathBuf)| calls.iter().position(|seen| seen == call);
    let removed = place(&(DiskCall::Remove, path(last + 1))).unwrap();
    let synced = place(&(DiskCall::SyncFolder, folder.path().join("journal"))).unwrap();
    let created = place(&(DiskCall::Create, path(last + 2))).unwrap();
    assert!(removed < synced && synced < created, "{calls:?}");
}

#[test]
fn store_12_a_hole_in_the_batch_that_was_never_acknowledged_is_no_damage() {
    let folder = TempDir::new().unwrap();
    let acknowledged;
    {
        let store = open_journal(folder.path(), LARGE);
        store.append(&records("a", 1..=3)).unwrap();
        acknowledged = records_end(&segments(folder.path())[0]) as usize;
        store.append(&records("a", 4..=9)).unwrap();
    }
    // The page with update 5 never reached the disk, those with 6 to 9 did.
    let path = &segments(folder.path())[0];
    let mut bytes = fs::read(path).unwrap();
    let length = (records_end(path) as usize - acknowledged) / 6;
    bytes[acknowledged + length..acknowledged + 2 * length].fill(0);
    fs::write(path, bytes).unwrap();
    let store = open_journal(folder.path(), LARGE);
    assert_log(&newest(&store, "a"), "a", None, 4);
    store.append(&records("a", [5])).unwrap();
}

#[test]
fn store_13_damage_before_an_acknowledged_record_refuses_its_document_alone() {
    let folder = TempDir::new().unwrap();
    drop(written(folder.path()));
    // Update 20 of "b", which no snapshot covers.
    let needle = update("b", 20);
    let (path, mut bytes, at) = segments(folder.path())
        .into_iter()
        .find_map(|path| {
            let bytes = fs::read(&path).unwrap();
            let at = bytes.windows(needle.len()).position(|window| window == needle)?;
            Some((path, bytes, at))
        })
        .unwrap();
    bytes[at] ^= 0x40;
    fs::write(&path, bytes).unwrap();
    for _ in 0..2 {
        let store = open_journal(folder.path(), TINY);
        let refused = store.load(&name("b"), Generation::Newest);
        assert!(matches!(refused, Err(LoadError::Damaged { .. })), "{refused:?}");
        assert_log(&newest(&store, "a"), "a", Some(&snapshot("a", 40, 30)), 40);
        let last = newest(&store, "c").last().get();
        store.append(&records("c", last + 1..=last + 5)).unwrap();
        assert!(path.exists(), "a damaged segment is kept");
    }
}

#[test]
fn store_13_a_flipped_bit_never_changes_a_document_silently() {
    let original = TempDir::new().unwrap();
    drop(written(original.path()));
    let files = segments(original.path());
    let total: usize = files.iter().map(|path| fs::metadata(path).unwrap().len() as usize).sum();
    let (mut detected, mut harmless, mut shortened) = (0, 0, 0);
    for step in 0..300 {
        let mut at = step * total / 300;
        let file = files
            .iter()
            .find(|path| {
                let bytes = fs::metadata(path).unwrap().len() as usize;
                let here = at < bytes;
                at -= if here { 0 } else { bytes };
                here
            })
            .unwrap();
        let folder = copy_journal(original.path());
        let path = folder.path().join("journal").join(file.file_name().unwrap());
        let mut bytes = fs::read(&path).unwrap();
        bytes[at] ^= 1 << (step % 8);
        fs::write(&path, bytes).unwrap();
        let store = open_journal(folder.path(), TINY);
        for document in ["a", "b", "c"] {
            for generation in [Generation::Newest, Generation::Previous] {
                match store.load(&name(document), generation) {
                    Err(LoadError::Damaged { .. }) => detected += 1,
                    Err(error) => panic!("{error}"),
                    Ok(log) => {
                        assert_prefix(&log, document);
                        let shorter = log.last().get() < 40;
                        assert!(!shorter || document != "a", "a snapshot tells where it ended");
                        if shorter { shortened += 1 } else { harmless += 1 }
                    }
                }
            }
        }
    }
    assert!(detected > 100 && harmless > 100, "{detected} {harmless}");
    // Only the very name or number of a document's last record, or the last batch, can do this.
    assert!(shortened * 20 < detected + harmless, "{shortened} of {detected} + {harmless}");
}

#[test]
fn store_13_a_flipped_bit_at_ten_thousand_places_is_detected() {
    let folder = TempDir::new().unwrap();
    written(folder.path()).close().unwrap();
    let files = segments(folder.path());
    let total: usize = files.iter().map(|path| fs::metadata(path).unwrap().len() as usize).sum();
    let mut step = 0;
    let (mut damaged, mut shortened) = (0, 0);
    for path in &files {
        let original = fs::read(path).unwrap();
        let places = original.len() * 10_000 / total + 1;
        for place in 0..places {
            let at = place * original.len() / places;
            step += 1;
            let mut bytes = original.clone();
            bytes[at] ^= 1 << (step % 8);
            fs::write(path, &bytes).unwrap();
            let mut reader = Embedded::read(folder.path()).unwrap();
            // The other copy of a header serves.
            let is_told = !reader.damage().is_empty();
            assert_eq!(is_told, at >= 80, "byte {at} of {}", path.display());
            assert_eq!(reader.torn_tail(), None, "a closed journal has none");
            for document in ["a", "b", "c"] {
                match reader.load(&name(document), Generation::Newest) {
                    Err(_) => damaged += 1,
                    Ok(log) => {
                        assert_prefix(&log, document);
                        shortened += usize::from(log.last().get() < 40);
                    }
                }
                assert_prefix(&reader.salvage(&name(document)).unwrap().log, document);
            }
        }
        fs::write(path, original).unwrap();
    }
    assert!(step >= 10_000 && damaged > 1000 && shortened < step / 50, "{damaged} {shortened}");
}

#[test]
fn store_13_a_record_inside_a_payload_is_never_taken_for_one() {
    let folder = TempDir::new().unwrap();
    let forged = TempDir::new().unwrap();
    let foreign = {
        open_journal(forged.path(), LARGE).append(&[record("victim", 1)]).unwrap();
        fs::read(&segments(forged.path())[0]).unwrap().split_off(80)
    };
    {
        let store = open_journal(folder.path(), LARGE);
        let mut carrier = record("attacker", 1);
        carrier.update = foreign.repeat(20).into();
        store.append(&[carrier]).unwrap();
        store.append(&records("b", 1..=3)).unwrap();
    }
    // Behind the header and the seal that opening wrote.
    edit(&segments(folder.path())[0], |bytes| bytes[80 + 40] ^= 1);
    let store = open_journal(folder.path(), LARGE);
    assert_log(&newest(&store, "victim"), "victim", None, 0);
    assert_log(&newest(&store, "b"), "b", None, 3);
    assert!(store.load(&name("attacker"), Generation::Newest).is_err());
}

#[test]
fn store_13_a_damaged_newest_snapshot_falls_back_to_the_previous_one() {
    let folder = TempDir::new().unwrap();
    {
        let store = open_journal(folder.path(), LARGE);
        store.append(&records("a", 1..=9)).unwrap();
        store.write_snapshot(&name("a"), &snapshot("a", 4, 50)).unwrap();
        store.write_snapshot(&name("a"), &snapshot("a", 8, 50)).unwrap();
        store.append(&records("b", 1..=3)).unwrap();
    }
    let path = &segments(folder.path())[0];
    let mut bytes = fs::read(path).unwrap();
    let at = position_of(b"a through 8", &bytes);
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
    let store = open_journal(folder.path(), LARGE);
    assert_log(&newest(&store, "a"), "a", Some(&snapshot("a", 4, 50)), 9);
    assert_log(&previous(&store, "a"), "a", None, 9);
}

#[test]
fn store_13_damage_while_running_is_noticed_on_the_next_load() {
    let folder = TempDir::new().unwrap();
    let store = open_journal(folder.path(), LARGE);
    store.append(&records("a", 1..=3)).unwrap();
    let path = &segments(folder.path())[0];
    let mut bytes = fs::read(path).unwrap();
    let last = records_end(path) as usize - 1;
    bytes[last] ^= 1;
    fs::write(path, bytes).unwrap();
    let refused = store.load(&name("a"), Generation::Newest);
    assert!(matches!(refused, Err(LoadError::Damaged { .. })), "{refused:?}");
}

#[test]
fn store_14_a_journal_of_a_later_version_is_left_alone() {
    let folder = TempDir::new().unwrap();
    drop(written(folder.path()));
    let path = &segments(folder.path())[0];
    let mut bytes = fs::read(path).unwrap();
    bytes[8] = 9;
    let crc = crc32c::crc32c(&bytes[..36]).to_le_bytes();
    bytes[36..40].copy_from_slice(&crc);
    fs::write(path, &bytes).unwrap();
    let refused = Embedded::open(journal_options(folder.path(), TINY, FaultPlan::NONE));
    assert!(
        matches!(refused, Err(OpenError::NewerFormat { found: 9, supported: 2, .. })),
        "{refused:?}"
    );
    assert_eq!(fs::read(path).unwrap(), bytes);
}

/// Three documents of 40 updates: "a" with snapshots through 20 and 40, "b" without, "c" with one
/// through 20.
fn written(folder: &Path) -> impl Store {
    let store = open_journal(folder, TINY);
    for sequence in 1..=40 {
        for document in ["a", "b", "c"] {
            store.append(&[record(document, sequence)]).unwrap();
        }
        if sequence == 20 || sequence == 40 {
            store.write_snapshot(&name("a"), &snapshot("a", sequence, 30)).unwrap();
        }
        if sequence == 20 {
            store.write_snapshot(&name("c"), &snapshot("c", 20, 3000)).unwrap();
        }
    }
    store
}

fn assert_prefix(log: &StoredLog, document: &str) {
    let base = log.snapshot.as_ref();
    if let Some(base) = base {
        let bytes = if document == "c" { 3000 } else { 30 };
        assert!(*base == snapshot(document, base.through.get(), bytes), "another state");
    }
    assert_log(log, document, base, log.last().get());
}

fn number(segment: &Path) -> u64 {
    segment.file_stem().unwrap().to_str().unwrap().parse().unwrap()
}
