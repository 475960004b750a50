//! Keeps the journal bounded: copies what is live out of a segment and deletes the file.

use std::sync::Arc;

use tracing::{debug, warn};

use crate::store::AppendError;
use crate::store::embedded::disk::is_lasting;
use crate::store::embedded::journal::end;
use crate::store::embedded::journal::index::{Live, Position};
use crate::store::embedded::journal::read::verify;
use crate::store::embedded::journal::segment::Segment;
use crate::store::embedded::journal::{Journal, Place, lock};

/// Segments that one call cleans at most.
const SEGMENTS_PER_CALL: usize = 8;
/// Bytes that are copied without letting an append go first.
const CHUNK_BYTES: usize = 1 << 20;
/// Records whose place is noted anew while everybody else waits: 2 µs for each.
const RELOCATED_AT_ONCE: usize = 1_000;

impl Journal {
    /// Cleans segments while more than half of the journal, and more than one segment, is dead.
    ///
    /// Garbage only comes into being when a snapshot is written, so whoever wrote one calls this
    /// next. A call copies about one segment and deletes eight at most. Failures are logged: an
    /// uncleaned journal is large, not wrong.
    pub(crate) fn clean(&self) {
        let _alone = lock(&self.maintenance);
        self.empty_segments();
        self.remove_emptied();
    }

    /// Cleans until nothing but live records is left, and segments with damage. `progress` is told
    /// how many segments are done of how many.
    pub(crate) fn clean_fully(
        &self,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<(), AppendError> {
        let _alone = lock(&self.maintenance);
        let (wasteful, head_wastes) = lock(&self.index).segments.wasteful();
        if head_wastes {
            self.writer()?.reserve(&self.index)?;
        }
        let total = wasteful.len();
        progress(0, total);
        for (segment, done) in wasteful.into_iter().zip(1..) {
            self.evacuate(&segment)?;
            drop(segment);
            self.remove_emptied();
            progress(done, total);
        }
        Ok(())
    }

    fn empty_segments(&self) {
        let segment_bytes = self.place.segment_bytes;
        let mut copied = 0;
        for _ in 0..SEGMENTS_PER_CALL {
            let victim = lock(&self.index).segments.victim(segment_bytes);
            let Some(victim) = victim else { return };
            match self.evacuate(&victim) {
                Ok(bytes) => copied += bytes,
                // A lack of room may pass; anything else is logged where writing ended.
                Err(_) => return,
            }
            if copied >= segment_bytes {
                return;
            }
        }
    }

    /// Returns how many bytes were copied.
    fn evacuate(&self, victim: &Arc<Segment>) -> Result<u64, AppendError> {
        let live = lock(&self.index).live_in(victim.number);
        let mut moved = Vec::with_capacity(live.len());
        let mut rest = live.as_slice();
        while !rest.is_empty() {
            let (chunk, behind) = rest.split_at_checked(chunk_len(rest)).unwrap_or((rest, &[]));
            let Some(positions) = self.copy(victim, chunk)? else {
                lock(&self.index).segments.mark_damaged(victim.number);
                return Ok(0);
            };
            moved.extend(chunk.iter().zip(positions));
            rest = behind;
        }
        if !moved.is_empty() {
            self.writer()?.sync()?;
        }
        let copied = moved.iter().map(|(_, to)| to.bytes as u64).sum();
        // Either place of a record is good, so whoever loads or writes need not wait for all of them.
        for some in moved.chunks(RELOCATED_AT_ONCE) {
            let mut index = lock(&self.index);
            some.iter().for_each(|(record, to)| index.relocate(record, *to));
        }
        lock(&self.index).segments.remove(victim.number);
        lock(&self.emptied).push(Arc::clone(victim));
        debug!(segment = victim.number, copied, "Cleaned a journal segment.");
        Ok(copied)
    }

    /// Deletes the files of emptied segments that no load is reading any more. The others go the
    /// next time, or are recognised as duplicates when the journal is opened.
    fn remove_emptied(&self) {
        let Place { folder, disk, files, .. } = &*self.place;
        let mut emptied = lock(&self.emptied);
        // The index does not know them any more, so nobody begins to.
        let (idle, read): (Vec<_>, Vec<_>) =
            emptied.drain(..).partition(|segment| Arc::strong_count(segment) == 1);
        *emptied = read;
        drop(emptied);
        if idle.is_empty() {
            return;
        }
        for segment in idle {
            files.close(segment.number);
            if let Err(error) = end::remove_if_there(&segment.path, disk) {
                warn!(segment = segment.number, %error, "A cleaned segment cannot be removed.");
            }
        }
        if let Err(error) = folder.sync(disk) {
            warn!(%error, "The folder of the journal cannot be synced.");
        }
    }

    /// Copies some records to the head; `None` if one of them is unreadable.
    fn copy(&self, from: &Segment, live: &[Live]) -> Result<Option<Vec<Position>>, AppendError> {
        let mut raw = Vec::with_capacity(live.len());
        for Live { at, .. } in live {
            let mut bytes = Vec::new();
            if let Err(error) = from.read(at.offset, at.bytes, &mut bytes) {
                if !is_lasting(&error) {
                    return Err(AppendError::Stalled { reason: error.to_string() });
                }
                warn!(segment = from.number, offset = at.offset, %error, "Cannot read the journal.");
                return Ok(None);
            }
            raw.push(bytes);
        }
        let mut fields = Vec::with_capacity(live.len());
        for (record, bytes) in live.iter().zip(&raw) {
            let wanted = (record.kind, record.sequence, &record.document);
            let Some(intact) = verify(bytes, from, wanted) else {
                warn!(segment = from.number, offset = record.at.offset, "A record is damaged.");
                return Ok(None);
            };
            fields.push(intact);
        }
        self.writer()?.write(&fields, &self.index).map(Some)
    }
}

/// How many records at the front make up about [`CHUNK_BYTES`]; at least one.
fn chunk_len(live: &[Live]) -> usize {
    let mut bytes = 0;
    let fits = |record: &&Live| {
        bytes += record.at.bytes;
        bytes <= CHUNK_BYTES
    };
    live.iter().take_while(fits).count().max(1)
}
