//! Keeps the journal bounded: copies what is live out of a segment and deletes the file.

use std::sync::Arc;

use tracing::{debug, warn};

use crate::store::AppendError;
use crate::store::journal::index::{Live, Position};
use crate::store::journal::read::verify;
use crate::store::journal::segment::Segment;
use crate::store::journal::{Journal, lock};

/// Segments that one call cleans at most.
const SEGMENTS_PER_CALL: usize = 8;
/// Bytes that are copied without letting an append go first.
const CHUNK_BYTES: usize = 1 << 20;

impl Journal {
    /// Cleans segments while more than half of the journal, and more than one segment, is dead.
    ///
    /// Garbage only comes into being when a snapshot is written, so whoever wrote one calls this
    /// next. A call copies about one segment and deletes eight at most. Failures are logged: an
    /// uncleaned journal is large, not wrong.
    pub(crate) fn clean(&self) {
        let _alone = lock(&self.maintenance);
        let mut copied = 0;
        for _ in 0..SEGMENTS_PER_CALL {
            let Some(victim) = lock(&self.index).victim(self.segment_bytes) else { return };
            match self.evacuate(&victim) {
                Ok(bytes) => copied += bytes,
                // Logged where writing ended.
                Err(_) => return,
            }
            if copied >= self.segment_bytes {
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
                lock(&self.index).mark_damaged(victim.number);
                return Ok(0);
            };
            moved.extend(chunk.iter().zip(positions));
            rest = behind;
        }
        if !moved.is_empty() {
            self.writer()?.sync()?;
        }
        let copied = moved.iter().map(|(_, to)| to.bytes as u64).sum();
        let mut index = lock(&self.index);
        for (record, to) in moved {
            index.relocate(record, to);
        }
        index.remove_segment(victim.number);
        drop(index);
        let removed = self.disk.remove(&victim.path);
        // What comes back after a crash is a duplicate and recognised as one.
        if let Err(error) = removed.and_then(|()| self.disk.sync_folder(&self.folder)) {
            warn!(segment = victim.number, %error, "A cleaned journal segment cannot be removed.");
        }
        debug!(segment = victim.number, copied, "Cleaned a journal segment.");
        Ok(copied)
    }

    /// Copies some records to the head; `None` if one of them is unreadable.
    fn copy(&self, from: &Segment, live: &[Live]) -> Result<Option<Vec<Position>>, AppendError> {
        let mut raw = Vec::with_capacity(live.len());
        for Live { at, .. } in live {
            let mut bytes = Vec::new();
            if let Err(error) = from.read(at.offset, at.bytes, &mut bytes) {
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
