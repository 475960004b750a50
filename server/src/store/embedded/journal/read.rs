//! Reads what a [`Plan`] lists. Every record is verified again: disks rot while a server runs.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use syncline_protocol::{DocumentName, LoggedUpdate, Sequence, Snapshot, StoredLog};

use crate::store::embedded::disk::is_lasting;
use crate::store::embedded::journal::entry::{Digest, StateAt, unbroken, unreadable};
use crate::store::embedded::journal::index::{Plan, Position, Remains};
use crate::store::embedded::journal::record::{self, Fields, Kind};
use crate::store::embedded::journal::segment::Segment;
use crate::store::{LoadError, Salvaged};

/// Neighbouring records are fetched with one read, up to this many bytes.
const RUN_BYTES_MAX: u64 = 1 << 20;
/// Foreign records between two of ours that are cheaper to read along than to skip.
const GAP_BYTES_MAX: u64 = 16 << 10;

impl Plan {
    /// The state that the log begins with, from the journal.
    pub(super) fn read_base(&self) -> Result<Option<Snapshot>, LoadError> {
        let Some(StateAt { through, at, kind, .. }) = self.base else { return Ok(None) };
        let bytes = self.fetch(at.segment, at.offset..at.offset + at.bytes as u64)?;
        let (_, state) = self.record(&bytes, at.offset, (kind, through, at))?;
        Ok(Some(Snapshot { through, state }))
    }

    /// The whole log. `cached` may know the state that it begins with already.
    pub(super) fn read(
        &self,
        cached: impl FnOnce(Sequence, Digest) -> Option<Bytes>,
    ) -> Result<StoredLog, LoadError> {
        let known = self.base.and_then(|base| {
            let state = cached(base.through, base.digest)?;
            Some(Snapshot { through: base.through, state })
        });
        let snapshot = if known.is_some() { known } else { self.read_base()? };
        let mut updates = Vec::with_capacity(self.updates.len());
        self.read_updates(&self.updates, &mut updates)?;
        Ok(StoredLog { epoch: self.epoch, snapshot, updates })
    }

    /// Adds what `wanted` lists to `updates`, as far as it can be read.
    fn read_updates(
        &self,
        wanted: &[(Sequence, Position)],
        updates: &mut Vec<LoggedUpdate>,
    ) -> Result<(), LoadError> {
        let mut rest = wanted;
        while let Some((span, count)) = next_run(rest) {
            let (run, behind) = rest.split_at_checked(count).unwrap_or((rest, &[]));
            rest = behind;
            let Some((_, first)) = run.first() else { break };
            let bytes = self.fetch(first.segment, span.clone())?;
            for (sequence, at) in run {
                let wanted = (Kind::Update, *sequence, *at);
                let (fields, update) = self.record(&bytes, span.start, wanted)?;
                // Most neighbours have one author.
                let author = match updates.last() {
                    Some(before) if *before.author == *fields.author => Arc::clone(&before.author),
                    Some(_) | None => fields.author.into(),
                };
                let (sequence, time) = (*sequence, fields.time);
                updates.push(LoggedUpdate { sequence, time, author, update });
            }
        }
        Ok(())
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

    /// A record in `bytes`, which begin at `start` in the segment, and its payload.
    fn record<'a>(
        &self,
        bytes: &'a Bytes,
        start: u64,
        (kind, sequence, at): (Kind, Sequence, Position),
    ) -> Result<(Fields<'a>, Bytes), LoadError> {
        let salted = self.segments.get(&at.segment);
        let skipped = usize::try_from(at.offset - start).unwrap_or(usize::MAX);
        let end = skipped.saturating_add(at.bytes);
        let raw = bytes.get(skipped..end);
        let wanted = (kind, sequence, &self.document);
        let fields = salted.zip(raw).and_then(|(segment, raw)| verify(raw, segment, wanted));
        let Some(fields) = fields else {
            let reason = unreadable(sequence, (at.segment, at.offset));
            return Err(LoadError::Damaged { reason });
        };
        Ok((fields, bytes.slice(end - fields.payload.len()..end)))
    }
}

impl Remains {
    /// The best that can be read: the newest readable state, and the unbroken updates after it.
    ///
    /// # Errors
    /// If the system refuses for a reason that may pass, of which nothing follows about the disk.
    pub(super) fn read(
        self,
        cached: impl FnOnce(Sequence, Digest) -> Option<Bytes>,
    ) -> Result<Salvaged, LoadError> {
        let mut reason = self.reason.map(|error| error.to_string());
        let mut cached = Some(cached);
        for plan in &self.plans {
            let (count, _) = unbroken(plan.base, &plan.updates);
            let unbroken = plan.updates.get(..count).unwrap_or_default();
            let plan = Plan { updates: Vec::new(), ..plan.clone() };
            // The cache knows only the newest.
            let mut cached = cached.take();
            let base = plan.read(|through, digest| (cached.take()?)(through, digest));
            let mut log = match base {
                Ok(log) => log,
                Err(error) => {
                    reason = Some(lasting(error)?);
                    continue;
                }
            };
            // One by one where a run of them cannot be read.
            if plan.read_updates(unbroken, &mut log.updates).is_err() {
                let read = log.updates.len();
                for one in unbroken.get(read..).unwrap_or_default().chunks(1) {
                    if let Err(error) = plan.read_updates(one, &mut log.updates) {
                        reason = Some(lasting(error)?);
                        break;
                    }
                }
            }
            let reason = reason.filter(|_| log.last() < self.last);
            return Ok(Salvaged { log, last: self.last, reason });
        }
        let log = StoredLog { epoch: self.epoch, ..StoredLog::default() };
        Ok(Salvaged { log, last: self.last, reason })
    }
}

/// What is wrong with a record that will not be readable later either.
fn lasting(error: LoadError) -> Result<String, LoadError> {
    match error {
        // A file that is gone is one that was cleaned: what was in it is elsewhere.
        LoadError::Io { source }
            if !is_lasting(&source) || source.kind() == io::ErrorKind::NotFound =>
        {
            Err(LoadError::Io { source })
        }
        LoadError::Io { source } => Ok(format!("the disk cannot read the document: {source}")),
        LoadError::Damaged { .. } | LoadError::NoPrevious { .. } => Ok(error.to_string()),
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
