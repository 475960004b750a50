//! Invariants: during faults, and once everything has come to rest.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use syncline_protocol::document::{Document, LoadedDocument};
use syncline_protocol::validate::{Fit, StateVector, walk_update};

use crate::copy::{MARKER, Replica, YrsCopy};
use crate::server::{Blocking, State, user};
use crate::world::World;

/// The longest recovery: a client's backoff, a load, and the presence snapshot after a second.
const SETTLE_MS: u64 = 12_000;

/// Clients renew after 15 s and forget after 30 s; by then a skipped presence frame is made up for.
const RENEWAL_MS: u64 = 36_000;

/// Runs the seed's world to its end.
pub(crate) fn live(world: &mut World) {
    let ms = world.rng.between(5_000, 60_000);
    world.presence_until = world.now + ms - 2_000;
    world.run(ms);
    world.heal();
    world.run(SETTLE_MS);
    world.check_rest();
    world.check_presence(Watchers::WithoutSkips);
    world.run(RENEWAL_MS);
    world.check_rest();
    world.check_presence(Watchers::All);
    world.crash();
    world.check_stored();
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Watchers {
    WithoutSkips,
    All,
}

impl World {
    /// A loaded document has the CRDT's state vector.
    pub(crate) fn check_loaded(&self, loaded: &mut LoadedDocument) {
        let copy = YrsCopy::of(&loaded.state().unwrap());
        assert_eq!(&clocks(&copy), loaded.state_vector(), "known is the state vector");
        assert!(!copy.is_pending(), "nothing is pending");
        let last = self.store.durable.last();
        assert!(loaded.last() == last || self.store.is_damaged, "a load reads everything");
        self.check_writers(loaded.state_vector());
    }

    /// No client of a replaced history has written into the new one.
    fn check_writers(&self, known: &StateVector) {
        let replaced = known.keys().find(|client| self.store.replaced.contains(&client.get()));
        assert_eq!(replaced, None, "an old history came back");
    }

    /// Every acknowledged update is on disk.
    pub(crate) fn check_acknowledged(&self) {
        let limits = &self.server.limits;
        let mut loaded = LoadedDocument::decode(&self.store.durable, limits).unwrap();
        let copy = YrsCopy::of(&loaded.state().unwrap());
        for update in &self.store.acknowledged {
            let facts = walk_update(update, &limits.sync).unwrap();
            let is_there = match facts.fit(loaded.state_vector()) {
                Fit::Known => true,
                Fit::Ready => !copy.changes(update),
                Fit::Incomplete => false,
            };
            assert!(is_there, "a saved update is lost");
        }
    }

    /// All clients are connected, everything is on disk, and all copies are equal.
    fn check_rest(&self) {
        assert_eq!(self.server.state, State::Up);
        assert!(self.store.is_settled(), "everything is on disk");
        assert!(matches!(self.server.blocking, Blocking::Nothing), "no load hangs");
        let known =
            self.server.document.as_ref().and_then(Document::state_vector).expect("it is loaded");
        let (state, server) = self.stored();
        assert_eq!(&clocks(&server), known);
        self.check_writers(known);
        let content = server.content();
        assert!(!content.to_string().contains(MARKER), "a reader changed the document");
        for (index, client) in self.clients.iter().enumerate() {
            assert!(client.open && client.synced, "client {index} is connected");
            assert!(!client.copy.is_pending(), "client {index} waits for updates");
            match &client.copy {
                _ if client.scribbles => {}
                Replica::Yrs(copy) => {
                    assert_eq!(&clocks(copy), known, "client {index} has another history");
                    let own = copy.content();
                    let news = (copy.changes(&state), server.changes(&client.copy.diff(&[0])));
                    assert_eq!(own, content, "client {index} shows something else {news:?}");
                }
                Replica::Yjs(copy) => {
                    assert!(copy.equals(&state), "client {index} shows something else to Yjs");
                }
            }
        }
        let joined_clients: BTreeSet<_> = self.server.joined.values().copied().collect();
        let connected = self.clients.iter().filter_map(|client| client.link).collect();
        assert_eq!(joined_clients, connected, "the document has the connected sessions");
    }

    fn check_presence(&self, watchers: Watchers) {
        let mut present = BTreeMap::new();
        let mut hiding = BTreeSet::new();
        for (index, client) in self.clients.iter().enumerate() {
            let own = client.awareness.states.get(&client.awareness.own).map(unstamped);
            let intended = client.intended.as_ref().map(unstamped);
            assert!(client.came_hidden || intended == own, "{intended:?} became {own:?}");
            present.extend(own.map(|own| (client.awareness.own, stamped(&own, index))));
            hiding.extend(client.came_hidden.then_some(client.awareness.own));
        }
        for (index, client) in self.clients.iter().enumerate() {
            let mut seen = client.awareness.states.clone();
            // A session is not sent its own states.
            if let Some(own) = seen.get_mut(&client.awareness.own) {
                *own = stamped(&unstamped(own), index);
            }
            let mut present = present.clone();
            if watchers == Watchers::WithoutSkips {
                if client.link.is_none_or(|link| self.links[link].skipped) {
                    continue;
                }
                seen.retain(|client, _| !hiding.contains(client));
                present.retain(|client, _| !hiding.contains(client));
            }
            assert_eq!(seen, present, "client {index} sees who is here");
        }
    }

    /// After a last crash the document is the same.
    fn check_stored(&self) {
        let (_, server) = self.stored();
        for client in self.clients.iter().filter(|client| !client.scribbles) {
            if let Replica::Yrs(copy) = &client.copy {
                assert_eq!(copy.content(), server.content(), "the crash lost something");
            }
        }
    }

    fn stored(&self) -> (Vec<u8>, YrsCopy) {
        let limits = &self.server.limits;
        let mut loaded = LoadedDocument::decode(&self.store.durable, limits).unwrap();
        let state = loaded.state().unwrap();
        let copy = YrsCopy::of(&state);
        (state, copy)
    }
}

/// A state as its client wrote it, even if it learnt the stamped form from another tab.
fn unstamped(state: &Bytes) -> String {
    let text = String::from_utf8(state.to_vec()).unwrap();
    match text.split_once("\"syncline\"") {
        Some((said, _)) => format!("{}}}", said.trim_end_matches(',')),
        None => text,
    }
}

/// A state as others see it.
fn stamped(said: &str, client: usize) -> Bytes {
    let said = said.strip_suffix('}').unwrap();
    let comma = if said == "{" { "" } else { "," };
    format!("{said}{comma}\"syncline\":{{\"sub\":\"{}\"}}}}", user(client)).into()
}

fn clocks(copy: &YrsCopy) -> StateVector {
    let client = |id: u64| syncline_protocol::ClientId::new(id).unwrap();
    copy.clocks().iter().map(|(id, clock)| (client(id.get()), *clock)).collect()
}
