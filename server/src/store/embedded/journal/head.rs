//! The writing end of the journal.

use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex};

use syncline_protocol::{Sequence, Timestamp};
use tracing::error;

use crate::store::AppendError;
use crate::store::embedded::disk::WriteFailure;
use crate::store::embedded::journal::condition::WriteHealth;
use crate::store::embedded::journal::end::{self, End};
use crate::store::embedded::journal::index::{Index, Position};
use crate::store::embedded::journal::record::{Fields, Kind};
use crate::store::embedded::journal::recover::Unproven;
use crate::store::embedded::journal::segment::{self, HEADER_BYTES, Segment};
use crate::store::embedded::journal::{Place, lock};

/// The segment that grows.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) segment: Arc<Segment>,
    pub(super) file: Arc<File>,
    /// Where the records end.
    pub(super) len: u64,
    /// The length of the file: zeros follow the last record, and the next ones are written over them.
    pub(super) room: u64,
    /// Bytes known to be on disk.
    pub(super) synced: u64,
    /// Whether the last record is a seal.
    pub(super) is_sealed: bool,
}

/// Writes records at the end of the journal.
#[derive(Debug)]
pub(super) struct Writer {
    place: Arc<Place>,
    head: Option<Head>,
    next_number: u64,
    /// Whether there may be a record of where the journal was closed.
    is_ended: bool,
    unproven: Option<Unproven>,
    condition: WriteHealth,
    buffer: Vec<u8>,
}

/// The file of the head grows by zeros, up to the next multiple of this. A sync that finds neither
/// its length nor its blocks changed need not write those too, which saves a third of its time on
/// ext4 (docs/decisions/0003).
const ROOM_BYTES: u64 = 64 << 10;

/// More than this is not kept between two writes.
const BUFFER_BYTES_KEPT: usize = 8 << 20;

const SEAL: Fields<'_> = Fields {
    kind: Kind::Seal,
    sequence: Sequence::ZERO,
    time: Timestamp::from_unix_ms(0),
    document: "",
    author: "",
    payload: &[],
};

impl Writer {
    pub(super) fn new(
        place: Arc<Place>,
        condition: WriteHealth,
        (head, next_number): (Option<Head>, u64),
        unproven: Option<Unproven>,
    ) -> Self {
        let buffer = Vec::new();
        Self { place, head, next_number, is_ended: true, unproven, condition, buffer }
    }

    /// Whether writing is still possible.
    pub(super) fn check(&self) -> Result<(), AppendError> {
        self.condition.check()
    }

    /// Hands `records` to the system, in as few writes as the segments allow. They are on disk
    /// after [`Writer::sync`]; nobody may be shown their positions before that. When there is no
    /// room for all of them, the journal is as it was.
    pub(super) fn write(
        &mut self,
        records: &[Fields<'_>],
        index: &Mutex<Index>,
    ) -> Result<Vec<Position>, AppendError> {
        self.attempt(index, |writer| writer.write_all(records, index))
    }

    /// Begins the next segment, and reserves the number before it for a file that is written apart.
    /// Because the head is behind that from the start, the last segment is always the one that
    /// grows.
    pub(super) fn reserve(&mut self, index: &Mutex<Index>) -> Result<u64, AppendError> {
        self.attempt(index, |writer| {
            writer.reopen()?;
            let reserved = writer.next_number;
            writer.next_number += 1;
            writer.roll(index)?;
            Ok(reserved)
        })
    }

    /// What is written but perhaps not on disk: the file, and how much of it has been written.
    pub(super) fn unsynced(&self) -> Option<Head> {
        self.head.clone().filter(|head| head.synced < head.len)
    }

    /// Takes note of how the sync of what [`Writer::unsynced`] returned went.
    pub(super) fn note_synced(&mut self, synced: &Head, outcome: io::Result<()>) {
        match (outcome, &mut self.head) {
            (Err(error), _) => drop(self.fail(error)),
            (Ok(()), Some(head)) if head.segment.number == synced.segment.number => {
                head.synced = head.synced.max(synced.len);
            }
            (Ok(()), _) => {}
        }
    }

    /// Makes a change that is taken back if there is no room for all of it.
    fn attempt<T>(
        &mut self,
        index: &Mutex<Index>,
        change: impl FnOnce(&mut Self) -> Result<T, WriteFailure>,
    ) -> Result<T, AppendError> {
        self.check()?;
        let _busy = self.condition.busy();
        let (head, next_number) = (self.head.clone(), self.next_number);
        match change(self) {
            Ok(done) => Ok(done),
            Err(WriteFailure::NoRoom(cause)) => {
                let taken_back = self.take_back(head, next_number, index);
                taken_back.map_err(|error| self.fail(error))?;
                Err(AppendError::Stalled { reason: cause.to_string() })
            }
            Err(WriteFailure::Final(error)) => Err(self.fail(error)),
        }
    }

    /// Returns when everything written is on disk.
    pub(super) fn sync(&mut self) -> Result<(), AppendError> {
        self.check()?;
        let _busy = self.condition.busy();
        self.sync_head().map_err(|error| self.fail(error))
    }

    /// Makes everything durable and writes a record that proves it; with it, that the disk takes
    /// what it is given.
    pub(super) fn prove(&mut self, index: &Mutex<Index>) -> Result<(), AppendError> {
        self.sync()?;
        let positions = self.write(&[SEAL], index)?;
        self.sync()?;
        let mut index = lock(index);
        for at in positions {
            index.insert(&SEAL, at);
        }
        Ok(())
    }

    /// Leaves the journal such that whoever opens it knows whether anything is missing.
    pub(super) fn close(&mut self, index: &Mutex<Index>) -> Result<(), AppendError> {
        let is_sealed = |head: &Head| head.is_sealed && head.synced == head.len;
        if !self.head.as_ref().is_some_and(is_sealed) {
            self.prove(index)?;
        }
        if self.is_ended {
            return Ok(());
        }
        self.finish_head().map_err(|error| self.fail(error))?;
        let Some(head) = &self.head else { return Ok(()) };
        let end = End { segment: head.segment.number, len: head.len };
        self.is_ended = true;
        match end.write(&self.place.folder, &self.place.disk) {
            Ok(()) => Ok(()),
            Err(WriteFailure::NoRoom(cause)) => {
                Err(AppendError::Stalled { reason: cause.to_string() })
            }
            Err(WriteFailure::Final(error)) => Err(self.fail(error)),
        }
    }

    fn write_all(
        &mut self,
        records: &[Fields<'_>],
        index: &Mutex<Index>,
    ) -> Result<Vec<Position>, WriteFailure> {
        self.reopen()?;
        let mut positions = Vec::with_capacity(records.len());
        let mut rest = records;
        while !rest.is_empty() {
            let count = self.fill_head(rest, index, &mut positions)?;
            rest = rest.get(count..).unwrap_or_default();
        }
        Ok(positions)
    }

    /// Before anything is written, nothing may say any more that the journal is closed, and what
    /// lies before must be on disk.
    fn reopen(&mut self) -> Result<(), WriteFailure> {
        let disk = &self.place.disk;
        if let Some(Unproven { segment, file, offset, bytes }) = &self.unproven {
            disk.write(&segment.path, file, bytes, *offset).map_err(WriteFailure::of)?;
            disk.sync(&segment.path, file).map_err(WriteFailure::Final)?;
            self.unproven = None;
        }
        if self.is_ended {
            end::remove(&self.place.folder, &self.place.disk)?;
            self.is_ended = false;
        }
        Ok(())
    }

    /// Writes as many records as fit into the head, at least one.
    fn fill_head(
        &mut self,
        records: &[Fields<'_>],
        index: &Mutex<Index>,
        positions: &mut Vec<Position>,
    ) -> Result<usize, WriteFailure> {
        let Place { disk, segment_bytes, .. } = &*Arc::clone(&self.place);
        // A seal belongs to what it proves.
        let is_seal = records.first().is_some_and(|first| first.kind == Kind::Seal);
        let first = records.first().map_or(0, Fields::bytes) as u64;
        let fits = |head: &Head| {
            is_seal || head.len <= HEADER_BYTES as u64 || head.len + first <= *segment_bytes
        };
        if !self.head.as_ref().is_some_and(fits) {
            self.roll(index)?;
        }
        let no_head = || WriteFailure::Final(io::Error::other("no segment"));
        let head = self.head.as_mut().ok_or_else(no_head)?;
        self.buffer.clear();
        let mut count = 0;
        for record in records {
            let offset = head.len + self.buffer.len() as u64;
            if count > 0 && offset + record.bytes() as u64 > *segment_bytes {
                break;
            }
            record.encode(head.segment.salt, head.synced, &mut self.buffer);
            let segment = head.segment.number;
            positions.push(Position { segment, offset, bytes: record.bytes() });
            head.is_sealed = record.kind == Kind::Seal;
            count += 1;
        }
        let end = head.len + self.buffer.len() as u64;
        if end > head.room {
            head.room = end.next_multiple_of(ROOM_BYTES).min(end.max(*segment_bytes));
            self.buffer.extend((end..head.room).map(|_| 0));
        }
        disk.write(&head.segment.path, &head.file, &self.buffer, head.len)
            .map_err(WriteFailure::of)?;
        head.len = end;
        lock(index).segments.set_len(head.segment.number, head.len);
        if self.buffer.capacity() > BUFFER_BYTES_KEPT {
            self.buffer = Vec::new();
        }
        Ok(count)
    }

    /// Finishes the head and begins the next segment. A segment is on disk in full before its
    /// successor exists, so only the last one can have a torn tail, or room.
    fn roll(&mut self, index: &Mutex<Index>) -> Result<(), WriteFailure> {
        self.finish_head().map_err(WriteFailure::Final)?;
        let number = self.next_number;
        self.next_number += 1;
        let (segment, file) = Segment::create(&self.place, number)?;
        let segment = Arc::new(segment);
        let len = HEADER_BYTES as u64;
        lock(index).segments.add(Arc::clone(&segment), len);
        let file = Arc::new(file);
        self.head = Some(Head { segment, file, len, room: len, synced: len, is_sealed: false });
        Ok(())
    }

    /// Makes the journal end where `head` does, which was the head when `next_number` was the next.
    fn take_back(
        &mut self,
        mut head: Option<Head>,
        next_number: u64,
        index: &Mutex<Index>,
    ) -> io::Result<()> {
        let Place { folder, disk, files, .. } = &*self.place;
        let begun = next_number..self.next_number;
        for number in begun.clone().rev() {
            end::remove_if_there(&segment::path(&folder.path, number), disk)?;
            files.close(number);
            lock(index).segments.remove(number);
        }
        if !begun.is_empty() {
            folder.sync(disk)?;
        }
        if let Some(Head { segment, file, len, room, .. }) = &mut head {
            disk.truncate(&segment.path, file, *len)?;
            *room = *len;
            lock(index).segments.set_len(segment.number, *len);
        }
        (self.head, self.next_number) = (head, next_number);
        Ok(())
    }

    /// Has the head end, on disk, with its last record.
    fn finish_head(&mut self) -> io::Result<()> {
        let disk = &self.place.disk;
        let Some(head) = self.head.as_mut().filter(|head| head.len < head.room) else {
            return self.sync_head();
        };
        disk.truncate(&head.segment.path, &head.file, head.len)?;
        head.room = head.len;
        // Another length counts as written only with the next sync (`man fdatasync`).
        disk.sync(&head.segment.path, &head.file)?;
        head.synced = head.len;
        Ok(())
    }

    fn sync_head(&mut self) -> io::Result<()> {
        let Some(head) = self.head.as_mut().filter(|head| head.synced < head.len) else {
            return Ok(());
        };
        self.place.disk.sync(&head.segment.path, &head.file)?;
        head.synced = head.len;
        Ok(())
    }

    /// Ends writing for good: nothing is known about the files any more. After a failed fsync the
    /// system may have dropped the pages and would call the next fsync a success.
    pub(super) fn fail(&self, source: io::Error) -> AppendError {
        let folder = self.place.folder.path.display();
        error!(error = %source, %folder, "The journal takes no more updates.");
        self.condition.fail(source.to_string());
        AppendError::Io { source: Arc::new(source) }
    }
}
