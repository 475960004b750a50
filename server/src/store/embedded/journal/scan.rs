//! Finds the records in the bytes of a segment, and steps over what is damaged between them.

use syncline_protocol::{DocumentName, Sequence};

use crate::store::embedded::journal::record::{self, Decoded, Salt};
use crate::store::embedded::journal::segment::HEADER_BYTES;

/// What a scan meets.
#[derive(Debug)]
pub(super) enum Found<'a> {
    /// An intact record.
    Record {
        /// Where it begins.
        offset: usize,
        /// What it holds.
        record: Decoded<'a>,
    },
    /// Bytes that are no record, up to the next intact one or the end of the file.
    Damage {
        /// Where they begin.
        offset: usize,
        /// How many.
        bytes: usize,
        /// What they seem to have been.
        suspect: Option<(Sequence, DocumentName)>,
    },
}

/// Walks the records of a whole segment, and over what is damaged in it.
#[derive(Debug)]
pub(super) struct Scan<'a> {
    bytes: &'a [u8],
    salt: Salt,
    offset: usize,
}

impl<'a> Scan<'a> {
    pub(super) fn new(bytes: &'a [u8], salt: Salt) -> Self {
        Self { bytes, salt, offset: HEADER_BYTES }
    }

    fn next_intact(&self, mut from: usize) -> usize {
        while let Some(rest) = self.bytes.get(from..) {
            let Some(step) = rest.windows(4).position(|window| window == self.salt.mark) else {
                break;
            };
            if rest.get(step..).is_some_and(|bytes| record::decode(bytes, self.salt).is_some()) {
                return from + step;
            }
            from += step + 1;
        }
        self.bytes.len()
    }
}

impl<'a> Iterator for Scan<'a> {
    type Item = Found<'a>;

    fn next(&mut self) -> Option<Found<'a>> {
        let rest = self.bytes.get(self.offset..).filter(|rest| !rest.is_empty())?;
        let offset = self.offset;
        if let Some(record) = record::decode(rest, self.salt) {
            self.offset += record.bytes;
            return Some(Found::Record { offset, record });
        }
        self.offset = self.next_intact(offset + 1);
        let damaged = self.bytes.get(offset..self.offset).unwrap_or_default();
        Some(Found::Damage { offset, bytes: damaged.len(), suspect: record::suspect(damaged) })
    }
}
