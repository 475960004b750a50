//! Blocks with several values under one key.

use std::collections::BTreeMap;

use crate::validate::{Section, UpdateFacts, ValidationError, read_client};
use crate::wire::varint::Reader;

/// Checks that every one of `blocks` is deleted by the update that brings it.
///
/// A key has one value. Yjs leaves several in one block when it collects no garbage. If they were alive, yrs would delete the last of them together with the map, keep the
/// others, and follow them to where the map was.
pub(super) fn check_deleted(
    blocks: Vec<Section>,
    facts: &UpdateFacts,
    update: &[u8],
) -> Result<(), ValidationError> {
    if blocks.is_empty() {
        return Ok(());
    }
    let mut deletions = BTreeMap::new();
    let mut reader = Reader::new(update);
    reader.take(facts.deletions_offset)?;
    for _ in 0..reader.var_uint()? {
        let client = read_client(&mut reader)?;
        let mut ranges = Vec::new();
        for _ in 0..reader.var_uint()? {
            let start = reader.var_uint_max(u32::MAX)?;
            ranges.push((start, start.saturating_add(reader.var_uint_max(u32::MAX)?)));
        }
        deletions.insert(client, ranges);
    }
    for Section { client, mut start, end, .. } in blocks {
        let ranges = deletions.get(&client).map_or(&[][..], Vec::as_slice);
        let first = ranges.partition_point(|range| range.1 <= start);
        for &(from, to) in ranges.get(first..).unwrap_or_default() {
            // Ranges may touch.
            if from > start || start >= end {
                break;
            }
            start = to;
        }
        if start < end {
            return Err(ValidationError::SeveralValues { client, clock: start });
        }
    }
    Ok(())
}
