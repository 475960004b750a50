//! The calls that change the disk, in one place, so that a test can make any of them fail.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

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
    /// A torn tail is cut off.
    Truncate,
    /// A segment file goes.
    Remove,
}

type Fault = dyn Fn(DiskCall) -> io::Result<()> + Send + Sync;

/// Decides before each [`DiskCall`] of the journal whether it fails. Only tests have one.
#[derive(Clone, Default)]
pub struct FaultPlan(Option<Arc<Fault>>);

impl FaultPlan {
    /// Nothing is made to fail.
    pub const NONE: Self = Self(None);

    /// A call fails when `plan` returns an error for it.
    pub fn new(plan: impl Fn(DiskCall) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(plan)))
    }

    fn check(&self, call: DiskCall) -> io::Result<()> {
        self.0.as_ref().map_or(Ok(()), |plan| plan(call))
    }

    pub(super) fn create(&self, path: &Path) -> io::Result<File> {
        self.check(DiskCall::Create)?;
        File::options().read(true).write(true).create_new(true).open(path)
    }

    pub(super) fn write(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        if let Err(fault) = self.check(DiskCall::Write) {
            let half = bytes.get(..bytes.len() / 2).unwrap_or_default();
            file.write_all_at(half, offset)?;
            return Err(fault);
        }
        file.write_all_at(bytes, offset)
    }

    pub(super) fn sync(&self, file: &File) -> io::Result<()> {
        self.check(DiskCall::Sync)?;
        file.sync_data()
    }

    pub(super) fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.check(DiskCall::SyncFolder)?;
        File::open(path)?.sync_all()
    }

    pub(super) fn truncate(&self, file: &File, len: u64) -> io::Result<()> {
        self.check(DiskCall::Truncate)?;
        file.set_len(len)
    }

    pub(super) fn remove(&self, path: &Path) -> io::Result<()> {
        self.check(DiskCall::Remove)?;
        fs::remove_file(path)
    }
}

impl fmt::Debug for FaultPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "FaultPlan(..)" } else { "FaultPlan(none)" })
    }
}
