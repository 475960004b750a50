//! A long state gets a segment of its own, which is written while appends go on.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use crate::store::AppendError;
use crate::store::embedded::disk::{FaultPlan, WriteFailure};
use crate::store::embedded::journal::end::{UNFINISHED, remove_if_there};
use crate::store::embedded::journal::index::Position;
use crate::store::embedded::journal::record::Fields;
use crate::store::embedded::journal::segment::{HEADER_BYTES, Segment};
use crate::store::embedded::journal::{Journal, Place, lock};

/// Records from this length on are always written apart.
const APART_BYTES: u64 = 4 << 20;
/// Bytes that wait to be synced at most. An append that is synced meanwhile may have to wait for
/// them: file systems write the data of all files that grew before they note how long one is.
const UNSYNCED_BYTES: usize = 1 << 20;

/// From which length on a record is written apart when segments are `segment_bytes` long. Shorter
/// ones would leave more files than they save time.
pub(super) fn apart_bytes(segment_bytes: u64) -> u64 {
    APART_BYTES.min(segment_bytes / 4)
}

impl Journal {
    /// Writes one record into a segment of its own; returns when it is on disk. The caller holds
    /// `maintenance`, so no other state is written and nothing is cleaned.
    pub(super) fn store_apart(&self, fields: &Fields<'_>) -> Result<(), AppendError> {
        let number = self.writer()?.reserve(&self.index)?;
        match write(&self.place, number, fields) {
            Ok(segment) => {
                let segment = Arc::new(segment);
                let (offset, bytes) = (HEADER_BYTES as u64, fields.bytes());
                let mut index = lock(&self.index);
                index.segments.add(segment, offset + bytes as u64);
                index.insert(fields, Position { segment: number, offset, bytes });
                Ok(())
            }
            Err(WriteFailure::NoRoom(cause)) => {
                Err(AppendError::Stalled { reason: cause.to_string() })
            }
            Err(WriteFailure::Final(error)) => Err(self.writer()?.fail(error)),
        }
    }
}

/// The file has its name when it is complete and on disk.
fn write(place: &Place, number: u64, fields: &Fields<'_>) -> Result<Segment, WriteFailure> {
    let (segment, header) = Segment::new(place, number);
    let mut front = header;
    fields.encode_front(segment.salt, HEADER_BYTES as u64, &mut front);
    let unfinished = segment.path.with_extension(UNFINISHED.trim_start_matches('.'));
    let disk = &place.disk;
    let written = (|| {
        remove_if_there(&unfinished, disk).map_err(WriteFailure::of)?;
        let file = disk.create(&unfinished).map_err(WriteFailure::of)?;
        write_slowly(&file, &unfinished, [&front, fields.payload], disk)?;
        disk.rename(&unfinished, &segment.path).map_err(WriteFailure::of)
    })();
    if let Err(failure) = written {
        // If it stays, it is removed when the journal is opened.
        drop(remove_if_there(&unfinished, disk));
        return Err(failure);
    }
    place.folder.sync(disk).map_err(WriteFailure::Final)?;
    Ok(segment)
}

fn write_slowly(
    file: &File,
    path: &Path,
    parts: [&[u8]; 2],
    disk: &FaultPlan,
) -> Result<(), WriteFailure> {
    let mut offset = 0;
    for chunk in parts.into_iter().flat_map(|part| part.chunks(UNSYNCED_BYTES)) {
        disk.write(path, file, chunk, offset).map_err(WriteFailure::of)?;
        disk.sync(path, file).map_err(WriteFailure::Final)?;
        offset += chunk.len() as u64;
    }
    Ok(())
}
