//! The document as a state machine: inputs in, effects out. It never waits.
//!
//! [`Document::handle`] is the only door. What happens to an update behind it, in order: the gate
//! walks the bytes, the facts are fitted against what is known, the CRDT integrates them, the log
//! gives them a sequence, and the received bytes go to every follower and to the store. A hole or
//! a missing reference is answered with a SyncStep1 and never integrated.
//!
//! After every input `step` derives what has become due, so that no handler has to remember it.
//! The rules are numbered in `docs/spec-document.md`.

mod answer;
mod check;
pub mod effect;
mod granting;
mod halt;
pub mod input;
pub mod limits;
mod loading;
mod log;
pub mod merge;
mod presence;
pub mod replay;
pub mod replica;
mod session;
mod stamp;
pub mod stored;
mod sync;
pub mod tally;
mod telling;
pub mod verify;

use std::collections::{BTreeMap, VecDeque};

pub use effect::{Delivery, Effect};
pub use input::{CheckOutcome, Input, SnapshotOutcome};
pub use limits::{Limits, Stamping};
pub use replay::LoadedDocument;
pub use tally::{UpdateCounts, UpdateOutcome};
pub use verify::{compare, verify_snapshot};

use crate::close::{Close, CloseCode};
use crate::document::answer::DiffCache;
use crate::document::check::Check;
use crate::document::halt::StoreState;
use crate::document::loading::{Deferred, LoadBacklog};
use crate::document::log::{Log, Occasion};
use crate::document::presence::Presence;
use crate::document::replica::{ApplyError, Replica};
use crate::document::session::{PresenceDelivery, Session};
use crate::id::{Epoch, Sequence, SessionId};
use crate::limit::Limit;
use crate::time::{Millis, Timestamp};
use crate::validate::StateVector;
use crate::wire::{ClientMessage, ServerMessage};

/// How often sessions with something pending are looked at.
const TICK: Millis = Millis::from_secs(1);

/// How often presence is looked at while nothing else is pending.
const PRESENCE_TICK: Millis = Millis::from_secs(5);

/// How long a session that says nothing of itself waits to be told who is here.
const TELL_AFTER: Millis = Millis::from_secs(1);

/// Rebuilds in one life of a document. More would mean that it cannot be repaired this way.
const REBUILDS_MAX: u8 = 5;

const RESTARTING: &str = "the server restarts; reconnect";

/// One live document.
#[derive(Debug)]
pub struct Document {
    limits: Limits,
    phase: Phase,
    /// What waited for the load that has just ended, and is not answered yet.
    arrivals: VecDeque<(SessionId, Deferred)>,
    /// Each by itself: a node of the tree has room for eleven, and most documents have few.
    sessions: BTreeMap<SessionId, Box<Session>>,
    presence: Presence,
    answer: DiffCache,
    log: Log,
    /// The history that was loaded last.
    epoch: Epoch,
    /// Why it may only be read.
    quarantine: Option<String>,
    store: StoreState,
    check: Check,
    draining: bool,
    /// Until when somebody may come back; None while somebody is there.
    idle_until: Option<Timestamp>,
    tick_at: Option<Timestamp>,
    rebuilds: u8,
    tally: UpdateCounts,
}

#[derive(Debug)]
enum Phase {
    /// What arrives waits inside, so nothing is answered from a blank document and nothing is
    /// loaded twice.
    Loading(LoadBacklog),
    Ready(Replica),
    /// It could not be loaded, or its store takes no more. Never written from here on.
    Lost,
}

impl Document {
    /// A document that asks for its stored log at the first input.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            phase: Phase::Loading(LoadBacklog::default()),
            arrivals: VecDeque::new(),
            sessions: BTreeMap::new(),
            presence: Presence::default(),
            answer: DiffCache::default(),
            log: Log::default(),
            epoch: Epoch::NONE,
            quarantine: None,
            store: StoreState::Writable,
            check: Check::default(),
            draining: false,
            idle_until: None,
            tick_at: None,
            rebuilds: 0,
            tally: UpdateCounts::default(),
        }
    }

    /// Applies one input. Effects are appended in the order they must happen.
    pub fn handle(&mut self, now: Timestamp, input: Input, effects: &mut Vec<Effect>) {
        // What comes of an answer to one of those who waited is no reason to hurry the others.
        if !matches!(input, Input::Overflowed { .. }) {
            while self.answer_next(now, effects).is_some() {}
        }
        let mut turn = Turn { now, effects };
        self.dispatch(input, &mut turn);
        self.step(&mut turn);
    }

    /// Answers the next of what waited for a load that has ended, and says whose it was; None once
    /// nothing is left. To be called until then after `Input::Loaded`: one by one, so that the time
    /// can be charged to its session. The next input that is no `Overflowed` has the rest answered first.
    pub fn answer_next(&mut self, now: Timestamp, effects: &mut Vec<Effect>) -> Option<SessionId> {
        let (session, arrival) = self.arrivals.pop_front()?;
        let mut turn = Turn { now, effects };
        self.arrived(session, arrival, &mut turn);
        self.step(&mut turn);
        Some(session)
    }

    /// When `Input::Deadline` is due, if anything waits for time.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        // While something is on its way to disk, its completion is the next input.
        let unload_at = self.idle_until.filter(|_| {
            matches!(self.phase, Phase::Ready(_) | Phase::Lost)
                && self.log.is_settled()
                && !self.is_busy()
        });
        self.tick_at.into_iter().chain(unload_at).chain(self.answer.expires_at()).min()
    }

    /// How many sessions take part.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// Why the document may only be read; None if it may be written.
    #[must_use]
    pub fn quarantine(&self) -> Option<&str> {
        self.quarantine.as_deref()
    }

    /// How much of each client's history is known; None while the document is not loaded.
    #[must_use]
    pub fn known(&self) -> Option<&StateVector> {
        match &self.phase {
            Phase::Ready(replica) => Some(replica.known()),
            Phase::Loading(_) | Phase::Lost => None,
        }
    }

    /// What happened since this was last asked.
    pub fn take_tally(&mut self) -> UpdateCounts {
        std::mem::take(&mut self.tally)
    }

    fn dispatch(&mut self, input: Input, turn: &mut Turn<'_>) {
        match input {
            Input::Loaded(loaded) => self.loaded(*loaded, turn),
            Input::LoadFailed => {
                let text = "the stored document cannot be read; nothing was changed";
                self.lose(CloseCode::StoreUnavailable, text, turn);
            }
            Input::Joined { session, grant, dialect, epoch } => {
                self.joined(session, Session::new(turn.now, grant, dialect, epoch), turn);
            }
            Input::Granted { session, grant } => self.granted(session, grant, turn),
            Input::Received { session, message } => self.received(session, message, turn),
            Input::Overflowed { session } => {
                if let Some(session) = self.sessions.get_mut(&session) {
                    session.lagging_since = Some(turn.now);
                    session.repeat_since = Some(turn.now);
                }
            }
            Input::Drained { session } => self.catch_up(session, turn),
            Input::Left { session } => self.left(session, turn),
            Input::Persisted { through } => self.persisted(through, turn),
            Input::PersistFailed => {
                self.log.persist_failed();
                let text = "the store refused an update; unsaved ones are still yours";
                self.lose(CloseCode::StoreUnavailable, text, turn);
            }
            Input::StoreStalled => self.store_stalled(),
            Input::StoreResumed => self.store_resumed(turn),
            Input::SnapshotEnded(SnapshotOutcome::Written) => self.log.snapshot_written(),
            Input::SnapshotEnded(SnapshotOutcome::Failed) => self.log.snapshot_failed(),
            Input::Check => self.check.want(),
            Input::Compared(outcome) => self.compared(outcome, turn),
            Input::Deadline => self.deadline(turn),
            Input::MakeRoom => self.idle_until = Some(turn.now),
            Input::Drain => {
                self.draining = true;
                self.close_all(CloseCode::Draining, RESTARTING, turn);
            }
        }
    }

    fn joined(&mut self, id: SessionId, session: Session, turn: &mut Turn<'_>) {
        let is_estranged = session.is_estranged_from(self.epoch);
        self.sessions.insert(id, Box::new(session));
        match &self.phase {
            _ if self.draining => self.close(id, CloseCode::Draining, RESTARTING, turn),
            Phase::Ready(_) if is_estranged => self.close_estranged(id, turn),
            Phase::Loading(_) | Phase::Ready(_) => self.greet(id, turn),
            Phase::Lost => {
                let text = "the document is given up for the moment and loaded afresh; try again";
                self.close(id, CloseCode::StoreUnavailable, text, turn);
            }
        }
    }

    fn received(&mut self, id: SessionId, message: ClientMessage, turn: &mut Turn<'_>) {
        let Some(session) = self.sessions.get(&id) else { return };
        if turn.now >= session.grant.ends_at() {
            let text = "the token expired while connected; connect with a new one";
            return self.close(id, CloseCode::TokenExpired, text, turn);
        }
        if let Phase::Loading(waiting) = &mut self.phase {
            if !waiting.push(id, message, &self.limits) {
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
                self.update_received(id, sync::Origin::FirstSync, &update, turn);
            }
            ClientMessage::Update { update } => {
                self.update_received(id, sync::Origin::Live, &update, turn);
            }
            ClientMessage::Presence { entries } => self.presence_received(id, &entries, turn),
            ClientMessage::QueryPresence => self.presence_asked(id, turn),
        }
    }

    fn left(&mut self, id: SessionId, turn: &mut Turn<'_>) {
        if let Phase::Loading(waiting) = &mut self.phase {
            waiting.forget(id);
        }
        if self.sessions.remove(&id).is_some() {
            let ended = self.presence.leave(turn.now, id);
            self.publish(&ended, turn);
        }
    }

    fn persisted(&mut self, through: Sequence, turn: &mut Turn<'_>) {
        self.log.persisted = self.log.persisted.max(through);
        for (&id, session) in &mut self.sessions {
            session.confirm(id, self.log.persisted, turn);
        }
    }

    fn deadline(&mut self, turn: &mut Turn<'_>) {
        self.answer.sweep(turn.now);
        if self.tick_at.is_none_or(|at| at > turn.now) {
            return;
        }
        self.tick_at = None;
        self.flush_presence(turn);
        let ended = self.presence.sweep(turn.now);
        self.publish(&ended, turn);
        if matches!(self.phase, Phase::Ready(_)) {
            self.tick_sessions(turn);
        }
    }

    fn tick_sessions(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now;
        let overdue =
            |since: Option<Timestamp>, patience| since.is_some_and(|since| now - since >= patience);
        let mut repeats = Vec::new();
        let mut slow = Vec::new();
        let mut silent = Vec::new();
        for (&id, session) in &mut self.sessions {
            if session.is_unheard() && now - session.joined_at >= TELL_AFTER {
                session.telling = PresenceDelivery::Due;
                self.presence.owes = true;
            }
            if session.repeat_since.is_some() && session.lagging_since.is_none() {
                repeats.push(id);
            }
            if overdue(session.lagging_since, self.limits.lagging) {
                slow.push(id);
            } else if overdue(session.resync_since, self.limits.resync) {
                silent.push(id);
            }
        }
        if self.presence.owes && self.presence.freshen(now) {
            self.tell_due(turn);
        }
        for id in repeats {
            self.repeat(id, turn);
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

    /// Gives the document up without writing anything more.
    fn lose(&mut self, code: CloseCode, text: &str, turn: &mut Turn<'_>) {
        self.phase = Phase::Lost;
        self.answer.forget();
        self.log.abandon_snapshot();
        self.close_all(code, text, turn);
    }

    fn close_all(&mut self, code: CloseCode, text: &str, turn: &mut Turn<'_>) {
        // Nobody is left to be told that the others went.
        self.presence = Presence::default();
        if let Phase::Loading(waiting) = &mut self.phase {
            waiting.clear();
        }
        for session in std::mem::take(&mut self.sessions).into_keys() {
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

    /// Derives what has become due.
    fn step(&mut self, turn: &mut Turn<'_>) {
        self.request_load(turn);
        self.take_snapshot(Occasion::Live, turn);
        self.start_check(turn);
        self.unload_if_idle(turn);
        if let Some((snapshot, known)) = self.log.snapshot_ready() {
            turn.effects.push(Effect::Snapshot { snapshot, known });
        }
        self.schedule(turn.now);
    }

    fn request_load(&mut self, turn: &mut Turn<'_>) {
        let settled = self.log.is_settled() && !self.is_busy();
        if let Phase::Loading(waiting) = &mut self.phase
            && settled
            && waiting.request_load()
        {
            turn.effects.push(Effect::Load);
        }
    }

    /// Whether the store is at work for it beside its updates. One thing at a time.
    fn is_busy(&self) -> bool {
        self.log.is_snapshotting() || self.check == Check::UnderWay
    }

    fn take_snapshot(&mut self, occasion: Occasion, turn: &mut Turn<'_>) {
        if self.halt().is_some() || self.check == Check::UnderWay {
            return;
        }
        let Phase::Ready(replica) = &mut self.phase else { return };
        if !self.log.snapshot_due(&self.limits, occasion) {
            return;
        }
        match replica.state() {
            Ok(state) => self.log.snapshot_encoded(state, replica.known().clone()),
            Err(error) => self.rebuild(&error, turn),
        }
    }

    fn unload_if_idle(&mut self, turn: &mut Turn<'_>) {
        if !self.sessions.is_empty() {
            self.idle_until = None;
            return;
        }
        let until = *self.idle_until.get_or_insert(turn.now + self.limits.idle);
        let due = match self.phase {
            Phase::Loading(_) => false,
            Phase::Lost => self.log.is_settled(),
            Phase::Ready(_) => {
                let overdue = self.draining || turn.now >= until;
                overdue && self.log.is_settled()
            }
        };
        if !due {
            return;
        }
        if !self.draining {
            self.take_snapshot(Occasion::Idle, turn);
        }
        if !self.is_busy() {
            turn.effects.push(Effect::Unload);
            // If somebody is on the way in, the shell keeps the document and the wait begins anew.
            self.idle_until = Some(turn.now + self.limits.idle);
        }
    }

    /// Sets the next tick. Everybody is looked at only if that could bring it forward.
    fn schedule(&mut self, now: Timestamp) {
        let tick = now + TICK;
        let at = if self.presence.is_pending() {
            Presence::next_tick(now)
        } else if self.tick_at.is_some_and(|at| at <= tick) {
            return;
        } else if self.sessions.values().any(|session| session.waits_for_time()) {
            tick
        } else if self.presence.is_empty() {
            return;
        } else {
            now + PRESENCE_TICK
        };
        self.tick_at = Some(self.tick_at.map_or(at, |scheduled| scheduled.min(at)));
    }

    /// Throws the replica away and loads the document again. Sessions stay and their messages
    /// wait; everything relayed so far is in the log, so they lose nothing.
    fn rebuild(&mut self, error: &ApplyError, turn: &mut Turn<'_>) {
        if self.rebuilds == REBUILDS_MAX {
            let text = format!("the document failed repeatedly and is loaded afresh: {error}");
            return self.lose(CloseCode::Internal, &text, turn);
        }
        self.rebuilds += 1;
        self.log.abandon_snapshot();
        self.answer.forget();
        self.phase = Phase::Loading(LoadBacklog::default());
    }
}

/// One input being handled: when, and what it asks for.
struct Turn<'a> {
    now: Timestamp,
    effects: &'a mut Vec<Effect>,
}

impl Turn<'_> {
    fn send(&mut self, to: SessionId, message: ServerMessage, delivery: Delivery) {
        self.effects.push(Effect::Send { to, message, delivery });
    }
}
