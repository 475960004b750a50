//! The journal: append-only segment files that hold every update and every snapshot that still
//! counts. It is the truth; whatever else lies in the data folder can be rebuilt from it.
//!
//! - [`Journal::append`] writes a batch and syncs once. For lack of room the batch is taken back and
//!   can be tried again. After any other failed write, and any failed sync, nothing is written any
//!   more, because nothing is known about the file any more; reading goes on.
//! - Opening reads everything once. A tail that was never acknowledged is cut; damage in front of
//!   that is stepped over, and the documents that miss a record refuse to load.
//! - Closing writes a seal and records where the journal ends.
//! - [`Journal::clean`] copies live records forward and deletes files, so that the journal stays
//!   within a small factor of what is live.
//!
//! Locks, in this order: `maintenance` (snapshots and cleaning, one at a time), `writer` (held
//! over write and sync), `index` (held for moments). A load takes only the last.

mod apart;
mod clean;
mod condition;
mod damage;
mod end;
mod entry;
mod files;
mod head;
mod index;
mod read;
mod reader;
mod record;
mod recover;
mod scan;
mod segment;
mod segments;
mod updates;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use syncline_protocol::{DocumentName, Durability, Epoch, Sequence, Snapshot, StoredLog};

use crate::clock;
use crate::store::embedded::deferred_sync::Later;
use crate::store::embedded::disk::{FaultPlan, Folder, create_folder};
use crate::store::embedded::journal::apart::apart_bytes;
use crate::store::embedded::journal::condition::WriteHealth;
pub use crate::store::embedded::journal::damage::{Damage, TornTail};
pub(crate) use crate::store::embedded::journal::entry::Digest;
use crate::store::embedded::journal::entry::after;
use crate::store::embedded::journal::files::Files;
use crate::store::embedded::journal::head::Writer;
use crate::store::embedded::journal::index::Index;
pub use crate::store::embedded::journal::reader::JournalReader;
use crate::store::embedded::journal::record::{Fields, Kind, Lineage};
pub(crate) use crate::store::embedded::journal::recover::random_epoch;
use crate::store::embedded::journal::segment::Segment;
use crate::store::{
    AppendError, DocumentInfo, Generation, Health, LoadError, OpenError, Record, Salvaged, Size,
    SnapshotError,
};

/// Records that one sync covers while a document is stored whole.
const PUT_BATCH: usize = 1024;

/// The journal of one data folder.
#[derive(Debug)]
pub(crate) struct Journal {
    place: Arc<Place>,
    /// A copied state must never land behind one that replaces it.
    maintenance: Mutex<()>,
    writer: Mutex<Writer>,
    condition: WriteHealth,
    index: Mutex<Index>,
    /// Segments with nothing live in them, whose files are still there.
    emptied: Mutex<Vec<Arc<Segment>>>,
    later: Arc<Later>,
}

/// What becomes of the snapshot before a new one, and of the updates between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retention {
    Kept,
    Dropped,
}

/// How a journal is kept.
#[derive(Clone, Debug)]
pub(crate) struct JournalOptions {
    /// The length at which a segment is full.
    pub(crate) segment_bytes: u64,
    /// What an append waits for.
    pub(crate) durability: Durability,
    /// How long a call to the disk may take before that is told.
    pub(crate) patience: Duration,
    pub(crate) disk: FaultPlan,
    /// The identity of the store if it is a new one; a random one if this is none.
    pub(crate) epoch: Option<Epoch>,
}

/// What all parts of an open journal need and none changes.
#[derive(Debug)]
struct Place {
    folder: Folder,
    disk: FaultPlan,
    segment_bytes: u64,
    durability: Durability,
    epoch: Epoch,
    files: Arc<Files>,
}

impl Default for JournalOptions {
    /// Segments of 64 MiB, 10 s of patience, no faults, a random identity.
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            durability: Durability::Fsync,
            patience: Duration::from_secs(10),
            disk: FaultPlan::NONE,
            epoch: None,
        }
    }
}

impl Journal {
    /// Opens the journal in `data/journal`, and creates it if it is not there. On a disk without
    /// room an existing one opens too, and waits.
    pub(crate) fn open(data: &Path, options: JournalOptions) -> Result<Self, OpenError> {
        let JournalOptions { segment_bytes, durability, patience, disk, epoch } = options;
        let path = data.join("journal");
        let io_error = |source| OpenError::Io { path: path.clone(), source };
        create_folder(&path, &disk).map_err(io_error)?;
        let recovered = recover::recover(&path, &disk, segment_bytes, epoch)?;
        let folder = Folder::open(&path).map_err(io_error)?;
        let (index, files) = (recovered.index, recovered.files);
        let epoch = index.epoch();
        let is_new = index.segments.is_empty();
        let place = Arc::new(Place { folder, disk, segment_bytes, durability, epoch, files });
        let condition = WriteHealth::new(patience);
        let end = (recovered.head, recovered.next_number);
        let mut writer =
            Writer::new(Arc::clone(&place), condition.clone(), end, recovered.unproven);
        let index = Mutex::new(index);
        // Proves what was recovered, makes a new epoch durable, and shows that the disk is fit.
        let proven = writer.prove(&index);
        condition.note(&proven);
        match proven {
            Ok(()) => {}
            Err(AppendError::Stalled { .. }) if !is_new => {}
            Err(error) => return Err(io_error(io::Error::other(error))),
        }
        let (maintenance, writer) = (Mutex::new(()), Mutex::new(writer));
        let (emptied, later) = (Mutex::default(), Arc::default());
        Ok(Self { place, maintenance, writer, condition, index, emptied, later })
    }

    /// Returns when all of `records` are as durable as the options say. Without any, tries whether there is room again.
    pub(crate) fn append(&self, records: &[Record]) -> Result<(), AppendError> {
        let mut writer = self.writer()?;
        writer.check()?;
        check_order(records, &lock(&self.index))?;
        let fields: Vec<_> = records.iter().map(Record::fields).collect();
        for (record, fields) in records.iter().zip(&fields) {
            check_size(&record.document, fields)?;
        }
        let outcome = match fields.as_slice() {
            [] if self.condition.is_stalled() => writer.prove(&self.index),
            [] => Ok(()),
            fields => self.store(&mut writer, fields, self.place.durability),
        };
        drop(writer);
        if self.place.durability < Durability::Fsync && outcome.is_ok() {
            self.later.wanted();
        }
        self.condition.note(&outcome);
        outcome
    }

    /// Makes `snapshot` the newest of its document; returns when it is on disk.
    pub(crate) fn write_snapshot(
        &self,
        document: &DocumentName,
        snapshot: &Snapshot,
        before: Retention,
    ) -> Result<(), SnapshotError> {
        let _alone = lock(&self.maintenance);
        let mut writer = self.writer().map_err(journal_error)?;
        let offered = snapshot.through;
        let (newest, last, lineage) = {
            let index = lock(&self.index);
            let name = document.as_str();
            (index.newest_through(name), index.last(name), index.lineage(name))
        };
        if let Some(newest) = newest.filter(|newest| *newest > offered) {
            return Err(SnapshotError::Outdated { newest, offered });
        }
        if offered > last {
            return Err(SnapshotError::Ahead { last, offered });
        }
        let kind = match before {
            Retention::Kept => Kind::Snapshot(lineage),
            Retention::Dropped => Kind::Origin(Lineage { origin: offered, ..lineage }),
        };
        let fields = state(document, kind, offered, &snapshot.state);
        check_size(document, &fields).map_err(journal_error)?;
        let stored = if (fields.bytes() as u64) < apart_bytes(self.place.segment_bytes) {
            self.store(&mut writer, &[fields], Durability::Fsync)
        } else {
            drop(writer);
            self.store_apart(&fields)
        };
        stored.map_err(journal_error)
    }

    /// Puts `state` in the place of everything that the document holds; returns when it is on disk.
    pub(crate) fn rewrite(
        &self,
        document: &DocumentName,
        epoch: Epoch,
        state: &[u8],
    ) -> Result<Sequence, SnapshotError> {
        let _alone = lock(&self.maintenance);
        let mut writer = self.writer().map_err(journal_error)?;
        let (origin, known) = {
            let index = lock(&self.index);
            (after(index.highest(document.as_str())), index.lineage(document.as_str()).epoch)
        };
        let epoch = if epoch == Epoch::NONE { known } else { epoch };
        let kind = Kind::Origin(Lineage { epoch, origin });
        let fields = self::state(document, kind, origin, state);
        let stored = check_size(document, &fields);
        let store = |()| self.store(&mut writer, &[fields], Durability::Fsync);
        let stored = stored.and_then(store);
        stored.map(|()| origin).map_err(journal_error)
    }

    /// Stores a document of which there is nothing here yet as another journal held it.
    pub(crate) fn put(&self, document: &DocumentName, log: &StoredLog) -> Result<(), AppendError> {
        let mut writer = self.writer()?;
        let base = log.snapshot.as_ref().map(|snapshot| {
            let lineage = Lineage { epoch: log.epoch, origin: snapshot.through };
            state(document, Kind::Origin(lineage), snapshot.through, &snapshot.state)
        });
        let updates = log.updates.iter().map(|logged| Fields {
            kind: Kind::Update,
            sequence: logged.sequence,
            time: logged.time,
            document: document.as_str(),
            author: &logged.author,
            payload: &logged.update,
        });
        let fields: Vec<_> = base.into_iter().chain(updates).collect();
        let last = lock(&self.index).last(document.as_str());
        if let Some(first) = fields.first().filter(|_| last > Sequence::ZERO) {
            let (document, offered) = (document.clone(), first.sequence);
            return Err(AppendError::OutOfOrder { document, last, offered });
        }
        for batch in fields.chunks(PUT_BATCH) {
            batch.iter().try_for_each(|fields| check_size(document, fields))?;
            self.store(&mut writer, batch, Durability::Fsync)?;
        }
        Ok(())
    }

    /// Reads a document. `cached` may know the state that it begins with already.
    pub(crate) fn load(
        &self,
        document: &DocumentName,
        generation: Generation,
        cached: impl FnOnce(Sequence, Digest) -> Option<Bytes>,
    ) -> Result<StoredLog, LoadError> {
        let plan = lock(&self.index).plan(document, generation)?;
        plan.read(cached)
    }

    /// Reads what can be read of a document.
    pub(crate) fn salvage(
        &self,
        document: &DocumentName,
        cached: impl FnOnce(Sequence, Digest) -> Option<Bytes>,
    ) -> Result<Salvaged, LoadError> {
        let remains = lock(&self.index).remains(document);
        remains.read(cached)
    }

    /// What an append waits for.
    pub(crate) fn durability(&self) -> Durability {
        self.place.durability
    }

    /// The identity of every history here that was never replaced.
    pub(crate) fn epoch(&self) -> Epoch {
        self.place.epoch
    }

    /// Every document whose newest state is intact, ordered by name.
    pub(crate) fn documents_with_state(&self) -> Vec<DocumentName> {
        lock(&self.index).documents_with_state()
    }

    /// The newest state of `document` alone.
    pub(crate) fn newest_state(
        &self,
        document: &DocumentName,
    ) -> Result<Option<Snapshot>, LoadError> {
        let plan = lock(&self.index).plan(document, Generation::Newest)?;
        plan.read_base()
    }

    /// Every document, ordered by name.
    pub(crate) fn documents(&self) -> Vec<DocumentInfo> {
        lock(&self.index).infos()
    }

    /// How much it takes on disk.
    pub(crate) fn size(&self) -> Size {
        lock(&self.index).segments.size()
    }

    /// Whether appends are possible. Does not wait for one that is under way.
    pub(crate) fn health(&self) -> Health {
        if self.writer.is_poisoned() {
            return Health::Failed { reason: WRITING_PANICKED.to_owned() };
        }
        self.condition.health()
    }

    /// Seals the journal and records where it ends.
    pub(crate) fn close(&self) -> Result<(), AppendError> {
        self.writer()?.close(&self.index)
    }

    /// Syncs what appends have left to be synced. They go on meanwhile.
    pub(crate) fn sync_written(&self) -> Result<(), AppendError> {
        let unsynced = {
            let writer = self.writer()?;
            writer.check()?;
            writer.unsynced()
        };
        let Some(unsynced) = unsynced else { return Ok(()) };
        let busy = self.condition.busy();
        let outcome = self.place.disk.sync(&unsynced.segment.path, &unsynced.file);
        drop(busy);
        self.writer()?.note_synced(&unsynced, outcome);
        Ok(())
    }

    /// Where appends say that there is something to sync.
    pub(crate) fn later(&self) -> Arc<Later> {
        Arc::clone(&self.later)
    }

    fn store(
        &self,
        writer: &mut Writer,
        fields: &[Fields<'_>],
        durability: Durability,
    ) -> Result<(), AppendError> {
        let positions = writer.write(fields, &self.index)?;
        if durability == Durability::Fsync {
            writer.sync()?;
        }
        let mut index = lock(&self.index);
        for (fields, at) in fields.iter().zip(positions) {
            index.insert(fields, at);
        }
        Ok(())
    }

    fn writer(&self) -> Result<MutexGuard<'_, Writer>, AppendError> {
        let panicked = |_| AppendError::Poisoned { reason: WRITING_PANICKED.to_owned() };
        self.writer.lock().map_err(panicked)
    }
}

const WRITING_PANICKED: &str = "writing to the journal panicked";

fn journal_error(source: AppendError) -> SnapshotError {
    SnapshotError::Journal { source }
}

/// The record of a whole state.
fn state<'a>(
    document: &'a DocumentName,
    kind: Kind,
    sequence: Sequence,
    state: &'a [u8],
) -> Fields<'a> {
    let document = document.as_str();
    // For whoever reads the journal by hand; nothing depends on it.
    let time = clock::now();
    Fields { kind, sequence, time, document, author: "", payload: state }
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

/// The index is changed in steps that cannot fail, so a panic elsewhere leaves it whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
