//! The caller of the document, like the server's document task and connections.

use std::collections::BTreeMap;
use std::sync::Arc;

use syncline_protocol::document::{
    CheckOutcome, Document, Effect, Input, Limits, LoadedDocument, SnapshotOutcome, Stamping,
    StoreAvailability, compare, verify_snapshot,
};
use syncline_protocol::time::Millis;
use syncline_protocol::validate::{Budget, PresenceEntry, StateVector, walk_presence};
use syncline_protocol::wire::{ClientMessage, EncodeOnce, ServerMessage, y_websocket};
use syncline_protocol::{
    CloseCode, Durability, Grant, Identity, PresenceRight, SessionId, Snapshot, Timestamp,
};

use crate::network::{Packet, Pushed, Taken};
use crate::random::Rng;
use crate::store::Stall;
use crate::world::{Event, World};

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) limits: Limits,
    pub(crate) document: Option<Document>,
    /// The document's sessions, and their links.
    pub(crate) joined: BTreeMap<SessionId, usize>,
    /// Counts documents, so that a completion meant for an earlier one is recognised.
    pub(crate) life: u64,
    pub(crate) blocking: Blocking,
    pub(crate) state: State,
    /// Why the document is opened read-only.
    pub(crate) quarantine: Option<String>,
    /// The state vector at the last load.
    salvaged: Option<StateVector>,
    /// Whether the document's last news was that the store is stalled.
    known_stalled: bool,
    deadline_at: Option<u64>,
}

/// The load or the snapshot under way. There is never more than one.
#[derive(Debug)]
pub(crate) enum Blocking {
    Nothing,
    Load,
    Snapshot(Snapshot),
    Compare(Snapshot, StateVector),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Up,
    Draining,
    Down,
}

impl Server {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        let limits = Limits {
            live: Budget::LIVE,
            sync: Budget::SYNC,
            stored: Budget::STORED,
            durability: Durability::Fsync,
            message_bytes_max: 8 << 20,
            update_bytes_max: 1 << 20,
            document_bytes_max: 64 << 20,
            presence_clients_max: 32,
            stamping: Stamping::Identity,
            waiting_messages_max: 1_024,
            waiting_bytes_max: 4 << 20,
            snapshot_updates: rng.between(5, 60),
            snapshot_bytes: rng.between(200, 20_000),
            idle: Millis(rng.between(500, 4_000)),
            lagging: Millis::from_secs(rng.between(3, 30)),
            resync: Millis::from_secs(rng.between(5, 30)),
        };
        Self {
            limits,
            document: None,
            joined: BTreeMap::new(),
            life: 0,
            blocking: Blocking::Nothing,
            state: State::Up,
            quarantine: None,
            salvaged: None,
            known_stalled: false,
            deadline_at: None,
        }
    }

    pub(crate) fn release(&mut self) {
        self.document = None;
        self.life += 1;
        self.blocking = Blocking::Nothing;
        self.deadline_at = None;
        self.known_stalled = false;
    }
}

impl World {
    /// A socket was accepted: its session joins the document, which is opened if need be.
    pub(crate) fn join(&mut self, link: usize) {
        let (session, client) = (self.links[link].session, self.links[link].client);
        if self.server.state != State::Up {
            return self.refuse(link);
        }
        let (access, dialect) = self.rights(client);
        self.links[link].at_server = true;
        self.links[link].sent_at = self.now;
        self.server.joined.insert(session, link);
        if self.server.document.is_none() {
            self.server.document = Some(Document::new(self.server.limits.clone()));
            self.stats.opened += 1;
            self.send_store_news();
        }
        self.links[link].epoch = self.store.durable.epoch;
        let epoch = self.clients.get(client).and_then(|client| client.epoch);
        let grant = Grant {
            access,
            presence: PresenceRight::Visible,
            identity: Arc::new(Identity { sub: user(client).into(), name: "".into() }),
            expires_at: Timestamp::from_unix_ms(u64::MAX),
        };
        self.handle(Input::Joined { session, grant, dialect, epoch });
        self.schedule(20_000, Event::KeepAlive(link));
    }

    fn refuse(&mut self, link: usize) {
        let at = self.now + self.latency();
        let at = self.links[link].down.send(at, Packet::Close(CloseCode::Draining));
        self.schedule_at(at, Event::Down(link));
    }

    pub(crate) fn frame_received(&mut self, link: usize, frame: &bytes::Bytes) {
        if !self.links[link].at_server {
            return;
        }
        let session = self.links[link].session;
        let message = y_websocket::decode(frame).expect("clients speak the dialect");
        self.trace(|| format!("{session} -> {}", describe(&message)));
        self.handle(Input::Received { session, message });
    }

    pub(crate) fn leave(&mut self, link: usize) {
        self.links[link].at_server = false;
        let session = self.links[link].session;
        self.server.joined.remove(&session);
        self.handle(Input::Left { session });
    }

    pub(crate) fn drained(&mut self, link: usize) {
        let session = self.links[link].session;
        if self.server.joined.contains_key(&session) {
            self.links[link].send_queue.reopen();
        }
        self.handle(Input::Drained { session });
    }

    /// Has the document handle an input, and the deferred messages after it.
    fn effects_of(&mut self, input: Input) -> Option<Vec<Effect>> {
        let document = self.server.document.as_mut()?;
        let mut effects = Vec::new();
        let now = Timestamp::from_unix_ms(self.now);
        document.handle(now, input, &mut effects);
        while document.next_deferred().is_some() {
            document.handle(now, Input::Continue, &mut effects);
        }
        Some(effects)
    }

    pub(crate) fn handle(&mut self, input: Input) {
        let Some(effects) = self.effects_of(input) else { return };
        let mut frames = EncodeOnce::default();
        let mut overflowed = Vec::new();
        let mut store_failed = false;
        for effect in effects {
            match effect {
                Effect::Send { to, message, delivery } => {
                    let link = self.server.joined.get(&to);
                    let link = *link.expect("effects reach joined sessions");
                    let (_, dialect) = self.rights(self.links[link].client);
                    let frame = frames.encode(dialect, &message);
                    let frame = frame.expect("sessions are sent what their dialect has");
                    self.note_saved(link, &frame);
                    match self.links[link].send_queue.push(frame, delivery) {
                        Pushed::Queued => {}
                        Pushed::Skipped => self.links[link].skipped = true,
                        Pushed::Overflowed => {
                            self.links[link].skipped = true;
                            self.stats.overflows += 1;
                            overflowed.push(to);
                        }
                    }
                    self.schedule(0, Event::Flush(link));
                }
                Effect::Close { session, close } => {
                    let link = self.server.joined.remove(&session);
                    let link = link.expect("a session is closed once");
                    self.trace(|| format!("closes session {session}: {}", close.reason()));
                    self.links[link].send_queue.close(close.code);
                    self.schedule(0, Event::Flush(link));
                }
                Effect::Append { sequence, update, .. } => {
                    assert!(
                        self.server.quarantine.is_none() && !self.store.is_damaged,
                        "read-only"
                    );
                    if self.store.has_failed {
                        store_failed = true;
                    } else if self.store.append(sequence, update) {
                        self.start_commit();
                    }
                }
                Effect::Load => self.load(),
                Effect::Snapshot { snapshot, state_vector } => {
                    verify_snapshot(&snapshot, &state_vector, &self.server.limits).unwrap();
                    assert!(matches!(self.server.blocking, Blocking::Nothing), "one at a time");
                    self.trace(|| format!("writes a snapshot through {}", snapshot.through));
                    self.server.blocking = Blocking::Snapshot(snapshot);
                    let life = self.server.life;
                    let delay = self.rng.between(1, 400);
                    self.schedule(delay, Event::SnapshotDone(life));
                }
                Effect::Compare { live, state_vector } => self.start_compare(live, state_vector),
                Effect::Unload => self.unload(),
            }
        }
        for session in overflowed {
            self.trace(|| format!("session {session} overflowed"));
            self.handle(Input::Overflowed { session });
        }
        if store_failed {
            self.handle(Input::PersistFailed);
        }
        self.check_quarantined();
        self.schedule_deadline();
    }

    /// A quarantined document never changes.
    fn check_quarantined(&self) {
        let Some(document) = &self.server.document else { return };
        if document.quarantine().is_some()
            && let Some(known) = document.state_vector()
        {
            assert_eq!(Some(known), self.server.salvaged.as_ref(), "read-only");
        }
    }

    fn load(&mut self) {
        assert!(self.store.is_settled(), "Load is not asked while an append is under way");
        assert!(matches!(self.server.blocking, Blocking::Nothing), "one at a time");
        self.server.blocking = Blocking::Load;
        let life = self.server.life;
        let delay = self.rng.between(1, 900);
        self.schedule(delay, Event::Loaded(life));
    }

    pub(crate) fn loaded(&mut self, life: u64) {
        if life != self.server.life || !matches!(self.server.blocking, Blocking::Load) {
            return;
        }
        self.server.blocking = Blocking::Nothing;
        self.stats.loads += 1;
        if self.is_faulty && self.rng.one_in(60) {
            self.trace(|| "the load fails".into());
            return self.handle(Input::LoadFailed);
        }
        let (mut loaded, cause) = LoadedDocument::salvage(&self.store.durable, &self.server.limits);
        assert_eq!(cause.is_some(), self.store.is_damaged, "{cause:?}");
        if let Some(cause) = &self.server.quarantine {
            loaded.quarantine(cause.clone());
        }
        self.check_loaded(&mut loaded);
        let known = loaded.state_vector().clone();
        self.server.salvaged = Some(known.clone());
        self.trace(|| format!("loaded through {}", loaded.last()));
        self.handle(Input::Loaded(Box::new(loaded)));
        let now_known = self.server.document.as_ref().and_then(Document::state_vector);
        assert!(
            now_known.is_none_or(|now| known.iter().all(|(client, clock)| now[client] >= *clock)),
            "a load loses nothing"
        );
    }

    pub(crate) fn snapshot_done(&mut self, life: u64) {
        if life != self.server.life {
            return;
        }
        let blocking = std::mem::replace(&mut self.server.blocking, Blocking::Nothing);
        let Blocking::Snapshot(snapshot) = blocking else { panic!("no snapshot was under way") };
        self.stats.snapshots += 1;
        let is_full = self.store.stall != Stall::Writable && self.rng.one_in(2);
        let outcome = if is_full || (self.is_faulty && self.rng.one_in(5)) {
            SnapshotOutcome::Failed
        } else {
            self.store.write_snapshot(snapshot);
            SnapshotOutcome::Written
        };
        self.handle(Input::SnapshotEnded(outcome));
    }

    fn start_compare(&mut self, live: Snapshot, known: StateVector) {
        assert!(matches!(self.server.blocking, Blocking::Nothing), "one at a time");
        self.trace(|| format!("is compared with its log through {}", live.through));
        self.server.blocking = Blocking::Compare(live, known);
        let life = self.server.life;
        let delay = self.rng.between(1, 400);
        self.schedule(delay, Event::Compared(life));
    }

    pub(crate) fn compared(&mut self, life: u64) {
        if life != self.server.life {
            return;
        }
        let blocking = std::mem::replace(&mut self.server.blocking, Blocking::Nothing);
        let Blocking::Compare(live, known) = blocking else { panic!("nothing was compared") };
        self.stats.checks += 1;
        compare(&live, &known, &self.store.durable, &self.server.limits).unwrap();
        self.handle(Input::Compared(CheckOutcome::Same));
    }

    /// Gives the document the store's news, a moment after it happened.
    pub(crate) fn send_store_news(&mut self) {
        let is_stalled = self.store.stall != Stall::Writable;
        if self.server.document.is_some() && is_stalled != self.server.known_stalled {
            self.server.known_stalled = is_stalled;
            self.trace(|| format!("stalled: {is_stalled}"));
            let store =
                if is_stalled { StoreAvailability::Stalled } else { StoreAvailability::Writable };
            self.handle(Input::Store(store));
        }
    }

    pub(crate) fn start_commit(&mut self) {
        let delay = if self.rng.one_in(10) { 800 } else { 30 };
        let delay = self.rng.between(1, delay);
        let life = self.server.life;
        self.schedule(delay, Event::Commit(life));
    }

    pub(crate) fn commit(&mut self, life: u64) {
        if life != self.server.life || self.store.has_failed || self.store.stall != Stall::Writable
        {
            return;
        }
        let through = self.store.end_group();
        if self.store.start_group() {
            self.start_commit();
        }
        self.handle(Input::Persisted { through });
    }

    fn unload(&mut self) {
        assert!(self.server.joined.is_empty(), "it has sessions");
        let lost = self.store.has_failed;
        assert!(lost || self.store.is_settled(), "something is not on disk");
        if self.server.state == State::Up && self.rng.one_in(5) {
            // A session is about to join, so the caller keeps it.
            return;
        }
        self.trace(|| "unloads".into());
        self.stats.unloads += 1;
        self.server.release();
        if self.server.state == State::Draining {
            self.server.state = State::Down;
            let delay = self.rng.between(0, 1_000);
            self.schedule(delay, Event::Start);
        }
    }

    pub(crate) fn deadline(&mut self) {
        if self.server.deadline_at == Some(self.now) {
            self.server.deadline_at = None;
            self.handle(Input::Deadline);
        }
    }

    fn schedule_deadline(&mut self) {
        let Some(document) = &self.server.document else { return };
        let at = document.next_deadline().map(|at| at.as_unix_ms().max(self.now + 1));
        if at != self.server.deadline_at {
            self.server.deadline_at = at;
            if let Some(at) = at {
                self.schedule_at(at, Event::Deadline);
            }
        }
    }

    /// What a connection does whenever it runs: a close at once, frames as the socket has room.
    pub(crate) fn flush(&mut self, index: usize) {
        while self.links[index].at_server {
            let link = &mut self.links[index];
            if let Some(frame) = link.next_to_send() {
                link.sent_at = self.now;
                self.send_down(index, Packet::Frame(frame));
                continue;
            }
            if link.send_queue.closing().is_none() && !link.unsent.is_empty() {
                return;
            }
            match link.send_queue.take() {
                None => return,
                Some(Taken::Frames(frames)) => link.unsent.extend(frames),
                Some(Taken::Lagging) => {
                    let delay = self.rng.between(0, 5);
                    return self.schedule(delay, Event::Drained(index));
                }
                Some(Taken::Close(code)) => {
                    link.at_server = false;
                    self.send_down(index, Packet::Close(code));
                    self.schedule(1, Event::Leave(index));
                }
            }
        }
    }

    fn send_down(&mut self, index: usize, packet: Packet) {
        let at = self.now + self.latency();
        let link = &mut self.links[index];
        let at = link.down.send(at, packet);
        if link.is_cut {
            link.cut();
        } else {
            self.schedule_at(at, Event::Down(index));
        }
    }

    pub(crate) fn keep_alive(&mut self, index: usize) {
        let link = &mut self.links[index];
        if !link.at_server {
            return;
        }
        if self.now - link.sent_at >= 20_000 {
            link.sent_at = self.now;
            let keep_alive = y_websocket::encode(&ServerMessage::keep_alive());
            link.unsent.push_back(keep_alive.expect("every dialect has presence"));
            self.schedule(0, Event::Flush(index));
        }
        self.schedule(1_000, Event::KeepAlive(index));
    }
}

/// The user of a client, as its token names it.
pub(crate) fn user(client: usize) -> String {
    format!("user-{client}")
}

fn describe(message: &ClientMessage) -> String {
    match message {
        ClientMessage::SyncStep1 { state_vector } => format!("step 1, {} B", state_vector.len()),
        ClientMessage::SyncStep2 { update } => format!("step 2, {} B", update.len()),
        ClientMessage::Update { update } => format!("update, {} B", update.len()),
        ClientMessage::QueryPresence => "who is here?".into(),
        ClientMessage::Presence { entries } => walk_presence(entries, &Budget::LIVE).map_or_else(
            |error| error.to_string(),
            |entries| {
                let one = |entry: &PresenceEntry| {
                    let state = entry.state.as_deref().unwrap_or(b"null");
                    format!(" {}@{}={}", entry.client, entry.clock, state.escape_ascii())
                };
                entries.iter().map(one).collect()
            },
        ),
    }
}
