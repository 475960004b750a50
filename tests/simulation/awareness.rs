//! Awareness as y-protocols 1.0 keeps it, habits and flaws included.

use std::collections::BTreeMap;

use bytes::Bytes;
use syncline_protocol::validate::PresenceEntry;
use syncline_protocol::wire::varint::{write_buffer, write_var_uint};

const OUTDATED_MS: u64 = 30_000;

#[derive(Debug)]
pub(crate) struct Awareness {
    pub(crate) own: u64,
    pub(crate) states: BTreeMap<u64, Bytes>,
    meta: BTreeMap<u64, Meta>,
}

#[derive(Clone, Copy, Debug)]
struct Meta {
    clock: u64,
    updated_at: u64,
}

impl Awareness {
    pub(crate) fn new(now: u64, own: u64) -> Self {
        let mut awareness = Self { own, states: BTreeMap::new(), meta: BTreeMap::new() };
        awareness.set_own(now, Some(Bytes::from_static(b"{}")));
        awareness
    }

    pub(crate) fn set_own(&mut self, now: u64, state: Option<Bytes>) {
        let clock = self.meta.get(&self.own).map_or(0, |meta| meta.clock + 1);
        match state {
            Some(state) => drop(self.states.insert(self.own, state)),
            None => drop(self.states.remove(&self.own)),
        }
        self.meta.insert(self.own, Meta { clock, updated_at: now });
    }

    pub(crate) fn is_set(&self) -> bool {
        self.states.contains_key(&self.own)
    }

    /// Takes in what the server says, and returns whom it changed: they are all sent back.
    pub(crate) fn apply(&mut self, now: u64, entries: &[PresenceEntry]) -> Vec<u64> {
        let mut changed = Vec::new();
        for entry in entries {
            let client = entry.client.get();
            let mut clock = u64::from(entry.clock);
            let meta = self.meta.get(&client).copied();
            let current = meta.map_or(0, |meta| meta.clock);
            let ends = entry.state.is_none();
            if !(current < clock || (current == clock && ends && self.states.contains_key(&client)))
            {
                continue;
            }
            match &entry.state {
                None if client == self.own && self.is_set() => clock += 1,
                None => drop(self.states.remove(&client)),
                Some(state) => drop(self.states.insert(client, state.clone())),
            }
            self.meta.insert(client, Meta { clock, updated_at: now });
            if meta.is_some() || !ends {
                changed.push(client);
            }
        }
        changed
    }

    /// What its interval of 3 s does. Returns whom it changed, a list for each event.
    pub(crate) fn check(&mut self, now: u64) -> Vec<Vec<u64>> {
        let mut events = Vec::new();
        let renewed_at = self.meta[&self.own].updated_at;
        if self.is_set() && now - renewed_at >= OUTDATED_MS / 2 {
            let state = self.states.get(&self.own).cloned();
            self.set_own(now, state);
            events.push(vec![self.own]);
        }
        let outdated: Vec<u64> = self
            .states
            .keys()
            .filter(|client| **client != self.own)
            .filter(|client| now - self.meta[client].updated_at >= OUTDATED_MS)
            .copied()
            .collect();
        for client in &outdated {
            self.states.remove(client);
        }
        if !outdated.is_empty() {
            events.push(outdated);
        }
        events
    }

    /// The connection closed: the states of others are gone, and their clocks stay.
    pub(crate) fn forget_others(&mut self) {
        self.states.retain(|client, _| *client == self.own);
    }

    pub(crate) fn encode(&self, clients: &[u64]) -> Vec<u8> {
        let mut payload = Vec::new();
        write_var_uint(&mut payload, clients.len() as u64);
        for client in clients {
            write_var_uint(&mut payload, *client);
            write_var_uint(&mut payload, self.meta[client].clock);
            let state = self.states.get(client);
            write_buffer(&mut payload, state.map_or(&b"null"[..], |state| &state[..]));
        }
        payload
    }
}
