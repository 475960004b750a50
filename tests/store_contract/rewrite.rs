//! What a replaced history leaves in the journal, and that it stays dead.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use syncline_protocol::{Epoch, Sequence};
use syncline_server::store::embedded::Embedded;
use syncline_server::store::embedded::disk::FaultPlan;
use syncline_server::store::{Generation, LoadError, OpenError, Store};
use tempfile::TempDir;

use crate::power::Random;
use crate::subject::{
    assert_log, copy_journal, edit, journal_options, name, newest, open_journal, position_of,
    records, segments, snapshot,
};

const LARGE: u64 = 64 << 20;
const HEADER_BYTES: usize = 80;
const DOCUMENTS: [&str; 4] = ["a", "b", "c", "gone"];

/// A record in the bytes of a segment (`server/src/store/embedded/journal/record.rs`).
#[derive(Clone, Debug)]
struct Raw {
    kind: u8,
    sequence: u64,
    document: String,
    bytes: Vec<u8>,
}

fn raw_records(segment: &[u8]) -> Vec<Raw> {
    let mut rest = &segment[HEADER_BYTES..];
    let mut found = Vec::new();
    let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
    // Behind the last one there are zeros, which no record begins with.
    while rest.first().is_some_and(|byte| *byte != 0) {
        let body_bytes = u32::from_le_bytes(rest[4..8].try_into().unwrap()) as usize;
        let (record, behind) = rest.split_at(12 + body_bytes);
        let body = &record[12..];
        let name_bytes = usize::from(body[25]);
        found.push(Raw {
            kind: body[0],
            sequence: number(&body[9..17]),
            document: String::from_utf8(body[26..26 + name_bytes].to_vec()).unwrap(),
            bytes: record.to_vec(),
        });
        rest = behind;
    }
    found
}

/// The header of a segment with another number.
fn header(original: &[u8], number: u64) -> Vec<u8> {
    let mut copy = original[..40].to_vec();
    copy[12..20].copy_from_slice(&number.to_le_bytes());
    let crc = crc32c::crc32c(&copy[..36]).to_le_bytes();
    copy[36..].copy_from_slice(&crc);
    copy.repeat(2)
}

/// Documents with updates, snapshots and rewrites, all in one segment in which nothing was cleaned.
fn written(folder: &Path, seed: u64) {
    let store = open_journal(folder, LARGE);
    let mut random = Random(seed);
    let mut last: BTreeMap<&str, u64> = BTreeMap::new();
    for step in 0..60 {
        let document = DOCUMENTS[random.below(3)];
        let last = last.entry(document).or_default();
        match random.below(10) {
            0 => {
                let state = snapshot(document, *last + 1, 40).state;
                store.rewrite(&name(document), Epoch::new(step + 1), state).unwrap();
                *last += 1;
            }
            1 | 2 => {
                store.append(&records(document, [*last + 1])).unwrap();
                *last += 1;
                store.write_snapshot(&name(document), &snapshot(document, *last, 40)).unwrap();
            }
            _ => {
                store.append(&records(document, *last + 1..=*last + 2)).unwrap();
                *last += 2;
            }
        }
    }
    store.append(&records("gone", 1..=5)).unwrap();
    store.rewrite(&name("gone"), Epoch::new(99), vec![0, 0].into()).unwrap();
}

/// Which records of a document a reader needs, as the rules say it.
fn is_live(record: &Raw, all: &[Raw]) -> bool {
    let of_document = || all.iter().filter(|other| other.document == record.document);
    let origin = of_document().filter(|other| other.kind == 3).map(|other| other.sequence).max();
    let origin = origin.unwrap_or(0);
    let mut states: Vec<u64> = of_document()
        .filter(|other| other.kind == 3 || other.kind == 2)
        .map(|other| other.sequence)
        .filter(|sequence| *sequence >= origin && *sequence > 0)
        .collect();
    states.sort_unstable();
    let floor = states.iter().rev().nth(1).copied().unwrap_or(origin);
    match record.kind {
        1 => record.sequence > floor,
        2 | 3 => states.iter().rev().take(2).any(|state| *state == record.sequence),
        _ => false,
    }
}

#[test]
fn store_28_records_in_any_order_and_any_segment_load_the_same() {
    for seed in 0..40 {
        let original = TempDir::new().unwrap();
        written(original.path(), seed);
        let expected = everything(original.path());
        let bytes = fs::read(&segments(original.path())[0]).unwrap();
        let all = raw_records(&bytes);
        let mut random = Random(seed);
        for round in 0..4 {
            // What is dead may be there or not, wherever cleaning was interrupted.
            let keeps = |record: &&Raw, random: &mut Random| {
                is_live(record, &all) || (round > 0 && random.below(2) == 0)
            };
            let mut kept: Vec<_> =
                all.iter().filter(|record| keeps(record, &mut random)).cloned().collect();
            let doubles: Vec<_> = kept.iter().filter(|_| random.below(5) == 0).cloned().collect();
            kept.extend(doubles);
            let mut files: Vec<_> = (1..=4).map(|number| header(&bytes, number)).collect();
            while !kept.is_empty() {
                let record = kept.swap_remove(random.below(kept.len()));
                files[random.below(3)].extend(record.bytes);
            }
            let folder = TempDir::new().unwrap();
            fs::create_dir(folder.path().join("journal")).unwrap();
            for (file, number) in files.into_iter().zip(1..) {
                fs::write(folder.path().join(format!("journal/{number:020}.wal")), file).unwrap();
            }
            assert_eq!(everything(folder.path()), expected, "seed {seed}, round {round}");
        }
    }
}

/// All that a reader can ask of a journal.
fn everything(folder: &Path) -> Vec<String> {
    let mut reader = Embedded::read(folder).unwrap();
    assert_eq!(reader.damage(), []);
    let mut answers = vec![format!("{} {:?}", reader.epoch(), reader.torn_tail())];
    // Their size counts the duplicates in another way.
    answers.extend(reader.documents().iter().map(|info| format!("{} {}", info.name, info.last)));
    for document in DOCUMENTS {
        for generation in [Generation::Newest, Generation::Previous] {
            answers.push(format!("{:?}", reader.load(&name(document), generation)));
        }
        answers.push(format!("{:?}", reader.salvage(&name(document))));
    }
    answers
}

#[test]
fn store_27_a_salvage_ends_before_the_damage_and_a_rewrite_goes_on_behind_it() {
    let folder = TempDir::new().unwrap();
    open_journal(folder.path(), LARGE).append(&records("a", 1..=9)).unwrap();
    drop(open_journal(folder.path(), LARGE));
    let path = &segments(folder.path())[0];
    edit(path, |bytes| {
        let at = position_of(b"a#6", bytes);
        bytes[at] ^= 1;
    });
    let store = open_journal(folder.path(), LARGE);
    assert!(matches!(store.load(&name("a"), Generation::Newest), Err(LoadError::Damaged { .. })));
    let salvaged = store.salvage(&name("a")).unwrap();
    assert_log(&salvaged.log, "a", None, 5);
    assert_eq!(salvaged.last, Sequence::new(9));
    assert!(salvaged.reason.unwrap().contains("update 6 is missing"));
    let ten = snapshot("a", 10, 50);
    store.rewrite(&name("a"), Epoch::NONE, ten.state.clone()).unwrap();
    store.append(&records("a", [11])).unwrap();
    let epoch = store.epoch();
    drop(store);
    let store = open_journal(folder.path(), LARGE);
    let log = newest(&store, "a");
    assert_log(&log, "a", Some(&ten), 11);
    assert_eq!(log.epoch, epoch, "the same history goes on");
}

#[test]
fn store_27_a_salvage_makes_do_with_the_previous_snapshot_or_none() {
    let folder = TempDir::new().unwrap();
    let store = open_journal(folder.path(), LARGE);
    store.append(&records("a", 1..=9)).unwrap();
    store.write_snapshot(&name("a"), &snapshot("a", 4, 50)).unwrap();
    store.write_snapshot(&name("a"), &snapshot("a", 8, 50)).unwrap();
    let one = snapshot("b", 1, 50).state;
    store.rewrite(&name("b"), Epoch::new(7), one).unwrap();
    let rot = |needle: &[u8]| {
        edit(&segments(folder.path())[0], |bytes| {
            let at = bytes.windows(needle.len()).rposition(|window| window == needle).unwrap();
            bytes[at] ^= 1;
        });
    };
    rot(b"a through 8");
    assert!(store.load(&name("a"), Generation::Newest).is_err());
    let salvaged = store.salvage(&name("a")).unwrap();
    assert_log(&salvaged.log, "a", Some(&snapshot("a", 4, 50)), 9);
    assert_eq!(salvaged.reason, None, "nothing is lost");
    rot(b"a through 4");
    rot(b"b through 1");
    let nothing = store.salvage(&name("a")).unwrap();
    assert_eq!((nothing.log.last(), nothing.last), (Sequence::ZERO, Sequence::new(9)));
    assert!(nothing.reason.is_some());
    let replaced = store.salvage(&name("b")).unwrap();
    assert_eq!((replaced.log.last(), replaced.log.epoch), (Sequence::ZERO, Epoch::new(7)));
    assert!(replaced.reason.unwrap().contains("unreadable"));
}

#[test]
fn store_28_nothing_replaced_comes_back_after_cleaning_and_many_lives() {
    let folder = TempDir::new().unwrap();
    let mut last = 0;
    for life in 1..=12 {
        let store = open_journal(folder.path(), 2048);
        for _ in 0..12 {
            store.append(&records("a", last + 1..=last + 3)).unwrap();
            last += 3;
            store.write_snapshot(&name("a"), &snapshot("a", last, 100)).unwrap();
        }
        let state = snapshot("a", last + 1, 100);
        store.rewrite(&name("a"), Epoch::new(life), state.state.clone()).unwrap();
        last += 1;
        for _ in 0..2 {
            let log = newest(&store, "a");
            assert_log(&log, "a", Some(&state), last);
            assert_eq!(log.epoch, Epoch::new(life));
        }
    }
    for path in segments(folder.path()) {
        let bytes = fs::read(path).unwrap();
        assert!(!bytes.windows(4).any(|window| window == b"a#1\x00"), "long gone");
    }
}

#[test]
fn store_29_what_is_no_journal_of_this_store_and_format_is_refused_and_left_alone() {
    let folder = TempDir::new().unwrap();
    let store = open_journal(folder.path(), 2048);
    for sequence in 1..=60 {
        store.append(&records("a", [sequence])).unwrap();
    }
    drop(store);
    let other = TempDir::new().unwrap();
    open_journal(other.path(), 2048).append(&records("a", 1..=3)).unwrap();
    let refused = |change: &dyn Fn(&Path)| {
        let copy = copy_journal(folder.path());
        change(&segments(copy.path())[1]);
        let before: Vec<_> =
            segments(copy.path()).iter().map(|path| fs::read(path).unwrap()).collect();
        let refused = Embedded::open(journal_options(copy.path(), 2048, FaultPlan::NONE));
        let after: Vec<_> =
            segments(copy.path()).iter().map(|path| fs::read(path).unwrap()).collect();
        assert!(before == after, "it is left as it is");
        refused.unwrap_err()
    };
    let foreign = refused(&|path| {
        fs::copy(&segments(other.path())[0], path).unwrap();
    });
    assert!(matches!(foreign, OpenError::Foreign { .. }), "{foreign:?}");
    let unreadable = refused(&|path| edit(path, |bytes| bytes[..80].fill(7)));
    assert!(matches!(unreadable, OpenError::Unreadable { .. }), "{unreadable:?}");
    let older = refused(&|path| {
        let mut copy = b"SYNCLINE\x01\0\0\0".to_vec();
        copy.extend([7; 16]);
        copy.extend(crc32c::crc32c(&copy).to_le_bytes());
        let mut bytes = copy.repeat(2);
        bytes.extend([7; 500]);
        fs::write(path, bytes).unwrap();
    });
    assert!(matches!(older, OpenError::OlderFormat { found: 1, supported: 2, .. }), "{older:?}");
    assert!(older.to_string().contains("export"), "{older}");
}
