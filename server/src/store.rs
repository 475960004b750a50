//! Where documents rest. [`Store`] is what the rest of the server may rely on; the modules below
//! are its implementations, and all of them pass the same contract suite (`tests/store_contract`).
//!
//! The embedded default is `embedded`: an append-only journal that is the
//! truth, and a sled database of snapshots that can be rebuilt from it.

pub mod disk;
pub mod embedded;
mod journal;
mod lock;
pub mod memory;
mod sled;
pub mod writer;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use syncline_protocol::{DocumentName, Sequence, Snapshot, StoredLog, Timestamp};
use thiserror::Error;

/// One update on its way to disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The document it belongs to.
    pub document: DocumentName,
    /// Its place in that document's log; one more than the place before it.
    pub sequence: Sequence,
    /// When the server accepted it.
    pub time: Timestamp,
    /// The verified identity (`sub`) that sent it; empty when the token had none.
    pub author: Arc<str>,
    /// The client's own bytes.
    pub update: Bytes,
}

/// Which snapshot a document is read back from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// The latest one.
    Newest,
    /// The one before it, kept for the day the latest cannot be decoded.
    Previous,
}

/// What is known of a stored document without opening it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentInfo {
    /// Its name.
    pub name: DocumentName,
    /// The last stored position.
    pub last: Sequence,
    /// Bytes of its newest snapshot and the updates after it.
    pub bytes: u64,
}

/// A place that documents survive in. All calls block; callers keep them off the runtime's workers.
pub trait Store: Send + Sync + std::fmt::Debug + 'static {
    /// Reads a document's snapshot and every later update, including those whose append has
    /// returned before this call. A document that was never written is an empty log.
    ///
    /// # Errors
    /// If what is stored cannot be read or is damaged. Nothing may be appended to such a document.
    fn load(&self, document: &DocumentName, generation: Generation)
    -> Result<StoredLog, LoadError>;

    /// Appends updates in order. When this returns `Ok`, all of them survive a crash and a power
    /// cut; when it returns an error, none of them counts as stored.
    ///
    /// # Errors
    /// If the disk refuses. The store stays readable and every later append fails with
    /// [`AppendError::Poisoned`]; what the failed call wrote may or may not be there when the store
    /// is opened again. [`AppendError::OutOfOrder`] and [`AppendError::TooLarge`] are the caller's
    /// mistakes: nothing was written, and the store goes on.
    fn append(&self, records: &[Record]) -> Result<(), AppendError>;

    /// Makes `snapshot` the newest one of `document`. The one before it is kept, with the updates
    /// after that one; what is older may go. The caller has read the state back and compared it.
    /// A snapshot through the same position as the newest takes its place.
    ///
    /// # Errors
    /// If it cannot be written, or is older than the newest one, or stands for updates that were
    /// never stored; the snapshots before it are then untouched.
    fn write_snapshot(
        &self,
        document: &DocumentName,
        snapshot: &Snapshot,
    ) -> Result<(), SnapshotError>;

    /// Every stored document, ordered by name.
    fn documents(&self) -> Vec<DocumentInfo>;

    /// Whether appends are still possible, and if not, why.
    ///
    /// # Errors
    /// The failure that ended writing.
    fn health(&self) -> Result<(), AppendError>;
}

/// Why a store could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another process holds the folder.
    #[error(
        "{} is in use by syncline pid {pid}; stop it, or give this one its own folder with --data",
        .path.display()
    )]
    InUse {
        /// The data folder.
        path: PathBuf,
        /// The holder, as it wrote itself down; 0 when that could not be read.
        pid: u32,
    },
    /// The folder or a file in it cannot be created or read.
    #[error("cannot open the data folder {}: check that it exists and is writable", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Written by a later version.
    #[error(
        "{} has format {found}, this program reads up to {supported}; use a newer syncline",
        .path.display()
    )]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u16,
        /// The latest format known here.
        supported: u16,
    },
}

/// Why a document could not be read.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The disk refuses.
    #[error("the stored document cannot be read")]
    Io {
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A record is unreadable or missing.
    #[error("the stored document is damaged: {reason}")]
    Damaged {
        /// What is wrong, and where.
        reason: String,
    },
}

/// Why updates could not be stored.
#[derive(Clone, Debug, Error)]
pub enum AppendError {
    /// The disk refuses. What was written since the last sync is in an unknown state.
    #[error("updates cannot be written to the journal")]
    Io {
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// An earlier failure ended writing.
    #[error("the journal takes no more updates since an earlier failure: {reason}")]
    Poisoned {
        /// That failure.
        reason: String,
    },
    /// An update does not follow the last one of its document.
    #[error("update {offered} of {document} does not follow update {last}")]
    OutOfOrder {
        /// The document.
        document: DocumentName,
        /// The last update before it, stored or in the same call.
        last: Sequence,
        /// The update in question.
        offered: Sequence,
    },
    /// An update, a snapshot or an author is longer than the store can hold.
    #[error("{bytes} bytes of {document} are too many for one part of a record, at most {max} fit")]
    TooLarge {
        /// The document.
        document: DocumentName,
        /// Its length.
        bytes: usize,
        /// The longest that fits.
        max: usize,
    },
}

/// Why a snapshot could not be stored.
#[derive(Debug, Error)]
pub enum SnapshotError {
    /// The journal refuses.
    #[error("the snapshot cannot be written to the journal")]
    Journal {
        /// Its failure.
        #[source]
        source: AppendError,
    },
    /// It would go backwards.
    #[error("a snapshot through {newest} exists, one through {offered} is older")]
    Outdated {
        /// The newest one stored.
        newest: Sequence,
        /// The one offered.
        offered: Sequence,
    },
    /// It stands for updates that were never stored.
    #[error("the last stored update is {last}, a snapshot through {offered} is ahead of it")]
    Ahead {
        /// The last update stored.
        last: Sequence,
        /// The one offered.
        offered: Sequence,
    },
}
