//! The parent of every block of a document: the list, or the entry of a map, that holds it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::id::ClientId;
use crate::validate::block::{Block, Parent};
use crate::validate::gc_attach::attach_gc;
use crate::validate::long_entry::check_deleted;
use crate::validate::update::{DELETED, GC, Id, TYPE};
use crate::validate::{
    Budget, Section, StateVector, Subdocuments, UpdateFacts, ValidationError, trim_known,
    walk_update,
};
use crate::wire::varint::Reader;

/// How deeply shared types may be nested. yrs deletes by recursion: on a stack of 2 MiB, 8,000 levels
/// fit and 16,000 abort the process. Yjs reads by recursion and gives up at 2,000. No editor comes
/// near this limit.
pub const TYPE_DEPTH_MAX: u32 = 256;

/// Everything that passed [`walk_update`] passes again.
const PASSED: Budget = Budget { subdocuments: Subdocuments::Allowed, ..Budget::STORED };

/// The location of every block, in runs: 16 bytes for each stretch of one client's clocks with the
/// same location, and 12 for each shared type.
///
/// A location is the shared type that holds a block, and the key if it is an entry. The neighbours
/// that a block names must have the same location, which is then its own: otherwise yrs links two
/// lists into each other, and walks them without end or frees them twice.
///
/// Deletions are not followed. Collected is known by its GC blocks, and a block that is
/// attached to one is GC itself, as in Yjs.
#[derive(Clone, Debug)]
pub struct ParentIndex {
    runs: BTreeMap<ClientId, Vec<Run>>,
    /// Every shared type; the first entry stands for collected blocks.
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
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Blocks that hold no other.
    Content(Location),
    /// One block, the type with this number.
    Type(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Location {
    /// The number of the type.
    parent: u32,
    /// The number of the key; 0 in a list.
    key: u32,
}

#[derive(Clone, Copy, Debug)]
struct Type {
    /// Its own location.
    location: Location,
    depth: u32,
}

/// Collected blocks have no location.
const COLLECTED: Location = Location { parent: 0, key: 0 };

impl Default for ParentIndex {
    fn default() -> Self {
        Self {
            runs: BTreeMap::new(),
            types: vec![Type { location: COLLECTED, depth: 0 }],
            roots: BTreeMap::new(),
            keys: BTreeMap::new(),
        }
    }
}

impl ParentIndex {
    /// Records an update that is [`Ready`](super::Fit::Ready) for a document that knows `known`,
    /// and returns the update for yrs: the same, unless a part of a block is known ([`trim_known`]),
    /// or a block is attached to a collected one.
    ///
    /// # Errors
    /// If the neighbours of a block have different locations, or types are nested deeper than
    /// [`TYPE_DEPTH_MAX`]. Nothing is recorded then.
    pub fn admit<'a>(
        &mut self,
        facts: &UpdateFacts,
        known: &StateVector,
        update: &'a [u8],
    ) -> Result<Cow<'a, [u8]>, ValidationError> {
        if !facts.overlaps(known) {
            let rewritten = self.index_all(facts, known, update)?;
            return Ok(rewritten.map_or(Cow::Borrowed(update), Cow::Owned));
        }
        let trimmed = trim_known(update, known)?;
        let facts = walk_update(&trimmed, &PASSED)?;
        let rewritten = self.index_all(&facts, known, &trimmed)?;
        Ok(Cow::Owned(rewritten.unwrap_or(trimmed)))
    }

    /// Returns the update with GC in place of blocks that are attached to it, if there are any.
    fn index_all(
        &mut self,
        facts: &UpdateFacts,
        known: &StateVector,
        update: &[u8],
    ) -> Result<Option<Vec<u8>>, ValidationError> {
        let (types, keys) = (self.types.len(), self.keys.len());
        let mut indexing =
            Indexing { index: self, collected: Vec::new(), long_entries: Vec::new() };
        let indexed = match facts.sections.as_slice() {
            [] => Ok(()),
            [only] => indexing.section(only, known, update),
            several => indexing.sections(several, known, update),
        };
        let Indexing { collected, long_entries, .. } = indexing;
        if let Err(error) = indexed.and_then(|()| check_deleted(long_entries, facts, update)) {
            self.forget(&facts.sections, known, types, keys);
            return Err(error);
        }
        if collected.is_empty() { Ok(None) } else { attach_gc(update, collected).map(Some) }
    }

    /// Removes the records of an update of which a part was rejected.
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

    fn kind(&self, id: Id) -> Kind {
        let runs = self.runs.get(&id.client).map_or(&[][..], Vec::as_slice);
        let run = match runs.last() {
            Some(last) if last.start <= id.clock => Some(last),
            _ => {
                runs.get(..runs.partition_point(|run| run.start <= id.clock)).and_then(<[_]>::last)
            }
        };
        run.map_or(Kind::Content(COLLECTED), |run| run.kind)
    }

    fn location_of(&self, id: Id) -> Location {
        match self.kind(id) {
            Kind::Content(location) => location,
            Kind::Type(number) => self.get_type(number).location,
        }
    }

    fn get_type(&self, number: u32) -> Type {
        let collected = Type { location: COLLECTED, depth: 0 };
        self.types.get(number as usize).copied().unwrap_or(collected)
    }

    /// The location of a block; None if its neighbours disagree.
    fn find(&mut self, block: &Block<'_>) -> Result<Option<Location>, ValidationError> {
        let left = block.origin.map(|id| self.location_of(id));
        let right = block.right_origin.map(|id| self.location_of(id));
        Ok(match (left, right) {
            (Some(left), Some(right)) if left == right => Some(left),
            (Some(COLLECTED), Some(_)) | (Some(_), Some(COLLECTED)) => Some(COLLECTED),
            (Some(_), Some(_)) => None,
            (Some(location), None) | (None, Some(location)) => Some(location),
            (None, None) => Some(self.find_parent(block)?),
        })
    }

    fn find_parent(&mut self, block: &Block<'_>) -> Result<Location, ValidationError> {
        let parent = match block.parent {
            Some(Parent::Root(name)) => self.root(name)?,
            Some(Parent::Block(id)) => match self.kind(id) {
                Kind::Type(number) => number,
                // Yjs looks for a type in a block that has none, and then collects.
                Kind::Content(_) => return Ok(COLLECTED),
            },
            None => return Ok(COLLECTED),
        };
        let key = block.key.map_or(Ok(0), |key| self.key(key))?;
        Ok(Location { parent, key })
    }

    fn root(&mut self, name: &str) -> Result<u32, ValidationError> {
        if let Some(&number) = self.roots.get(name) {
            return Ok(number);
        }
        let number = self.add_type(Type { location: COLLECTED, depth: 0 })?;
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

    fn push(&mut self, id: Id, kind: Kind) {
        // One run is all that most clients ever have.
        let runs = self.runs.entry(id.client).or_insert_with(|| Vec::with_capacity(1));
        if runs.last().is_none_or(|last| last.kind != kind) {
            runs.push(Run { start: id.clock, kind });
        }
    }
}

/// An update that is being recorded.
struct Indexing<'p> {
    index: &'p mut ParentIndex,
    /// Blocks that are attached to collected ones.
    collected: Vec<Section>,
    /// Blocks of several values under one key.
    long_entries: Vec<Section>,
}

/// The blocks of one client that are not recorded yet.
struct Track<'a> {
    client: ClientId,
    clock: u32,
    end: u32,
    blocks: Reader<'a>,
}

impl Indexing<'_> {
    /// Records an update of one client, whose references are all known or lie before the block.
    fn section(
        &mut self,
        section: &Section,
        known: &StateVector,
        update: &[u8],
    ) -> Result<(), ValidationError> {
        let Some(mut track) = Track::new(section, known, update)? else { return Ok(()) };
        while track.clock < track.end {
            let block = Block::read(&mut track.blocks)?;
            self.block(&block, &mut track)?;
        }
        Ok(())
    }

    /// Records an update of several clients in the order in which their blocks refer to each other.
    fn sections(
        &mut self,
        sections: &[Section],
        known: &StateVector,
        update: &[u8],
    ) -> Result<(), ValidationError> {
        let tracks = sections.iter().map(|section| Track::new(section, known, update));
        let mut tracks = tracks.filter_map(Result::transpose).collect::<Result<Vec<_>, _>>()?;
        for first in 0..tracks.len() {
            // Each entry is a track and the clock that the one before it waits for.
            let mut waiting = vec![(first, u32::MAX)];
            while let Some(&(index, until)) = waiting.last() {
                let Some(track) =
                    tracks.get(index).filter(|track| track.clock < until.min(track.end))
                else {
                    waiting.pop();
                    continue;
                };
                let mut blocks = track.blocks.clone();
                let block = Block::read(&mut blocks)?;
                if let Some((target, clock)) = awaited(&block, &tracks) {
                    if waiting.len() == tracks.len() {
                        return Err(ValidationError::CircularReference { client: track.client });
                    }
                    waiting.push((target, clock + 1));
                } else if let Some(track) = tracks.get_mut(index) {
                    track.blocks = blocks;
                    self.block(&block, track)?;
                }
            }
        }
        Ok(())
    }

    /// Records the next block of a track, which was read up to its content.
    fn block<'a>(
        &mut self,
        block: &Block<'a>,
        track: &mut Track<'a>,
    ) -> Result<(), ValidationError> {
        let (client, clock) = (track.client, track.clock);
        let len = block.skip_content(&mut track.blocks)?;
        track.clock = clock.saturating_add(len);
        let location = if block.kind == GC { Some(COLLECTED) } else { self.index.find(block)? };
        let Some(location) = location else {
            return Err(ValidationError::TornBlock { client, clock });
        };
        let kind = if location == COLLECTED {
            if block.kind != GC {
                self.collected.push(track.since(clock));
            }
            Kind::Content(COLLECTED)
        } else if block.kind == TYPE {
            let depth = self.index.get_type(location.parent).depth + 1;
            if depth > TYPE_DEPTH_MAX {
                return Err(ValidationError::TypesTooDeep { client, clock, max: TYPE_DEPTH_MAX });
            }
            Kind::Type(self.index.add_type(Type { location, depth })?)
        } else {
            if location.key != 0 && len > 1 && block.kind != DELETED {
                self.long_entries.push(track.since(clock));
            }
            Kind::Content(location)
        };
        self.index.push(Id { client, clock }, kind);
        Ok(())
    }
}

impl<'a> Track<'a> {
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

    /// The blocks that were read from `start` on.
    fn since(&self, start: u32) -> Section {
        Section { client: self.client, start, end: self.clock, offset: self.blocks.position() }
    }
}

/// A reference of a block to what another track has not reached: the track and the clock.
fn awaited(block: &Block<'_>, tracks: &[Track<'_>]) -> Option<(usize, u32)> {
    block.references().find_map(|id| {
        let index = tracks.binary_search_by_key(&id.client, |track| track.client).ok()?;
        let track = tracks.get(index)?;
        (track.clock..track.end).contains(&id.clock).then_some((index, id.clock))
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
