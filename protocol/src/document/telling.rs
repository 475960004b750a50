//! Who is told of whom, and when.

use bytes::Bytes;

use crate::document::effect::Delivery;
use crate::document::limits::Stamping;
use crate::document::presence::PresenceSource;
use crate::document::session::PresenceDelivery;
use crate::document::stamp::STAMP_BYTES_MAX;
use crate::document::{Document, Turn};
use crate::id::SessionId;
use crate::validate::{self, PresenceEntry};
use crate::wire::ServerMessage;

impl Document {
    pub(super) fn presence_received(
        &mut self,
        id: SessionId,
        entries: &Bytes,
        turn: &mut Turn<'_>,
    ) {
        if self.exceeds_live(id, entries.len(), turn) {
            return;
        }
        let state_bytes_max = self.limits.live.presence_state_bytes_max;
        let mut budget = self.limits.live;
        // Clients send back what they are shown of others.
        budget.presence_state_bytes_max += STAMP_BYTES_MAX;
        let entries = match validate::walk_presence(entries, &budget) {
            Ok(entries) => entries,
            Err(error) => return self.refuse_frame(id, &error, turn),
        };
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if !session.grant.may_be_seen() {
            return self.tell(id, turn);
        }
        if self.limits.stamping == Stamping::Identity {
            session.stamp();
        }
        let speaker = PresenceSource {
            session: id,
            sub: &session.grant.identity.sub,
            stamp: session.stamp.as_ref(),
            told: session.telling == PresenceDelivery::Told,
            states_max: self.limits.presence_clients_max,
            state_bytes_max,
        };
        match self.presence.hear(turn.now, speaker, entries) {
            Ok(ignored) => self.tally.presence_ignored += ignored,
            Err(error) => return self.refuse_frame(id, &error, turn),
        }
        self.flush_presence(turn);
        self.tell(id, turn);
    }

    /// Tells a session who is here, once.
    pub(super) fn tell(&mut self, id: SessionId, turn: &mut Turn<'_>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.telling == PresenceDelivery::Told || !session.grant.may_see() {
            return;
        }
        session.telling = PresenceDelivery::Due;
        self.presence.owes = true;
        if self.presence.freshen(turn.now) {
            self.tell_due(turn);
        }
    }

    /// Tells everybody whose turn it is.
    pub(super) fn tell_due(&mut self, turn: &mut Turn<'_>) {
        self.presence.owes = false;
        for (&id, session) in &mut self.sessions {
            if session.is_due() {
                session.telling = PresenceDelivery::Told;
                Self::send_presence(id, &self.presence.others(id), turn);
            }
        }
    }

    /// Answers a session that asks who is here.
    pub(super) fn presence_asked(&mut self, id: SessionId, turn: &mut Turn<'_>) {
        if self.sessions.get(&id).is_some_and(|session| session.grant.may_see()) {
            Self::send_presence(id, &self.presence.others(id), turn);
            self.tell(id, turn);
        }
    }

    pub(super) fn send_presence(id: SessionId, entries: &[PresenceEntry], turn: &mut Turn<'_>) {
        if !entries.is_empty() {
            turn.send(id, ServerMessage::Presence(entries.into()), Delivery::Skippable);
        }
    }

    pub(super) fn flush_presence(&mut self, turn: &mut Turn<'_>) {
        let entries = self.presence.flush(turn.now);
        self.publish(&entries, turn);
    }

    /// Sends presence to everybody but those who speak for it: a client would take the higher
    /// clock for news of itself and go back to what it said before.
    pub(super) fn publish(&self, entries: &[PresenceEntry], turn: &mut Turn<'_>) {
        if entries.is_empty() {
            return;
        }
        let message = ServerMessage::Presence(entries.into());
        for (&to, session) in &self.sessions {
            if !session.watches() {
                continue;
            }
            let is_own = |entry: &&PresenceEntry| self.presence.speaks_for(to, entry.client);
            if entries.iter().any(|entry| is_own(&entry)) {
                let others: Vec<_> =
                    entries.iter().filter(|entry| !is_own(entry)).cloned().collect();
                Self::send_presence(to, &others, turn);
            } else {
                turn.send(to, message.clone(), Delivery::Skippable);
            }
        }
    }
}
