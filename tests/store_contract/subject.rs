//! The stores under test, and short ways to talk to them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use syncline_protocol::{DocumentName, Sequence, Snapshot, StoredLog, Timestamp};
use syncline_server::store::embedded::disk::{DiskCall, FaultPlan};
use syncline_server::store::embedded::{Embedded, EmbeddedOptions};
use syncline_server::store::memory::Memory;
use syncline_server::store::{Generation, Record, Store};
use tempfile::TempDir;

use crate::power::{PowerCut, Random};

/// Small enough that every test fills several.
pub(crate) const TINY: u64 = 2048;

/// A store that can be closed and opened again.
#[derive(Debug)]
pub(crate) struct Subject {
    place: Place,
    store: Option<Arc<dyn Store>>,
}

#[derive(Debug)]
enum Place {
    Memory,
    /// A folder, and the length of a segment.
    Folder(TempDir, u64),
    /// A folder on a disk whose power is cut instead of closing the store, and how often there has
    /// been no room on it.
    Cut(TempDir, PowerCut, Random, Room, Arc<AtomicUsize>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    Enough,
    Little,
}

/// Several pages, so that some of them can be lost.
const CUT_SEGMENT_BYTES: u64 = 24 << 10;

impl Subject {
    pub(crate) fn memory() -> Self {
        Self { place: Place::Memory, store: Some(Arc::new(Memory::new())) }
    }

    pub(crate) fn embedded(segment_bytes: u64) -> Self {
        let folder = TempDir::new().unwrap();
        let store = Some(Arc::new(open(folder.path(), segment_bytes)) as Arc<dyn Store>);
        Self { place: Place::Folder(folder, segment_bytes), store }
    }

    /// Loses on reopening what it did not sync.
    pub(crate) fn faulty() -> Self {
        Self::on_a_watched_disk(Room::Enough).0
    }

    /// The same, and every now and then there is no room. Counts how often.
    pub(crate) fn cramped() -> (Self, Arc<AtomicUsize>) {
        Self::on_a_watched_disk(Room::Little)
    }

    fn on_a_watched_disk(room: Room) -> (Self, Arc<AtomicUsize>) {
        let folder = TempDir::new().unwrap();
        let stalls = Arc::default();
        let (watched, store) = open_watched(folder.path(), room, &stalls);
        let place = Place::Cut(folder, watched, Random(7), room, Arc::clone(&stalls));
        (Self { place, store: Some(store) }, stalls)
    }

    pub(crate) fn store(&self) -> &dyn Store {
        self.store.as_deref().unwrap()
    }

    /// Closes and opens; a store in memory stays as it is.
    pub(crate) fn reopen(&mut self) {
        match &mut self.place {
            Place::Memory => {}
            Place::Folder(folder, segment_bytes) => {
                self.store = None;
                self.store = Some(Arc::new(open(folder.path(), *segment_bytes)));
            }
            Place::Cut(folder, watched, random, room, stalls) => {
                self.store = None;
                watched.cut(random);
                let (again, store) = open_watched(folder.path(), *room, stalls);
                *watched = again;
                self.store = Some(store);
            }
        }
    }
}

fn open_watched(
    folder: &Path,
    room: Room,
    stalls: &Arc<AtomicUsize>,
) -> (PowerCut, Arc<dyn Store>) {
    let watched = PowerCut::watch(folder);
    let stalls = Arc::clone(stalls);
    let is_new = !folder.join("journal").exists();
    let plan = watched.plan(move |number, op| {
        let takes_room = matches!(op.call, DiskCall::Write | DiskCall::Create);
        // A new store has to have room for its first segment.
        let is_full = room == Room::Little && number % 13 == 5 && !(is_new && number < 20);
        if takes_room && is_full {
            stalls.fetch_add(1, Ordering::Relaxed);
            return Err(io::Error::from_raw_os_error(28));
        }
        Ok(())
    });
    let store = Embedded::open(journal_options(folder, CUT_SEGMENT_BYTES, plan)).unwrap();
    (watched, Arc::new(store))
}

/// Without the cache, which takes most of the time that opening takes.
pub(crate) fn open_journal(folder: &Path, segment_bytes: u64) -> Embedded {
    Embedded::open(journal_options(folder, segment_bytes, FaultPlan::NONE)).unwrap()
}

pub(crate) fn journal_options(
    folder: &Path,
    segment_bytes: u64,
    faults: FaultPlan,
) -> EmbeddedOptions {
    EmbeddedOptions { cache_bytes: 0, ..options(folder, segment_bytes, faults) }
}

pub(crate) fn open(folder: &Path, segment_bytes: u64) -> Embedded {
    Embedded::open(options(folder, segment_bytes, FaultPlan::NONE)).unwrap()
}

pub(crate) fn options(folder: &Path, segment_bytes: u64, faults: FaultPlan) -> EmbeddedOptions {
    EmbeddedOptions { segment_bytes, cache_bytes: 1 << 20, faults, ..EmbeddedOptions::new(folder) }
}

pub(crate) fn name(name: &str) -> DocumentName {
    name.parse().unwrap()
}

/// The update at `sequence`: bytes that tell which one it is.
pub(crate) fn update(document: &str, sequence: u64) -> Bytes {
    format!("{document}#{sequence}").into()
}

pub(crate) fn record(document: &str, sequence: u64) -> Record {
    Record {
        document: name(document),
        sequence: Sequence::new(sequence),
        time: Timestamp::from_unix_ms(sequence * 1000),
        author: "anna".into(),
        update: update(document, sequence),
    }
}

pub(crate) fn records(document: &str, sequences: impl IntoIterator<Item = u64>) -> Vec<Record> {
    sequences.into_iter().map(|sequence| record(document, sequence)).collect()
}

pub(crate) fn snapshot(document: &str, through: u64, bytes: usize) -> Snapshot {
    let text = format!("{document} through {through};");
    let state = text.bytes().cycle().take(bytes).collect::<Vec<_>>();
    Snapshot { through: Sequence::new(through), state: state.into() }
}

pub(crate) fn newest(store: &dyn Store, document: &str) -> StoredLog {
    store.load(&name(document), Generation::Newest).unwrap()
}

pub(crate) fn previous(store: &dyn Store, document: &str) -> StoredLog {
    store.load(&name(document), Generation::Previous).unwrap()
}

/// Compares a log with a snapshot through `base` (0: none) and updates up to `last`.
#[track_caller]
pub(crate) fn assert_log(log: &StoredLog, document: &str, base: Option<&Snapshot>, last: u64) {
    assert!(log.snapshot.as_ref() == base, "another snapshot of {document}");
    let begin = base.map_or(0, |snapshot| snapshot.through.get());
    let found: Vec<_> = log.updates.iter().map(|logged| logged.sequence.get()).collect();
    assert_eq!(found, (begin + 1..=last).collect::<Vec<_>>(), "updates of {document}");
    for logged in &log.updates {
        assert_eq!(logged.update, update(document, logged.sequence.get()));
    }
}

/// Where the records of a segment end whose journal was not closed. Zeros follow them, and none that
/// is written here ends with one.
pub(crate) fn records_end(segment: &Path) -> u64 {
    let bytes = fs::read(segment).unwrap();
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1)
}

/// The segment files, in order.
pub(crate) fn segments(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder.join("journal")).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "wal"));
    paths.sort();
    paths
}

/// Changes the bytes of a file.
pub(crate) fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

/// Where `needle` is in `bytes` first.
pub(crate) fn position_of(needle: &[u8], bytes: &[u8]) -> usize {
    bytes.windows(needle.len()).position(|window| window == needle).unwrap()
}

pub(crate) fn copy_journal(from: &Path) -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("journal")).unwrap();
    for entry in fs::read_dir(from.join("journal")).unwrap() {
        let path = entry.unwrap().path();
        let to = folder.path().join("journal").join(path.file_name().unwrap());
        fs::copy(path, to).unwrap();
    }
    folder
}
