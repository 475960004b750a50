//! A document, the time, a store, and people.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use syncline_protocol::document::replica::FAILPOINT;
use syncline_protocol::document::{
    Delivery, Document, Effect, Input, LoadedDocument, SnapshotOutcome, Stamping, StoreAvailability,
};
use syncline_protocol::time::Millis;
use syncline_protocol::validate::{Budget, PresenceEntry};
use syncline_protocol::wire::varint::write_buffer;
use syncline_protocol::wire::{ClientMessage, Dialect, ServerMessage, SyncStep, y_websocket};
use syncline_protocol::{
    Access, ClientId, CloseCode, Durability, Epoch, Grant, Limit, LoggedUpdate, PresenceRight,
    Sequence, SessionId, Snapshot, StoredLog, Timestamp,
};
use yrs::block::ClientID;
use yrs::updates::decoder::Decode;
use yrs::updates::encoder::Encode;
use yrs::{Doc, GetString, OffsetKind, Options, ReadTxn, Text, TextRef, Transact, Update};

/// A message that a session received, without details of encoding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Got {
    /// Epoch, and whether it is quarantined.
    Welcome(String, bool),
    Question,
    Answer(Bytes),
    Update(Bytes),
    /// Client, and its state or None.
    Presence(Vec<(u64, Option<String>)>),
    /// The reason.
    Denied(String),
    Saved(u64),
    /// The frame and the reason.
    Refused(u64, String),
    Closed(CloseCode),
}

pub(crate) struct Scene {
    pub(crate) document: Document,
    pub(crate) now: Timestamp,
    pub(crate) limits: Limits,
    pub(crate) effects: Vec<Effect>,
    /// Everything that was appended, persisted or not.
    pub(crate) log: StoredLog,
    dialects: BTreeMap<SessionId, Dialect>,
}

pub(crate) use syncline_protocol::document::Limits;

pub(crate) fn limits() -> Limits {
    Limits {
        live: Budget::LIVE,
        sync: Budget::SYNC,
        stored: Budget::STORED,
        durability: Durability::Os,
        message_bytes_max: 10_000,
        update_bytes_max: 1_000,
        document_bytes_max: 1 << 20,
        presence_clients_max: 3,
        stamping: Stamping::Identity,
        waiting_messages_max: 5,
        waiting_bytes_max: 1_000,
        snapshot_updates: 1_000,
        snapshot_bytes: 1 << 20,
        idle: Millis::from_secs(30),
        lagging: Millis::from_secs(30),
        resync: Millis::from_secs(30),
    }
}

/// A grant without a name and without an end.
pub(crate) fn grant(access: Access) -> Grant {
    Grant {
        access,
        presence: PresenceRight::Visible,
        identity: Arc::default(),
        expires_at: Timestamp::from_unix_ms(u64::MAX),
    }
}

impl Scene {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            document: Document::new(limits.clone()),
            now: Timestamp::from_unix_ms(1_780_000_000_000),
            limits,
            effects: Vec::new(),
            log: StoredLog::default(),
            dialects: BTreeMap::new(),
        }
    }

    /// A loaded, empty document.
    pub(crate) fn ready(limits: Limits) -> Self {
        let mut scene = Self::new(limits);
        scene.deadline();
        scene.load();
        scene.effects.clear();
        scene
    }

    pub(crate) fn handle(&mut self, input: Input) {
        let before = self.effects.len();
        self.document.handle(self.now, input, &mut self.effects);
        while self.document.next_deferred().is_some() {
            self.document.handle(self.now, Input::Continue, &mut self.effects);
        }
        for effect in &self.effects[before..] {
            if let Effect::Append { sequence, update, .. } = effect {
                assert_eq!(*sequence, self.log.last().next());
                let update = update.clone();
                self.log.updates.push(LoggedUpdate {
                    sequence: *sequence,
                    update,
                    ..LoggedUpdate::default()
                });
            }
        }
    }

    /// Answers the load with all updates appended so far.
    pub(crate) fn load(&mut self) {
        let loaded = LoadedDocument::decode(&self.log, &self.limits).unwrap();
        self.handle(Input::Loaded(Box::new(loaded)));
    }

    pub(crate) fn join(&mut self, session: u64, access: Access, dialect: Dialect) {
        self.join_holding(session, access, dialect, None);
    }

    pub(crate) fn join_holding(
        &mut self,
        session: u64,
        access: Access,
        dialect: Dialect,
        epoch: Option<u64>,
    ) {
        let epoch = epoch.map(Epoch::new);
        let session = SessionId::new(session);
        self.dialects.insert(session, dialect);
        self.handle(Input::Joined { session, grant: grant(access), dialect, epoch });
    }

    pub(crate) fn join_with(&mut self, session: u64, grant: Grant, dialect: Dialect) {
        let session = SessionId::new(session);
        self.dialects.insert(session, dialect);
        self.handle(Input::Joined { session, grant, dialect, epoch: None });
    }

    pub(crate) fn writer(&mut self, session: u64) {
        self.join(session, Access::Write, Dialect::SynclineV1);
    }

    /// A stock client that follows and watches. Forgets the effects so far.
    pub(crate) fn follower(&mut self, session: u64) {
        self.join(session, Access::Write, Dialect::YWebsocket);
        self.ask(session);
        self.handle(Input::Received {
            session: SessionId::new(session),
            message: ClientMessage::QueryPresence,
        });
        self.effects.clear();
    }

    pub(crate) fn say(&mut self, session: u64, message: ClientMessage) {
        self.handle(Input::Received { session: SessionId::new(session), message });
    }

    /// SyncStep1 of an empty client.
    pub(crate) fn ask(&mut self, session: u64) {
        self.say(session, ClientMessage::SyncStep1 { state_vector: Bytes::from_static(&[0]) });
    }

    pub(crate) fn update(&mut self, session: u64, update: &Bytes) {
        self.say(session, ClientMessage::Update { update: update.clone() });
    }

    pub(crate) fn answer(&mut self, session: u64, update: &Bytes) {
        self.say(session, ClientMessage::SyncStep2 { update: update.clone() });
    }

    /// Sends presence in a tick of its own: a state is published once in each.
    pub(crate) fn show(&mut self, session: u64, entries: &[(u64, u32, Option<&str>)]) {
        self.pass(Millis(65));
        self.show_now(session, entries);
    }

    pub(crate) fn show_now(&mut self, session: u64, entries: &[(u64, u32, Option<&str>)]) {
        let entry = |&(client, clock, state): &(u64, u32, Option<&str>)| PresenceEntry {
            client: ClientId::new(client).unwrap(),
            clock,
            state: state.map(|state| Bytes::copy_from_slice(state.as_bytes())),
        };
        let entries: Vec<_> = entries.iter().map(entry).collect();
        let frame = y_websocket::encode(&ServerMessage::Presence(entries.into())).unwrap();
        self.say(session, y_websocket::decode(&frame).unwrap());
    }

    pub(crate) fn leave(&mut self, session: u64) {
        self.handle(Input::Left { session: SessionId::new(session) });
    }

    pub(crate) fn overflow(&mut self, session: u64) {
        self.handle(Input::Overflowed { session: SessionId::new(session) });
    }

    pub(crate) fn drained(&mut self, session: u64) {
        self.handle(Input::Drained { session: SessionId::new(session) });
    }

    pub(crate) fn persisted(&mut self, through: u64) {
        self.handle(Input::Persisted { through: Sequence::new(through) });
    }

    pub(crate) fn stall(&mut self) {
        self.handle(Input::Store(StoreAvailability::Stalled));
    }

    pub(crate) fn resume(&mut self) {
        self.handle(Input::Store(StoreAvailability::Writable));
    }

    pub(crate) fn snapshot_ended(&mut self, outcome: SnapshotOutcome) {
        self.handle(Input::SnapshotEnded(outcome));
    }

    pub(crate) fn deadline(&mut self) {
        self.handle(Input::Deadline);
    }

    /// Lets time pass, with every deadline on the way.
    pub(crate) fn pass(&mut self, length: Millis) {
        let end = self.now + length;
        while let Some(at) = self.document.next_deadline().filter(|at| *at <= end) {
            self.now = at.max(self.now + Millis(1));
            self.deadline();
        }
        self.now = end;
    }

    /// The messages to a session since `clear`, in order.
    pub(crate) fn got(&self, session: u64) -> Vec<Got> {
        let session = SessionId::new(session);
        self.effects
            .iter()
            .filter_map(|effect| {
                if let Effect::Send { to, message, .. } = effect {
                    (*to == session).then(|| read(self.dialects[to], message))
                } else if let Effect::Close { session: closed, close } = effect {
                    (*closed == session).then_some(Got::Closed(close.code))
                } else {
                    None
                }
            })
            .collect()
    }

    /// The limits that a session was closed for since `clear`.
    pub(crate) fn limits_hit(&self, session: u64) -> Vec<Limit> {
        let session = SessionId::new(session);
        let of_effect = |effect: &Effect| {
            let Effect::Close { session: closed, close } = effect else { return None };
            close.limit.filter(|_| *closed == session)
        };
        self.effects.iter().filter_map(of_effect).collect()
    }

    /// Like `got`, without welcome and presence.
    pub(crate) fn got_sync(&self, session: u64) -> Vec<Got> {
        let mut got = self.got(session);
        got.retain(|got| !matches!(got, Got::Presence(_) | Got::Welcome(..)));
        got
    }

    /// The presence a session was sent, entry by entry.
    pub(crate) fn seen(&self, session: u64) -> Vec<(u64, Option<String>)> {
        let presence = |got| if let Got::Presence(entries) = got { entries } else { Vec::new() };
        self.got(session).into_iter().flat_map(presence).collect()
    }

    /// The last sync message of a session. Clones of one encoding share their memory.
    pub(crate) fn last_frame(&self, session: u64) -> Bytes {
        let session = SessionId::new(session);
        let frames = self.effects.iter().filter_map(|effect| {
            let Effect::Send { to, message: ServerMessage::Sync(sync), .. } = effect else {
                return None;
            };
            (*to == session).then(|| sync.encoded().clone())
        });
        frames.last().unwrap()
    }

    pub(crate) fn clear(&mut self) {
        self.effects.clear();
    }

    pub(crate) fn appended(&self) -> usize {
        self.effects.iter().filter(|effect| matches!(effect, Effect::Append { .. })).count()
    }

    pub(crate) fn loads(&self) -> usize {
        self.effects.iter().filter(|effect| matches!(effect, Effect::Load)).count()
    }

    pub(crate) fn unloads(&self) -> usize {
        self.effects.iter().filter(|effect| matches!(effect, Effect::Unload)).count()
    }

    pub(crate) fn snapshots(&self) -> Vec<(Snapshot, syncline_protocol::validate::StateVector)> {
        let snapshot = |effect: &Effect| {
            let Effect::Snapshot { snapshot, state_vector } = effect else { return None };
            Some((snapshot.clone(), state_vector.clone()))
        };
        self.effects.iter().filter_map(snapshot).collect()
    }

    /// The states handed out to be compared with the log.
    pub(crate) fn compares(&self) -> Vec<(Snapshot, syncline_protocol::validate::StateVector)> {
        let compare = |effect: &Effect| {
            let Effect::Compare { live, state_vector } = effect else { return None };
            Some((live.clone(), state_vector.clone()))
        };
        self.effects.iter().filter_map(compare).collect()
    }

    /// Delivery of every presence frame, and of every other.
    pub(crate) fn deliveries(&self) -> (Vec<Delivery>, Vec<Delivery>) {
        let mut deliveries = (Vec::new(), Vec::new());
        for effect in &self.effects {
            if let Effect::Send { message, delivery, .. } = effect {
                let is_presence = matches!(message, ServerMessage::Presence(_));
                let list = if is_presence { &mut deliveries.0 } else { &mut deliveries.1 };
                list.push(*delivery);
            }
        }
        deliveries
    }

    /// The document's text after all appended updates.
    pub(crate) fn text(&self) -> String {
        let mut loaded = LoadedDocument::decode(&self.log, &self.limits).unwrap();
        let person = Person::new(1);
        person.take(&loaded.state().unwrap());
        person.text()
    }
}

/// A message as a client of this dialect reads it.
fn read(dialect: Dialect, message: &ServerMessage) -> Got {
    assert!(dialect.encode(message).is_some(), "{dialect:?} has no such message: {message:?}");
    match message {
        ServerMessage::Sync(sync) => match sync.step() {
            SyncStep::Step1 => Got::Question,
            SyncStep::Step2 => Got::Answer(sync.payload()),
            SyncStep::Update => Got::Update(sync.payload()),
        },
        ServerMessage::Presence(entries) => {
            let one = |entry: &PresenceEntry| {
                let state = entry.state.as_deref().map(<[u8]>::to_vec);
                (entry.client.get(), state.map(|state| String::from_utf8(state).unwrap()))
            };
            LAST_CLOCK.set(entries.last().map_or(0, |entry| entry.clock));
            Got::Presence(entries.iter().map(one).collect())
        }
        ServerMessage::Welcome(welcome) => {
            let epoch = welcome.epoch;
            let epoch = if epoch == Epoch::NONE { String::new() } else { epoch.to_string() };
            Got::Welcome(epoch, welcome.quarantined)
        }
        ServerMessage::Saved { frames } => Got::Saved(*frames),
        ServerMessage::Refused { reason, .. } if dialect == Dialect::YWebsocket => {
            Got::Denied((*reason).to_owned())
        }
        ServerMessage::Refused { frame, reason, .. } => Got::Refused(*frame, (*reason).to_owned()),
        ServerMessage::TokenWanted { .. } => panic!("a document asks for no token"),
    }
}

thread_local! {
    /// The clock of the presence entry that was read last.
    pub(crate) static LAST_CLOCK: Cell<u32> = const { Cell::new(0) };
}

/// A person with a copy of the document.
pub(crate) struct Person {
    doc: Doc,
    text: TextRef,
}

impl Person {
    pub(crate) fn new(client: u64) -> Self {
        let doc = Doc::with_options(Options {
            client_id: ClientID::new(client),
            offset_kind: OffsetKind::Utf16,
            ..Options::default()
        });
        let text = doc.get_or_insert_text("t");
        Self { doc, text }
    }

    /// Writes at the start and returns the update.
    pub(crate) fn write(&self, words: &str) -> Bytes {
        let before = self.doc.transact().state_vector();
        self.text.insert(&mut self.doc.transact_mut(), 0, words);
        self.doc.transact().encode_diff_v1(&before).into()
    }

    /// Deletes the first characters and returns the update.
    pub(crate) fn delete(&self, len: u32) -> Bytes {
        let before = self.doc.transact().state_vector();
        self.text.remove_range(&mut self.doc.transact_mut(), 0, len);
        self.doc.transact().encode_diff_v1(&before).into()
    }

    pub(crate) fn everything(&self) -> Bytes {
        self.doc.transact().encode_diff_v1(&yrs::StateVector::default()).into()
    }

    pub(crate) fn state_vector(&self) -> Bytes {
        self.doc.transact().state_vector().encode_v1().into()
    }

    pub(crate) fn take(&self, update: &[u8]) {
        self.doc.transact_mut().apply_update(Update::decode_v1(update).unwrap()).unwrap();
    }

    pub(crate) fn text(&self) -> String {
        self.text.get_string(&self.doc.transact())
    }
}

pub(crate) fn refused(frame: u64, word: &str) -> Got {
    Got::Refused(frame, word.to_owned())
}

/// A valid update that the CRDT refuses.
pub(crate) fn poison() -> Bytes {
    let mut update = vec![1, 1, 99, 0, 4, 1, 1, b't'];
    write_buffer(&mut update, FAILPOINT.as_bytes());
    update.push(0);
    update.into()
}
