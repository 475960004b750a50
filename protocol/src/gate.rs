//! The gate before the CRDT: every update, state vector and presence message is walked once, by
//! rule, before yrs sees a byte of it.

use std::collections::BTreeMap;

use bytes::Bytes;
use thiserror::Error;

use crate::id::ClientId;

/// How many blocks of each client are known: the next clock that is expected from it.
pub type StateVector = BTreeMap<ClientId, u32>;

/// What one update, state vector or presence message may cost.
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

/// What happens to subdocuments, which make yrs 0.28.1 use freed memory while it collects garbage.
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
    /// Who wrote them.
    pub client: ClientId,
    /// The first clock.
    pub start: u32,
    /// One past the last clock.
    pub end: u32,
}

/// What an update says of itself, learnt without decoding it into a CRDT.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpdateFacts {
    /// The blocks it carries, one section for each client.
    pub sections: Vec<Section>,
    /// For each client that an origin, parent or deletion names: the clock that must be reached
    /// before that reference resolves.
    pub needs: BTreeMap<ClientId, u32>,
    /// Whether it deletes anything.
    pub deletes: bool,
    /// Whether a client's blocks are interrupted (a Skip block).
    pub interrupted: bool,
    /// Whether it carries a subdocument.
    pub subdocuments: bool,
}

/// One client's entry in a presence message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresenceEntry {
    /// Whose state it is.
    pub client: ClientId,
    /// The sender's version of that state.
    pub clock: u32,
    /// The state as JSON text; None when the client is gone (`null`).
    pub state: Option<Bytes>,
}

/// Why the gate refuses bytes.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum GateError {
    /// Placeholder until the walker lands.
    #[error("unwalkable")]
    Unwalkable,
}
