//! The file `end`: where the journal ended when it was closed. It is there only while nobody writes.
//!
//! ```text
//! "SYNCEND2" | segment u64 | length u64 | CRC-32C of the bytes before u32
//! ```
//!
//! Without it, a journal that lost its last segments or the end of the last one would open with
//! less than was acknowledged, and nobody would know.

use std::io;
use std::path::{Path, PathBuf};

use crate::store::embedded::disk::{FaultPlan, Folder, WriteFailure};

const MAGIC: [u8; 8] = *b"SYNCEND2";
const NAME: &str = "end";
/// Files under a name that ends like this are not finished; nobody misses one after a crash.
pub(super) const UNFINISHED: &str = ".new";

/// The last segment and its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub(super) segment: u64,
    pub(super) len: u64,
}

/// Where it lies.
pub(super) fn path(folder: &Path) -> PathBuf {
    folder.join(NAME)
}

impl End {
    /// Returns when it survives a power cut.
    pub(super) fn write(self, folder: &Folder, disk: &FaultPlan) -> Result<(), WriteFailure> {
        let path = path(&folder.path);
        let unfinished = folder.path.join(format!("{NAME}{UNFINISHED}"));
        remove_if_there(&unfinished, disk).map_err(WriteFailure::of)?;
        let file = disk.create(&unfinished).map_err(WriteFailure::of)?;
        disk.write(&unfinished, &file, &self.encode(), 0).map_err(WriteFailure::of)?;
        disk.sync(&unfinished, &file).map_err(WriteFailure::Final)?;
        disk.rename(&unfinished, &path).map_err(WriteFailure::of)?;
        folder.sync(disk).map_err(WriteFailure::Final)
    }

    /// `None`: not there, or damaged.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (_, rest) = bytes.split_at_checked(MAGIC.len())?;
        let (segment, rest) = rest.split_first_chunk::<8>()?;
        let (len, _) = rest.split_first_chunk::<8>()?;
        let end = Self { segment: u64::from_le_bytes(*segment), len: u64::from_le_bytes(*len) };
        (end.encode() == bytes).then_some(end)
    }

    fn encode(self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&self.segment.to_le_bytes());
        bytes.extend_from_slice(&self.len.to_le_bytes());
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }
}

/// Returns when there is no such file any more, also after a power cut.
pub(super) fn remove(folder: &Folder, disk: &FaultPlan) -> Result<(), WriteFailure> {
    remove_if_there(&path(&folder.path), disk).map_err(WriteFailure::of)?;
    folder.sync(disk).map_err(WriteFailure::Final)
}

/// Removes a file; it is no mistake if there is none.
pub(super) fn remove_if_there(path: &Path, disk: &FaultPlan) -> io::Result<()> {
    match disk.remove(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
