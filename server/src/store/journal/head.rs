//! The writing end of the journal.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};

use tracing::error;

use crate::store::AppendError;
use crate::store::disk::FaultPlan;
use crate::store::journal::index::{Index, Position};
use crate::store::journal::lock;
use crate::store::journal::record::Fields;
use crate::store::journal::segment::{HEADER_BYTES, Segment};

/// The segment that grows.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) segment: Arc<Segment>,
    /// Bytes written.
    pub(super) len: u64,
    /// Bytes known to be on disk.
    pub(super) synced: u64,
}

/// Writes records at the end of the journal.
#[derive(Debug)]
pub(super) struct Writer {
    folder: PathBuf,
    disk: FaultPlan,
    segment_bytes: u64,
    head: Option<Head>,
    next_number: u64,
    /// The failure that ended writing.
    /// Why nothing more is written. Shared, so that asking does not wait for a write.
    poison: Poison,
    buffer: Vec<u8>,
}

/// More than this is not kept between two writes.
const BUFFER_BYTES_KEPT: usize = 8 << 20;

impl Writer {
    pub(super) fn new(
        folder: PathBuf,
        disk: FaultPlan,
        segment_bytes: u64,
        (head, next_number): (Option<Head>, u64),
    ) -> Self {
        let buffer = Vec::new();
        Self { folder, disk, segment_bytes, head, next_number, poison: Poison::default(), buffer }
    }

    /// Whether writing is still possible.
    pub(super) fn check(&self) -> Result<(), AppendError> {
        self.poison.check()
    }

    /// What [`Writer::check`] looks at, for those who must not wait for a write.
    pub(super) fn poison(&self) -> Poison {
        self.poison.clone()
    }

    /// Hands `records` to the system, in as few writes as the segments allow. They are on disk
    /// after [`Writer::sync`]; nobody may be shown their positions before that.
    pub(super) fn write(
        &mut self,
        records: &[Fields<'_>],
        index: &Mutex<Index>,
    ) -> Result<Vec<Position>, AppendError> {
        self.check()?;
        let mut positions = Vec::with_capacity(records.len());
        let mut rest = records;
        while !rest.is_empty() {
            let written = self.fill_head(rest, index, &mut positions);
            let count = self.guard(written)?;
            rest = rest.get(count..).unwrap_or_default();
        }
        Ok(positions)
    }

    /// Returns when everything written is on disk.
    pub(super) fn sync(&mut self) -> Result<(), AppendError> {
        self.check()?;
        let synced = self.sync_head();
        self.guard(synced)
    }

    /// Writes as many records as fit into the head, at least one.
    fn fill_head(
        &mut self,
        records: &[Fields<'_>],
        index: &Mutex<Index>,
        positions: &mut Vec<Position>,
    ) -> io::Result<usize> {
        let first = records.first().map_or(0, Fields::bytes) as u64;
        let fits =
            |head: &Head| head.len <= HEADER_BYTES as u64 || head.len + first <= self.segment_bytes;
        if !self.head.as_ref().is_some_and(fits) {
            self.roll(index)?;
        }
        let Some(head) = &mut self.head else { return Err(io::Error::other("no segment")) };
        self.buffer.clear();
        let mut count = 0;
        for record in records {
            let offset = head.len + self.buffer.len() as u64;
            if count > 0 && offset + record.bytes() as u64 > self.segment_bytes {
                break;
            }
            record.encode(head.segment.salt, head.synced, &mut self.buffer);
            positions.push(Position {
                segment: head.segment.number,
                offset,
                bytes: record.bytes(),
            });
            count += 1;
        }
        self.disk.write(&head.segment.file, &self.buffer, head.len)?;
        let bytes = self.buffer.len() as u64;
        head.len += bytes;
        lock(index).grow(head.segment.number, bytes);
        if self.buffer.capacity() > BUFFER_BYTES_KEPT {
            self.buffer = Vec::new();
        }
        Ok(count)
    }

    /// Seals the head and begins the next segment. A segment is on disk in full before its
    /// successor exists, so only the last one can have a torn tail.
    fn roll(&mut self, index: &Mutex<Index>) -> io::Result<()> {
        self.sync_head()?;
        let segment = Arc::new(Segment::create(&self.folder, self.next_number, &self.disk)?);
        self.next_number += 1;
        let len = HEADER_BYTES as u64;
        lock(index).add_segment(Arc::clone(&segment), len);
        self.head = Some(Head { segment, len, synced: len });
        Ok(())
    }

    fn sync_head(&mut self) -> io::Result<()> {
        let Some(head) = self.head.as_mut().filter(|head| head.synced < head.len) else {
            return Ok(());
        };
        self.disk.sync(&head.segment.file)?;
        head.synced = head.len;
        Ok(())
    }

    /// Ends writing for good on the first failure. After a failed fsync the system may have
    /// dropped the pages and would call the next fsync a success.
    fn guard<T>(&mut self, result: io::Result<T>) -> Result<T, AppendError> {
        result.map_err(|source| {
            error!(error = %source, folder = %self.folder.display(), "The journal takes no more updates.");
            // Set once: the first failure is the reason.
            drop(self.poison.0.set(source.to_string()));
            AppendError::Io { source: Arc::new(source) }
        })
    }
}

/// The failure that ended writing, if there was one.
#[derive(Clone, Debug, Default)]
pub(super) struct Poison(Arc<OnceLock<String>>);

impl Poison {
    pub(super) fn check(&self) -> Result<(), AppendError> {
        match self.0.get() {
            None => Ok(()),
            Some(reason) => Err(AppendError::Poisoned { reason: reason.clone() }),
        }
    }
}
