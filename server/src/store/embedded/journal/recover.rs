//! Reads the journal when it is opened: builds the index, cuts a torn tail, reports damage.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use syncline_protocol::Epoch;
use tracing::{error, warn};

use crate::store::OpenError;
use crate::store::embedded::disk::FaultPlan;
use crate::store::embedded::journal::damage::Damage;
use crate::store::embedded::journal::end::{self, End, UNFINISHED};
use crate::store::embedded::journal::entry::Suspect;
use crate::store::embedded::journal::files::Files;
use crate::store::embedded::journal::head::Head;
use crate::store::embedded::journal::index::{Index, Position};
use crate::store::embedded::journal::record::Salt;
use crate::store::embedded::journal::scan::{Found, Scan};
use crate::store::embedded::journal::segment::{self, HEADER_BYTES, Header, Segment};

/// What was found.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) index: Index,
    pub(super) files: Arc<Files>,
    /// The segment to go on with, unless it is full or damaged.
    pub(super) head: Option<Head>,
    /// The number of the segment to create next.
    pub(super) next_number: u64,
    /// What has to be written again before anything else.
    pub(super) unproven: Option<Unproven>,
}

/// Bytes at the end of the journal that are there but perhaps not on disk: the process that wrote
/// them may have ended because an fsync failed. The pages are then readable and marked clean, and
/// only writing them again changes that.
#[derive(Debug)]
pub(super) struct Unproven {
    pub(super) segment: Arc<Segment>,
    pub(super) file: Arc<File>,
    pub(super) offset: u64,
    pub(super) bytes: Vec<u8>,
}

/// Reads every segment in `folder`. One segment at a time is held in memory. If there is none, the
/// store is a new one, with the identity `epoch` or a random one.
pub(super) fn recover(
    folder: &Path,
    disk: &FaultPlan,
    segment_bytes: u64,
    epoch: Option<Epoch>,
) -> Result<Recovered, OpenError> {
    remove_unfinished(folder, disk);
    let numbers = list(folder).map_err(|source| io_error(folder, source))?;
    let end = recorded_end(folder).map_err(|source| io_error(folder, source))?;
    let proven = match end {
        Some(end) => check_end(end, folder, &numbers)?,
        None => 0,
    };
    let last = numbers.last().copied();
    let files = Arc::new(Files::default());
    let mut index = None;
    let (mut head, mut unproven) = (None, None);
    let mut bytes = Vec::new();
    for number in numbers {
        let path = segment::path(folder, number);
        let is_last = Some(number) == last;
        let file = read(&path, is_last, &mut bytes).map_err(|source| io_error(&path, source))?;
        let Some(header) = segment::read_header(&bytes, &path)? else {
            unreadable(&path, bytes.len(), is_last, disk)?;
            continue;
        };
        let index = index.get_or_insert_with(|| Index::new(header.epoch));
        check_epoch(index.epoch(), header, &path)?;
        let files = Arc::clone(&files);
        let segment = Arc::new(Segment { number, path, salt: header.salt, files });
        let file = Arc::new(file);
        if is_last {
            unproven = mend_tail(&segment, &file, &mut bytes, proven, disk)
                .map_err(|source| io_error(&segment.path, source))?;
        }
        let damage = index_segment(&segment, &bytes, index);
        damage.iter().for_each(|damage| {
            error!(%damage, path = %segment.path.display(), "The journal is damaged.");
        });
        let len = bytes.len() as u64;
        if is_last && damage.is_empty() && len < segment_bytes {
            head = Some(Head { segment, file, len, room: len, synced: len, is_sealed: false });
        }
    }
    let index = match index {
        Some(index) => index,
        None => {
            let epoch = epoch.map_or_else(random_epoch, Ok);
            Index::new(epoch.map_err(|source| io_error(folder, source))?)
        }
    };
    let next_number = last.map_or(1, |last| last.saturating_add(1));
    Ok(Recovered { index, files, head, next_number, unproven })
}

/// The identity of a new history.
pub(crate) fn random_epoch() -> io::Result<Epoch> {
    let random = getrandom::u64().map_err(io::Error::other)?;
    // Zero is no epoch.
    Ok(Epoch::new(random.max(1)))
}

/// The numbers of the segments, ascending.
pub(super) fn list(folder: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        numbers.extend(entry?.file_name().to_str().and_then(segment::number));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// What a crash left of files that had not got their name.
fn remove_unfinished(folder: &Path, disk: &FaultPlan) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        if path.to_str().is_some_and(|path| path.ends_with(UNFINISHED))
            && let Err(error) = disk.remove(&path)
        {
            warn!(path = %path.display(), %error, "An unfinished file cannot be removed.");
        }
    }
}

/// Where the journal says that it was closed.
pub(super) fn recorded_end(folder: &Path) -> io::Result<Option<End>> {
    let path = end::path(folder);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let end = End::decode(&bytes);
    if end.is_none() {
        warn!(path = %path.display(), "The recorded end of the journal is damaged, and not used.");
    }
    Ok(end)
}

/// How many bytes of the last segment are known to have been on disk when the journal was closed.
fn check_end(end: End, folder: &Path, numbers: &[u64]) -> Result<u64, OpenError> {
    let missing = missing(end, folder, numbers).map_err(|source| io_error(folder, source))?;
    let path = end::path(folder);
    let last = numbers.last().copied();
    match missing {
        0 if last == Some(end.segment) => Ok(end.len),
        0 => {
            warn!(path = %path.display(), "The journal goes on behind its recorded end.");
            Ok(0)
        }
        missing => {
            let End { segment, len: closed_at } = end;
            Err(OpenError::Shortened { path, segment, closed_at, missing })
        }
    }
}

/// How much of the segment in which the journal was closed is not there. A journal that goes on
/// with another segment may have lost that one to cleaning.
pub(super) fn missing(end: End, folder: &Path, numbers: &[u64]) -> io::Result<u64> {
    match numbers.last() {
        Some(last) if *last > end.segment => Ok(0),
        Some(last) if *last == end.segment => {
            let len = fs::metadata(segment::path(folder, *last))?.len();
            Ok(end.len.saturating_sub(len))
        }
        Some(_) | None => Ok(end.len),
    }
}

fn read(path: &Path, to_write: bool, bytes: &mut Vec<u8>) -> io::Result<File> {
    let mut file = File::options().read(true).write(to_write).open(path)?;
    bytes.clear();
    file.read_to_end(bytes)?;
    Ok(file)
}

/// A file without a header is either one whose creation a crash interrupted, or damaged.
fn unreadable(path: &Path, len: usize, is_last: bool, disk: &FaultPlan) -> Result<(), OpenError> {
    if !may_be_unborn(len, is_last) {
        return Err(OpenError::Unreadable { path: path.to_owned(), bytes: len as u64 });
    }
    warn!(path = %path.display(), "Removed a segment that never held a record.");
    disk.remove(path).map_err(|source| io_error(path, source))
}

/// Whether a file of `len` bytes without a header may be one whose creation was interrupted. The
/// header is on disk before a record or another segment follows it, and what is written apart has
/// its name only when it is complete.
pub(super) fn may_be_unborn(len: usize, is_last: bool) -> bool {
    is_last && len <= HEADER_BYTES
}

pub(super) fn check_epoch(expected: Epoch, header: Header, path: &Path) -> Result<(), OpenError> {
    let found = header.epoch;
    if found == expected {
        return Ok(());
    }
    Err(OpenError::Foreign { path: path.to_owned(), found, expected })
}

/// Cuts what was being written when the machine stopped. `proven` bytes are known to have been on
/// disk; the others that are kept are returned.
fn mend_tail(
    segment: &Arc<Segment>,
    file: &Arc<File>,
    bytes: &mut Vec<u8>,
    proven: u64,
    disk: &FaultPlan,
) -> io::Result<Option<Unproven>> {
    let (synced, end) = tail(bytes, segment.salt, proven);
    if end < bytes.len() {
        if !is_room(bytes, end) {
            warn!(
                segment = segment.number,
                offset = end,
                bytes = bytes.len() - end,
                "Cut a torn tail off the journal; nothing in it had been acknowledged."
            );
        }
        bytes.truncate(end);
        disk.truncate(&segment.path, file, end as u64)?;
    } else if synced == end {
        return Ok(None);
    }
    let (segment, file) = (Arc::clone(segment), Arc::clone(file));
    let unproven = bytes.get(synced..end).unwrap_or_default().to_vec();
    Ok(Some(Unproven { segment, file, offset: synced as u64, bytes: unproven }))
}

/// How many bytes were acknowledged for certain, and how many are worth keeping.
///
/// A hole behind the last point that is known to be synced belongs to the batch that was never
/// acknowledged, even when intact records of that batch follow: pages reach a disk in any order.
pub(super) fn tail(bytes: &[u8], salt: Salt, proven: u64) -> (usize, usize) {
    let mut synced =
        usize::try_from(proven).unwrap_or(usize::MAX).min(bytes.len()).max(HEADER_BYTES);
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

/// Whether nothing was written from `end` on: zeros lie there for records to come.
pub(super) fn is_room(bytes: &[u8], end: usize) -> bool {
    bytes.get(end..).is_some_and(|rest| rest.iter().all(|byte| *byte == 0))
}

/// Adds the records of one segment to the index, and returns what is no record.
pub(super) fn index_segment(
    segment: &Arc<Segment>,
    bytes: &[u8],
    index: &mut Index,
) -> Vec<Damage> {
    index.segments.add(Arc::clone(segment), bytes.len() as u64);
    let number = segment.number;
    let mut damage = Vec::new();
    for found in Scan::new(bytes, segment.salt) {
        let (offset, bytes, suspect) = match found {
            Found::Record { offset, record } => {
                let at = Position { segment: number, offset: offset as u64, bytes: record.bytes };
                if index.insert(&record.fields, at) {
                    continue;
                }
                (offset, record.bytes, None)
            }
            Found::Damage { offset, bytes, suspect } => (offset, bytes, suspect),
        };
        let (offset, bytes) = (offset as u64, bytes as u64);
        index.segments.mark_damaged(number);
        let suspect = suspect.map(|(sequence, document)| (document, sequence));
        if let Some((document, sequence)) = suspect.clone() {
            index.suspect(document, Suspect { sequence, segment: number, offset });
        }
        damage.push(Damage::Record { segment: number, offset, bytes, suspect });
    }
    damage
}

fn io_error(path: &Path, source: io::Error) -> OpenError {
    OpenError::Io { path: path.to_owned(), source }
}
