//! The default store: one folder on a local disk.
//!
//! ```text
//! syncline.lock     held while a process runs, with its pid
//! journal/*.wal     every update and snapshot that counts: the truth
//! journal/end       where the journal ends; only while no process runs, and after a clean stop
//! sled/             a cache of the newest snapshots; can be deleted at any time
//! ```

mod cache;
mod deferred_sync;
pub mod disk;
pub(crate) mod journal;
pub(crate) mod lock;
pub mod restore;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use syncline_protocol::{DocumentName, Durability, Epoch, Sequence, Snapshot, StoredLog};
use tracing::{info, warn};

use crate::store::embedded::cache::{Contents, SnapshotCache};
use crate::store::embedded::deferred_sync::Syncer;
use crate::store::embedded::disk::{FaultPlan, create_folder};
use crate::store::embedded::journal::{Journal, JournalOptions, Retention};
use crate::store::embedded::lock::FolderLock;
use crate::store::embedded::restore::check_finished;
use crate::store::{
    AppendError, DocumentInfo, Generation, Health, JournalReader, LoadError, OpenError, Record,
    Salvaged, Size, SnapshotError, Store,
};

/// How to open an [`Embedded`] store.
#[derive(Clone, Debug)]
pub struct EmbeddedOptions {
    /// The data folder; created if it is not there.
    pub path: PathBuf,
    /// Length at which a segment of the journal is full. One that holds a single long record may
    /// be longer. While a folder is opened, one segment at a time is held in memory.
    pub segment_bytes: u64,
    /// What sled may hold in memory; it takes about twice as much. 0: there is no sled, and
    /// snapshots are read from the journal.
    pub cache_bytes: u64,
    /// What an append waits for: [`Durability::Fsync`], or anything less for [`Durability::Os`].
    pub durability: Durability,
    /// How long a call to the disk may take before the store counts as stalled.
    pub patience: Duration,
    /// Which calls to the disk fail. Only tests ask for any.
    pub faults: FaultPlan,
}

impl EmbeddedOptions {
    /// Segments of 64 MiB, 16 MiB of cache, every append synced, 10 s of patience, no faults.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            segment_bytes: 64 << 20,
            cache_bytes: 16 << 20,
            durability: Durability::Fsync,
            patience: Duration::from_secs(10),
            faults: FaultPlan::NONE,
        }
    }
}

/// A store in one folder, held by one process.
#[derive(Debug)]
pub struct Embedded {
    journal: Arc<Journal>,
    snapshots: SnapshotCache,
    // Before the lock: it writes to the journal until it is gone.
    _syncer: Option<Syncer>,
    // Last: the folder is free when the files are closed.
    _lock: FolderLock,
}

impl Embedded {
    /// Opens the folder, and repairs what a crash left.
    ///
    /// # Errors
    /// If another process holds the folder, the disk refuses, another version wrote the journal, or
    /// whole parts of it are missing. Damaged records and a damaged cache are logged and do not keep
    /// a folder from opening, and neither does a lack of room.
    pub fn open(options: EmbeddedOptions) -> Result<Self, OpenError> {
        Self::open_after(options, |_| Ok(()))
    }

    /// Opens the folder with a snapshot cache that is filled afresh.
    ///
    /// # Errors
    /// As for [`Self::open`], or if the old cache cannot be removed.
    pub fn rebuild(options: EmbeddedOptions) -> Result<Self, OpenError> {
        Self::open_after(options, SnapshotCache::remove)
    }

    /// `prepare` runs when the folder is held and nothing in it is open.
    fn open_after(
        options: EmbeddedOptions,
        prepare: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<Self, OpenError> {
        let EmbeddedOptions { path, segment_bytes, cache_bytes, durability, patience, faults } =
            options;
        let durability = durability.max(Durability::Os);
        let io_error = |source| OpenError::Io { path: path.clone(), source };
        create_folder(&path, &faults).map_err(io_error)?;
        let lock = FolderLock::take(&path)?;
        check_finished(&path)?;
        prepare(&path).map_err(io_error)?;
        let options =
            JournalOptions { segment_bytes, durability, patience, disk: faults, epoch: None };
        let journal = Arc::new(Journal::open(&path, options)?);
        let syncer = match durability {
            Durability::Fsync => None,
            Durability::Os | Durability::Memory => {
                Some(Syncer::start(Arc::clone(&journal)).map_err(io_error)?)
            }
        };
        let (snapshots, contents) = match cache_bytes {
            0 => (SnapshotCache::none(), Contents::Kept),
            _ => SnapshotCache::open(&path, cache_bytes),
        };
        let store = Self { journal, snapshots, _syncer: syncer, _lock: lock };
        if contents == Contents::Fresh {
            store.fill_cache();
        }
        Ok(store)
    }

    /// Rewrites every segment that holds anything dead, until only live records are left. Needs room
    /// for one more segment at a time. `progress` is told how many segments are done of how many.
    /// Meant for a store that nobody writes to.
    ///
    /// # Errors
    /// If the disk refuses. Nothing is lost by that.
    pub fn clean_fully(&self, progress: impl FnMut(usize, usize)) -> Result<(), AppendError> {
        self.journal.clean_fully(progress)
    }

    /// Reads the folder at `path` as it is, whether or not a server is running on it, and changes
    /// nothing.
    ///
    /// # Errors
    /// If the journal cannot be read at all, or another version wrote it.
    pub fn read(path: &Path) -> Result<JournalReader, OpenError> {
        JournalReader::open(path)
    }

    fn write_state(
        &self,
        document: &DocumentName,
        snapshot: &Snapshot,
        before: Retention,
    ) -> Result<(), SnapshotError> {
        self.journal.write_snapshot(document, snapshot, before)?;
        self.snapshots.write(std::iter::once((document.clone(), snapshot.clone())), before);
        self.journal.clean();
        Ok(())
    }

    fn fill_cache(&self) {
        let documents = self.journal.documents_with_state();
        if documents.is_empty() {
            return;
        }
        info!(documents = documents.len(), "Filling the snapshot cache from the journal.");
        let read = |document: DocumentName| match self.journal.newest_state(&document) {
            Ok(snapshot) => Some((document, snapshot?)),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                warn!(%document, error, "A document is left out of the snapshot cache.");
                None
            }
        };
        self.snapshots.write(documents.into_iter().filter_map(read), Retention::Kept);
    }
}

impl Store for Embedded {
    fn load(
        &self,
        document: &DocumentName,
        generation: Generation,
    ) -> Result<StoredLog, LoadError> {
        self.journal.load(document, generation, |through, digest| match generation {
            Generation::Newest => self.snapshots.read(document, through, digest),
            Generation::Previous => None,
        })
    }

    fn salvage(&self, document: &DocumentName) -> Result<Salvaged, LoadError> {
        let cached = |through, digest| self.snapshots.read(document, through, digest);
        self.journal.salvage(document, cached)
    }

    fn append(&self, records: &[Record]) -> Result<(), AppendError> {
        self.journal.append(records)
    }

    fn write_snapshot(
        &self,
        document: &DocumentName,
        snapshot: &Snapshot,
    ) -> Result<(), SnapshotError> {
        self.write_state(document, snapshot, Retention::Kept)
    }

    fn replace_log(
        &self,
        document: &DocumentName,
        snapshot: &Snapshot,
    ) -> Result<(), SnapshotError> {
        self.write_state(document, snapshot, Retention::Dropped)
    }

    fn rewrite(
        &self,
        document: &DocumentName,
        epoch: Epoch,
        state: Bytes,
    ) -> Result<Sequence, SnapshotError> {
        let through = self.journal.rewrite(document, epoch, &state)?;
        let written = std::iter::once((document.clone(), Snapshot { through, state }));
        self.snapshots.write(written, Retention::Dropped);
        self.journal.clean();
        Ok(through)
    }

    fn epoch(&self) -> Epoch {
        self.journal.epoch()
    }

    fn durability(&self) -> Durability {
        self.journal.durability()
    }

    fn documents(&self) -> Vec<DocumentInfo> {
        self.journal.documents()
    }

    fn health(&self) -> Health {
        self.journal.health()
    }

    fn size(&self) -> Size {
        self.journal.size()
    }

    fn close(&self) -> Result<(), AppendError> {
        self.journal.close()
    }
}
