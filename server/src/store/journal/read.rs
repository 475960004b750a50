//! Reads what a [`Plan`] lists. Every record is verified again: disks rot while a server runs.

use std::io;
use std::ops::Range;

use bytes::Bytes;
use syncline_protocol::{DocumentName, LoggedUpdate, Sequence, Snapshot};

use crate::store::LoadError;
use crate::store::journal::index::{Plan, Position};
use crate::store::journal::record::{self, Fields, Kind};
use crate::store::journal::segment::Segment;

/// Neighbouring records are fetched with one read, up to this many bytes.
const RUN_BYTES_MAX: u64 = 1 << 20;
/// Foreign records between two of ours that are cheaper to read along than to skip.
const GAP_BYTES_MAX: u64 = 16 << 10;

impl Plan {
    /// The snapshot from the journal.
    pub(super) fn read_snapshot(&self) -> Result<Option<Snapshot>, LoadError> {
        let Some(snapshot) = self.snapshot else { return Ok(None) };
        let at = snapshot.at;
        let bytes = self.fetch(at.segment, at.offset..at.offset + at.bytes as u64)?;
        let state = self.payload(&bytes, at.offset, (Kind::Snapshot, snapshot.through, at))?;
        Ok(Some(Snapshot { through: snapshot.through, state }))
    }

    /// The updates after the snapshot.
    pub(super) fn read_updates(&self) -> Result<Vec<LoggedUpdate>, LoadError> {
        let mut updates = Vec::with_capacity(self.updates.len());
        let mut rest = self.updates.as_slice();
        while let Some((span, count)) = next_run(rest) {
            let (run, behind) = rest.split_at_checked(count).unwrap_or((rest, &[]));
            rest = behind;
            let Some((_, first)) = run.first() else { break };
            let bytes = self.fetch(first.segment, span.clone())?;
            for (sequence, at) in run {
                let update = self.payload(&bytes, span.start, (Kind::Update, *sequence, *at))?;
                updates.push(LoggedUpdate { sequence: *sequence, update });
            }
        }
        Ok(updates)
    }

    fn fetch(&self, segment: u64, span: Range<u64>) -> Result<Bytes, LoadError> {
        let io_error = |source| LoadError::Io { source };
        let segment = self
            .segments
            .get(&segment)
            .ok_or_else(|| io_error(io::Error::other(format!("no segment {segment}"))))?;
        let bytes = usize::try_from(span.end - span.start)
            .map_err(|overflow| io_error(io::Error::other(overflow)))?;
        let mut buffer = Vec::new();
        segment.read(span.start, bytes, &mut buffer).map_err(io_error)?;
        Ok(buffer.into())
    }

    /// The payload of a record in `bytes`, which begin at `start` in the segment.
    fn payload(
        &self,
        bytes: &Bytes,
        start: u64,
        (kind, sequence, at): (Kind, Sequence, Position),
    ) -> Result<Bytes, LoadError> {
        let salted = self.segments.get(&at.segment);
        let skipped = usize::try_from(at.offset - start).unwrap_or(usize::MAX);
        let end = skipped.saturating_add(at.bytes);
        let raw = bytes.get(skipped..end);
        let wanted = (kind, sequence, &self.document);
        let fields = salted.zip(raw).and_then(|(segment, raw)| verify(raw, segment, wanted));
        let Some(fields) = fields else {
            let Position { segment, offset, .. } = at;
            let reason = format!(
                "the record of position {sequence} in segment {segment} at byte {offset} is unreadable"
            );
            return Err(LoadError::Damaged { reason });
        };
        Ok(bytes.slice(end - fields.payload.len()..end))
    }
}

/// The record in `raw`, if it is intact and the one that is wanted.
pub(super) fn verify<'a>(
    raw: &'a [u8],
    segment: &Segment,
    (kind, sequence, document): (Kind, Sequence, &DocumentName),
) -> Option<Fields<'a>> {
    let fields = record::decode(raw, segment.salt).filter(|found| found.bytes == raw.len())?.fields;
    let found = (fields.kind, fields.sequence, fields.document);
    (found == (kind, sequence, document.as_str())).then_some(fields)
}

/// The records at the front of `updates` that lie close together: their span, and how many.
fn next_run(updates: &[(Sequence, Position)]) -> Option<(Range<u64>, usize)> {
    let (_, first) = updates.first()?;
    let mut end = first.offset + first.bytes as u64;
    let mut count = 1;
    for (_, at) in updates.iter().skip(1) {
        let at_end = at.offset + at.bytes as u64;
        let near = at.segment == first.segment
            && at.offset >= end
            && at.offset - end <= GAP_BYTES_MAX
            && at_end - first.offset <= RUN_BYTES_MAX;
        if !near {
            break;
        }
        end = at_end;
        count += 1;
    }
    Some((first.offset..end, count))
}
