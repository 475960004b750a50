//! A client with a yrs document, speaking the y-websocket dialect or `syncline.v1`.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use syncline_protocol::wire::varint::{self, Reader};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use yrs::updates::decoder::Decode;
use yrs::updates::encoder::Encode;
use yrs::{
    ClientID, Doc, GetString, OffsetKind, Options, ReadTxn, Text, TextRef, Transact, Update,
};

use crate::PATIENCE;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// One editor.
#[derive(Debug)]
pub struct Client {
    /// Its copy of the document.
    pub doc: Doc,
    /// The text that the tests edit.
    pub text: TextRef,
    /// Whether a SyncStep2 has arrived.
    pub synced: bool,
    /// Update frames that the server says are on disk.
    pub saved: u64,
    /// Update frames sent, SyncStep2 included.
    pub sent: u64,
    /// Updates received and not applied yet; None when they are applied as they come.
    pub held: Option<VecDeque<Vec<u8>>>,
    /// The history that the server says this is.
    pub epoch: Option<String>,
    /// What the server says that it may do: 0 to read, 1 to write, 2 to manage.
    pub access: Option<u64>,
    /// How often a fresh token was asked for.
    pub wanted: u32,
    /// Reasons of refused writes.
    pub denied: Vec<String>,
    /// What each client that is present says of itself, as JSON; `null` when it has left.
    pub present: BTreeMap<u64, String>,
    /// How the server ended the connection, if it has.
    pub ended: Option<Ended>,
    sink: SplitSink<Socket, Message>,
    stream: SplitStream<Socket>,
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The close code; 1006 when there was no close frame.
    pub code: u16,
    /// The reason.
    pub reason: String,
}

impl Client {
    /// Connects as stock y-websocket does and waits for the first sync.
    pub async fn join(url: &str) -> Self {
        Self::join_as(url, new_doc(), None).await
    }

    /// Connects with the `syncline.v1` extensions and waits for the first sync.
    pub async fn join_v1(url: &str) -> Self {
        Self::join_as(url, new_doc(), Some("syncline.v1")).await
    }

    /// Connects with a document that may hold something already.
    pub async fn join_as(url: &str, doc: Doc, protocol: Option<&'static str>) -> Self {
        let mut client = Self::open(url, doc, protocol).await;
        let state = client.doc.transact().state_vector().encode_v1();
        client.send(sync_frame(0, &state)).await;
        client.until("the first sync", |client| client.synced).await;
        client
    }

    /// Connects to a server that may be gone.
    pub async fn try_join_v1(url: &str) -> Option<Self> {
        let mut client = Self::try_open(url, new_doc(), Some("syncline.v1")).await.ok()?;
        let state = client.doc.transact().state_vector().encode_v1();
        client.sink.send(Message::Binary(sync_frame(0, &state))).await.ok()?;
        client.until_or_gone(|client| client.synced).await.then_some(client)
    }

    /// Connects with the `syncline.v1` extensions, unless the server will not have it.
    ///
    /// # Errors
    /// How the server ended the connection.
    pub async fn join_or_end(url: impl IntoClientRequest) -> Result<Self, Ended> {
        let mut client = Self::open(url, new_doc(), Some("syncline.v1")).await;
        let state = client.doc.transact().state_vector().encode_v1();
        // It may have hung up already.
        drop(client.sink.send(Message::Binary(sync_frame(0, &state))).await);
        let joined = client.until_or_gone(|client| client.synced || client.ended.is_some());
        timeout(PATIENCE, joined).await.expect("the server answers");
        if client.synced {
            return Ok(client);
        }
        Err(client.ended.unwrap_or(Ended { code: 1006, reason: String::new() }))
    }

    async fn open(url: impl IntoClientRequest, doc: Doc, protocol: Option<&'static str>) -> Self {
        Self::try_open(url, doc, protocol).await.expect("the server accepts")
    }

    async fn try_open(
        url: impl IntoClientRequest,
        doc: Doc,
        protocol: Option<&'static str>,
    ) -> Result<Self, Error> {
        let mut request = url.into_client_request().expect("a url");
        if let Some(protocol) = protocol {
            let value = HeaderValue::from_static(protocol);
            request.headers_mut().insert("sec-websocket-protocol", value);
        }
        let (socket, _) = connect_async(request).await?;
        let (sink, stream) = socket.split();
        let text = doc.get_or_insert_text("t");
        Ok(Self {
            doc,
            text,
            synced: false,
            saved: 0,
            sent: 0,
            held: None,
            epoch: None,
            access: None,
            wanted: 0,
            denied: Vec::new(),
            present: BTreeMap::new(),
            ended: None,
            sink,
            stream,
        })
    }

    /// The text as it is here.
    #[must_use]
    pub fn content(&self) -> String {
        self.text.get_string(&self.doc.transact())
    }

    /// The length of that text, in UTF-16 units.
    #[must_use]
    pub fn length(&self) -> u32 {
        self.text.len(&self.doc.transact())
    }

    /// Deletes and inserts at a place, and sends the change.
    pub async fn splice(&mut self, at: u32, deleted: u32, inserted: &str) {
        let update = self.splice_locally(at, deleted, inserted);
        self.sent += 1;
        self.send(sync_frame(2, &update)).await;
    }

    /// The same without flushing: the change leaves with the next flush.
    pub async fn splice_lazily(&mut self, at: u32, deleted: u32, inserted: &str) {
        let update = self.splice_locally(at, deleted, inserted);
        self.sent += 1;
        self.sink.feed(Message::Binary(sync_frame(2, &update))).await.expect("it is open");
    }

    /// Sends what was fed, and takes in what has arrived.
    pub async fn flush(&mut self) {
        self.sink.flush().await.expect("it is open");
        while let Ok(message) = timeout(Duration::ZERO, self.stream.next()).await {
            let Some(Ok(message)) = message else { panic!("the connection ended") };
            self.take(message).await;
        }
    }

    fn splice_locally(&self, at: u32, deleted: u32, inserted: &str) -> Vec<u8> {
        let mut txn = self.doc.transact_mut();
        if deleted > 0 {
            self.text.remove_range(&mut txn, at, deleted);
        }
        if !inserted.is_empty() {
            self.text.insert(&mut txn, at, inserted);
        }
        txn.encode_update_v1()
    }

    /// Whether an update is held back.
    #[must_use]
    pub fn holds_one(&self) -> bool {
        self.held.as_ref().is_some_and(|held| !held.is_empty())
    }

    /// Applies the oldest update held back.
    pub fn apply_held(&mut self) {
        let update = self.held.as_mut().and_then(VecDeque::pop_front);
        apply(&self.doc, &update.expect("something is held"));
    }

    /// Sends one frame.
    pub async fn send(&mut self, frame: Bytes) {
        self.sink.send(Message::Binary(frame)).await.expect("it is open");
    }

    /// Brings a fresh token.
    pub async fn bring(&mut self, token: &str) {
        let mut frame = vec![68];
        varint::write_buffer(&mut frame, token.as_bytes());
        self.send(frame.into()).await;
    }

    /// Sends one frame to a server that may have hung up.
    ///
    /// # Errors
    /// If it has.
    pub async fn try_send(&mut self, frame: Bytes) -> Result<(), Error> {
        self.sink.send(Message::Binary(frame)).await
    }

    /// Waits until the connection has taken in what was sent. Whether the server ended it instead.
    pub async fn is_over(&mut self) -> bool {
        if self.sink.send(Message::Ping(Bytes::new())).await.is_err() {
            return true;
        }
        let answered = async {
            loop {
                match self.stream.next().await {
                    Some(Ok(Message::Pong(_))) => return false,
                    Some(Ok(message)) => self.take(message).await,
                    Some(Err(_)) | None => return true,
                }
            }
        };
        timeout(PATIENCE, answered).await.expect("the server answers")
    }

    /// Takes in messages until the server ends the connection.
    pub async fn until_ended(&mut self) -> Ended {
        let ended = self.until_or_gone(|client| client.ended.is_some());
        timeout(PATIENCE, ended).await.expect("the server ends the connection");
        self.ended.clone().unwrap_or(Ended { code: 1006, reason: String::new() })
    }

    /// Says something of itself, as JSON. Each time with a higher `clock`.
    pub async fn announce(&mut self, clock: u64, state: &str) {
        let mut presence = vec![1];
        varint::write_var_uint(&mut presence, self.doc.client_id().get());
        varint::write_var_uint(&mut presence, clock);
        varint::write_buffer(&mut presence, state.as_bytes());
        let mut frame = vec![1];
        varint::write_buffer(&mut frame, &presence);
        self.send(frame.into()).await;
    }

    /// Sends one frame to a server that may be gone.
    pub async fn try_splice(&mut self, at: u32, inserted: &str) -> Result<(), Error> {
        let update = self.splice_locally(at, 0, inserted);
        self.sent += 1;
        self.sink.send(Message::Binary(sync_frame(2, &update))).await
    }

    /// Takes in messages until `done`, or fails after [`PATIENCE`].
    pub async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        self.until_within(PATIENCE, what, done).await;
    }

    /// Takes in messages until `done`, or fails after `patience`.
    pub async fn until_within(
        &mut self,
        patience: Duration,
        what: &str,
        done: impl Fn(&Self) -> bool,
    ) {
        let deadline = Instant::now() + patience;
        while !done(self) {
            let left = deadline.saturating_duration_since(Instant::now());
            let message = timeout(left, self.stream.next())
                .await
                .unwrap_or_else(|_| panic!("{what} did not happen within {patience:?}"));
            match message {
                Some(Ok(message)) => self.take(message).await,
                ended => panic!("the connection ended before {what}: {ended:?}"),
            }
        }
    }

    /// Takes in messages until `done`; false if the server went first.
    pub async fn until_or_gone(&mut self, done: impl Fn(&Self) -> bool) -> bool {
        while !done(self) {
            match self.stream.next().await {
                Some(Ok(message)) => self.take(message).await,
                Some(Err(_)) | None => return false,
            }
        }
        true
    }

    async fn take(&mut self, message: Message) {
        if let Message::Close(Some(CloseFrame { code, reason })) = &message {
            self.ended = Some(Ended { code: (*code).into(), reason: reason.to_string() });
        }
        let Message::Binary(frame) = message else { return };
        let mut reader = Reader::new(&frame);
        match reader.var_uint().expect("a type") {
            0 => {
                let kind = reader.var_uint().expect("a sync type");
                let payload = reader.buffer().expect("a payload");
                self.synchronize(kind, payload).await;
            }
            1 => {
                let presence = reader.buffer().expect("a payload");
                self.meet(Reader::new(presence));
            }
            2 => {
                reader.var_uint().expect("an auth type");
                self.denied.push(reader.string().expect("a reason").to_owned());
            }
            64 => {
                reader.var_uint().expect("a session");
                self.epoch = Some(reader.string().expect("an epoch").to_owned());
                self.access = Some(reader.var_uint().expect("an access"));
            }
            65 => self.saved = reader.var_uint().expect("a watermark"),
            66 => {
                reader.var_uint().expect("a frame number");
                self.denied.push(reader.string().expect("a word").to_owned());
            }
            67 => {
                reader.var_uint().expect("seconds");
                self.wanted += 1;
            }
            kind => panic!("the server sent message type {kind}"),
        }
    }

    fn meet(&mut self, mut presence: Reader<'_>) {
        for _ in 0..presence.var_uint().expect("a count") {
            let client = presence.var_uint().expect("a client");
            presence.var_uint().expect("a clock");
            let state = presence.string().expect("a state");
            self.present.insert(client, state.to_owned());
        }
    }

    async fn synchronize(&mut self, kind: u64, payload: &[u8]) {
        match kind {
            0 => {
                let state = yrs::StateVector::decode_v1(payload).expect("a state vector");
                let update = self.doc.transact().encode_diff_v1(&state);
                self.sent += 1;
                // A server that is being killed may not take it any more.
                drop(self.sink.send(Message::Binary(sync_frame(1, &update))).await);
            }
            kind => {
                self.synced |= kind == 1;
                match &mut self.held {
                    Some(held) if kind == 2 => held.push_back(payload.to_vec()),
                    _ => apply(&self.doc, payload),
                }
            }
        }
    }
}

/// An empty document that counts as JavaScript does.
#[must_use]
pub fn new_doc() -> Doc {
    Doc::with_options(Options { offset_kind: OffsetKind::Utf16, ..Options::default() })
}

/// An empty document that writes under a given id.
#[must_use]
pub fn doc_of(client: u64) -> Doc {
    let mut options = Options::with_client_id(ClientID::new(client));
    options.offset_kind = OffsetKind::Utf16;
    options.cleanup_formatting = false;
    Doc::with_options(options)
}

fn apply(doc: &Doc, update: &[u8]) {
    let update = Update::decode_v1(update).expect("the server sends updates");
    doc.transact_mut().apply_update(update).expect("and they apply");
}

/// A sync message: 0 SyncStep1, 1 SyncStep2, 2 Update.
#[must_use]
pub fn sync_frame(kind: u8, payload: &[u8]) -> Bytes {
    let mut frame = vec![0, kind];
    varint::write_buffer(&mut frame, payload);
    frame.into()
}

/// Connects, sends `messages`, and reports how the server ends the connection.
pub async fn ending(url: &str, messages: Vec<Message>) -> Ended {
    let (mut socket, _) = connect_async(url).await.expect("the handshake is accepted");
    for message in messages {
        // The server may hang up at any of them.
        if socket.send(message).await.is_err() {
            break;
        }
    }
    let closed = async {
        while let Some(message) = socket.next().await {
            match message {
                Ok(Message::Close(Some(CloseFrame { code, reason }))) => {
                    return Ended { code: code.into(), reason: reason.to_string() };
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
        Ended { code: 1006, reason: String::new() }
    };
    timeout(PATIENCE, closed).await.expect("the server ends the connection")
}
