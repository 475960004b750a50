//! A data folder that is being filled from a backup.

use std::io;
use std::path::{Path, PathBuf};

use syncline_protocol::{DocumentName, Epoch, StoredLog};
use thiserror::Error;

use crate::store::atomic_file::{remove, replace};
use crate::store::embedded::disk::{FaultPlan, create_folder};
use crate::store::embedded::journal::{Journal, JournalOptions};
use crate::store::embedded::lock::FolderLock;
use crate::store::{AppendError, OpenError};

/// Says that the folder holds less than the backup did. It goes last.
const UNFINISHED: &str = "restore-unfinished";

/// A store that takes whole documents and is opened as any other once it is finished.
#[derive(Debug)]
pub struct Restore {
    data: PathBuf,
    journal: Journal,
    // Last: the folder is free when the files are closed.
    _lock: FolderLock,
}

/// Why a restored folder is not ready.
#[derive(Debug, Error)]
pub enum RestoreError {
    /// The journal cannot be brought to rest.
    #[error("the journal cannot be closed")]
    Journal(#[from] AppendError),
    /// The mark that it is unfinished cannot be removed.
    #[error("the mark of an unfinished restore cannot be removed")]
    CrashMarker(#[from] io::Error),
}

impl Restore {
    /// Begins in a folder that is empty or not there. Its histories will have the identity `epoch`.
    ///
    /// # Errors
    /// If the folder cannot be created or written.
    pub fn begin(data: &Path, epoch: Epoch) -> Result<Self, OpenError> {
        Self::begin_with(data, epoch, FaultPlan::NONE)
    }

    /// Begins on a disk that refuses what `disk` says. Only tests ask for that.
    ///
    /// # Errors
    /// As for [`Self::begin`].
    pub fn begin_with(data: &Path, epoch: Epoch, disk: FaultPlan) -> Result<Self, OpenError> {
        let io_error = |source| OpenError::Io { path: data.to_owned(), source };
        create_folder(data, &disk).map_err(io_error)?;
        let lock = FolderLock::take(data)?;
        replace(&data.join(UNFINISHED), b"").map_err(io_error)?;
        let options = JournalOptions { disk, epoch: Some(epoch), ..JournalOptions::default() };
        let journal = Journal::open(data, options)?;
        Ok(Self { data: data.to_owned(), journal, _lock: lock })
    }

    /// Stores a document as it was, positions, times and authors included.
    ///
    /// # Errors
    /// If the disk refuses, or something of the document is here already.
    pub fn put(&self, document: &DocumentName, log: &StoredLog) -> Result<(), AppendError> {
        self.journal.put(document, log)
    }

    /// Makes the folder one that can be opened.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn finish(self) -> Result<(), RestoreError> {
        self.journal.close()?;
        remove(&self.data.join(UNFINISHED))?;
        Ok(())
    }
}

/// Refuses a folder that a restore did not finish.
pub(crate) fn check_finished(data: &Path) -> Result<(), OpenError> {
    if data.join(UNFINISHED).exists() {
        return Err(OpenError::RestoreUnfinished { path: data.to_owned() });
    }
    Ok(())
}
