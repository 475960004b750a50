//! Presence: the states of a document's clients, and the sessions that they are sent to.

mod book;

use bytes::Bytes;

use crate::access::Grant;
use crate::close::Close;
use crate::document::Turn;
use crate::document::effect::Delivery;
use crate::document::limits::{Limits, Stamping};
use crate::document::presence::book::{PresenceBook, PresenceSource};
use crate::document::refusal;
use crate::document::session::Sessions;
use crate::document::stamp::STAMP_BYTES_MAX;
use crate::id::SessionId;
use crate::time::{Millis, Timestamp};
use crate::validate::{self, Budget, PresenceEntry};
use crate::wire::ServerMessage;

/// How often presence is looked at while nothing else is pending.
const TICK: Millis = Millis::from_secs(5);

/// The presence states of one document, and their delivery.
#[derive(Debug)]
pub(crate) struct Presence {
    limits: PresenceLimits,
    book: PresenceBook,
    /// Whether a session waits for the next tick to be sent the states of others.
    has_due: bool,
}

/// The limits of a document that concern presence.
#[derive(Clone, Copy, Debug)]
struct PresenceLimits {
    budget: Budget,
    message_bytes_max: usize,
    states_max: usize,
    stamping: Stamping,
}

impl Presence {
    pub(crate) fn new(limits: &Limits) -> Self {
        let limits = PresenceLimits {
            budget: limits.live,
            message_bytes_max: limits.update_bytes_max,
            states_max: limits.presence_clients_max,
            stamping: limits.stamping,
        };
        Self { limits, book: PresenceBook::default(), has_due: false }
    }

    /// Forgets all states: no session is left to be sent their end.
    pub(crate) fn clear(&mut self) {
        self.book = PresenceBook::default();
        self.has_due = false;
    }

    /// Handles a presence message of a session. Returns how many of its states were ignored because
    /// it has as many as it may.
    ///
    /// # Errors
    /// If the session must be closed: its message is too large or invalid.
    pub(crate) fn received(
        &mut self,
        id: SessionId,
        entries: &Bytes,
        sessions: &mut Sessions,
        turn: &mut Turn<'_>,
    ) -> Result<u64, Close> {
        let limits = self.limits;
        refusal::check_size(entries.len(), limits.message_bytes_max)?;
        let mut budget = limits.budget;
        // Clients send back what they are shown of others.
        budget.presence_state_bytes_max += STAMP_BYTES_MAX;
        let invalid = |error| refusal::invalid(&error);
        let entries = validate::walk_presence(entries, &budget).map_err(invalid)?;
        let Some(session) = sessions.get_mut(id) else { return Ok(0) };
        let mut ignored = 0;
        if session.grant.may_be_seen() {
            if limits.stamping == Stamping::Identity {
                session.audience.stamp(&session.grant.identity);
            }
            let source = PresenceSource {
                session: id,
                sub: &session.grant.identity.sub,
                stamp: session.audience.current_stamp(),
                may_echo: session.audience.is_watching(),
                states_max: limits.states_max,
                state_bytes_max: limits.budget.presence_state_bytes_max,
            };
            ignored = self.book.receive(turn.now, source, entries).map_err(invalid)?;
            self.flush(sessions, turn);
        }
        self.introduce(id, sessions, turn);
        Ok(ignored)
    }

    /// Answers a session that asks for all states.
    pub(crate) fn requested(
        &mut self,
        id: SessionId,
        sessions: &mut Sessions,
        turn: &mut Turn<'_>,
    ) {
        if sessions.get(id).is_some_and(|session| session.grant.may_see()) {
            self.send_others(id, turn);
            self.introduce(id, sessions, turn);
        }
    }

    /// Sends a session the states of others, once.
    pub(crate) fn introduce(
        &mut self,
        id: SessionId,
        sessions: &mut Sessions,
        turn: &mut Turn<'_>,
    ) {
        if sessions.get_mut(id).is_some_and(|session| session.audience.make_due()) {
            self.has_due = true;
            if self.book.freshen(turn.now) {
                self.send_due(sessions, turn);
            }
        }
    }

    /// Sends a session the states of others once more: they may have been dropped.
    pub(crate) fn send_others(&self, id: SessionId, turn: &mut Turn<'_>) {
        send(id, self.book.others(id), turn);
    }

    /// A session has ended.
    pub(crate) fn left(&mut self, id: SessionId, sessions: &Sessions, turn: &mut Turn<'_>) {
        let ended = self.book.leave(turn.now, id);
        self.publish(&ended, sessions, turn);
    }

    /// Publishes what waits for a tick, and ends states that were not renewed.
    pub(crate) fn tick(&mut self, sessions: &Sessions, turn: &mut Turn<'_>) {
        self.flush(sessions, turn);
        let ended = self.book.sweep(turn.now);
        self.publish(&ended, sessions, turn);
    }

    /// Sends the states of others to sessions that are due, or have been silent for long enough.
    pub(crate) fn introduce_due(&mut self, sessions: &mut Sessions, turn: &mut Turn<'_>) {
        let now = turn.now;
        for (_, session) in sessions.iter_mut() {
            self.has_due |= session.audience.make_due_after_silence(now);
        }
        if self.has_due && self.book.freshen(now) {
            self.send_due(sessions, turn);
        }
    }

    /// Another grant holds for a session, in place of `before`.
    pub(crate) fn granted(
        &mut self,
        id: SessionId,
        before: &Grant,
        sessions: &mut Sessions,
        turn: &mut Turn<'_>,
    ) {
        let Some(session) = sessions.get_mut(id) else { return };
        let (may_see, may_be_seen) = (session.grant.may_see(), session.grant.may_be_seen());
        let is_renamed = before.identity != session.grant.identity;
        if is_renamed {
            session.audience.forget_stamp();
        }
        session.audience.granted(may_see);
        if before.may_be_seen() && !may_be_seen {
            self.left(id, sessions, turn);
        } else if is_renamed && self.limits.stamping == Stamping::Identity {
            self.book.rename(id, session.audience.stamp(&session.grant.identity));
            self.flush(sessions, turn);
        }
        if before.may_see() && !may_see {
            let gone = |entry| PresenceEntry { state: None, ..entry };
            send(id, self.book.others(id).into_iter().map(gone).collect(), turn);
        }
    }

    /// When presence must be looked at next.
    pub(crate) fn next_tick(&self, now: Timestamp) -> Option<Timestamp> {
        if self.is_pending() {
            Some(PresenceBook::next_tick(now))
        } else if self.book.is_empty() {
            None
        } else {
            Some(now + TICK)
        }
    }

    /// Whether something waits for the next tick of published clocks.
    pub(crate) fn is_pending(&self) -> bool {
        self.has_due || self.book.is_pending()
    }

    fn send_due(&mut self, sessions: &mut Sessions, turn: &mut Turn<'_>) {
        self.has_due = false;
        for (&id, session) in sessions.iter_mut() {
            if session.audience.take_due() {
                self.send_others(id, turn);
            }
        }
    }

    fn flush(&mut self, sessions: &Sessions, turn: &mut Turn<'_>) {
        let entries = self.book.flush(turn.now);
        self.publish(&entries, sessions, turn);
    }

    /// Sends states to every watching session but the one that sent them: its client would take the
    /// higher clock for news of itself and go back to an earlier state.
    fn publish(&self, entries: &[PresenceEntry], sessions: &Sessions, turn: &mut Turn<'_>) {
        if entries.is_empty() {
            return;
        }
        let message = ServerMessage::Presence(entries.into());
        for (&to, session) in sessions.iter() {
            if !session.watches() {
                continue;
            }
            let is_own = |entry: &&PresenceEntry| self.book.is_owner(to, entry.client);
            if entries.iter().any(|entry| is_own(&entry)) {
                let others = entries.iter().filter(|entry| !is_own(entry)).cloned();
                send(to, others.collect(), turn);
            } else {
                turn.send(to, message.clone(), Delivery::Skippable);
            }
        }
    }
}

fn send(id: SessionId, entries: Vec<PresenceEntry>, turn: &mut Turn<'_>) {
    if !entries.is_empty() {
        turn.send(id, ServerMessage::Presence(entries.into()), Delivery::Skippable);
    }
}
