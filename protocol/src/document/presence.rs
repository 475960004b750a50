//! Who is here: presence states, who speaks for them, and the clocks that make every peer believe.
//!
//! Three habits of stock clients shape the rules (spec, section PRESENCE):
//!
//! - They send back every state they hear. A session that has been told of others therefore cannot
//!   claim a state that a live session owns, nor revive one that has just ended.
//! - On reconnect they announce themselves with the clock they had, which every peer that saw them
//!   leave ignores. So peers are sent clocks of our own that only rise, also across a restart.
//! - They announce themselves before anything else. So a session is told of others only once it has
//!   spoken or answered: what it says before that cannot be an echo.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::gate::PresenceEntry;
use crate::id::{ClientId, SessionId};
use crate::time::{Millis, Timestamp};

/// Clients renew every 15 s and forget each other after 30 s (y-protocols). Half as much again
/// leaves room for throttled background tabs.
const EXPIRY: Millis = Millis::from_secs(45);

/// How long an ended state is remembered, so that late echoes do not revive it.
const AFTERLIFE: Millis = Millis::from_secs(60);

/// Ended states remembered at a time. At the bound the oldest go first.
const ENDED_MAX: usize = 4_096;

/// 2026-01-01T00:00:00Z, where published clocks begin.
const CLOCK_EPOCH_MS: u64 = 1_767_225_600_000;

/// Published clocks advance by eight a second at most before a restart could repeat one; 32 bits
/// last 17 years.
const CLOCK_TICK_MS: u64 = 125;

/// The presence states of one document.
#[derive(Debug, Default)]
pub(crate) struct Presence {
    states: BTreeMap<ClientId, State>,
}

#[derive(Debug)]
struct State {
    /// Who speaks for it; None once it has ended.
    owner: Option<SessionId>,
    /// The owner's own latest clock.
    heard: u32,
    /// The first clock that peers were sent in this life of the state.
    published_from: u32,
    /// The latest clock that peers were sent.
    published: u32,
    /// None when the client said that it is gone.
    json: Option<Bytes>,
    /// When it was last renewed, or when it ended.
    seen_at: Timestamp,
}

/// Who sends a presence message, as far as the rules care.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Speaker {
    pub(crate) session: SessionId,
    /// Whether it has been told of others, so that what it says may be an echo.
    pub(crate) told: bool,
    /// How many states it may speak for at a time.
    pub(crate) states_max: usize,
}

/// What a presence message changed.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// What peers must be told.
    pub(crate) publish: Vec<PresenceEntry>,
    /// Whether the speaker spoke for a state of its own.
    pub(crate) own: bool,
}

impl Presence {
    /// Takes in a message. Entries that the speaker has no say in are ignored, not punished.
    pub(crate) fn hear(
        &mut self,
        now: Timestamp,
        speaker: Speaker,
        entries: Vec<PresenceEntry>,
    ) -> Heard {
        let mut heard = Heard::default();
        let is_own = |state: &&State| state.owner == Some(speaker.session);
        let mut owned = self.states.values().filter(is_own).count();
        // An announcement names one client, the one that sends it.
        let announcement = !speaker.told && entries.len() == 1;
        for entry in entries {
            let client = entry.client;
            match self.states.get(&client) {
                Some(state) if state.owner == Some(speaker.session) => {
                    heard.own = true;
                    if !state.is_news(&entry) {
                        continue;
                    }
                }
                Some(state) if state.owner.is_some() && !announcement => continue,
                Some(state) if speaker.told && state.is_echo(&entry) => continue,
                _ => {
                    let nothing_to_end = entry.state.is_none();
                    if nothing_to_end || owned >= speaker.states_max {
                        continue;
                    }
                    owned += 1;
                    heard.own = true;
                    self.introduce(now, speaker.session, client);
                }
            }
            heard.publish.extend(self.renew(now, entry));
        }
        heard
    }

    /// Ends every state of a session that left.
    pub(crate) fn leave(&mut self, now: Timestamp, session: SessionId) -> Vec<PresenceEntry> {
        self.end(now, |state| state.owner == Some(session))
    }

    /// Ends states that were not renewed in time and forgets what ended long ago.
    pub(crate) fn sweep(&mut self, now: Timestamp) -> Vec<PresenceEntry> {
        self.states.retain(|_, state| state.owner.is_some() || now - state.seen_at < AFTERLIFE);
        self.end(now, |state| state.owner.is_some() && now - state.seen_at >= EXPIRY)
    }

    /// Everybody who is here, but not those for whom `session` speaks: it would take the higher
    /// clock for news of itself and go back to what it said before.
    ///
    /// A client that was here a moment ago has forgotten everybody but kept their clocks, so they
    /// are brought up to now.
    pub(crate) fn others(&mut self, now: Timestamp, session: SessionId) -> Vec<PresenceEntry> {
        let is_other = |state: &State| state.json.is_some() && state.owner != Some(session);
        let here = self.states.iter_mut().filter(|(_, state)| is_other(state));
        here.map(|(&client, state)| {
            state.published = state.published.max(clock_at(now));
            state.entry(client)
        })
        .collect()
    }

    /// Whether there is anything that time can change.
    pub(crate) fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    fn introduce(&mut self, now: Timestamp, owner: SessionId, client: ClientId) {
        let ended = self.states.get(&client).map_or(0, |state| state.published);
        let published = clock_at(now).max(ended);
        let state = State {
            owner: Some(owner),
            heard: 0,
            published_from: published,
            published,
            json: None,
            seen_at: now,
        };
        self.states.insert(client, state);
    }

    fn renew(&mut self, now: Timestamp, entry: PresenceEntry) -> Option<PresenceEntry> {
        let state = self.states.get_mut(&entry.client)?;
        state.heard = entry.clock;
        state.published = state.published.saturating_add(1).max(entry.clock);
        // Copied: a slice would keep the socket's whole read buffer alive.
        state.json = entry.state.map(|json| Bytes::copy_from_slice(&json));
        state.seen_at = now;
        Some(state.entry(entry.client))
    }

    fn end(&mut self, now: Timestamp, which: impl Fn(&State) -> bool) -> Vec<PresenceEntry> {
        let mut ended = Vec::new();
        for (&client, state) in self.states.iter_mut().filter(|(_, state)| which(state)) {
            let was_here = state.json.take().is_some();
            state.owner = None;
            state.seen_at = now;
            if was_here {
                state.published = state.published.saturating_add(1);
                ended.push(state.entry(client));
            }
        }
        self.forget_beyond(ENDED_MAX);
        ended
    }

    fn forget_beyond(&mut self, bound: usize) {
        if self.states.len() <= bound {
            return;
        }
        let mut ended: Vec<_> = self
            .states
            .iter()
            .filter(|(_, state)| state.owner.is_none())
            .map(|(&client, state)| (state.seen_at, client))
            .collect();
        let excess = ended.len().saturating_sub(bound);
        ended.sort_unstable();
        for (_, client) in ended.into_iter().take(excess) {
            self.states.remove(&client);
        }
    }
}

/// Where published clocks are at a moment, if nothing pushed them further.
fn clock_at(now: Timestamp) -> u32 {
    let ticks = now.as_unix_ms().saturating_sub(CLOCK_EPOCH_MS) / CLOCK_TICK_MS;
    u32::try_from(ticks).unwrap_or(u32::MAX)
}

impl State {
    /// Whether the owner says something it has not said before.
    fn is_news(&self, entry: &PresenceEntry) -> bool {
        entry.clock > self.heard
            || (entry.clock == self.heard && entry.state.is_none() && self.json.is_some())
    }

    /// Whether an entry repeats what peers were sent in the life that ended.
    fn is_echo(&self, entry: &PresenceEntry) -> bool {
        (self.published_from..=self.published).contains(&entry.clock)
    }

    fn entry(&self, client: ClientId) -> PresenceEntry {
        PresenceEntry { client, clock: self.published, state: self.json.clone() }
    }
}
