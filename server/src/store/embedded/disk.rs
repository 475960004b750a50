//! The calls that change the disk, in one place, so that a test can make any of them fail.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use crate::metrics::METRICS;

/// A call that changes the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskCall {
    /// A segment file comes into being.
    Create,
    /// Bytes are handed to the system. A fault here lets the first half of them through.
    Write,
    /// `fdatasync` of a segment file.
    Sync,
    /// `fsync` of a folder.
    SyncFolder,
    /// A torn tail, or a batch for which there was no room, is cut off.
    Truncate,
    /// A file gets the name it is looked for under.
    Rename,
    /// A file goes.
    Remove,
}

/// A [`DiskCall`] and what it is made on.
#[derive(Clone, Copy, Debug)]
pub struct DiskOp<'a> {
    /// Which call.
    pub call: DiskCall,
    /// The file or folder.
    pub path: &'a Path,
    /// Where a renamed file goes; `path` for every other call.
    pub to: &'a Path,
}

type Fault = dyn Fn(DiskOp<'_>) -> io::Result<()> + Send + Sync;

/// Decides before each [`DiskCall`] of the journal whether it fails. Only tests have one.
#[derive(Clone, Default)]
pub struct FaultPlan(Option<Arc<Fault>>);

impl FaultPlan {
    /// Nothing is made to fail.
    pub const NONE: Self = Self(None);

    /// A call fails when `plan` returns an error for it.
    pub fn new(plan: impl Fn(DiskOp<'_>) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(plan)))
    }

    fn check(&self, call: DiskCall, path: &Path) -> io::Result<()> {
        self.0.as_ref().map_or(Ok(()), |plan| plan(DiskOp { call, path, to: path }))
    }

    pub(super) fn create(&self, path: &Path) -> io::Result<File> {
        self.check(DiskCall::Create, path)?;
        File::options().read(true).write(true).create_new(true).open(path)
    }

    pub(super) fn write(
        &self,
        path: &Path,
        file: &File,
        bytes: &[u8],
        offset: u64,
    ) -> io::Result<()> {
        if let Err(fault) = self.check(DiskCall::Write, path) {
            let half = bytes.get(..bytes.len() / 2).unwrap_or_default();
            file.write_all_at(half, offset)?;
            return Err(fault);
        }
        file.write_all_at(bytes, offset)
    }

    pub(super) fn sync(&self, path: &Path, file: &File) -> io::Result<()> {
        self.check(DiskCall::Sync, path)?;
        let began = Instant::now();
        let synced = file.sync_data();
        METRICS.syncs.time(began.elapsed());
        synced
    }

    pub(super) fn truncate(&self, path: &Path, file: &File, len: u64) -> io::Result<()> {
        self.check(DiskCall::Truncate, path)?;
        file.set_len(len)
    }

    pub(super) fn remove(&self, path: &Path) -> io::Result<()> {
        self.check(DiskCall::Remove, path)?;
        fs::remove_file(path)
    }

    pub(super) fn rename(&self, path: &Path, to: &Path) -> io::Result<()> {
        if let Some(plan) = &self.0 {
            plan(DiskOp { call: DiskCall::Rename, path, to })?;
        }
        fs::rename(path, to)
    }
}

/// A folder, open so that it can be synced when no descriptor is left.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) path: PathBuf,
    file: File,
}

impl Folder {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), file: File::open(path)? })
    }

    /// Makes what was created, renamed and removed in it survive a power cut.
    pub(super) fn sync(&self, disk: &FaultPlan) -> io::Result<()> {
        disk.check(DiskCall::SyncFolder, &self.path)?;
        self.file.sync_all()
    }
}

/// Creates a folder and the parents it lacks; all of them survive a power cut.
pub(super) fn create_folder(path: &Path, disk: &FaultPlan) -> io::Result<()> {
    // The parent of a relative path is the empty one, and that is no folder.
    let is_missing = |path: &&Path| !path.as_os_str().is_empty() && !path.is_dir();
    let missing: Vec<_> = path.ancestors().take_while(is_missing).collect();
    fs::create_dir_all(path)?;
    for folder in missing.into_iter().rev() {
        let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
        Folder::open(parent.unwrap_or(Path::new(".")))?.sync(disk)?;
    }
    Ok(())
}

const ENOMEM: i32 = 12;
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;

/// Whether a call failed because there is no room on the disk, or no descriptor.
pub(super) fn is_no_room(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        || matches!(error.raw_os_error(), Some(ENFILE | EMFILE))
}

/// Why something could not be written.
#[derive(Debug)]
pub(super) enum WriteFailure {
    /// There is no room. What was written can be taken back and tried again.
    NoRoom(io::Error),
    /// Nothing is known about the file any more.
    Final(io::Error),
}

impl WriteFailure {
    /// What the failure of a call means that creates a file or hands bytes over. One to sync never
    /// leaves room for hope: the system may have dropped the pages, and would call the next sync a
    /// success.
    pub(super) fn of(error: io::Error) -> Self {
        if is_no_room(&error) { Self::NoRoom(error) } else { Self::Final(error) }
    }
}

/// Whether reading the same again will fail the same.
pub(crate) fn is_lasting(error: &io::Error) -> bool {
    error.kind() != io::ErrorKind::Interrupted
        && error.raw_os_error().is_none_or(|number| ![ENOMEM, ENFILE, EMFILE].contains(&number))
}

impl fmt::Debug for FaultPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "FaultPlan(..)" } else { "FaultPlan(none)" })
    }
}
