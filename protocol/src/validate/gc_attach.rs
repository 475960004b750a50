//! Replaces blocks that are attached to collected blocks with GC.

use crate::validate::block::Block;
use crate::validate::update::GC;
use crate::validate::{Section, ValidationError, read_client};
use crate::wire::varint::{Reader, write_var_uint};

/// Rewrites a validated update so that the blocks in `collected` are GC.
///
/// Yjs makes the same of them when it integrates the update. yrs does not always: it takes the
/// place from the neighbour that is left, where Yjs shows nothing.
pub(super) fn attach_gc(
    bytes: &[u8],
    mut collected: Vec<Section>,
) -> Result<Vec<u8>, ValidationError> {
    collected.sort_unstable_by_key(|block| (block.client, block.start));
    let mut reader = Reader::new(bytes);
    let mut out = Vec::with_capacity(bytes.len());
    let sections = reader.var_uint()?;
    write_var_uint(&mut out, sections);
    for _ in 0..sections {
        let blocks = reader.var_uint()?;
        let client = read_client(&mut reader)?;
        let mut clock = reader.var_uint_max(u32::MAX)?;
        write_var_uint(&mut out, blocks);
        write_var_uint(&mut out, client.get());
        write_var_uint(&mut out, u64::from(clock));
        for _ in 0..blocks {
            let mut kept = reader.clone();
            let len = Block::read(&mut reader)?.skip_content(&mut reader)?;
            let found = collected
                .binary_search_by_key(&(client, clock), |block| (block.client, block.start));
            if found.is_ok() {
                out.push(GC);
                write_var_uint(&mut out, u64::from(len));
            } else {
                out.extend_from_slice(kept.take(kept.remaining() - reader.remaining())?);
            }
            clock = clock.saturating_add(len);
        }
    }
    out.extend_from_slice(reader.take(reader.remaining())?);
    Ok(out)
}
