//! Reads the journal when it is opened: builds the index, cuts a torn tail, reports damage.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use tracing::{error, warn};

use crate::store::OpenError;
use crate::store::disk::FaultPlan;
use crate::store::journal::head::Head;
use crate::store::journal::index::{Index, Position};
use crate::store::journal::record::Salt;
use crate::store::journal::segment::{self, Found, HEADER_BYTES, Scan, Segment};

/// What was found.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) index: Index,
    /// The segment to go on with, unless it is full or damaged.
    pub(super) head: Option<Head>,
    /// The number of the segment to create next.
    pub(super) next_number: u64,
}

/// Reads every segment in `folder`. One segment at a time is held in memory.
pub(super) fn recover(
    folder: &Path,
    disk: &FaultPlan,
    segment_bytes: u64,
) -> Result<Recovered, OpenError> {
    let numbers = list(folder).map_err(|source| io_error(folder, source))?;
    let last = numbers.last().copied();
    let mut recovered = Recovered {
        index: Index::default(),
        head: None,
        next_number: last.map_or(1, |last| last.saturating_add(1)),
    };
    let mut bytes = Vec::new();
    for number in numbers {
        let path = segment::path(folder, number);
        let file = read(&path, &mut bytes).map_err(|source| io_error(&path, source))?;
        let Some(salt) = segment::read_header(&bytes, &path)? else {
            unreadable(&path, bytes.len(), disk)?;
            continue;
        };
        let segment = Arc::new(Segment { number, path, salt, file });
        if Some(number) == last {
            mend_tail(&segment, &mut bytes, disk)
                .map_err(|source| io_error(&segment.path, source))?;
        }
        let intact = index_segment(&segment, &bytes, &mut recovered.index);
        let len = bytes.len() as u64;
        if Some(number) == last && intact && len < segment_bytes {
            recovered.head = Some(Head { segment, len, synced: len });
        }
    }
    Ok(recovered)
}

fn list(folder: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        numbers.extend(entry?.file_name().to_str().and_then(segment::number));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn read(path: &Path, bytes: &mut Vec<u8>) -> io::Result<File> {
    let mut file = File::options().read(true).write(true).open(path)?;
    bytes.clear();
    file.read_to_end(bytes)?;
    Ok(file)
}

/// A file without a header is either one whose creation a crash interrupted, or damaged.
fn unreadable(path: &Path, len: usize, disk: &FaultPlan) -> Result<(), OpenError> {
    // The header is on disk before the first record is written behind it.
    if len <= HEADER_BYTES {
        warn!(path = %path.display(), "Removed a segment that never held a record.");
        return disk.remove(path).map_err(|source| io_error(path, source));
    }
    error!(
        path = %path.display(),
        bytes = len,
        "The header of a journal segment is damaged, nothing in it can be read."
    );
    Ok(())
}

/// Cuts what was being written when the machine stopped, and makes the rest durable.
fn mend_tail(segment: &Segment, bytes: &mut Vec<u8>, disk: &FaultPlan) -> io::Result<()> {
    let (synced, end) = tail(bytes, segment.salt);
    if end < bytes.len() {
        warn!(
            segment = segment.number,
            offset = end,
            bytes = bytes.len() - end,
            "Cut a torn tail off the journal; nothing in it had been acknowledged."
        );
        bytes.truncate(end);
        disk.truncate(&segment.file, end as u64)?;
    } else if synced == end {
        return Ok(());
    }
    // The process that wrote this may have ended because an fsync failed. The pages are then
    // readable and marked clean but not on disk, and only writing them again changes that.
    let unproven = bytes.get(synced..end).unwrap_or_default();
    disk.write(&segment.file, unproven, synced as u64)?;
    disk.sync(&segment.file)
}

/// How many bytes were acknowledged for certain, and how many are worth keeping.
///
/// A hole behind the last point that is known to be synced belongs to the batch that was never
/// acknowledged, even when intact records of that batch follow: pages reach a disk in any order.
fn tail(bytes: &[u8], salt: Salt) -> (usize, usize) {
    let mut synced = HEADER_BYTES;
    let mut holes = Vec::new();
    for found in Scan::new(bytes, salt) {
        match found {
            Found::Record { record, offset } => {
                synced = synced.max(usize::try_from(record.synced).unwrap_or(offset).min(offset));
            }
            Found::Damage { offset, .. } => holes.push(offset),
        }
    }
    (synced, holes.into_iter().find(|hole| *hole >= synced).unwrap_or(bytes.len()))
}

/// Adds the records of one segment to the index. False if part of it is damaged.
fn index_segment(segment: &Arc<Segment>, bytes: &[u8], index: &mut Index) -> bool {
    index.add_segment(Arc::clone(segment), bytes.len() as u64);
    let mut intact = true;
    let mut damage = |offset: usize, index: &mut Index| {
        error!(
            segment = segment.number,
            offset,
            path = %segment.path.display(),
            "A journal record is damaged; its document will not load."
        );
        index.mark_damaged(segment.number);
        intact = false;
    };
    for found in Scan::new(bytes, segment.salt) {
        match found {
            Found::Record { offset, record } => {
                let at = Position {
                    segment: segment.number,
                    offset: offset as u64,
                    bytes: record.bytes,
                };
                if !index.insert(&record.fields, at) {
                    damage(offset, index);
                }
            }
            Found::Damage { offset, suspect } => {
                damage(offset, index);
                if let Some((sequence, document)) = suspect {
                    index.suspect(document, sequence, (segment.number, offset as u64));
                }
            }
        }
    }
    intact
}

fn io_error(path: &Path, source: io::Error) -> OpenError {
    OpenError::Io { path: path.to_owned(), source }
}
