//! The stores under test, and short ways to talk to them.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use syncline_protocol::{DocumentName, Sequence, Snapshot, StoredLog, Timestamp};
use syncline_server::store::disk::FaultPlan;
use syncline_server::store::embedded::{Embedded, EmbeddedOptions};
use syncline_server::store::memory::Memory;
use syncline_server::store::{Generation, Record, Store};
use tempfile::TempDir;

/// Small enough that every test fills several.
pub(crate) const TINY: u64 = 2048;

/// A store that can be closed and opened again.
#[derive(Debug)]
pub(crate) struct Subject {
    folder: Option<(TempDir, u64)>,
    store: Option<Arc<dyn Store>>,
}

impl Subject {
    pub(crate) fn memory() -> Self {
        Self { folder: None, store: Some(Arc::new(Memory::new())) }
    }

    pub(crate) fn embedded(segment_bytes: u64) -> Self {
        let folder = TempDir::new().unwrap();
        let store = Some(Arc::new(open(folder.path(), segment_bytes)) as Arc<dyn Store>);
        Self { folder: Some((folder, segment_bytes)), store }
    }

    pub(crate) fn store(&self) -> &dyn Store {
        self.store.as_deref().unwrap()
    }

    /// Closes and opens; a store in memory stays as it is.
    pub(crate) fn reopen(&mut self) {
        if let Some((folder, segment_bytes)) = &self.folder {
            self.store = None;
            self.store = Some(Arc::new(open(folder.path(), *segment_bytes)));
        }
    }
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
