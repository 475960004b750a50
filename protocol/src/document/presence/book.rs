//! Who is here: presence states, who speaks for them, and the clocks that make every peer believe.
//!
//! Three habits of stock clients shape the rules (spec, section PRESENCE):
//!
//! - They send back every state they hear. A session that has been told of others therefore cannot
//!   claim a state that a live session owns, nor revive one that has just ended.
//! - On reconnect they announce themselves with the clock they had, which every peer that saw them
//!   leave ignores. So peers are sent clocks of our own: the time, in ticks. A state is published
//!   once a tick at most, so its clock neither repeats nor runs ahead, not even across a restart.
//! - They announce themselves before anything else. So a session is told of others only once it has
//!   spoken or answered: what it says before that cannot be an echo.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use crate::document::stamp::{Stamp, strip};
use crate::id::{ClientId, SessionId};
use crate::time::{Millis, Timestamp};
use crate::validate::{PresenceEntry, ValidationError};

/// Clients renew every 15 s and forget each other after 30 s (y-protocols). Half as much again
/// leaves room for throttled background tabs.
const EXPIRY: Millis = Millis::from_secs(45);

/// How long an ended state is remembered, so that late echoes do not revive it.
const AFTERLIFE: Millis = Millis::from_secs(60);

/// Ended states remembered at a time. At the bound the oldest go first.
const ENDED_MAX: usize = 4_096;

/// 2026-01-01T00:00:00Z, where published clocks begin.
const CLOCK_EPOCH_MS: u64 = 1_767_225_600_000;

/// One tick of published clocks, and so the shortest time between two of one state: a pointer that
/// moves is seen 15 times a second. 32 bits of ticks last until 2034.
const CLOCK_TICK_MS: u64 = 64;

/// Published clocks are all above this (reached in February 2026), a client's own count below.
const PUBLISHED_FROM: u32 = 1 << 26;

/// Publications of a state that are remembered. Two tabs of one browser also tell each other what
/// they hear from the server, so a client can learn its own published clock and send it back.
const SAID_MAX: usize = 8;

/// The presence states of one document.
#[derive(Debug, Default)]
pub(crate) struct PresenceBook {
    states: BTreeMap<ClientId, State>,
    /// States that changed and were published in this tick already.
    pending: BTreeSet<ClientId>,
    /// The tick in which every state was last given a fresh clock for newcomers.
    freshened_at: u32,
}

#[derive(Debug)]
struct State {
    /// Who speaks for it; None once it has ended.
    owner: Option<SessionId>,
    /// The verified `sub` of whoever spoke for it last.
    sub: Arc<str>,
    /// The owner's own latest clock.
    heard: u32,
    /// The clock that peers were sent last; 0 before the first.
    published: u32,
    /// What peers were sent in this life, the latest last, without the identity.
    said: VecDeque<(u32, Option<Bytes>)>,
    /// What the client says, without the identity. None when it said that it is gone.
    json: Option<Bytes>,
    /// What peers are sent of it.
    shown: Option<Bytes>,
    /// When it was last renewed, or when it ended.
    seen_at: Timestamp,
}

/// Who sends a presence message, as far as the rules care.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PresenceSource<'a> {
    pub(crate) session: SessionId,
    /// Its verified `sub`.
    pub(crate) sub: &'a Arc<str>,
    /// What is written into its states; None: they are shown as they are.
    pub(crate) stamp: Option<&'a Stamp>,
    /// Whether it has been told of others, so that what it says may be an echo.
    pub(crate) may_echo: bool,
    /// How many states it may speak for at a time.
    pub(crate) states_max: usize,
    /// Bytes of one state.
    pub(crate) state_bytes_max: usize,
}

impl PresenceSource<'_> {
    /// What it says in an entry, and what others are shown of that.
    fn words(&self, entry: &PresenceEntry) -> Result<Words, ValidationError> {
        let Some(state) = &entry.state else { return Ok(Words::default()) };
        let said = match self.stamp {
            Some(_) => strip(state),
            // A copy of its own: a slice would keep the socket's whole read buffer alive.
            None => Bytes::copy_from_slice(state),
        };
        let (bytes, max) = (said.len(), self.state_bytes_max);
        if bytes > max {
            return Err(ValidationError::PresenceStateOverBudget {
                client: entry.client,
                bytes,
                max,
            });
        }
        let shown = self.stamp.map_or_else(|| said.clone(), |stamp| stamp.put_on(&said));
        Ok(Words { said: Some(said), shown: Some(shown) })
    }
}

/// A state in two forms, or the end of one.
#[derive(Default)]
struct Words {
    said: Option<Bytes>,
    shown: Option<Bytes>,
}

impl PresenceBook {
    /// Takes in a message, to be published by the next [`Self::flush`]. Entries that the source
    /// has no say in are ignored, not punished. Returns how many it may not add to those it has.
    ///
    /// # Errors
    /// If a state of its own is too large.
    pub(crate) fn receive(
        &mut self,
        now: Timestamp,
        source: PresenceSource<'_>,
        entries: Vec<PresenceEntry>,
    ) -> Result<u64, ValidationError> {
        let mut ignored = 0;
        let is_own = |state: &&State| state.owner == Some(source.session);
        let mut owned = self.states.values().filter(is_own).count();
        // An announcement names one client, the one that sends it.
        let announcement = !source.may_echo && entries.len() == 1;
        for entry in entries {
            match self.states.get_mut(&entry.client) {
                Some(state) if state.owner == Some(source.session) => {
                    if state.renew(now, source, &entry)? {
                        self.pending.insert(entry.client);
                    }
                }
                // Whoever comes back is the same user; others have no say in who is here.
                Some(state)
                    if state.owner.is_some() && !(announcement && state.sub == *source.sub) => {}
                Some(state) if source.may_echo && state.is_echo(&entry) => {}
                // Somebody who was not here has nothing to end.
                _ if entry.state.is_none() => {}
                _ if owned >= source.states_max => ignored += 1,
                _ => {
                    owned += 1;
                    self.introduce(now, source, &entry)?;
                }
            }
        }
        Ok(ignored)
    }

    /// Shows the states of a session under the identity that it has now.
    pub(crate) fn rename(&mut self, session: SessionId, stamp: &Stamp) {
        let own = self.states.iter_mut().filter(|(_, state)| state.owner == Some(session));
        for (&client, state) in own {
            if let Some(json) = &state.json {
                state.shown = Some(stamp.put_on(json));
                self.pending.insert(client);
            }
        }
    }

    /// What peers must be sent now. What was published in this tick already waits for the next.
    pub(crate) fn flush(&mut self, now: Timestamp) -> Vec<PresenceEntry> {
        let tick = clock_tick(now);
        let mut entries = Vec::new();
        self.pending.retain(|&client| {
            let Some(state) = self.states.get_mut(&client) else { return false };
            if state.published >= tick {
                return true;
            }
            // Nobody has to be told that somebody is gone whom they never saw.
            if state.json.is_some() || !state.said.is_empty() {
                state.publish(tick);
                entries.push(state.entry(client));
            }
            false
        });
        entries
    }

    /// When the next flush has something to send, or clocks can be freshened again.
    pub(crate) fn next_tick(now: Timestamp) -> Timestamp {
        let ticks = u64::from(clock_tick(now)) + 1;
        Timestamp::from_unix_ms(CLOCK_EPOCH_MS + ticks * CLOCK_TICK_MS)
    }

    /// Whether something waits for the next tick.
    pub(crate) fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether `session` speaks for a client.
    pub(crate) fn is_owner(&self, session: SessionId, client: ClientId) -> bool {
        self.states.get(&client).is_some_and(|state| state.owner == Some(session))
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

    /// Gives every state a clock that nobody has seen: a client that reconnects has dropped the
    /// states of others but remembers their clocks, and ignores what does not exceed them. False
    /// if that was done in this tick already.
    pub(crate) fn freshen(&mut self, now: Timestamp) -> bool {
        let tick = clock_tick(now);
        if tick <= self.freshened_at {
            return false;
        }
        self.freshened_at = tick;
        let here = self.states.values_mut().filter(|state| state.json.is_some());
        here.filter(|state| state.published < tick).for_each(|state| state.publish(tick));
        true
    }

    /// Everybody who is here, but not those for whom `session` speaks: it would take the higher
    /// clock for news of itself and go back to what it said before.
    pub(crate) fn others(&self, session: SessionId) -> Vec<PresenceEntry> {
        let here = self.states.iter().filter(|(_, state)| state.is_other(session));
        here.map(|(&client, state)| state.entry(client)).collect()
    }

    /// Whether there is anything that time can change.
    pub(crate) fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    fn introduce(
        &mut self,
        now: Timestamp,
        source: PresenceSource<'_>,
        entry: &PresenceEntry,
    ) -> Result<(), ValidationError> {
        let words = source.words(entry)?;
        let state = State {
            owner: Some(source.session),
            sub: Arc::clone(source.sub),
            heard: entry.clock,
            published: self.states.get(&entry.client).map_or(0, |ended| ended.published),
            said: VecDeque::new(),
            json: words.said,
            shown: words.shown,
            seen_at: now,
        };
        self.states.insert(entry.client, state);
        self.pending.insert(entry.client);
        Ok(())
    }

    fn end(&mut self, now: Timestamp, which: impl Fn(&State) -> bool) -> Vec<PresenceEntry> {
        let mut ended = Vec::new();
        for (&client, state) in self.states.iter_mut().filter(|(_, state)| which(state)) {
            state.json = None;
            state.shown = None;
            state.owner = None;
            state.seen_at = now;
            self.pending.remove(&client);
            // Where the clock is the same, peers take the end for news.
            if state.said.back().is_some_and(|(_, json)| json.is_some()) {
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

fn clock_tick(now: Timestamp) -> u32 {
    let ticks = now.as_unix_ms().saturating_sub(CLOCK_EPOCH_MS) / CLOCK_TICK_MS;
    u32::try_from(ticks).unwrap_or(u32::MAX)
}

impl State {
    /// Takes in what its owner says. Returns whether peers must hear of it.
    fn renew(
        &mut self,
        now: Timestamp,
        source: PresenceSource<'_>,
        entry: &PresenceEntry,
    ) -> Result<bool, ValidationError> {
        let ends = entry.clock == self.heard && entry.state.is_none() && self.json.is_some();
        if entry.clock <= self.heard && !ends {
            return Ok(false);
        }
        let words = source.words(entry)?;
        self.heard = entry.clock;
        self.seen_at = now;
        let learnt =
            |(clock, json): &(u32, Option<Bytes>)| *clock == entry.clock && *json == words.said;
        if self.said.iter().any(learnt) {
            // It goes on from its published clock. Publishing that again would go in a circle.
            return Ok(false);
        }
        self.json = words.said;
        self.shown = words.shown;
        Ok(true)
    }

    fn publish(&mut self, clock: u32) {
        self.published = clock;
        if self.said.len() == SAID_MAX {
            self.said.pop_front();
        }
        self.said.push_back((clock, self.json.clone()));
    }

    /// Whether an entry may repeat what peers were sent before the state ended.
    fn is_echo(&self, entry: &PresenceEntry) -> bool {
        (PUBLISHED_FROM..=self.published).contains(&entry.clock)
    }

    /// Whether somebody is here for whom `session` does not speak, and whom peers know.
    fn is_other(&self, session: SessionId) -> bool {
        self.json.is_some() && self.owner != Some(session) && !self.said.is_empty()
    }

    fn entry(&self, client: ClientId) -> PresenceEntry {
        PresenceEntry { client, clock: self.published, state: self.shown.clone() }
    }
}
