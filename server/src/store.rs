//! Where documents rest. [`Store`] is what the rest of the server may rely on; the modules below
//! are its implementations, and all of them pass the same contract suite (`tests/store_contract`).
//!
//! The embedded default is `embedded`: an append-only journal that is the
//! truth, and a sled database of snapshots that can be rebuilt from it.

pub(crate) mod atomic_file;
pub mod backup;
pub mod embedded;
pub(crate) mod fields;
pub mod memory;
pub mod writer;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use syncline_protocol::{
    DocumentName, Durability, Epoch, LoggedUpdate, Sequence, Snapshot, StoredLog, Timestamp,
};
use thiserror::Error;

pub(crate) use crate::store::embedded::journal::random_epoch;
pub use crate::store::embedded::journal::{Damage, JournalReader, TornTail};

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

impl Record {
    /// As it is read back.
    pub(crate) fn logged(&self) -> LoggedUpdate {
        LoggedUpdate {
            sequence: self.sequence,
            time: self.time,
            author: Arc::clone(&self.author),
            update: self.update.clone(),
        }
    }
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
    /// The identity of its history.
    pub epoch: Epoch,
    /// The last stored position.
    pub last: Sequence,
    /// Bytes of its newest snapshot and the updates after it.
    pub bytes: u64,
}

/// What can still be read of a document, however damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Salvaged {
    /// The newest readable state and the unbroken updates after it.
    pub log: StoredLog,
    /// The last position there is a sign of.
    pub last: Sequence,
    /// Why the log ends before that, if it does.
    pub reason: Option<String>,
}

/// Whether updates are stored at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// They are.
    Writable,
    /// They are not; that may pass without anybody doing anything to this process.
    Stalled {
        /// Why.
        reason: String,
        /// Since when.
        since: Timestamp,
    },
    /// They are not until the process is started again.
    Failed {
        /// Why.
        reason: String,
    },
}

/// How much is on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Bytes of the journal.
    pub bytes: u64,
    /// Its files.
    pub files: u64,
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

    /// Reads what can be read of a document that [`Store::load`] refuses, or of any other.
    ///
    /// # Errors
    /// If the system refuses for a reason that says nothing about the document, such as a lack of
    /// descriptors.
    fn salvage(&self, document: &DocumentName) -> Result<Salvaged, LoadError>;

    /// Appends updates in order. When this returns `Ok`, all of them survive what
    /// [`Store::durability`] says; when it returns an error, none of them counts as stored. A
    /// stalled store that is given nothing to append tries whether it can go on.
    ///
    /// # Errors
    /// [`AppendError::Stalled`] if there is no room: nothing was stored, and the same updates may
    /// be offered again. If the disk refuses for any other reason, the store stays readable and
    /// every later append fails with [`AppendError::Poisoned`]; what the failed call wrote may or
    /// may not be there when the store is opened again. [`AppendError::OutOfOrder`] and
    /// [`AppendError::TooLarge`] are the caller's mistakes: nothing was written, and the store goes
    /// on.
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

    /// Like [`Store::write_snapshot`], and nothing that the snapshot covers is kept, whether it can
    /// still be read or not.
    ///
    /// # Errors
    /// As for [`Store::write_snapshot`].
    fn replace_log(
        &self,
        document: &DocumentName,
        snapshot: &Snapshot,
    ) -> Result<(), SnapshotError>;

    /// Puts `state` in the place of everything that `document` holds, as a history with the
    /// identity `epoch`; [`Epoch::NONE`] leaves the identity as it is. Returns the position of the
    /// state, one above every position that was used. Nothing before it can be read any more. Like
    /// an append, it must not overlap with other writing to the document.
    ///
    /// # Errors
    /// If it cannot be written; the document is then as it was.
    fn rewrite(
        &self,
        document: &DocumentName,
        epoch: Epoch,
        state: Bytes,
    ) -> Result<Sequence, SnapshotError>;

    /// The identity of every history in this store that was never replaced.
    fn epoch(&self) -> Epoch;

    /// What an update survives that was appended.
    fn durability(&self) -> Durability;

    /// Every stored document, ordered by name. One that was rewritten as nothing, and so deleted,
    /// is not among them until something is appended to it.
    fn documents(&self) -> Vec<DocumentInfo>;

    /// Whether appends are possible, and if not, why. Does not wait for one that is under way.
    fn health(&self) -> Health;

    /// How much is on disk; nothing where there is no disk.
    fn size(&self) -> Size {
        Size::default()
    }

    /// Brings everything to rest before the process ends. A store that is written to after that is
    /// as if it had not been closed.
    ///
    /// # Errors
    /// If the disk refuses. What was appended is stored all the same.
    fn close(&self) -> Result<(), AppendError>;
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
    /// A restore into the folder ended in the middle.
    #[error(
        "a restore into {} did not finish, so not everything is there; empty the folder and restore \
         again",
        .path.display()
    )]
    RestoreUnfinished {
        /// The data folder.
        path: PathBuf,
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
    /// Written by an earlier version, in a format that was never released.
    #[error(
        "{} has format {found} of the time before the first release, this program reads \
         {supported}, and there is no converter; export its documents with the program that wrote \
         it, or use an empty data folder",
        .path.display()
    )]
    OlderFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u16,
        /// The format known here.
        supported: u16,
    },
    /// A segment of another store lies among the others.
    #[error(
        "{} is of the store {found}, the segments before it are of {expected}; move it out of the \
         folder",
        .path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The store it says it is of.
        found: Epoch,
        /// The store of the others.
        expected: Epoch,
    },
    /// A segment says nothing about itself any more.
    #[error(
        "both headers of {} are damaged, so none of its {bytes} bytes can be read; restore a \
         backup, or move the file out of the folder to go on without what is in it",
        .path.display()
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
    },
    /// The journal ends before the place at which it was closed.
    #[error(
        "at least {missing} bytes of acknowledged updates are missing: the journal was closed at \
         byte {closed_at} of segment {segment} and ends before that; restore a backup, or delete \
         {} to go on without them",
        .path.display()
    )]
    Shortened {
        /// Where the end was recorded.
        path: PathBuf,
        /// The segment that was the last.
        segment: u64,
        /// Its length then.
        closed_at: u64,
        /// How much of it is not there.
        missing: u64,
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
    /// The previous generation was asked for, and a rewrite has left none.
    #[error("the document was written anew at position {origin}, and there is no state before it")]
    NoPrevious {
        /// Where the document begins.
        origin: Sequence,
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
    /// There is no room, or no descriptor. Nothing was stored, and a later try may succeed.
    #[error("there is no room for updates: {reason}")]
    Stalled {
        /// What the system said.
        reason: String,
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
