//! The path of an update, and of the state vectors that keep copies equal.

use crate::close::{Close, CloseCode};
use crate::document::effect::{Delivery, Effect};
use crate::document::halt::WriteHalt;
use crate::document::loading::Deferred;
use crate::document::log::Log;
use crate::document::replay::LoadedDocument;
use crate::document::replica::{Applied, ApplyError};
use crate::document::session::{PendingRequest, Session, WriteRefusal};
use crate::document::tally::UpdateOutcome;
use crate::document::{Document, Phase, Turn};
use crate::id::SessionId;
use crate::limit::Limit;
use crate::validate::{self, Fit, UpdateFacts, ValidationError};
use crate::wire::{ServerMessage, SyncMessage, Welcome};

/// How an update came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// As it was typed.
    Live,
    /// In a SyncStep2, which may bring days of offline work.
    FirstSync,
}

impl Document {
    /// The stored log is here: what waited for it can be answered.
    pub(super) fn loaded(&mut self, mut loaded: LoadedDocument, turn: &mut Turn<'_>) {
        let Phase::Loading(waiting) = &mut self.phase else { return };
        let waiting = std::mem::take(waiting);
        self.epoch = loaded.epoch;
        let is_estranged = |session: &Session| session.is_estranged_from(self.epoch);
        let sessions = self.sessions.iter();
        let estranged: Vec<_> =
            sessions.filter_map(|(&id, session)| is_estranged(session).then_some(id)).collect();
        for id in estranged {
            self.close_estranged(id, turn);
        }
        if loaded.quarantine.is_some() {
            self.close_greeted(turn);
        } else if loaded.last < self.log.last {
            // Positions already given out would be given out again.
            let text = "the store lost updates that it had accepted";
            return self.lose(CloseCode::StoreUnavailable, text, turn);
        }
        self.quarantine = loaded.quarantine.take();
        self.log = Log::loaded(&loaded);
        self.phase = Phase::Ready(loaded.replica);
        self.ask_owed(turn);
        self.arrivals = waiting.into_arrivals();
    }

    /// Answers one that waited. If the document has failed meanwhile, it waits again.
    pub(super) fn arrived(&mut self, session: SessionId, arrival: Deferred, turn: &mut Turn<'_>) {
        match arrival {
            Deferred::Joined => self.greet(session, turn),
            Deferred::Message(message) => self.received(session, message, turn),
            Deferred::Drained => self.catch_up(session, turn),
        }
    }

    /// What is loaded now may hold less than what these sessions were given: they begin again.
    fn close_greeted(&mut self, turn: &mut Turn<'_>) {
        let greeted = self.sessions.iter().filter(|(_, session)| session.greeted);
        for id in greeted.map(|(&id, _)| id).collect::<Vec<_>>() {
            let text = "the document is damaged; reconnect to read what is left of it";
            self.close(id, CloseCode::Internal, text, turn);
        }
    }

    /// Two copies of different histories would both be kept, one after the other.
    pub(super) fn close_estranged(&mut self, id: SessionId, turn: &mut Turn<'_>) {
        let text = format!("the document was replaced, it is {} now; load it afresh", self.epoch);
        self.close(id, CloseCode::EpochMismatch, text, turn);
    }

    /// Lets a session in: tells it what it has joined and asks it for what the server lacks. A
    /// reader is not asked: it would answer with its complete delete set, which is then refused.
    pub(super) fn greet(&mut self, id: SessionId, turn: &mut Turn<'_>) {
        if let Phase::Loading(waiting) = &mut self.phase {
            return waiting.greet(id);
        }
        let halt = self.halt();
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.greeted = true;
        session.epoch = Some(self.epoch);
        let access = session.grant.access;
        if access.may_write() && halt.is_some() && session.owed == PendingRequest::Nothing {
            session.owed = PendingRequest::Question;
        }
        self.welcome(id, turn);
        if access.may_write() && halt.is_none() {
            self.ask(id, turn);
        }
    }

    /// Tells a session what it has joined, and what it may do there.
    pub(super) fn welcome(&self, id: SessionId, turn: &mut Turn<'_>) {
        let Some(session) = self.sessions.get(&id) else { return };
        if session.features.welcomes {
            let welcome = Welcome {
                session: id,
                epoch: self.epoch,
                access: session.grant.access,
                durability: self.limits.durability,
                quarantined: self.quarantine.is_some(),
                message_bytes_max: self.limits.message_bytes_max as u64,
                update_bytes_max: self.limits.update_bytes_max as u64,
                presence_bytes_max: self.limits.live.presence_state_bytes_max as u64,
                time: turn.now,
            };
            turn.send(id, ServerMessage::Welcome(welcome), Delivery::Required);
        }
    }

    pub(super) fn ask(&self, id: SessionId, turn: &mut Turn<'_>) {
        if let Phase::Ready(replica) = &self.phase {
            let question = ServerMessage::Sync(SyncMessage::step_1(replica.known()));
            turn.send(id, question, Delivery::Required);
        }
    }

    /// SyncStep1: sends what the client lacks and lets it follow from here.
    pub(super) fn sync_requested(&mut self, id: SessionId, state: &[u8], turn: &mut Turn<'_>) {
        if self.exceeds_live(id, state.len(), turn) {
            return;
        }
        let mut base = match validate::walk_state_vector(state) {
            Ok(base) => base,
            Err(error) => return self.refuse_frame(id, &error, turn),
        };
        let (Phase::Ready(replica), Some(session)) = (&mut self.phase, self.sessions.get_mut(&id))
        else {
            return;
        };
        let known = replica.known();
        let is_ahead = base.iter().any(|(client, clock)| known.get(client) < Some(clock));
        // Only clocks of known clients can shrink a diff.
        base.retain(|client, _| known.contains_key(client));
        match self.answer.to(turn.now, &base, replica) {
            Ok(answer) => {
                session.base = Some(base);
                turn.send(id, ServerMessage::Sync(answer), Delivery::Required);
                if is_ahead {
                    self.refuse_ahead(id, turn);
                }
            }
            Err(error) => self.fail_session(id, &error, turn),
        }
    }

    /// A session that overflowed is ready again: one merged diff stands for every update dropped.
    pub(super) fn catch_up(&mut self, id: SessionId, turn: &mut Turn<'_>) {
        if let Phase::Loading(waiting) = &mut self.phase {
            return waiting.catch_up(id);
        }
        let (Phase::Ready(replica), Some(session)) = (&mut self.phase, self.sessions.get_mut(&id))
        else {
            return;
        };
        session.lagging_since = None;
        match session.base.as_ref().map(|base| self.answer.to(turn.now, base, replica)) {
            Some(Ok(diff)) => turn.send(id, ServerMessage::Sync(diff), Delivery::Required),
            Some(Err(error)) => return self.fail_session(id, &error, turn),
            None => {}
        }
        if session.watches() {
            let others = self.presence.others(id);
            Self::send_presence(id, &others, turn);
        }
    }

    /// Says again what was dropped beside updates: welcome, question, watermark, refusal. Not
    /// together with the diff, which may fill the queue on its own.
    pub(super) fn repeat(&mut self, id: SessionId, turn: &mut Turn<'_>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.repeat_since = None;
        session.write_refusal = WriteRefusal::Untold;
        session.repeat_saved(id, turn);
        self.greet(id, turn);
    }

    /// A SyncStep2 or Update: gate, fit, integrate, log, relay.
    pub(super) fn update_received(
        &mut self,
        id: SessionId,
        origin: Origin,
        update: &[u8],
        turn: &mut Turn<'_>,
    ) {
        #[cfg(feature = "failpoint")]
        super::replica::panic_point(update);
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let frame = session.receipts.count();
        let fate = if session.grant.may_write() {
            self.judge(id, origin, update, turn)
        } else {
            self.refuse_reader(id, frame, turn);
            UpdateOutcome::ForbiddenWrite
        };
        self.tally.count(fate);
        if matches!(fate, UpdateOutcome::Accepted | UpdateOutcome::Known) {
            self.receive(id, origin, turn);
            if origin == Origin::FirstSync {
                self.tell(id, turn);
            }
        }
    }

    /// Takes an update in, or does what follows where it is not.
    fn judge(
        &mut self,
        id: SessionId,
        origin: Origin,
        update: &[u8],
        turn: &mut Turn<'_>,
    ) -> UpdateOutcome {
        let facts = match self.walk(origin, update) {
            Ok(facts) => facts,
            Err(Refusal::Gate(error)) => return self.refuse_update(id, &error, turn),
            Err(Refusal::Size(fate, close)) => {
                self.close_with(id, close, turn);
                return fate;
            }
        };
        let halt = self.halt();
        let Phase::Ready(replica) = &mut self.phase else { return UpdateOutcome::Internal };
        match facts.fit(replica.known()) {
            Fit::Ready | Fit::Incomplete if let Some(halt) = halt => {
                match replica.holds(&facts, update) {
                    Ok(true) => UpdateOutcome::Known,
                    Ok(false) => {
                        self.withhold(id, origin, halt, turn);
                        halt.fate()
                    }
                    Err(error) => {
                        self.fail_session(id, &error, turn);
                        UpdateOutcome::Internal
                    }
                }
            }
            Fit::Incomplete => {
                self.ask_again(id, turn);
                UpdateOutcome::Incomplete
            }
            Fit::Known => UpdateOutcome::Known,
            Fit::Ready => {
                let update = match replica.admit(&facts, update) {
                    Ok(update) => update,
                    Err(error) => return self.refuse_update(id, &error, turn),
                };
                match replica.apply(&facts, &update) {
                    Ok(Applied::Changed) => {
                        self.accept(id, &update, turn);
                        UpdateOutcome::Accepted
                    }
                    Ok(Applied::Known) => UpdateOutcome::Known,
                    Err(error) => {
                        self.discard_replica(id, &error, turn);
                        UpdateOutcome::BadFrame
                    }
                }
            }
        }
    }

    fn walk(&self, origin: Origin, update: &[u8]) -> Result<UpdateFacts, Refusal> {
        let limit = self.limits.update_bytes_max;
        if origin == Origin::Live && update.len() > limit {
            let text = format!(
                "the update is {} bytes, at most {limit} are allowed; insert less at a time",
                update.len()
            );
            let close = Close::at_limit(Limit::UpdateBytes, CloseCode::MessageTooLarge, text);
            return Err(Refusal::Size(UpdateOutcome::MessageTooLarge, close));
        }
        let budget = match origin {
            Origin::Live => &self.limits.live,
            Origin::FirstSync => &self.limits.sync,
        };
        let facts = validate::walk_update(update, budget).map_err(Refusal::Gate)?;
        // Deletions always pass: they are the way back under the limit. So does what is known.
        if self.adds_blocks(&facts) {
            let limit = self.limits.document_bytes_max as u64;
            let bytes = self.log.bytes_with(update.len());
            if bytes > limit {
                let text =
                    format!("the document would be {bytes} bytes, at most {limit} are allowed");
                let code = CloseCode::DocumentTooLarge;
                let close = Close::at_limit(Limit::DocumentBytes, code, text);
                return Err(Refusal::Size(UpdateOutcome::DocumentTooLarge, close));
            }
        }
        Ok(facts)
    }

    fn adds_blocks(&self, facts: &UpdateFacts) -> bool {
        let known = |client| self.known().and_then(|known| known.get(&client)).copied();
        facts.sections.iter().any(|section| section.end > known(section.client).unwrap_or(0))
    }

    /// Closes a session whose message is larger than a live one may be. Returns whether it did.
    pub(super) fn exceeds_live(
        &mut self,
        id: SessionId,
        bytes: usize,
        turn: &mut Turn<'_>,
    ) -> bool {
        let limit = self.limits.update_bytes_max;
        if bytes > limit {
            let text = format!("the message is {bytes} bytes, at most {limit} are allowed");
            let close = Close::at_limit(Limit::UpdateBytes, CloseCode::MessageTooLarge, text);
            self.close_with(id, close, turn);
        }
        bytes > limit
    }

    /// Gives the update its place in the log and sends the received bytes to every follower. The
    /// relay does not wait for the disk; every acknowledgement does.
    fn accept(&mut self, from: SessionId, update: &[u8], turn: &mut Turn<'_>) {
        self.answer.forget();
        let sequence = self.log.append(update.len());
        let relayed = SyncMessage::update(update);
        for (&to, session) in &self.sessions {
            if to != from && session.follows() {
                turn.send(to, ServerMessage::Sync(relayed.clone()), Delivery::Required);
            }
        }
        let update = relayed.payload();
        turn.effects.push(Effect::Append { sequence, update, session: from });
    }

    /// The frame is in the log, or adds nothing to it: it is saved once the log is.
    fn receive(&mut self, id: SessionId, origin: Origin, turn: &mut Turn<'_>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if origin == Origin::FirstSync {
            session.resync_since = None;
        }
        // Behind a hole nothing counts as saved until a SyncStep2, sent after all of it, fills it.
        if session.resync_since.is_none() && session.owed != PendingRequest::Refused {
            session.receipts.await_sequence(self.log.last);
            session.confirm(id, self.log.persisted, turn);
        }
    }

    /// Something that the update builds on is missing: it is not applied, the client is asked for
    /// everything the server lacks. One question is under way at a time; frames are ordered, so
    /// its answer covers whatever was set aside meanwhile.
    fn ask_again(&mut self, id: SessionId, turn: &mut Turn<'_>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.resync_since.is_none() {
            session.resync_since = Some(turn.now);
            self.ask(id, turn);
        }
    }

    /// Closes a session whose frame breaks a rule of the gate.
    pub(super) fn refuse_frame(
        &mut self,
        id: SessionId,
        error: &ValidationError,
        turn: &mut Turn<'_>,
    ) {
        let close = if matches!(error, ValidationError::PresenceStateOverBudget { .. }) {
            Close::at_limit(Limit::PresenceStateBytes, CloseCode::MessageTooLarge, error)
        } else if error.is_budget() {
            Close::at_limit(Limit::UpdateContent, CloseCode::MessageTooLarge, error)
        } else {
            Close::new(CloseCode::BadFrame, error)
        };
        self.close_with(id, close, turn);
    }

    fn refuse_update(
        &mut self,
        id: SessionId,
        error: &ValidationError,
        turn: &mut Turn<'_>,
    ) -> UpdateOutcome {
        self.refuse_frame(id, error, turn);
        if error.is_budget() { UpdateOutcome::MessageTooLarge } else { UpdateOutcome::BadFrame }
    }

    /// The CRDT could not answer a session. It would wait for ever, so it has to come back.
    fn fail_session(&mut self, id: SessionId, error: &ApplyError, turn: &mut Turn<'_>) {
        self.close(id, CloseCode::Internal, error, turn);
        self.rebuild(error, turn);
    }

    /// The CRDT failed on an update that passed the gate. It may hold half of it: it is rebuilt
    /// from the log, which never saw the update.
    fn discard_replica(&mut self, culprit: SessionId, error: &ApplyError, turn: &mut Turn<'_>) {
        self.close(culprit, CloseCode::BadFrame, error, turn);
        self.rebuild(error, turn);
    }
}

enum Refusal {
    Gate(ValidationError),
    Size(UpdateOutcome, Close),
}

impl WriteHalt {
    fn fate(self) -> UpdateOutcome {
        match self {
            Self::Stalled => UpdateOutcome::StoreUnavailable,
            Self::Quarantined => UpdateOutcome::DocumentQuarantined,
        }
    }
}
