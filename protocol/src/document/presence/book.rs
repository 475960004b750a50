//! The presence states of clients, the sessions that own them, and the clocks that make every peer
//! accept them.
//!
//! Three habits of stock clients shape the rules (spec, section PRESENCE):
//!
//! - They echo every state they receive. A session that was sent the states of others therefore
//!   cannot claim a state that a live session owns, nor revive one that has just ended.
//! - On reconnect they announce themselves with the clock they had, which every peer that saw them
//!   leave ignores. So published clocks are the server's: the time, in ticks. A state is published
//!   once a tick at most, so its clock neither repeats nor runs ahead, not even across a restart.
//! - They announce themselves before anything else. So a session is sent the states of others only
//!   after its own first state or answer: whatever comes before that cannot be an echo.

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

/// Publications of a state that are remembered. Two tabs of one browser also exchange the states
/// that the server sent, so a client can learn its own published clock and send it back.
const HISTORY_MAX: usize = 8;

/// The presence states of one document.
#[derive(Debug, Default)]
pub(crate) struct PresenceBook {
    states: BTreeMap<ClientId, PresenceState>,
    /// States that changed and were published in this tick already.
    pending: BTreeSet<ClientId>,
    /// The tick in which every state was last given a fresh clock for newcomers.
    freshened_at: u32,
}

#[derive(Debug)]
struct PresenceState {
    /// The session it belongs to; None once it has ended.
    owner: Option<SessionId>,
    /// The verified `sub` of its last owner.
    sub: Arc<str>,
    /// The owner's own latest clock.
    received_clock: u32,
    /// The clock that peers were sent last; 0 before the first.
    published_clock: u32,
    /// States published in this life with their clocks, the latest last, without the identity.
    history: VecDeque<(u32, Option<Bytes>)>,
    /// The client's state, without the identity. None after it announced its end.
    received: Option<Bytes>,
    /// The state as it is published.
    stamped: Option<Bytes>,
    /// When it was last renewed, or when it ended.
    renewed_at: Timestamp,
}

/// The session that sends a presence message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PresenceSource<'a> {
    pub(crate) session: SessionId,
    /// Its verified `sub`.
    pub(crate) sub: &'a Arc<str>,
    /// The identity that is written into its states; None: they are published as they are.
    pub(crate) stamp: Option<&'a Stamp>,
    /// Whether it was sent the states of others, so that its entries may be echoes.
    pub(crate) may_echo: bool,
    /// How many states it may own at a time.
    pub(crate) states_max: usize,
    /// Bytes of one state.
    pub(crate) state_bytes_max: usize,
}

impl PresenceSource<'_> {
    /// An entry's state as it was received, and as it is published.
    fn forms(&self, entry: &PresenceEntry) -> Result<Forms, ValidationError> {
        let Some(state) = &entry.state else { return Ok(Forms::default()) };
        let received = match self.stamp {
            Some(_) => strip(state),
            // A copy of its own: a slice would keep the socket's whole read buffer alive.
            None => Bytes::copy_from_slice(state),
        };
        let (bytes, max) = (received.len(), self.state_bytes_max);
        if bytes > max {
            return Err(ValidationError::PresenceStateOverBudget {
                client: entry.client,
                bytes,
                max,
            });
        }
        let stamped = self.stamp.map_or_else(|| received.clone(), |stamp| stamp.put_on(&received));
        Ok(Forms { received: Some(received), stamped: Some(stamped) })
    }
}

/// A state in two forms; None: its end.
#[derive(Default)]
struct Forms {
    received: Option<Bytes>,
    stamped: Option<Bytes>,
}

impl PresenceBook {
    /// Applies a message; the next [`Self::flush`] publishes it. Entries for states of other sessions
    /// are ignored. Returns how many were ignored because the session has as many as it may.
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
        let is_own = |state: &&PresenceState| state.owner == Some(source.session);
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
                // A client that comes back has the same user; other sessions cannot take a state.
                Some(state)
                    if state.owner.is_some() && !(announcement && state.sub == *source.sub) => {}
                Some(state) if source.may_echo && state.is_echo(&entry) => {}
                // A state that does not exist cannot end.
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

    /// Stamps the states of a session with its new identity.
    pub(crate) fn rename(&mut self, session: SessionId, stamp: &Stamp) {
        let own = self.states.iter_mut().filter(|(_, state)| state.owner == Some(session));
        for (&client, state) in own {
            if let Some(received) = &state.received {
                state.stamped = Some(stamp.put_on(received));
                self.pending.insert(client);
            }
        }
    }

    /// The states to publish now. Those published in this tick already wait for the next.
    pub(crate) fn flush(&mut self, now: Timestamp) -> Vec<PresenceEntry> {
        let tick = clock_tick(now);
        let mut entries = Vec::new();
        self.pending.retain(|&client| {
            let Some(state) = self.states.get_mut(&client) else { return false };
            if state.published_clock >= tick {
                return true;
            }
            // The end of a state that was never published is not published either.
            if state.received.is_some() || !state.history.is_empty() {
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

    /// Whether `session` owns a client's state.
    pub(crate) fn is_owner(&self, session: SessionId, client: ClientId) -> bool {
        self.states.get(&client).is_some_and(|state| state.owner == Some(session))
    }

    /// Ends every state of a session that left.
    pub(crate) fn leave(&mut self, now: Timestamp, session: SessionId) -> Vec<PresenceEntry> {
        self.end(now, |state| state.owner == Some(session))
    }

    /// Ends states that were not renewed in time, and forgets those that ended long ago.
    pub(crate) fn sweep(&mut self, now: Timestamp) -> Vec<PresenceEntry> {
        self.states.retain(|_, state| state.owner.is_some() || now - state.renewed_at < AFTERLIFE);
        self.end(now, |state| state.owner.is_some() && now - state.renewed_at >= EXPIRY)
    }

    /// Gives every state a clock that no client has seen: a client that reconnects has dropped the
    /// states of others but remembers their clocks, and ignores lower ones. False if that was done
    /// in this tick already.
    pub(crate) fn freshen(&mut self, now: Timestamp) -> bool {
        let tick = clock_tick(now);
        if tick <= self.freshened_at {
            return false;
        }
        self.freshened_at = tick;
        let here = self.states.values_mut().filter(|state| state.received.is_some());
        here.filter(|state| state.published_clock < tick).for_each(|state| state.publish(tick));
        true
    }

    /// All states but those of `session`: its client would take the higher clock for news of itself
    /// and go back to an earlier state.
    pub(crate) fn others(&self, session: SessionId) -> Vec<PresenceEntry> {
        let here = self.states.iter().filter(|(_, state)| state.is_other(session));
        here.map(|(&client, state)| state.entry(client)).collect()
    }

    /// Whether there is no state that time can change.
    pub(crate) fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    fn introduce(
        &mut self,
        now: Timestamp,
        source: PresenceSource<'_>,
        entry: &PresenceEntry,
    ) -> Result<(), ValidationError> {
        let forms = source.forms(entry)?;
        let state = PresenceState {
            owner: Some(source.session),
            sub: Arc::clone(source.sub),
            received_clock: entry.clock,
            published_clock: self
                .states
                .get(&entry.client)
                .map_or(0, |ended| ended.published_clock),
            history: VecDeque::new(),
            received: forms.received,
            stamped: forms.stamped,
            renewed_at: now,
        };
        self.states.insert(entry.client, state);
        self.pending.insert(entry.client);
        Ok(())
    }

    fn end(
        &mut self,
        now: Timestamp,
        which: impl Fn(&PresenceState) -> bool,
    ) -> Vec<PresenceEntry> {
        let mut ended = Vec::new();
        for (&client, state) in self.states.iter_mut().filter(|(_, state)| which(state)) {
            state.received = None;
            state.stamped = None;
            state.owner = None;
            state.renewed_at = now;
            self.pending.remove(&client);
            // At the same clock, peers accept the end of a state as newer.
            if state.history.back().is_some_and(|(_, received)| received.is_some()) {
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
            .map(|(&client, state)| (state.renewed_at, client))
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

impl PresenceState {
    /// Applies an entry of its owner. Returns whether it must be published.
    fn renew(
        &mut self,
        now: Timestamp,
        source: PresenceSource<'_>,
        entry: &PresenceEntry,
    ) -> Result<bool, ValidationError> {
        let ends =
            entry.clock == self.received_clock && entry.state.is_none() && self.received.is_some();
        if entry.clock <= self.received_clock && !ends {
            return Ok(false);
        }
        let forms = source.forms(entry)?;
        self.received_clock = entry.clock;
        self.renewed_at = now;
        let learnt = |(clock, received): &(u32, Option<Bytes>)| {
            *clock == entry.clock && *received == forms.received
        };
        if self.history.iter().any(learnt) {
            // The client goes on from its published clock. Publishing that again would never end.
            return Ok(false);
        }
        self.received = forms.received;
        self.stamped = forms.stamped;
        Ok(true)
    }

    fn publish(&mut self, clock: u32) {
        self.published_clock = clock;
        if self.history.len() == HISTORY_MAX {
            self.history.pop_front();
        }
        self.history.push_back((clock, self.received.clone()));
    }

    /// Whether an entry may be an echo of a state that was published before its end.
    fn is_echo(&self, entry: &PresenceEntry) -> bool {
        (PUBLISHED_FROM..=self.published_clock).contains(&entry.clock)
    }

    /// Whether it is the published state of a session other than `session`.
    fn is_other(&self, session: SessionId) -> bool {
        self.received.is_some() && self.owner != Some(session) && !self.history.is_empty()
    }

    fn entry(&self, client: ClientId) -> PresenceEntry {
        PresenceEntry { client, clock: self.published_clock, state: self.stamped.clone() }
    }
}
