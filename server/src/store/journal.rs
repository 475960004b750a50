//! The journal: append-only segment files that hold every update and every snapshot that still
//! counts. It is the truth; whatever else lies in the data folder can be rebuilt from it.
//!
//! - [`Journal::append`] writes a batch and syncs once. After any failed write or sync nothing is
//!   written any more, because nothing is known about the file any more; reading goes on.
//! - Opening reads everything once. A tail that was never acknowledged is cut; damage in front of
//!   that is stepped over, and the documents that miss a record refuse to load.
//! - [`Journal::clean`] copies live records forward and deletes files, so that the journal stays
//!   within a small factor of what is live.
//!
//! Locks, in this order: `maintenance` (snapshots and cleaning, one at a time), `writer` (held
//! over write and sync), `index` (held for moments). A load takes only the last.

mod clean;
mod head;
mod index;
mod read;
mod record;
mod recover;
mod segment;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use syncline_protocol::{DocumentName, Epoch, Sequence, Snapshot, StoredLog, Timestamp};

use crate::store::disk::FaultPlan;
use crate::store::journal::head::{Poison, Writer};
pub(crate) use crate::store::journal::index::Digest;
use crate::store::journal::index::Index;
use crate::store::journal::record::{Fields, Kind};
use crate::store::{
    AppendError, DocumentInfo, Generation, LoadError, OpenError, Record, SnapshotError,
};

/// The journal of one data folder.
#[derive(Debug)]
pub(crate) struct Journal {
    folder: PathBuf,
    segment_bytes: u64,
    disk: FaultPlan,
    /// A copied snapshot must never land behind one that replaces it.
    maintenance: Mutex<()>,
    writer: Mutex<Writer>,
    poison: Poison,
    index: Mutex<Index>,
}

impl Journal {
    /// Opens the journal in `data/journal`, and creates it if it is not there.
    pub(crate) fn open(
        data: &Path,
        segment_bytes: u64,
        disk: FaultPlan,
    ) -> Result<Self, OpenError> {
        let folder = data.join("journal");
        let io_error = |source| OpenError::Io { path: folder.clone(), source };
        if !folder.is_dir() {
            fs::create_dir(&folder).map_err(io_error)?;
            disk.sync_folder(data).map_err(io_error)?;
        }
        let recovered = recover::recover(&folder, &disk, segment_bytes)?;
        let end = (recovered.head, recovered.next_number);
        let writer = Writer::new(folder.clone(), disk.clone(), segment_bytes, end);
        let poison = writer.poison();
        Ok(Self {
            folder,
            segment_bytes,
            disk,
            maintenance: Mutex::new(()),
            writer: Mutex::new(writer),
            poison,
            index: Mutex::new(recovered.index),
        })
    }

    /// Returns when all of `records` are on disk.
    pub(crate) fn append(&self, records: &[Record]) -> Result<(), AppendError> {
        let mut writer = self.writer()?;
        writer.check()?;
        check_order(records, &lock(&self.index))?;
        let fields: Vec<_> = records.iter().map(Record::fields).collect();
        for (record, fields) in records.iter().zip(&fields) {
            check_size(&record.document, fields)?;
        }
        self.store(&mut writer, &fields)
    }

    /// Makes `snapshot` the newest of its document; returns when it is on disk.
    pub(crate) fn write_snapshot(
        &self,
        document: &DocumentName,
        snapshot: &Snapshot,
    ) -> Result<(), SnapshotError> {
        let _alone = lock(&self.maintenance);
        let mut writer = self.writer().map_err(|source| SnapshotError::Journal { source })?;
        let offered = snapshot.through;
        let (newest, last) = {
            let index = lock(&self.index);
            (index.newest_through(document.as_str()), index.last(document.as_str()))
        };
        if let Some(newest) = newest.filter(|newest| *newest > offered) {
            return Err(SnapshotError::Outdated { newest, offered });
        }
        if offered > last {
            return Err(SnapshotError::Ahead { last, offered });
        }
        let fields = Fields {
            kind: Kind::Snapshot,
            sequence: offered,
            time: now(),
            document: document.as_str(),
            author: "",
            payload: &snapshot.state,
        };
        let stored = check_size(document, &fields);
        let stored = stored.and_then(|()| self.store(&mut writer, &[fields]));
        stored.map_err(|source| SnapshotError::Journal { source })
    }

    /// Reads a document. `cached` may know the state of the snapshot already.
    pub(crate) fn load(
        &self,
        document: &DocumentName,
        generation: Generation,
        cached: impl FnOnce(Sequence, Digest) -> Option<Bytes>,
    ) -> Result<StoredLog, LoadError> {
        let plan = lock(&self.index).plan(document, generation)?;
        let known = plan.snapshot.and_then(|snapshot| {
            let state = cached(snapshot.through, snapshot.digest)?;
            Some(Snapshot { through: snapshot.through, state })
        });
        let snapshot = match known {
            Some(snapshot) => Some(snapshot),
            None => plan.read_snapshot()?,
        };
        Ok(StoredLog { epoch: Epoch::NONE, snapshot, updates: plan.read_updates()? })
    }

    /// Every document whose newest snapshot is intact, ordered by name.
    pub(crate) fn documents_with_snapshot(&self) -> Vec<DocumentName> {
        lock(&self.index).documents_with_snapshot()
    }

    /// The newest snapshot of `document` alone.
    pub(crate) fn newest_snapshot(
        &self,
        document: &DocumentName,
    ) -> Result<Option<Snapshot>, LoadError> {
        let plan = lock(&self.index).plan(document, Generation::Newest)?;
        plan.read_snapshot()
    }

    /// Every document, ordered by name.
    pub(crate) fn documents(&self) -> Vec<DocumentInfo> {
        lock(&self.index).infos()
    }

    /// Whether appends are still possible. Does not wait for one that is under way.
    pub(crate) fn health(&self) -> Result<(), AppendError> {
        if self.writer.is_poisoned() {
            return Err(writing_panicked());
        }
        self.poison.check()
    }

    fn store(&self, writer: &mut Writer, fields: &[Fields<'_>]) -> Result<(), AppendError> {
        let positions = writer.write(fields, &self.index)?;
        writer.sync()?;
        let mut index = lock(&self.index);
        for (fields, at) in fields.iter().zip(positions) {
            index.insert(fields, at);
        }
        Ok(())
    }

    fn writer(&self) -> Result<MutexGuard<'_, Writer>, AppendError> {
        self.writer.lock().map_err(|_| writing_panicked())
    }
}

fn writing_panicked() -> AppendError {
    AppendError::Poisoned { reason: "writing to the journal panicked".to_owned() }
}

impl Record {
    fn fields(&self) -> Fields<'_> {
        Fields {
            kind: Kind::Update,
            sequence: self.sequence,
            time: self.time,
            document: self.document.as_str(),
            author: &self.author,
            payload: &self.update,
        }
    }
}

fn check_order(records: &[Record], index: &Index) -> Result<(), AppendError> {
    let mut ends = BTreeMap::new();
    for record in records {
        let name = record.document.as_str();
        let end = ends.entry(name).or_insert_with(|| index.last(name));
        if record.sequence.get() != end.get().saturating_add(1) {
            return Err(AppendError::OutOfOrder {
                document: record.document.clone(),
                last: *end,
                offered: record.sequence,
            });
        }
        *end = record.sequence;
    }
    Ok(())
}

fn check_size(document: &DocumentName, fields: &Fields<'_>) -> Result<(), AppendError> {
    match fields.excess() {
        None => Ok(()),
        Some((bytes, max)) => Err(AppendError::TooLarge { document: document.clone(), bytes, max }),
    }
}

/// For whoever reads the journal by hand; nothing depends on it.
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_ms(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The index is changed in steps that cannot fail, so a panic elsewhere leaves it whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
