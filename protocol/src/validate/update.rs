//! Updates in the v1 format: sections of blocks, one for each client, then a delete set.

use crate::id::ClientId;
use crate::validate::any::{walk_any, walk_json};
use crate::validate::order::{Link, circular_client};
use crate::validate::{
    Budget, CLOCK_END, Section, StateVector, Subdocuments, UpdateFacts, ValidationError,
    read_client,
};
use crate::wire::varint::Reader;

/// Bits of a block's first byte; the lower five are its kind.
pub(super) const HAS_ORIGIN: u8 = 0b1000_0000;
pub(super) const HAS_RIGHT_ORIGIN: u8 = 0b0100_0000;
pub(super) const HAS_PARENT_KEY: u8 = 0b0010_0000;
pub(super) const KIND_MASK: u8 = 0b0001_1111;

/// Block kinds. 2 is the JSON content of old Yjs versions, of which yrs reads one text too many;
/// 11 and up are experiments that no released Yjs reads.
pub(super) const GC: u8 = 0;
pub(super) const DELETED: u8 = 1;
const BINARY: u8 = 3;
pub(super) const STRING: u8 = 4;
pub(super) const EMBED: u8 = 5;
pub(super) const FORMAT: u8 = 6;
pub(super) const TYPE: u8 = 7;
pub(super) const ANY: u8 = 8;
pub(super) const SUBDOCUMENT: u8 = 9;
pub(super) const SKIP: u8 = 10;

/// The shared type that carries a name.
pub(super) const XML_ELEMENT: u8 = 3;

/// A section is a block count, a client, a clock and at least one block of two bytes.
const SECTION_BYTES_MIN: usize = 5;
/// A block is its first byte, and a length or content.
const BLOCK_BYTES_MIN: usize = 2;
/// A client's deletions are the client, a range count and at least one range.
const DELETIONS_BYTES_MIN: usize = 4;
/// A range is a clock and a length.
const RANGE_BYTES_MIN: usize = 2;

/// The bits of a client id that choose its place in yrs' hash maps first.
const COLLISION_MASK: u64 = 0xfff;

/// Walks an update.
///
/// What passes is well-formed, within `budget`, and free of everything known to break yrs,
/// provided that [`UpdateFacts::fit`] says that it is ready for the document it is applied to.
pub fn walk_update(bytes: &[u8], budget: &Budget) -> Result<UpdateFacts, ValidationError> {
    let mut walk = Walk::new(bytes, budget);
    walk.sections()?;
    walk.delete_set()?;
    walk.finish()
}

pub(super) struct Walk<'a> {
    pub(super) reader: Reader<'a>,
    budget: &'a Budget,
    facts: UpdateFacts,
    /// The need noted last: in most updates the next one is of the same client.
    need: Option<(ClientId, u32)>,
    /// References from one client's blocks to another's. None when only one client has blocks.
    links: Option<Vec<Link>>,
}

/// The identity of a block, or of one element in it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Id {
    pub(super) client: ClientId,
    pub(super) clock: u32,
}

impl<'a> Walk<'a> {
    pub(super) fn new(bytes: &'a [u8], budget: &'a Budget) -> Self {
        let facts = UpdateFacts::default();
        Self { reader: Reader::new(bytes), budget, facts, need: None, links: None }
    }

    fn sections(&mut self) -> Result<(), ValidationError> {
        let count = self.reader.count(SECTION_BYTES_MIN)?;
        self.check_clients(count)?;
        self.links = (count > 1).then(Vec::new);
        for _ in 0..count {
            self.section()?;
        }
        self.facts.sections.sort_unstable_by_key(|section| section.client);
        for pair in self.facts.sections.windows(2) {
            if let [a, b] = pair
                && a.client == b.client
            {
                return Err(ValidationError::RepeatedClient { client: a.client });
            }
        }
        self.check_collisions()
    }

    fn section(&mut self) -> Result<(), ValidationError> {
        let blocks = self.reader.count(BLOCK_BYTES_MIN)?;
        let client = read_client(&mut self.reader)?;
        let start = self.reader.var_uint_max(CLOCK_END - 1)?;
        if blocks == 0 {
            return Err(ValidationError::EmptySection { client });
        }
        let offset = self.reader.position();
        let mut end = start;
        for _ in 0..blocks {
            end = self.block(Id { client, clock: end })?;
        }
        self.facts.sections.push(Section { client, start, end, offset });
        Ok(())
    }

    /// Walks one block and returns the clock after it.
    pub(super) fn block(&mut self, id: Id) -> Result<u32, ValidationError> {
        let offset = self.reader.position();
        let info = self.reader.u8()?;
        let len = match info & KIND_MASK {
            // yrs knows these only without flags.
            GC if info == GC => self.reader.var_uint()?,
            SKIP if info == SKIP => {
                self.facts.interrupted = true;
                self.reader.var_uint()?
            }
            kind @ (DELETED | BINARY..=SUBDOCUMENT) => {
                self.links(info, id)?;
                self.content(kind, offset)?
            }
            _ => return Err(ValidationError::UnsupportedBlock { offset, info }),
        };
        if len == 0 {
            return Err(ValidationError::EmptyBlock { offset });
        }
        end_of(id.clock, len).ok_or(ValidationError::ClockTooLarge { offset, clock: id.clock, len })
    }

    /// Walks what an item is attached to: its neighbours, or else its parent.
    fn links(&mut self, info: u8, id: Id) -> Result<(), ValidationError> {
        if info & HAS_ORIGIN != 0 {
            self.reference(id)?;
        }
        if info & HAS_RIGHT_ORIGIN != 0 {
            self.reference(id)?;
        }
        if info & (HAS_ORIGIN | HAS_RIGHT_ORIGIN) != 0 {
            return Ok(());
        }
        let offset = self.reader.position();
        match self.reader.var_uint()? {
            0 => self.reference(id)?,
            1 => {
                self.reader.string()?;
            }
            tag => return Err(ValidationError::UnknownParent { offset, tag }),
        }
        if info & HAS_PARENT_KEY != 0 {
            self.reader.string()?;
        }
        Ok(())
    }

    fn reference(&mut self, from: Id) -> Result<(), ValidationError> {
        let offset = self.reader.position();
        let client = read_client(&mut self.reader)?;
        let clock = self.reader.var_uint_max(CLOCK_END - 1)?;
        if client == from.client {
            if clock >= from.clock {
                return Err(ValidationError::ForwardReference { offset, clock, block: from.clock });
            }
        } else if let Some(links) = &mut self.links {
            links.push(Link {
                from: from.client,
                from_clock: from.clock,
                to: client,
                to_clock: clock,
            });
        }
        self.note_need(client, clock + 1);
        Ok(())
    }

    /// Walks an item's content and returns its length in clocks.
    fn content(&mut self, kind: u8, offset: usize) -> Result<u64, ValidationError> {
        let depth_max = self.budget.any_depth_max;
        let reader = &mut self.reader;
        match kind {
            DELETED => return Ok(reader.var_uint()?),
            STRING => return Ok(utf16_len(reader.string()?.as_bytes())),
            ANY => {
                let count = reader.count(1)?;
                for _ in 0..count {
                    walk_any(reader, depth_max)?;
                }
                return Ok(count as u64);
            }
            BINARY => {
                reader.buffer()?;
            }
            EMBED => walk_json(reader)?,
            FORMAT => {
                reader.string()?;
                walk_json(reader)?;
            }
            TYPE => {
                let offset = reader.position();
                match reader.u8()? {
                    XML_ELEMENT => {
                        reader.string()?;
                    }
                    // Array, map, text, XML fragment, XML text. yrs reads an XML hook (5) without
                    // its name, and no weak link (7) at all.
                    0 | 1 | 2 | 4 | 6 => {}
                    tag => return Err(ValidationError::UnsupportedType { offset, tag }),
                }
            }
            _ => match self.budget.subdocuments {
                Subdocuments::Refused => {
                    return Err(ValidationError::SubdocumentRefused { offset });
                }
                Subdocuments::Allowed => {
                    reader.string()?;
                    walk_any(reader, depth_max)?;
                    self.facts.subdocuments = true;
                }
            },
        }
        Ok(1)
    }

    fn delete_set(&mut self) -> Result<(), ValidationError> {
        self.facts.deletions_offset = self.reader.position();
        let count = self.reader.count(DELETIONS_BYTES_MIN)?;
        self.check_clients(count)?;
        let mut clients = Vec::new();
        let mut ranges_left = self.budget.delete_ranges_max;
        for _ in 0..count {
            clients.push(self.deletions(&mut ranges_left)?);
        }
        self.facts.deletes = count > 0;
        clients.sort_unstable();
        match clients.windows(2).find_map(|pair| match pair {
            [a, b] if a == b => Some(*a),
            _ => None,
        }) {
            Some(client) => Err(ValidationError::RepeatedClient { client }),
            None => Ok(()),
        }
    }

    fn deletions(&mut self, ranges_left: &mut usize) -> Result<ClientId, ValidationError> {
        let client = read_client(&mut self.reader)?;
        let count = self.reader.count(RANGE_BYTES_MIN)?;
        if count == 0 {
            return Err(ValidationError::EmptyDeletions { client });
        }
        let max = self.budget.delete_ranges_max;
        let Some(left) = ranges_left.checked_sub(count) else {
            let ranges = max - *ranges_left + count;
            return Err(ValidationError::DeleteRangesOverBudget { ranges, max });
        };
        *ranges_left = left;
        let mut end = 0;
        for _ in 0..count {
            let offset = self.reader.position();
            let clock = self.reader.var_uint_max(CLOCK_END - 1)?;
            let len = self.reader.var_uint()?;
            if len == 0 {
                return Err(ValidationError::EmptyRange { offset });
            }
            // yrs searches the ranges by bisection and never sorts them.
            if clock < end {
                return Err(ValidationError::UnsortedRange { offset, clock, end });
            }
            end =
                end_of(clock, len).ok_or(ValidationError::ClockTooLarge { offset, clock, len })?;
        }
        self.note_need(client, end);
        Ok(client)
    }

    fn finish(mut self) -> Result<UpdateFacts, ValidationError> {
        let left = self.reader.remaining();
        if left > 0 {
            return Err(ValidationError::TrailingBytes { offset: self.reader.position(), left });
        }
        if let Some((client, clock)) = self.need.take() {
            raise(&mut self.facts.needs, client, clock);
        }
        if let Some(links) = self.links.take()
            && let Some(client) = circular_client(&self.facts.sections, links)
        {
            return Err(ValidationError::CircularReference { client });
        }
        Ok(self.facts)
    }

    fn note_need(&mut self, client: ClientId, clock: u32) {
        match &mut self.need {
            Some((same, highest)) if *same == client => *highest = clock.max(*highest),
            other => {
                if let Some((previous, highest)) = other.replace((client, clock)) {
                    raise(&mut self.facts.needs, previous, highest);
                }
            }
        }
    }

    fn check_clients(&self, clients: usize) -> Result<(), ValidationError> {
        let max = self.budget.clients_max;
        if clients > max {
            return Err(ValidationError::ClientsOverBudget { clients, max });
        }
        Ok(())
    }

    /// yrs hashes a client id to itself, so that chosen ids make its maps quadratic: 80,000 of
    /// them cost seconds. Ids that were drawn at random stay far below this limit.
    fn check_collisions(&self) -> Result<(), ValidationError> {
        let max = 64 + self.budget.clients_max / 256;
        if self.facts.sections.len() <= max {
            return Ok(());
        }
        let mut low_bits: Vec<u64> =
            self.facts.sections.iter().map(|s| s.client.get() & COLLISION_MASK).collect();
        low_bits.sort_unstable();
        match low_bits.chunk_by(|a, b| a == b).map(<[_]>::len).max() {
            Some(clients) if clients > max => {
                Err(ValidationError::CollidingClients { clients, max })
            }
            _ => Ok(()),
        }
    }
}

/// Skips a parent that was walked before.
pub(super) fn skip_parent(reader: &mut Reader<'_>, info: u8) -> Result<(), ValidationError> {
    if reader.var_uint()? == 1 {
        reader.string()?;
    } else {
        reader.var_uint()?;
        reader.var_uint()?;
    }
    if info & HAS_PARENT_KEY != 0 {
        reader.string()?;
    }
    Ok(())
}

fn raise(clocks: &mut StateVector, client: ClientId, clock: u32) {
    let highest = clocks.entry(client).or_insert(clock);
    *highest = clock.max(*highest);
}

fn end_of(clock: u32, len: u64) -> Option<u32> {
    let end = u64::from(clock).checked_add(len)?;
    u32::try_from(end).ok().filter(|end| *end < CLOCK_END)
}

/// How many UTF-16 code units `text`, in UTF-8, has: one for each character, two from U+10000 up.
pub(super) fn utf16_len(text: &[u8]) -> u64 {
    let units =
        |byte: u8| u64::from(byte & 0b1100_0000 != 0b1000_0000) + u64::from(byte >= 0b1111_0000);
    text.iter().copied().map(units).sum()
}

#[cfg(test)]
mod tests;
