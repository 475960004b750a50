//! A whole document with several sessions. The CRDT must integrate every valid update; what it
//! integrated must encode and load again, from a snapshot and from the whole log.
//!
//! It must also be the same then, unless a client names neighbours in a false order: a right origin
//! left of the left one is integrated at a position that depends on earlier updates. So
//! the first byte of the data says whether there are right origins at all.

use std::sync::Arc;

use bytes::Bytes;
use syncline_protocol::document::verify::{CompareError, VerifyError};
use syncline_protocol::document::{
    CheckOutcome, Document, Effect, Input, Limits, LoadedDocument, SnapshotOutcome, Stamping,
    compare, verify_snapshot,
};
use syncline_protocol::time::Millis;
use syncline_protocol::validate::{Budget, StateVector};
use syncline_protocol::wire::{ClientMessage, Dialect, y_websocket};
use syncline_protocol::{
    Access, Durability, Grant, Identity, LoggedUpdate, PresenceRight, SessionId, Snapshot,
    StoredLog, Timestamp,
};

use super::nonsense::{self, Choices};

const SESSIONS: u64 = 3;
const READER: u64 = 2;
const STEPS_MAX: usize = 40;

pub(crate) fn run(data: &[u8]) {
    let mut choices = Choices::new(data);
    let mut world = World::new(choices.may_lie);
    for _ in 0..STEPS_MAX {
        if choices.is_empty() {
            break;
        }
        world.step(&mut choices);
    }
    world.end();
}

struct World {
    document: Document,
    limits: Limits,
    now: Timestamp,
    /// The log that a restart finds: the newest snapshot and the updates after it.
    stored: StoredLog,
    /// Every update since the beginning.
    whole: StoredLog,
    /// The current session of each place.
    sessions: [SessionId; SESSIONS as usize],
    next_session: u64,
    loads: u32,
    sent: Vec<Bytes>,
    /// Whether neighbours may be named in a false order.
    may_lie: bool,
}

fn limits() -> Limits {
    Limits {
        live: Budget::LIVE,
        sync: Budget::SYNC,
        stored: Budget::STORED,
        durability: Durability::Fsync,
        message_bytes_max: 100_000,
        update_bytes_max: 10_000,
        document_bytes_max: 1 << 20,
        presence_clients_max: 3,
        stamping: Stamping::Identity,
        waiting_messages_max: 5,
        waiting_bytes_max: 1_000,
        snapshot_updates: 4,
        snapshot_bytes: 1 << 20,
        idle: Millis::from_secs(30),
        lagging: Millis::from_secs(30),
        resync: Millis::from_secs(30),
    }
}

impl World {
    fn new(may_lie: bool) -> Self {
        let mut world = Self {
            document: Document::new(limits()),
            limits: limits(),
            now: Timestamp::from_unix_ms(1_780_000_000_000),
            stored: StoredLog::default(),
            whole: StoredLog::default(),
            sessions: [SessionId::new(0); SESSIONS as usize],
            next_session: 1,
            loads: 0,
            sent: Vec::new(),
            may_lie,
        };
        world.start();
        world
    }

    fn start(&mut self) {
        self.loads = 0;
        for place in 0..SESSIONS {
            self.join(place);
        }
    }

    fn join(&mut self, place: u64) {
        let session = SessionId::new(self.next_session);
        self.next_session += 1;
        self.sessions[place as usize] = session;
        let access = if place == READER { Access::Read } else { Access::Write };
        let dialect = if place == 0 { Dialect::SynclineV1 } else { Dialect::YWebsocket };
        let grant = Grant {
            access,
            presence: PresenceRight::Visible,
            identity: Arc::new(Identity { sub: format!("user {place}").into(), name: "".into() }),
            expires_at: self.now + Millis::from_secs(1_000_000),
        };
        self.handle(Input::Joined { session, grant, dialect, epoch: None });
        self.say(place, ClientMessage::SyncStep1 { state_vector: Bytes::from_static(&[0]) });
    }

    fn step(&mut self, choices: &mut Choices<'_>) {
        let place = u64::from(choices.below(SESSIONS as u32));
        match choices.below(16) {
            0..9 => {
                let update = self.nonsense(choices);
                self.sent.push(update.clone());
                self.say(place, ClientMessage::Update { update });
            }
            9 => {
                let update = self.nonsense(choices);
                self.say(place, ClientMessage::SyncStep2 { update });
            }
            10 => {
                let len = choices.byte().into();
                let frame = Bytes::copy_from_slice(choices.take(len));
                match y_websocket::decode(&frame) {
                    Ok(message) if self.may_lie => self.say(place, message),
                    _ => {}
                }
            }
            11 => {
                let index = choices.below(self.sent.len() as u32) as usize;
                if let Some(update) = self.sent.get(index).cloned() {
                    self.say(place, ClientMessage::Update { update });
                }
            }
            12 => self.handle(Input::Check),
            13 => {
                self.now = self.now + Millis::from_secs(u64::from(choices.byte()));
                self.handle(Input::Deadline);
            }
            14 => {
                self.handle(Input::Left { session: self.sessions[place as usize] });
                self.join(place);
            }
            _ => self.restart(),
        }
    }

    fn nonsense(&self, choices: &mut Choices<'_>) -> Bytes {
        let nothing = StateVector::new();
        nonsense::update(choices, self.document.state_vector().unwrap_or(&nothing)).into()
    }

    fn say(&mut self, place: u64, message: ClientMessage) {
        self.handle(Input::Received { session: self.sessions[place as usize], message });
    }

    fn restart(&mut self) {
        let before = self.document.state_vector().cloned();
        self.document = Document::new(self.limits.clone());
        self.start();
        assert_eq!(self.document.state_vector().cloned(), before, "a restart forgets nothing");
    }

    fn handle(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.document.handle(self.now, input, &mut effects);
        while self.document.next_deferred().is_some() {
            self.document.handle(self.now, Input::Continue, &mut effects);
        }
        for effect in effects {
            self.carry_out(effect);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Load => {
                self.loads += 1;
                assert_eq!(self.loads, 1, "the CRDT failed on a valid update");
                let loaded = LoadedDocument::decode(&self.stored, &self.limits)
                    .expect("what was accepted loads");
                self.handle(Input::Loaded(Box::new(loaded)));
            }
            Effect::Append { sequence, update, .. } => {
                let logged = LoggedUpdate { sequence, update, ..LoggedUpdate::default() };
                self.stored.updates.push(logged.clone());
                self.whole.updates.push(logged);
                self.handle(Input::Persisted { through: sequence });
            }
            Effect::Snapshot { snapshot, state_vector } => {
                let verified = verify_snapshot(&snapshot, &state_vector, &self.limits);
                let outcome = if self.is_same(verified) {
                    self.stored.updates.retain(|logged| logged.sequence > snapshot.through);
                    self.stored.snapshot = Some(snapshot);
                    SnapshotOutcome::Written
                } else {
                    SnapshotOutcome::Failed
                };
                self.handle(Input::SnapshotEnded(outcome));
            }
            Effect::Compare { live, state_vector } => {
                if self.compare(&live, &state_vector) {
                    self.handle(Input::Compared(CheckOutcome::Same));
                } else {
                    self.restart();
                }
            }
            Effect::Close { session, .. } => {
                if let Some(place) = self.sessions.iter().position(|known| *known == session) {
                    self.join(place as u64);
                }
            }
            Effect::Send { .. } | Effect::Unload => {}
        }
    }

    fn compare(&self, live: &Snapshot, known: &StateVector) -> bool {
        [&self.stored, &self.whole].into_iter().all(|log| {
            self.is_same(match compare(live, known, log, &self.limits) {
                Ok(()) => Ok(()),
                Err(CompareError::Differs(error)) => Err(error),
                Err(error) => panic!("{error}"),
            })
        })
    }

    /// Whether a document is as expected. It may differ only after a false order.
    fn is_same(&self, result: Result<(), VerifyError>) -> bool {
        match result {
            Ok(()) => true,
            Err(VerifyError::Deletions | VerifyError::Content { .. }) if self.may_lie => false,
            Err(error) => panic!("{error}"),
        }
    }

    fn end(mut self) {
        self.handle(Input::Check);
        let mut loaded = LoadedDocument::decode(&self.whole, &self.limits).expect("the log loads");
        assert_eq!(Some(loaded.state_vector()), self.document.state_vector());
        let known = loaded.state_vector().clone();
        let state = loaded.state().expect("the state encodes").into();
        let live = Snapshot { through: loaded.last(), state };
        self.is_same(verify_snapshot(&live, &known, &self.limits));
        self.compare(&live, &known);
    }
}
