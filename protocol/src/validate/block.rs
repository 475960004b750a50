//! One block of a validated update: its references, and its length.

use crate::validate::ValidationError;
use crate::validate::any::walk_any;
use crate::validate::read_client;
use crate::validate::update::{
    ANY, DELETED, FORMAT, GC, HAS_ORIGIN, HAS_PARENT_KEY, HAS_RIGHT_ORIGIN, Id, KIND_MASK, SKIP,
    STRING, SUBDOCUMENT, TYPE, XML_ELEMENT, utf16_len,
};
use crate::wire::varint::Reader;

/// The references of a block.
#[derive(Clone, Copy)]
pub(super) struct Block<'a> {
    pub(super) kind: u8,
    /// The neighbour to its left when it was written.
    pub(super) origin: Option<Id>,
    /// The neighbour to its right when it was written.
    pub(super) right_origin: Option<Id>,
    /// Named only by a block without neighbours.
    pub(super) parent: Option<Parent<'a>>,
    /// The key of an entry, named only together with a parent.
    pub(super) key: Option<&'a str>,
}

/// The shared type that a block names as its parent.
#[derive(Clone, Copy)]
pub(super) enum Parent<'a> {
    Root(&'a str),
    Block(Id),
}

impl<'a> Block<'a> {
    /// Reads up to the content.
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, ValidationError> {
        let info = reader.u8()?;
        let kind = info & KIND_MASK;
        let mut block = Self { kind, origin: None, right_origin: None, parent: None, key: None };
        if matches!(kind, GC | SKIP) {
            return Ok(block);
        }
        if info & HAS_ORIGIN != 0 {
            block.origin = Some(read_id(reader)?);
        }
        if info & HAS_RIGHT_ORIGIN != 0 {
            block.right_origin = Some(read_id(reader)?);
        }
        if info & (HAS_ORIGIN | HAS_RIGHT_ORIGIN) == 0 {
            block.parent = Some(match reader.var_uint()? {
                0 => Parent::Block(read_id(reader)?),
                _ => Parent::Root(reader.string()?),
            });
            if info & HAS_PARENT_KEY != 0 {
                block.key = Some(reader.string()?);
            }
        }
        Ok(block)
    }

    /// The blocks it refers to.
    pub(super) fn references(&self) -> impl Iterator<Item = Id> {
        let parent = match self.parent {
            Some(Parent::Block(id)) => Some(id),
            Some(Parent::Root(_)) | None => None,
        };
        [self.origin, self.right_origin, parent].into_iter().flatten()
    }

    /// Reads the content and returns its length in clocks.
    pub(super) fn skip_content(&self, reader: &mut Reader<'a>) -> Result<u32, ValidationError> {
        let offset = reader.position();
        let len = match self.kind {
            GC | DELETED | SKIP => reader.var_uint()?,
            STRING => utf16_len(reader.buffer()?),
            ANY => {
                let count = reader.var_uint()?;
                for _ in 0..count {
                    walk_any(reader, usize::MAX)?;
                }
                count
            }
            kind => {
                if kind == TYPE && reader.u8()? != XML_ELEMENT {
                    return Ok(1);
                }
                reader.buffer()?;
                match kind {
                    FORMAT => drop(reader.buffer()?),
                    SUBDOCUMENT => walk_any(reader, usize::MAX)?,
                    _ => {}
                }
                1
            }
        };
        u32::try_from(len).map_err(|_large| ValidationError::ClockTooLarge {
            offset,
            clock: 0,
            len,
        })
    }
}

fn read_id(reader: &mut Reader<'_>) -> Result<Id, ValidationError> {
    Ok(Id { client: read_client(reader)?, clock: reader.var_uint_max(u32::MAX)? })
}
