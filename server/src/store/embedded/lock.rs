//! One process per data folder.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use fs4::{FileExt, TryLockError};
use tracing::warn;

use crate::store::OpenError;

/// The hold on a data folder; ends with this value, or with the process however it ends.
#[derive(Debug)]
pub(super) struct FolderLock {
    _file: File,
}

impl FolderLock {
    pub(super) fn take(folder: &Path) -> Result<Self, OpenError> {
        let path = folder.join("syncline.lock");
        let io_error = |source| OpenError::Io { path: path.clone(), source };
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(io_error)?;
        match FileExt::try_lock(&file) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(OpenError::InUse { path: folder.to_owned(), pid: holder(&mut file) });
            }
            Err(TryLockError::Error(source)) => return Err(io_error(source)),
        }
        if let Err(error) = write_holder(&file) {
            warn!(%error, "The lock file cannot be written; it does not name this process.");
            // No name is better than that of an earlier holder.
            drop(file.set_len(0));
        }
        Ok(Self { _file: file })
    }
}

/// Over what is there, which needs no room on most disks; as long as any other, so that nothing of
/// an earlier holder is left behind it.
fn write_holder(file: &File) -> io::Result<()> {
    let line = format!("{:<10}\n", std::process::id());
    file.write_all_at(line.as_bytes(), 0)
}

fn holder(file: &mut File) -> u32 {
    let mut text = String::new();
    // Only for the message: whoever cannot read it still learns that the folder is taken.
    match file.take(32).read_to_string(&mut text) {
        Ok(_) => text.trim().parse().unwrap_or(0),
        Err(_) => 0,
    }
}
