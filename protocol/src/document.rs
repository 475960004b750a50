//! The document as a state machine: inputs in, effects out. It never waits.
//!
//! [`Document::handle`] is the only door. A document is made of parts that own their fields:
//! [`replication`] holds the content, [`presence`] the states of its clients, [`availability`] the
//! conditions around it, [`session`] its participants. Parts decide; what follows from a decision for
//! other parts is done here and in [`exchange`].
//!
//! The path of an update: validation walks the bytes, the facts are fitted against the state vector,
//! the CRDT integrates them, the log gives them a sequence, and the received bytes go to every
//! follower and to the store. A hole or a missing reference is answered with a SyncStep1 and never
//! integrated.
//!
//! After every input `step` derives what has become due, so that no input has to remember it. The
//! rules are numbered in `docs/spec-document.md`.

mod availability;
mod backlog;
mod counts;
mod diff_cache;
pub mod effect;
mod exchange;
pub mod input;
pub mod limits;
mod log;
pub mod merge;
mod presence;
mod refusal;
pub mod replay;
pub mod replica;
mod replication;
mod session;
mod stamp;
pub mod stored;
pub mod verify;

pub use availability::StoreAvailability;
pub use counts::{UpdateCounts, UpdateOutcome};
use effect::Turn;
pub use effect::{Delivery, Effect};
pub use input::{CheckOutcome, Input, SnapshotOutcome};
pub use limits::{Limits, Stamping};
pub use replay::LoadedDocument;
pub use verify::{compare, verify_snapshot};

use crate::close::{Close, CloseCode};
use crate::document::availability::Availability;
use crate::document::log::Occasion;
use crate::document::presence::Presence;
use crate::document::replica::ApplyError;
use crate::document::replication::{LogIsShorter, Replication, TooManyRebuilds};
use crate::document::session::Sessions;
use crate::id::{Sequence, SessionId};
use crate::time::{Millis, Timestamp};
use crate::validate::StateVector;

/// How often sessions with something pending are looked at.
const TICK: Millis = Millis::from_secs(1);

const RESTARTING: &str = "the server restarts; reconnect";

/// One live document.
#[derive(Debug)]
pub struct Document {
    limits: Limits,
    sessions: Sessions,
    replication: Replication,
    presence: Presence,
    availability: Availability,
    tick_at: Option<Timestamp>,
    counts: UpdateCounts,
}

// The door.
impl Document {
    /// A document that asks for its stored log at the first input.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            sessions: Sessions::default(),
            replication: Replication::default(),
            presence: Presence::new(&limits),
            availability: Availability::default(),
            tick_at: None,
            counts: UpdateCounts::default(),
            limits,
        }
    }

    /// Applies one input. Effects are appended in the order they must happen.
    pub fn handle(&mut self, now: Timestamp, input: Input, effects: &mut Vec<Effect>) {
        let mut turn = Turn { now, effects };
        // Deferred items arrived before any other input. An overflow is a consequence of the answer
        // to one of them, and does not bring the next one forward.
        if !matches!(input, Input::Continue | Input::Overflowed { .. }) {
            while self.next_deferred().is_some() {
                self.answer_deferred(&mut turn);
                self.step(&mut turn);
            }
        }
        self.dispatch(input, &mut turn);
        self.step(&mut turn);
    }

    /// The session whose deferred message [`Input::Continue`] answers next; None if none waits.
    /// After `Input::Loaded` the caller sends `Continue` until then, so that it can charge the time of
    /// each answer to its session. Any other input but `Overflowed` answers the rest first.
    #[must_use]
    pub fn next_deferred(&self) -> Option<SessionId> {
        self.replication.next_deferred()
    }

    /// When `Input::Deadline` is due, if anything waits for time.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        // While something is on its way to disk, its completion is the next input.
        let may_unload = self.replication.is_loaded() || self.replication.is_lost();
        let unload_at = self.availability.idle_until();
        let unload_at = unload_at.filter(|_| may_unload && self.replication.is_settled());
        self.tick_at.into_iter().chain(unload_at).chain(self.replication.diff_expires_at()).min()
    }

    /// How many sessions take part.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// Why the document is read-only; None if it may be written.
    #[must_use]
    pub fn quarantine(&self) -> Option<&str> {
        self.availability.quarantine()
    }

    /// How much of each client's history is known; None while the document is not loaded.
    #[must_use]
    pub fn state_vector(&self) -> Option<&StateVector> {
        self.replication.state_vector()
    }

    /// What was counted since the last call.
    pub fn take_counts(&mut self) -> UpdateCounts {
        std::mem::take(&mut self.counts)
    }

    fn dispatch(&mut self, input: Input, turn: &mut Turn<'_>) {
        match input {
            Input::Continue => self.answer_deferred(turn),
            Input::Loaded(loaded) => self.loaded(*loaded, turn),
            Input::LoadFailed => {
                let text = "the stored document cannot be read; nothing was changed";
                self.give_up(CloseCode::StoreUnavailable, text, turn);
            }
            Input::Joined { session, grant, dialect, epoch } => {
                self.joined(session, grant, (dialect, epoch), turn);
            }
            Input::Granted { session, grant } => self.granted(session, grant, turn),
            Input::Received { session, message } => self.received(session, message, turn),
            Input::Overflowed { session } => {
                if let Some(session) = self.sessions.get_mut(session) {
                    session.downstream.overflowed(turn.now);
                }
            }
            Input::Drained { session } => self.catch_up(session, turn),
            Input::Left { session } => self.left(session, turn),
            Input::Persisted { through } => self.persisted(through, turn),
            Input::PersistFailed => {
                self.replication.persist_failed();
                let text = "the store refused an update; keep the page open and reconnect";
                self.give_up(CloseCode::StoreUnavailable, text, turn);
            }
            Input::Store(store) => self.store_changed(store, turn),
            Input::SnapshotEnded(SnapshotOutcome::Written) => self.replication.snapshot_written(),
            Input::SnapshotEnded(SnapshotOutcome::Failed) => self.replication.snapshot_failed(),
            Input::Check => self.replication.request_check(),
            Input::Compared(outcome) => self.compared(outcome, turn),
            Input::Deadline => self.deadline(turn),
            Input::MakeRoom => self.availability.end_idle_time(turn.now),
            Input::Drain => {
                self.availability.drain();
                self.close_all(CloseCode::Draining, RESTARTING, turn);
            }
        }
    }
}

// What happens to the document as a whole.
impl Document {
    fn answer_deferred(&mut self, turn: &mut Turn<'_>) {
        if let Some((session, item)) = self.replication.take_deferred() {
            self.deferred(session, item, turn);
        }
    }

    /// The stored log is here: deferred items can be answered.
    fn loaded(&mut self, loaded: LoadedDocument, turn: &mut Turn<'_>) {
        if self.replication.loading().is_none() {
            return;
        }
        let epoch = loaded.epoch;
        self.replication.set_epoch(epoch);
        for id in self.sessions.filter(|session| session.has_other_epoch(epoch)) {
            self.close_epoch_mismatch(id, turn);
        }
        let quarantine = loaded.quarantine.clone();
        if quarantine.is_some() {
            // It may hold less than these sessions were sent: they begin again.
            for id in self.sessions.filter(|session| session.downstream.is_joined()) {
                let text = "the document is damaged; reconnect to read what is left of it";
                self.close(id, CloseCode::Internal, text, turn);
            }
        }
        match self.replication.loaded(loaded) {
            Ok(()) => {
                self.availability.loaded(quarantine);
                self.ask_pending(turn);
            }
            Err(LogIsShorter) => {
                let text = "the store lost updates that it had accepted";
                self.give_up(CloseCode::StoreUnavailable, text, turn);
            }
        }
    }

    fn persisted(&mut self, through: Sequence, turn: &mut Turn<'_>) {
        self.replication.persisted_through(through);
        self.sessions.confirm(self.replication.persisted(), turn);
    }

    fn store_changed(&mut self, store: StoreAvailability, turn: &mut Turn<'_>) {
        self.availability.store_changed(store);
        match store {
            StoreAvailability::Stalled => self.replication.abandon_snapshot(),
            StoreAvailability::Writable if self.availability.quarantine().is_none() => {
                for (_, session) in self.sessions.iter_mut() {
                    if session.grant.may_write() {
                        session.upstream.forget_refusal();
                    }
                }
                self.ask_pending(turn);
            }
            StoreAvailability::Writable => {}
        }
    }

    /// The log is the truth. A document that differs from it is dropped, and its clients bring what
    /// they hold to the one that is loaded next.
    fn compared(&mut self, outcome: CheckOutcome, turn: &mut Turn<'_>) {
        self.replication.check_ended();
        if outcome == CheckOutcome::Different && self.replication.is_loaded() {
            let text = "the document differs from its log and is loaded again; reconnect";
            self.give_up(CloseCode::Internal, text, turn);
        }
    }

    /// Throws the replica away and loads the document again. Sessions stay.
    fn rebuild(&mut self, error: &ApplyError, turn: &mut Turn<'_>) {
        if let Err(TooManyRebuilds) = self.replication.rebuild() {
            let text = format!("the document failed repeatedly and is loaded again: {error}");
            self.give_up(CloseCode::Internal, &text, turn);
        }
    }

    /// Gives the document up without writing anything more.
    fn give_up(&mut self, code: CloseCode, text: &str, turn: &mut Turn<'_>) {
        self.replication.give_up();
        self.close_all(code, text, turn);
    }

    fn close_all(&mut self, code: CloseCode, text: &str, turn: &mut Turn<'_>) {
        self.presence.clear();
        for session in self.sessions.take() {
            self.replication.forget_deferred(session);
            turn.effects.push(Effect::Close { session, close: Close::new(code, text) });
        }
    }

    /// Closes one session and forgets it.
    fn close(
        &mut self,
        session: SessionId,
        code: CloseCode,
        text: impl std::fmt::Display,
        turn: &mut Turn<'_>,
    ) {
        self.close_with(session, Close::new(code, text), turn);
    }

    fn close_with(&mut self, session: SessionId, close: Close, turn: &mut Turn<'_>) {
        turn.effects.push(Effect::Close { session, close });
        self.left(session, turn);
    }

    fn left(&mut self, id: SessionId, turn: &mut Turn<'_>) {
        self.replication.forget_deferred(id);
        if self.sessions.remove(id) {
            self.presence.left(id, &self.sessions, turn);
        }
    }
}

// Time, and what has become due.
impl Document {
    fn deadline(&mut self, turn: &mut Turn<'_>) {
        self.replication.sweep_diffs(turn.now);
        if self.tick_at.is_none_or(|at| at > turn.now) {
            return;
        }
        self.tick_at = None;
        self.presence.tick(&self.sessions, turn);
        if self.replication.is_loaded() {
            self.tick_sessions(turn);
        }
    }

    /// Derives what has become due.
    fn step(&mut self, turn: &mut Turn<'_>) {
        if self.replication.request_load() {
            turn.effects.push(Effect::Load);
        }
        self.encode_snapshot(Occasion::Live, turn);
        self.start_check(turn);
        self.unload_if_idle(turn);
        if let Some((snapshot, state_vector)) = self.replication.snapshot_ready() {
            turn.effects.push(Effect::Snapshot { snapshot, state_vector });
        }
        self.schedule(turn.now);
    }

    fn encode_snapshot(&mut self, occasion: Occasion, turn: &mut Turn<'_>) {
        if self.availability.halt().is_none()
            && let Err(error) = self.replication.encode_snapshot(occasion, &self.limits)
        {
            self.rebuild(&error, turn);
        }
    }

    fn start_check(&mut self, turn: &mut Turn<'_>) {
        if self.availability.quarantine().is_some() || self.availability.is_draining() {
            return;
        }
        match self.replication.start_check() {
            Ok(None) => {}
            Ok(Some((live, state_vector))) => {
                turn.effects.push(Effect::Compare { live, state_vector });
            }
            Err(error) => self.rebuild(&error, turn),
        }
    }

    fn unload_if_idle(&mut self, turn: &mut Turn<'_>) {
        if !self.sessions.is_empty() {
            return self.availability.in_use();
        }
        let idle = self.limits.idle;
        let is_idle = self.availability.is_idle(turn.now, idle) || self.replication.is_lost();
        let is_loading = self.replication.loading().is_some();
        if !is_idle || is_loading || !self.replication.is_persisted() {
            return;
        }
        if !self.availability.is_draining() {
            self.encode_snapshot(Occasion::Idle, turn);
        }
        if !self.replication.is_busy() {
            turn.effects.push(Effect::Unload);
            // If a session is about to join, the caller keeps the document and the wait begins again.
            self.availability.restart_idle_time(turn.now, idle);
        }
    }

    /// Sets the next tick. Sessions are looked at only if that could bring it forward.
    fn schedule(&mut self, now: Timestamp) {
        let tick = now + TICK;
        let is_due = |at: Option<Timestamp>| at.is_some_and(|at| at <= tick);
        let at = if !self.presence.is_pending() && is_due(self.tick_at) {
            return;
        } else if !self.presence.is_pending()
            && self.sessions.iter().any(|(_, session)| session.is_timed())
        {
            tick
        } else if let Some(at) = self.presence.next_tick(now) {
            at
        } else {
            return;
        };
        self.tick_at = Some(self.tick_at.map_or(at, |scheduled| scheduled.min(at)));
    }
}
