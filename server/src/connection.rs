//! One socket: frames in, frames out, pings, and an end that says why.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use syncline_protocol::wire::{self, ClientMessage, Dialect};
use syncline_protocol::{Close, CloseCode, DocumentName, Epoch, SessionId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode as WsCloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tracing::{debug, info};

use crate::auth::{self, Grant};
use crate::hub::{Hub, JoinError, Mail, Mailbox};
use crate::limits::{KEEP_ALIVE, LINGER, PING, READ_BUFFER_BYTES, SILENCE, WRITE_BUFFER_BYTES};
use crate::outbox::{Outbox, Taken};

/// A WebSocket over an upgraded HTTP connection, with buffers sized for many idle ones.
pub(crate) type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Takes over an upgraded connection.
pub(crate) async fn accept(upgraded: Upgraded, message_bytes_max: usize) -> Socket {
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_message_size(Some(message_bytes_max))
        .max_frame_size(Some(message_bytes_max));
    WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await
}

/// Closes a socket so that its client learns why: a browser cannot read a refused handshake.
pub(crate) async fn refuse(mut socket: Socket, close: &Close) {
    let frame =
        CloseFrame { code: WsCloseCode::from(close.code.number()), reason: close.reason().into() };
    let goodbye = async {
        if socket.send(Message::Close(Some(frame))).await.is_err() {
            return;
        }
        // With unread input in the kernel, dropping the socket would send a reset, and that can
        // overtake the close frame. So read until the peer has closed too.
        while let Some(Ok(_)) = socket.next().await {}
        // After a message that was too large the WebSocket reads no more, and the rest of it is
        // still arriving.
        let io = socket.get_mut();
        drop(io.shutdown().await);
        let mut rest = [0; 1_024];
        while matches!(io.read(&mut rest).await, Ok(1..)) {}
    };
    // At the bound the peer is slow or hostile, and the socket is dropped either way.
    drop(timeout(LINGER, goodbye).await);
}

/// What a verified client asked for.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) document: DocumentName,
    pub(crate) grant: Grant,
    pub(crate) dialect: Dialect,
    /// The history that the client says it holds.
    pub(crate) epoch: Option<Epoch>,
}

/// Serves one client until either side ends it.
pub(crate) async fn serve(hub: Arc<Hub>, socket: Socket, admission: Admission) {
    let mailbox = match hub.open(&admission.document) {
        Ok(mailbox) => mailbox,
        Err(JoinError::TooManyDocuments) => {
            let text = "as many documents are open as this server allows; try again later";
            return refuse(socket, &Close::new(CloseCode::Overloaded, text)).await;
        }
        Err(JoinError::Draining) => {
            let text = "the server restarts; reconnect";
            return refuse(socket, &Close::new(CloseCode::Draining, text)).await;
        }
    };
    let session = hub.session_id();
    debug!(
        document = %admission.document, %session, user = &*admission.grant.identity,
        access = ?admission.grant.access, "A session begins."
    );
    hub.sessions.fetch_add(1, Ordering::Relaxed);
    let outbox = Arc::new(Outbox::new(hub.limits.outbox_bytes));
    let expires_at = expiry(&hub, &admission.grant);
    let join = Mail::Join {
        session,
        grant: admission.grant,
        dialect: admission.dialect,
        epoch: admission.epoch,
        outbox: Arc::clone(&outbox),
    };
    let now = Instant::now();
    let connection = Connection {
        socket,
        mailbox: mailbox.clone(),
        session,
        outbox,
        unsent: VecDeque::new(),
        flushing: false,
        heard_at: now,
        pinged_at: now,
        sent_at: now,
        expires_at,
    };
    if mailbox.send(join).await.is_ok() {
        let (socket, close) = connection.run().await;
        // The mailbox closes only when the document's task is gone.
        drop(mailbox.send(Mail::Leave { session }).await);
        drop(mailbox);
        if let Some(close) = close {
            info!(
                document = %admission.document, %session, code = close.code.word(),
                text = close.text, "A session was closed."
            );
            refuse(socket, &close).await;
        }
    }
    hub.sessions.fetch_sub(1, Ordering::Relaxed);
    debug!(document = %admission.document, %session, "A session ended.");
}

fn expiry(hub: &Hub, grant: &Grant) -> Instant {
    let ends = Duration::from_secs(grant.expires_at).saturating_add(auth::LEEWAY);
    let now = Duration::from_millis(hub.clock.now().as_unix_ms());
    // Far beyond any process's life, and still within what a timer can hold.
    let lasts = ends.saturating_sub(now).min(Duration::from_secs(10 * 365 * 86_400));
    Instant::now() + lasts
}

struct Connection {
    socket: Socket,
    mailbox: Mailbox,
    session: SessionId,
    outbox: Arc<Outbox>,
    /// Taken from the outbox, not yet in the socket's buffer.
    unsent: VecDeque<Message>,
    /// Whether the socket's buffer holds something the kernel has not taken.
    flushing: bool,
    heard_at: Instant,
    pinged_at: Instant,
    sent_at: Instant,
    expires_at: Instant,
}

enum Event {
    Received(Option<Result<Message, WsError>>),
    WriteFailed,
    Flushed,
    Taken(Taken),
    Timer,
    DocumentGone,
}

impl Connection {
    /// Runs until the end; returns the close to send, if the peer is still there to hear it.
    async fn run(mut self) -> (Socket, Option<Close>) {
        let outbox = Arc::clone(&self.outbox);
        let mailbox = self.mailbox.clone();
        // Registered once, not at every turn of the loop. Activity only moves the next timer
        // later, so one that fires early is set anew.
        let mut gone = pin!(mailbox.closed());
        let mut timer = pin!(sleep_until(self.next_timer()));
        loop {
            let writing = self.flushing || !self.unsent.is_empty();
            let event = tokio::select! {
                biased;
                // First: a peer that never stops sending must not outlive its token.
                () = timer.as_mut() => Event::Timer,
                // A close must not wait for a peer that does not read.
                taken = outbox.take(), if !writing => Event::Taken(taken),
                close = outbox.closed(), if writing => Event::Taken(Taken::Close(close)),
                event = poll_fn(|context| self.poll_socket(context)) => event,
                () = gone.as_mut() => Event::DocumentGone,
            };
            let end = match event {
                Event::Received(Some(Ok(message))) => self.received(message).await,
                Event::Received(Some(Err(error))) => Some(reading_failed(&error)),
                Event::Received(None) | Event::WriteFailed => Some(None),
                Event::Flushed => None,
                Event::Taken(Taken::Frames(frames)) => {
                    self.sent_at = Instant::now();
                    self.unsent.extend(frames.into_iter().map(Message::Binary));
                    None
                }
                // Found only when nothing is left to write, so the document may send its diff.
                Event::Taken(Taken::Lagging) => {
                    drop(mailbox.send(Mail::Drained { session: self.session }).await);
                    None
                }
                Event::Taken(Taken::Close(close)) => Some(Some(close)),
                Event::Timer => {
                    let end = self.timer();
                    timer.as_mut().reset(self.next_timer());
                    end
                }
                Event::DocumentGone => {
                    let text = "the document failed and is loaded afresh; reconnect";
                    Some(Some(Close::new(CloseCode::Internal, text)))
                }
            };
            if let Some(close) = end {
                return (self.socket, close);
            }
        }
    }

    /// Writes what can be written without waiting, and reads the next message.
    fn poll_socket(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        match self.poll_write(context) {
            Poll::Ready(Ok(true)) => return Poll::Ready(Event::Flushed),
            Poll::Ready(Err(_)) => return Poll::Ready(Event::WriteFailed),
            Poll::Ready(Ok(false)) | Poll::Pending => {}
        }
        Pin::new(&mut self.socket).poll_next(context).map(Event::Received)
    }

    /// Feeds all that is unsent and flushes once. Ready with true when something went out.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<Result<bool, WsError>> {
        let mut socket = Pin::new(&mut self.socket);
        while !self.unsent.is_empty() {
            match socket.as_mut().poll_ready(context) {
                Poll::Ready(ready) => ready?,
                Poll::Pending => return Poll::Pending,
            }
            if let Some(message) = self.unsent.pop_front() {
                self.flushing = true;
                socket.as_mut().start_send(message)?;
            }
        }
        if !self.flushing {
            return Poll::Ready(Ok(false));
        }
        match socket.poll_flush(context) {
            Poll::Ready(flushed) => {
                flushed?;
                self.flushing = false;
                Poll::Ready(Ok(true))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    async fn received(&mut self, message: Message) -> Option<Option<Close>> {
        self.heard_at = Instant::now();
        match message {
            Message::Binary(frame) => self.frame(&frame).await,
            Message::Text(_) => {
                let text = "a text frame arrived; this protocol is binary";
                Some(Some(Close::new(CloseCode::BadFrame, text)))
            }
            // tungstenite answers pings and closes itself; the next flush carries the answer.
            Message::Ping(_) => {
                self.flushing = true;
                None
            }
            Message::Pong(_) | Message::Close(_) | Message::Frame(_) => None,
        }
    }

    async fn frame(&mut self, frame: &Bytes) -> Option<Option<Close>> {
        match ClientMessage::decode(frame) {
            Ok(message) => {
                // A full mailbox makes this wait, which stops reading and lets TCP slow the
                // client down. A closed one is noticed by the loop.
                drop(self.mailbox.send_message(self.session, message).await);
                None
            }
            Err(error) => Some(Some(Close::new(CloseCode::BadFrame, error))),
        }
    }

    fn next_timer(&self) -> Instant {
        let ping = self.pinged_at + PING;
        let silence = self.heard_at + SILENCE;
        let keep_alive = self.sent_at + KEEP_ALIVE;
        ping.min(silence).min(keep_alive).min(self.expires_at)
    }

    fn timer(&mut self) -> Option<Option<Close>> {
        let now = Instant::now();
        if now >= self.expires_at {
            let text = "the token expired while connected; connect with a new one";
            return Some(Some(Close::new(CloseCode::TokenExpired, text)));
        }
        if now >= self.heard_at + SILENCE {
            return Some(None);
        }
        if now >= self.pinged_at + PING {
            self.pinged_at = now;
            self.unsent.push_back(Message::Ping(Bytes::new()));
        }
        if now >= self.sent_at + KEEP_ALIVE {
            self.sent_at = now;
            self.unsent.push_back(Message::Binary(wire::keep_alive()));
        }
        None
    }
}

fn reading_failed(error: &WsError) -> Option<Close> {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "foreign, and any other error ends in silence"
    )]
    match error {
        WsError::Capacity(CapacityError::MessageTooLong { size, max_size }) => Some(Close::new(
            CloseCode::MessageTooLarge,
            format!("the message is {size} bytes, at most {max_size} are allowed"),
        )),
        // The peer is gone; there is nobody to tell.
        WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
        WsError::Protocol(error) => Some(Close::new(CloseCode::BadFrame, error)),
        WsError::Utf8(_) => {
            Some(Close::new(CloseCode::BadFrame, "a text frame arrived; this protocol is binary"))
        }
        _ => None,
    }
}
