//! Validation: every update, state vector and presence message is checked before the CRDT reads
//! it.
//!
//! yrs 0.28.1 does not check its input. Decodable updates can make it panic, overflow its stack,
//! corrupt memory, or keep a state that can never be encoded again. Validation rejects what no
//! client writes, and extracts the facts that the document needs about the rest:
//!
//! - [`walk_update`] checks the form: integers, counts and lengths against the bytes that are
//!   present, kinds of blocks, text, JSON and nesting, references that point backwards,
//!   deletions in order, and the limits of a [`Budget`]. It returns [`UpdateFacts`].
//! - [`UpdateFacts::fit`] compares the facts with a document's state vector. Only an update that is
//!   [`Fit::Ready`] may reach yrs: where Yjs waits for missing blocks, yrs integrates across the
//!   hole, and the two show different text from then on.
//! - [`trim_known`] removes the known part when an update [overlaps][UpdateFacts::overlaps]
//!   it, as happens when a client types while it synchronises.
//! - [`walk_state_vector`] and [`walk_presence`] do the same for the two other messages.
//! - [`ParentIndex::admit`] records the parent of every block, and rejects a block whose neighbours
//!   have different ones.
//!
//! Nothing here allocates in proportion to an announced number, and nothing recurses
//! deeper than 64 levels (128 in JSON). The rules have ids in `docs/spec-validation.md`; the tests are
//! named after them.
//!
//! **Deliberately absent:** the order of blocks in a list, and what is deleted. A document answers
//! an error or a panic of yrs by rebuilding itself.

mod any;
mod block;
mod canonical;
mod error;
mod gc_attach;
mod long_entry;
mod order;
mod parent_index;
mod presence;
mod state_vector;
mod trim;
mod update;

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::id::ClientId;
use crate::wire::varint::{ReadError, Reader};

pub use canonical::canonical;
pub use error::ValidationError;
pub use parent_index::{ParentIndex, TYPE_DEPTH_MAX};
pub use presence::walk_presence;
pub use state_vector::walk_state_vector;
pub use trim::trim_known;
pub use update::walk_update;

/// Every clock, and every clock with a length added, is below this: yrs computes with 32-bit
/// signed clocks in places, and adds to them without a check.
const CLOCK_END: u32 = (1 << 31) - 256;

/// How many blocks of each client are known: the next clock that is expected from it.
pub type StateVector = BTreeMap<ClientId, u32>;

/// Limits of one update, state vector or presence message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Clients with blocks or deletions in one update.
    pub clients_max: usize,
    /// Ranges in one update's delete set.
    pub delete_ranges_max: usize,
    /// Nesting of arrays and objects inside one JSON-like value.
    pub any_depth_max: usize,
    /// Bytes of one presence state's JSON.
    pub presence_state_bytes_max: usize,
    /// Whether subdocuments (block kind 9) may pass.
    pub subdocuments: Subdocuments,
}

impl Budget {
    /// Updates that a client sends while it edits. They are not always small: y-indexeddb hands
    /// the whole local copy to the other providers as one update, all deletions included.
    pub const LIVE: Self = Self {
        // At least 5 bytes each. A document whose users open it 10 times a day for 4 years has
        // 14,600 client ids; yrs keeps about 165 bytes for each, so this is 2.7 MB.
        clients_max: 16_384,
        // At least 2 bytes each; yrs may split a block for each, about 190 bytes: 25 MB.
        delete_ranges_max: 131_072,
        any_depth_max: 32,
        presence_state_bytes_max: 8 << 10,
        subdocuments: Subdocuments::Refused,
    };

    /// A first synchronisation (SyncStep2), which brings all that the client has. Its larger
    /// frame bounds it, with limits that keep the time in yrs below a second or two.
    pub const SYNC: Self =
        Self { clients_max: 131_072, delete_ranges_max: 1_048_576, ..Self::LIVE };

    /// Stored records. The sum of all accepted updates must load for ever, so that only the size of
    /// the document bounds it.
    pub const STORED: Self = Self {
        clients_max: usize::MAX,
        delete_ranges_max: usize::MAX,
        any_depth_max: 64,
        ..Self::LIVE
    };
}

/// The treatment of subdocuments, which make yrs 0.28.1 use freed memory while it collects garbage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subdocuments {
    /// An update with one is refused.
    Refused,
    /// They pass; the document must run without garbage collection.
    Allowed,
}

/// The blocks of one client in an update: clocks `start..end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section {
    /// Their author.
    pub client: ClientId,
    /// The first clock.
    pub start: u32,
    /// One past the last clock.
    pub end: u32,
    /// Where the first block begins in the bytes of the update.
    pub offset: usize,
}

/// Facts about an update, extracted without a CRDT.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not a state")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpdateFacts {
    /// The blocks it carries, one section for each client, ascending by client.
    pub sections: Vec<Section>,
    /// For each client that an origin, parent or deletion names: the clock that must be reached
    /// before that reference resolves.
    pub needs: BTreeMap<ClientId, u32>,
    /// Where the deletions begin in the bytes of the update.
    pub deletions_offset: usize,
    /// Whether it deletes anything.
    pub deletes: bool,
    /// Whether a client's blocks are interrupted (a Skip block).
    pub interrupted: bool,
    /// Whether it carries a subdocument.
    pub subdocuments: bool,
}

impl UpdateFacts {
    /// Whether a document that knows `known` can take this update.
    #[must_use]
    pub fn fit(&self, known: &StateVector) -> Fit {
        let knows = |client: ClientId| known.get(&client).copied().unwrap_or(0);
        if !self.deletes && self.sections.iter().all(|section| section.end <= knows(section.client))
        {
            return Fit::Known;
        }
        let is_hole = |section: &Section| section.start > knows(section.client);
        let reaches = |client: ClientId, clock: u32| {
            clock <= knows(client) || self.section(client).is_some_and(|own| clock <= own.end)
        };
        if self.interrupted
            || self.sections.iter().any(is_hole)
            || !self.needs.iter().all(|(&client, &clock)| reaches(client, clock))
        {
            return Fit::Incomplete;
        }
        Fit::Ready
    }

    /// Whether the update only deletes. [`Self::fit`] cannot decide whether such an update is known.
    #[must_use]
    pub fn is_deletion_only(&self) -> bool {
        self.sections.is_empty() && self.deletes
    }

    /// Whether a client's blocks are known in part. Such an update may reach yrs only after
    /// [`trim_known`].
    #[must_use]
    pub fn overlaps(&self, known: &StateVector) -> bool {
        self.sections.iter().any(|section| {
            let clock = known.get(&section.client).copied().unwrap_or(0);
            section.start < clock && clock < section.end
        })
    }

    /// Raises `known` to the clocks after this update.
    pub fn advance(&self, known: &mut StateVector) {
        for section in &self.sections {
            let clock = known.entry(section.client).or_insert(section.end);
            *clock = section.end.max(*clock);
        }
    }

    fn section(&self, client: ClientId) -> Option<&Section> {
        let index = self.sections.binary_search_by_key(&client, |section| section.client).ok()?;
        self.sections.get(index)
    }
}

/// How an update relates to a document's state vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// Every block is known and nothing is deleted. There is nothing to apply, log or relay.
    Known,
    /// Nothing is missing: apply it.
    Ready,
    /// Blocks are missing that the sender has: earlier ones, or referenced ones. Never apply it; ask
    /// for the rest.
    Incomplete,
}

/// One client's entry in a presence message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresenceEntry {
    /// The client of the state.
    pub client: ClientId,
    /// The sender's version of that state.
    pub clock: u32,
    /// The state as JSON text; None when the client is gone (`null`).
    pub state: Option<Bytes>,
}

fn read_client(reader: &mut Reader<'_>) -> Result<ClientId, ValidationError> {
    let offset = reader.position();
    let id = reader.var_uint()?;
    let max = ClientId::END - 1;
    ClientId::new(id).ok_or(ValidationError::Unreadable(ReadError::TooLarge {
        offset,
        value: id,
        max,
    }))
}
