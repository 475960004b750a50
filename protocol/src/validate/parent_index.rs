//! The place of every block of a document: the list, or the entry of a map, that it lies in.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::id::ClientId;
use crate::validate::block::{Block, Parent};
use crate::validate::gc_attach::attach_gc;
use crate::validate::update::{DELETED, GC, Id, TYPE};
use crate::validate::{
    Budget, Section, StateVector, Subdocuments, UpdateFacts, ValidationError, read_client,
    trim_known, walk_update,
};
use crate::wire::varint::Reader;

/// How deeply shared types may be nested. yrs deletes by recursion: on a stack of 2 MiB, 8,000 levels
/// fit and 16,000 abort the process. Yjs reads by recursion and gives up at 2,000. No editor comes
/// near this limit.
pub const TYPE_DEPTH_MAX: u32 = 256;

/// Everything that passed [`walk_update`] passes again.
const PASSED: Budget = Budget { subdocuments: Subdocuments::Allowed, ..Budget::STORED };

/// The place of every block, in runs: 16 bytes for each stretch of one client's clocks that lies
/// in one place, and 12 for each shared type.
///
/// A place is the shared type that holds a block, and the key if it is an entry. The neighbours
/// that a block names must lie in one place, which is then its own: where they do not, yrs links
/// two lists into each other, and walks them without end or frees them twice.
///
/// Deletions are not followed. What was collected is known by its GC blocks, and a block that is
/// attached to one is GC itself, as in Yjs.
#[derive(Clone, Debug)]
pub struct ParentIndex {
    runs: BTreeMap<ClientId, Vec<Run>>,
    /// Every shared type; the first entry stands for what was collected.
    types: Vec<Type>,
    /// The types that have a name.
    roots: BTreeMap<Box<str>, u32>,
    /// Numbers of keys, from 1 on.
    keys: BTreeMap<Box<str>, u32>,
}

/// The blocks of one client from a clock on.
#[derive(Clone, Copy, Debug)]
struct Run {
    start: u32,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// Blocks that hold no other.
    Content(Place),
    /// One block, the type with this number.
    Type(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    /// The number of the type.
    parent: u32,
    /// The number of the key; 0 in a list.
    key: u32,
}

#[derive(Clone, Copy, Debug)]
struct Type {
    /// Where it lies itself.
    place: Place,
    depth: u32,
}

/// Garbage lies nowhere.
const COLLECTED: Place = Place { parent: 0, key: 0 };

impl Default for ParentIndex {
    fn default() -> Self {
        Self {
            runs: BTreeMap::new(),
            types: vec![Type { place: COLLECTED, depth: 0 }],
            roots: BTreeMap::new(),
            keys: BTreeMap::new(),
        }
    }
}

impl ParentIndex {
    /// Takes in an update that is [`Ready`](super::Fit::Ready) for a document that knows `known`,
    /// and returns what of it may reach yrs. That is the update itself, unless a part of a block
    /// is known ([`trim_known`]), or a block is attached to what was collected.
    ///
    /// # Errors
    /// If the neighbours of a block lie apart, or types are nested deeper than
    /// [`TYPE_DEPTH_MAX`]. Nothing is taken in then.
    pub fn admit<'a>(
        &mut self,
        facts: &UpdateFacts,
        known: &StateVector,
        update: &'a [u8],
    ) -> Result<Cow<'a, [u8]>, ValidationError> {
        if !facts.overlaps(known) {
            let buried = self.place_all(facts, known, update)?;
            return Ok(buried.map_or(Cow::Borrowed(update), Cow::Owned));
        }
        let trimmed = trim_known(update, known)?;
        let facts = walk_update(&trimmed, &PASSED)?;
        let buried = self.place_all(&facts, known, &trimmed)?;
        Ok(Cow::Owned(buried.unwrap_or(trimmed)))
    }

    /// Returns the update with GC in place of what is attached to it, if there is any.
    fn place_all(
        &mut self,
        facts: &UpdateFacts,
        known: &StateVector,
        update: &[u8],
    ) -> Result<Option<Vec<u8>>, ValidationError> {
        let (types, keys) = (self.types.len(), self.keys.len());
        let mut placing = Placing { places: self, collected: Vec::new(), long_entries: Vec::new() };
        let placed = match facts.sections.as_slice() {
            [] => Ok(()),
            [only] => placing.section(only, known, update),
            several => placing.sections(several, known, update),
        };
        let Placing { collected, long_entries, .. } = placing;
        if let Err(error) = placed.and_then(|()| check_deleted(long_entries, facts, update)) {
            self.forget(&facts.sections, known, types, keys);
            return Err(error);
        }
        if collected.is_empty() { Ok(None) } else { attach_gc(update, collected).map(Some) }
    }

    /// Takes back what an update brought, of which a part was refused.
    #[cold]
    fn forget(&mut self, sections: &[Section], known: &StateVector, types: usize, keys: usize) {
        for section in sections {
            if let Some(runs) = self.runs.get_mut(&section.client) {
                let clock = clock_of(known, section.client);
                runs.truncate(runs.partition_point(|run| run.start < clock));
                if runs.is_empty() {
                    self.runs.remove(&section.client);
                }
            }
        }
        self.types.truncate(types);
        self.roots.retain(|_, number| (*number as usize) < types);
        self.keys.retain(|_, number| (*number as usize) <= keys);
    }

    fn what(&self, id: Id) -> What {
        let runs = self.runs.get(&id.client).map_or(&[][..], Vec::as_slice);
        let run = match runs.last() {
            Some(last) if last.start <= id.clock => Some(last),
            _ => {
                runs.get(..runs.partition_point(|run| run.start <= id.clock)).and_then(<[_]>::last)
            }
        };
        run.map_or(What::Content(COLLECTED), |run| run.what)
    }

    fn place_of(&self, id: Id) -> Place {
        match self.what(id) {
            What::Content(place) => place,
            What::Type(number) => self.get_type(number).place,
        }
    }

    fn get_type(&self, number: u32) -> Type {
        let collected = Type { place: COLLECTED, depth: 0 };
        self.types.get(number as usize).copied().unwrap_or(collected)
    }

    /// Where a block lies; None if its neighbours disagree.
    fn find(&mut self, block: &Block<'_>) -> Result<Option<Place>, ValidationError> {
        let left = block.origin.map(|id| self.place_of(id));
        let right = block.right_origin.map(|id| self.place_of(id));
        Ok(match (left, right) {
            (Some(left), Some(right)) if left == right => Some(left),
            (Some(COLLECTED), Some(_)) | (Some(_), Some(COLLECTED)) => Some(COLLECTED),
            (Some(_), Some(_)) => None,
            (Some(place), None) | (None, Some(place)) => Some(place),
            (None, None) => Some(self.find_parent(block)?),
        })
    }

    fn find_parent(&mut self, block: &Block<'_>) -> Result<Place, ValidationError> {
        let parent = match block.parent {
            Some(Parent::Root(name)) => self.root(name)?,
            Some(Parent::Block(id)) => match self.what(id) {
                What::Type(number) => number,
                // Yjs looks for a type in a block that has none, and then collects.
                What::Content(_) => return Ok(COLLECTED),
            },
            None => return Ok(COLLECTED),
        };
        let key = block.key.map_or(Ok(0), |key| self.key(key))?;
        Ok(Place { parent, key })
    }

    fn root(&mut self, name: &str) -> Result<u32, ValidationError> {
        if let Some(&number) = self.roots.get(name) {
            return Ok(number);
        }
        let number = self.add_type(Type { place: COLLECTED, depth: 0 })?;
        self.roots.insert(name.into(), number);
        Ok(number)
    }

    fn key(&mut self, key: &str) -> Result<u32, ValidationError> {
        if let Some(&number) = self.keys.get(key) {
            return Ok(number);
        }
        let number = number_of(self.keys.len() + 1)?;
        self.keys.insert(key.into(), number);
        Ok(number)
    }

    fn add_type(&mut self, new: Type) -> Result<u32, ValidationError> {
        let number = number_of(self.types.len())?;
        self.types.push(new);
        Ok(number)
    }

    fn push(&mut self, id: Id, what: What) {
        // One run is all that most clients ever have.
        let runs = self.runs.entry(id.client).or_insert_with(|| Vec::with_capacity(1));
        if runs.last().is_none_or(|last| last.what != what) {
            runs.push(Run { start: id.clock, what });
        }
    }
}

/// An update on its way into the places.
struct Placing<'p> {
    places: &'p mut ParentIndex,
    /// Blocks that are attached to what was collected.
    collected: Vec<Section>,
    /// Blocks of several values under one key.
    long_entries: Vec<Section>,
}

/// The blocks of one client that are not placed yet.
struct Lane<'a> {
    client: ClientId,
    clock: u32,
    end: u32,
    blocks: Reader<'a>,
}

impl Placing<'_> {
    /// Places an update of one client, whose references are all known or lie before the block.
    fn section(
        &mut self,
        section: &Section,
        known: &StateVector,
        update: &[u8],
    ) -> Result<(), ValidationError> {
        let Some(mut lane) = Lane::new(section, known, update)? else { return Ok(()) };
        while lane.clock < lane.end {
            let block = Block::read(&mut lane.blocks)?;
            self.block(&block, &mut lane)?;
        }
        Ok(())
    }

    /// Places an update of several clients in the order in which their blocks refer to each other.
    fn sections(
        &mut self,
        sections: &[Section],
        known: &StateVector,
        update: &[u8],
    ) -> Result<(), ValidationError> {
        let lanes = sections.iter().map(|section| Lane::new(section, known, update));
        let mut lanes = lanes.filter_map(Result::transpose).collect::<Result<Vec<_>, _>>()?;
        for first in 0..lanes.len() {
            // Each entry is a lane and the clock that the one before it waits for.
            let mut waiting = vec![(first, u32::MAX)];
            while let Some(&(index, until)) = waiting.last() {
                let Some(lane) = lanes.get(index).filter(|lane| lane.clock < until.min(lane.end))
                else {
                    waiting.pop();
                    continue;
                };
                let mut blocks = lane.blocks.clone();
                let block = Block::read(&mut blocks)?;
                if let Some((target, clock)) = awaited(&block, &lanes) {
                    if waiting.len() == lanes.len() {
                        return Err(ValidationError::CircularReference { client: lane.client });
                    }
                    waiting.push((target, clock + 1));
                } else if let Some(lane) = lanes.get_mut(index) {
                    lane.blocks = blocks;
                    self.block(&block, lane)?;
                }
            }
        }
        Ok(())
    }

    /// Places the next block of a lane, which was read up to its content.
    fn block<'a>(&mut self, block: &Block<'a>, lane: &mut Lane<'a>) -> Result<(), ValidationError> {
        let (client, clock) = (lane.client, lane.clock);
        let len = block.skip_content(&mut lane.blocks)?;
        lane.clock = clock.saturating_add(len);
        let place = if block.kind == GC { Some(COLLECTED) } else { self.places.find(block)? };
        let Some(place) = place else { return Err(ValidationError::TornBlock { client, clock }) };
        let what = if place == COLLECTED {
            if block.kind != GC {
                self.collected.push(lane.since(clock));
            }
            What::Content(COLLECTED)
        } else if block.kind == TYPE {
            let depth = self.places.get_type(place.parent).depth + 1;
            if depth > TYPE_DEPTH_MAX {
                return Err(ValidationError::TypesTooDeep { client, clock, max: TYPE_DEPTH_MAX });
            }
            What::Type(self.places.add_type(Type { place, depth })?)
        } else {
            if place.key != 0 && len > 1 && block.kind != DELETED {
                self.long_entries.push(lane.since(clock));
            }
            What::Content(place)
        };
        self.places.push(Id { client, clock }, what);
        Ok(())
    }
}

impl<'a> Lane<'a> {
    /// None if all of the section is known.
    fn new(
        section: &Section,
        known: &StateVector,
        update: &'a [u8],
    ) -> Result<Option<Self>, ValidationError> {
        if section.end <= clock_of(known, section.client) {
            return Ok(None);
        }
        let mut blocks = Reader::new(update);
        blocks.take(section.offset)?;
        let &Section { client, start: clock, end, .. } = section;
        Ok(Some(Self { client, clock, end, blocks }))
    }

    /// What was read from `start` on.
    fn since(&self, start: u32) -> Section {
        Section { client: self.client, start, end: self.clock, offset: self.blocks.position() }
    }
}

/// Checks that every one of `blocks` is deleted by the update that brings it.
///
/// A key has one value. Several in one block are what Yjs leaves of old ones when it collects no
/// garbage. If they were alive, yrs would delete the last of them together with the map, keep the
/// others, and follow them to where the map was.
fn check_deleted(
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

/// What a block refers to that another lane has not reached: the lane and the clock.
fn awaited(block: &Block<'_>, lanes: &[Lane<'_>]) -> Option<(usize, u32)> {
    block.references().find_map(|id| {
        let index = lanes.binary_search_by_key(&id.client, |lane| lane.client).ok()?;
        let lane = lanes.get(index)?;
        (lane.clock..lane.end).contains(&id.clock).then_some((index, id.clock))
    })
}

fn clock_of(known: &StateVector, client: ClientId) -> u32 {
    known.get(&client).copied().unwrap_or(0)
}

fn number_of(count: usize) -> Result<u32, ValidationError> {
    u32::try_from(count).map_err(|_large| ValidationError::TooManyTypes)
}

#[cfg(test)]
mod tests;
