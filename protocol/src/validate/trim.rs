//! Removes the blocks of an update that a document already has.

use crate::validate::any::walk_any;
use crate::validate::update::{
    ANY, DELETED, GC, HAS_ORIGIN, HAS_RIGHT_ORIGIN, Id, KIND_MASK, SKIP, STRING, Walk,
};
use crate::validate::{Budget, StateVector, Subdocuments, ValidationError, read_client};
use crate::wire::varint::{Reader, write_buffer, write_var_uint};

/// Everything that passed [`super::walk_update`] passes again.
const PASSED: Budget = Budget { subdocuments: Subdocuments::Allowed, ..Budget::STORED };

/// Rewrites a validated update so that it begins where `known` ends.
///
/// Where a block is known in part, yrs keeps the parent that the block names, and the neighbour that
/// the known part has. A client that sends other content under a known clock can make the two
/// disagree; from then on deletions panic, and the snapshot does not load. In the rewritten block
/// the parent follows from the neighbour, as in the difference that Yjs itself would encode.
pub fn trim_known(bytes: &[u8], known: &StateVector) -> Result<Vec<u8>, ValidationError> {
    let mut walk = Walk::new(bytes, &PASSED);
    let mut sections = Vec::with_capacity(bytes.len());
    let mut kept = 0_u64;
    for _ in 0..walk.reader.count(1)? {
        kept += u64::from(trim_section(&mut walk, bytes, known, &mut sections)?);
    }
    let mut trimmed = Vec::with_capacity(bytes.len());
    write_var_uint(&mut trimmed, kept);
    trimmed.extend_from_slice(&sections);
    trimmed.extend_from_slice(walk.reader.take(walk.reader.remaining())?);
    Ok(trimmed)
}

/// Appends what is new of the next section, and returns whether anything is.
fn trim_section(
    walk: &mut Walk<'_>,
    bytes: &[u8],
    known: &StateVector,
    out: &mut Vec<u8>,
) -> Result<bool, ValidationError> {
    let blocks = walk.reader.count(1)?;
    let client = read_client(&mut walk.reader)?;
    let start = walk.reader.var_uint_max(u32::MAX)?;
    let first_new = known.get(&client).copied().unwrap_or(0).max(start);

    let mut clock = start;
    let mut kept = 0_u64;
    let mut cut = Vec::new();
    let mut rest = walk.reader.position();
    for _ in 0..blocks {
        let offset = walk.reader.position();
        let end = walk.block(Id { client, clock })?;
        if end <= first_new {
            rest = walk.reader.position();
        } else {
            kept += 1;
            if clock < first_new {
                let mut block = Reader::new(bytes);
                block.take(offset)?;
                cut_block(
                    &mut block,
                    Id { client, clock: first_new },
                    first_new - clock,
                    &mut cut,
                )?;
                rest = walk.reader.position();
            }
        }
        clock = end;
    }
    if kept == 0 {
        return Ok(false);
    }
    write_var_uint(out, kept);
    write_var_uint(out, client.get());
    write_var_uint(out, u64::from(first_new));
    out.extend_from_slice(&cut);
    let mut tail = Reader::new(bytes);
    tail.take(rest)?;
    out.extend_from_slice(tail.take(walk.reader.position() - rest)?);
    Ok(true)
}

/// Appends the block without its first `dropped` clocks; what is left begins at `id`.
fn cut_block(
    block: &mut Reader<'_>,
    id: Id,
    dropped: u32,
    out: &mut Vec<u8>,
) -> Result<(), ValidationError> {
    let offset = block.position();
    let dropped = u64::from(dropped);
    let info = block.u8()?;
    let kind = info & KIND_MASK;
    if matches!(kind, GC | SKIP) {
        out.push(info);
        write_var_uint(out, block.var_uint()? - dropped);
        return Ok(());
    }

    out.push(info | HAS_ORIGIN);
    write_var_uint(out, id.client.get());
    write_var_uint(out, u64::from(id.clock - 1));
    if info & HAS_ORIGIN != 0 {
        block.var_uint()?;
        block.var_uint()?;
    }
    if info & HAS_RIGHT_ORIGIN != 0 {
        write_var_uint(out, block.var_uint()?);
        write_var_uint(out, block.var_uint()?);
    }
    if info & (HAS_ORIGIN | HAS_RIGHT_ORIGIN) == 0 {
        super::update::skip_parent(block, info)?;
    }
    match kind {
        DELETED => write_var_uint(out, block.var_uint()? - dropped),
        STRING => write_buffer(out, utf16_tail(block.string()?, dropped).as_bytes()),
        ANY => {
            let count = block.var_uint()?;
            write_var_uint(out, count - dropped);
            for _ in 0..dropped {
                walk_any(block, PASSED.any_depth_max)?;
            }
            let mut end = block.clone();
            for _ in dropped..count {
                walk_any(&mut end, PASSED.any_depth_max)?;
            }
            out.extend_from_slice(block.take(end.position() - block.position())?);
        }
        // All others have length 1 and are never known in part.
        _ => return Err(ValidationError::UnsupportedBlock { offset, info }),
    }
    Ok(())
}

/// `text` without its first `units` UTF-16 code units. Half of a surrogate pair becomes U+FFFD, as
/// in Yjs.
fn utf16_tail(text: &str, mut units: u64) -> String {
    let mut chars = text.chars();
    while units > 0
        && let Some(dropped) = chars.next()
    {
        let len = dropped.len_utf16() as u64;
        if len > units {
            return format!("\u{fffd}{}", chars.as_str());
        }
        units -= len;
    }
    chars.as_str().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ClientId;
    use crate::validate::{Fit, Section, walk_update};

    fn known(clock: u32) -> StateVector {
        StateVector::from([(ClientId::new(1).unwrap(), clock)])
    }

    fn check(update: &[u8], clock: u32, expected: &[u8]) {
        walk_update(update, &Budget::LIVE).unwrap();
        let trimmed = trim_known(update, &known(clock)).unwrap();
        assert_eq!(trimmed, expected, "{update:?} from {clock}");
        let facts = walk_update(&trimmed, &Budget::LIVE).unwrap();
        assert!(!facts.overlaps(&known(clock)));
        assert_ne!(facts.fit(&known(clock)), Fit::Incomplete);
    }

    #[test]
    fn valid_27_the_known_part_is_cut_off() {
        check(
            &[1, 1, 1, 0, 4, 1, 1, b't', 3, b'x', b'y', b'z', 0],
            2,
            &[1, 1, 1, 2, 0x84, 1, 1, 1, b'z', 0],
        );
        check(
            &[1, 1, 1, 2, 0xc4, 1, 0, 1, 1, 2, b'x', b'y', 0],
            3,
            &[1, 1, 1, 3, 0xc4, 1, 2, 1, 1, 1, b'y', 0],
        );
        check(
            &[1, 1, 1, 0, 0x28, 1, 1, b'm', 1, b'k', 2, 126, 117, 1, 125, 5, 0],
            1,
            &[1, 1, 1, 1, 0xa8, 1, 0, 1, 117, 1, 125, 5, 0],
        );
        check(&[1, 3, 1, 0, 0, 2, 0, 4, 0, 5, 0], 4, &[1, 2, 1, 4, 0, 2, 0, 5, 0]);
        check(&[1, 3, 1, 0, 0, 2, 0, 4, 0, 5, 0], 2, &[1, 2, 1, 2, 0, 4, 0, 5, 0]);
        check(&[1, 1, 1, 0, 1, 1, 1, b't', 5, 0], 2, &[1, 1, 1, 2, 0x81, 1, 1, 3, 0]);
        check(&[1, 1, 1, 0, 0, 2, 1, 1, 1, 0, 1], 2, &[0, 1, 1, 1, 0, 1]);
        check(&[0, 1, 1, 1, 0, 1], 2, &[0, 1, 1, 1, 0, 1]);
    }

    #[test]
    fn valid_27_half_a_surrogate_pair_is_replaced() {
        assert_eq!(utf16_tail("a\u{1f600}b", 2), "\u{fffd}b");
        assert_eq!(utf16_tail("a\u{1f600}b", 3), "b");
        assert_eq!(utf16_tail("ab", 0), "ab");
    }

    #[test]
    fn valid_27_only_a_section_that_is_known_in_part_overlaps() {
        let facts = walk_update(&[1, 1, 1, 2, 0, 3, 0], &Budget::LIVE).unwrap();
        let section = Section { client: ClientId::new(1).unwrap(), start: 2, end: 5, offset: 4 };
        assert_eq!(facts.sections, [section]);
        let overlapping: Vec<u32> = (0..7).filter(|&clock| facts.overlaps(&known(clock))).collect();
        assert_eq!(overlapping, [3, 4]);
    }
}
