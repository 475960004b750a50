//! The exchange with one session: its messages, and the answers to them.

use bytes::Bytes;

use crate::access::Grant;
use crate::close::{Close, CloseCode};
use crate::document::availability::WriteHalt;
use crate::document::backlog::Deferred;
use crate::document::counts::UpdateOutcome;
use crate::document::effect::{Delivery, Effect};
use crate::document::refusal::{self, Refusal};
use crate::document::replica::ApplyError;
use crate::document::replication::{Origin, Verdict};
use crate::document::session::Session;
use crate::document::{Document, RESTARTING, Turn};
use crate::id::{Epoch, SessionId};
use crate::limit::Limit;
use crate::validate;
use crate::wire::{ClientMessage, Dialect, ServerMessage, Welcome};

// Joining, and the rights of a session.
impl Document {
    pub(super) fn joined(
        &mut self,
        id: SessionId,
        grant: Grant,
        (dialect, epoch): (Dialect, Option<Epoch>),
        turn: &mut Turn<'_>,
    ) {
        let session = Session::new(turn.now, grant, dialect, epoch);
        let has_other_epoch = session.has_other_epoch(self.replication.epoch());
        self.sessions.insert(id, session);
        if self.availability.is_draining() {
            self.close(id, CloseCode::Draining, RESTARTING, turn);
        } else if self.replication.is_lost() {
            let text = "the document failed and is loaded again; reconnect";
            self.close(id, CloseCode::StoreUnavailable, text, turn);
        } else if self.replication.is_loaded() && has_other_epoch {
            self.close_epoch_mismatch(id, turn);
        } else {
            self.welcome(id, turn);
        }
    }

    /// Two copies of different histories would both be kept, one after the other.
    pub(super) fn close_epoch_mismatch(&mut self, id: SessionId, turn: &mut Turn<'_>) {
        let epoch = self.replication.epoch();
        let text = format!("the document was replaced, its epoch is now {epoch}; load it again");
        self.close(id, CloseCode::EpochMismatch, text, turn);
    }

    /// Welcomes a session and asks it for the updates that are missing here. A reader is not asked: it
    /// would answer with its complete delete set, which is then refused.
    pub(super) fn welcome(&mut self, id: SessionId, turn: &mut Turn<'_>) {
        if let Some(backlog) = self.replication.loading() {
            return backlog.joined(id);
        }
        let is_halted = self.availability.halt().is_some();
        let epoch = self.replication.epoch();
        let Some(session) = self.sessions.get_mut(id) else { return };
        session.downstream.welcomed();
        session.epoch = Some(epoch);
        if is_halted {
            session.upstream.not_asked();
        }
        let may_write = session.grant.may_write();
        self.send_welcome(id, turn);
        if may_write && !is_halted {
            self.ask(id, turn);
        }
    }

    fn send_welcome(&self, id: SessionId, turn: &mut Turn<'_>) {
        let Some(session) = self.sessions.get(id).filter(|session| session.features.welcomes)
        else {
            return;
        };
        let welcome = Welcome {
            session: id,
            epoch: self.replication.epoch(),
            access: session.grant.access,
            durability: self.limits.durability,
            quarantined: self.availability.quarantine().is_some(),
            message_bytes_max: self.limits.message_bytes_max as u64,
            update_bytes_max: self.limits.update_bytes_max as u64,
            presence_bytes_max: self.limits.live.presence_state_bytes_max as u64,
            time: turn.now,
        };
        turn.send(id, ServerMessage::Welcome(welcome), Delivery::Required);
    }

    fn ask(&self, id: SessionId, turn: &mut Turn<'_>) {
        if let Some(question) = self.replication.question() {
            turn.send(id, ServerMessage::Sync(question), Delivery::Required);
        }
    }

    /// Asks the sessions that could not be asked, or were refused, while writes were halted.
    pub(super) fn ask_pending(&mut self, turn: &mut Turn<'_>) {
        if self.replication.is_loaded() && self.availability.halt().is_none() {
            let now = turn.now;
            for id in self.sessions.change(|session| session.upstream.resumed(now)) {
                self.ask(id, turn);
            }
        }
    }

    /// Another grant holds for a session. Its earlier messages were handled under the one before.
    pub(super) fn granted(&mut self, id: SessionId, grant: Grant, turn: &mut Turn<'_>) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        let before = std::mem::replace(&mut session.grant, grant);
        let (may_write, is_joined) = (session.grant.may_write(), session.downstream.is_joined());
        if may_write != before.may_write() {
            match may_write {
                true => session.upstream.writable(is_joined),
                false => session.upstream.read_only(),
            }
        }
        if is_joined && session.grant.access != before.access {
            self.send_welcome(id, turn);
        }
        self.ask_pending(turn);
        self.presence.granted(id, &before, &mut self.sessions, turn);
    }
}

// Messages.
impl Document {
    pub(super) fn deferred(&mut self, id: SessionId, item: Deferred, turn: &mut Turn<'_>) {
        match item {
            Deferred::Joined => self.welcome(id, turn),
            Deferred::Message(message) => self.received(id, message, turn),
            Deferred::Drained => self.catch_up(id, turn),
        }
    }

    pub(super) fn received(&mut self, id: SessionId, message: ClientMessage, turn: &mut Turn<'_>) {
        let Some(session) = self.sessions.get(id) else { return };
        if turn.now >= session.grant.ends_at() {
            let text = "the token expired while connected; connect with a new one";
            return self.close(id, CloseCode::TokenExpired, text, turn);
        }
        if let Some(backlog) = self.replication.loading() {
            if !backlog.push(id, message, &self.limits) {
                let text = "too much was sent before the document was loaded; try again";
                let close = Close::at_limit(Limit::WaitingBytes, CloseCode::Overloaded, text);
                self.close_with(id, close, turn);
            }
            return;
        }
        match message {
            ClientMessage::SyncStep1 { state_vector } => {
                self.sync_requested(id, &state_vector, turn);
            }
            ClientMessage::SyncStep2 { update } => {
                self.update_received(id, Origin::FirstSync, &update, turn);
            }
            ClientMessage::Update { update } => {
                self.update_received(id, Origin::Live, &update, turn);
            }
            ClientMessage::Presence { entries } => self.presence_received(id, &entries, turn),
            ClientMessage::QueryPresence => self.presence.requested(id, &mut self.sessions, turn),
        }
    }

    /// SyncStep1: sends what the client lacks. From here on it follows.
    fn sync_requested(&mut self, id: SessionId, state: &[u8], turn: &mut Turn<'_>) {
        let size = refusal::check_size(state.len(), self.limits.update_bytes_max);
        let walk =
            |()| validate::walk_state_vector(state).map_err(|error| refusal::invalid(&error));
        let base = match size.and_then(walk) {
            Ok(base) => base,
            Err(close) => return self.close_with(id, close, turn),
        };
        let Some(session) = self.sessions.get_mut(id) else { return };
        match self.replication.answer(turn.now, base) {
            Some(Ok(answer)) => {
                session.downstream.answered(answer.base);
                turn.send(id, ServerMessage::Sync(answer.update), Delivery::Required);
                // Its copy is ahead and stays so, as it is not asked for the rest.
                if answer.is_ahead && !session.grant.may_write() {
                    session.refuse(id, Refusal::READER, turn);
                } else if let Some(halt @ WriteHalt::Quarantined) = self.availability.halt()
                    && answer.is_ahead
                {
                    session.refuse(id, Refusal::halted(halt), turn);
                }
            }
            // Without an answer it would wait for ever, so it has to come back.
            Some(Err(error)) => self.fail(id, CloseCode::Internal, &error, turn),
            None => {}
        }
    }

    /// A session that overflowed has drained: one merged diff stands for every update dropped.
    pub(super) fn catch_up(&mut self, id: SessionId, turn: &mut Turn<'_>) {
        if let Some(backlog) = self.replication.loading() {
            return backlog.drained(id);
        }
        let Some(session) = self.sessions.get_mut(id) else { return };
        let base = session.downstream.drained();
        match base.and_then(|base| self.replication.catch_up(turn.now, base)) {
            Some(Ok(diff)) => turn.send(id, ServerMessage::Sync(diff), Delivery::Required),
            Some(Err(error)) => return self.fail(id, CloseCode::Internal, &error, turn),
            None => {}
        }
        if session.watches() {
            self.presence.send_others(id, turn);
        }
    }

    /// Repeats the messages other than updates that were dropped with a queue: welcome, question,
    /// watermark, refusal.
    pub(super) fn repeat_dropped(&mut self, id: SessionId, turn: &mut Turn<'_>) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        session.upstream.forget_refusal();
        session.repeat_saved(id, turn);
        self.welcome(id, turn);
    }

    /// A SyncStep2 or Update.
    fn update_received(
        &mut self,
        id: SessionId,
        origin: Origin,
        update: &[u8],
        turn: &mut Turn<'_>,
    ) {
        #[cfg(feature = "failpoint")]
        super::replica::panic_point(update);
        let Some(session) = self.sessions.get_mut(id) else { return };
        session.upstream.receipts.count();
        let outcome = if session.grant.may_write() {
            let halt = self.availability.halt();
            let verdict = self.replication.update(origin, update, halt, &self.limits);
            self.carry_out(id, origin, verdict, turn)
        } else {
            session.refuse(id, Refusal::READER, turn);
            UpdateOutcome::ForbiddenWrite
        };
        self.counts.count(outcome);
    }

    /// Does what follows from a verdict.
    fn carry_out(
        &mut self,
        id: SessionId,
        origin: Origin,
        verdict: Verdict,
        turn: &mut Turn<'_>,
    ) -> UpdateOutcome {
        let Some(session) = self.sessions.get_mut(id) else { return UpdateOutcome::Internal };
        match verdict {
            Verdict::Accepted { sequence, update } => {
                // The relay does not wait for the disk; every acknowledgement does.
                self.sessions.relay(id, &update, turn);
                let update = update.payload();
                turn.effects.push(Effect::Append { sequence, update, session: id });
                self.update_applied(id, origin, turn);
                UpdateOutcome::Accepted
            }
            Verdict::Known => {
                self.update_applied(id, origin, turn);
                UpdateOutcome::Known
            }
            Verdict::Incomplete => {
                if session.upstream.incomplete(turn.now) {
                    self.ask(id, turn);
                }
                UpdateOutcome::Incomplete
            }
            Verdict::Halted(halt) => {
                session.upstream.refused(origin);
                session.refuse(id, Refusal::halted(halt), turn);
                match halt {
                    WriteHalt::Stalled => UpdateOutcome::StoreUnavailable,
                    WriteHalt::Quarantined => UpdateOutcome::DocumentQuarantined,
                }
            }
            Verdict::Rejected(outcome, close) => {
                self.close_with(id, close, turn);
                outcome
            }
            Verdict::Failed { outcome, code, error } => {
                self.fail(id, code, &error, turn);
                outcome
            }
        }
    }

    /// The frame is in the log, or adds nothing to it: it is saved once the log is.
    fn update_applied(&mut self, id: SessionId, origin: Origin, turn: &mut Turn<'_>) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        if session.upstream.applied(origin) {
            session.upstream.receipts.await_sequence(self.replication.last());
            session.confirm(id, self.replication.persisted(), turn);
        }
        if origin == Origin::FirstSync {
            self.presence.introduce(id, &mut self.sessions, turn);
        }
    }

    fn presence_received(&mut self, id: SessionId, entries: &Bytes, turn: &mut Turn<'_>) {
        match self.presence.received(id, entries, &mut self.sessions, turn) {
            Ok(ignored) => self.counts.presence_ignored += ignored,
            Err(close) => self.close_with(id, close, turn),
        }
    }

    /// The CRDT failed at a session's message: the session is closed, and the document rebuilt.
    fn fail(&mut self, id: SessionId, code: CloseCode, error: &ApplyError, turn: &mut Turn<'_>) {
        self.close(id, code, error, turn);
        self.rebuild(error, turn);
    }
}

// Sessions that wait for time.
impl Document {
    pub(super) fn tick_sessions(&mut self, turn: &mut Turn<'_>) {
        let (lagging, resync) = (self.limits.lagging, self.limits.resync);
        let (slow, silent) = self.sessions.overdue(turn.now, lagging, resync);
        let repeats = self.sessions.change(|session| session.downstream.take_repeat());
        self.presence.introduce_due(&mut self.sessions, turn);
        for id in repeats {
            self.repeat_dropped(id, turn);
        }
        for id in slow {
            let text = "this client reads slower than others write; reconnect to catch up";
            let close = Close::at_limit(Limit::LaggingTime, CloseCode::SlowReader, text);
            self.close_with(id, close, turn);
        }
        for id in silent {
            let text = "earlier updates of this client are missing and it did not send them again";
            self.close(id, CloseCode::Internal, text, turn);
        }
    }
}
