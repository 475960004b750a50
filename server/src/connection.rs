//! One socket: frames in, frames out, pings, and an end that says why.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use syncline_protocol::wire::{self, ClientMessage, Dialect};
use syncline_protocol::{Close, CloseCode, DocumentName, Epoch, Grant, SessionId};
use tokio::time::{Instant, sleep_until};
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tracing::{debug, info};

use crate::hub::{Hub, JoinError, Mail, Mailbox};
use crate::limits::{KEEP_ALIVE, PING, SILENCE};
use crate::outbox::{Attention, Outbox};
use crate::socket::{Socket, refuse};

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
pub(crate) async fn serve(
    hub: Arc<Hub>,
    socket: Socket,
    outbox: Arc<Outbox>,
    admission: Admission,
) {
    let mailbox = match hub.open(&admission.document) {
        Ok(mailbox) => mailbox,
        Err(JoinError::TooManyDocuments) => {
            let text = "as many documents are open as this server allows; try again later";
            return refuse(socket, Close::new(CloseCode::Overloaded, text)).await;
        }
        Err(JoinError::Draining) => {
            let text = "the server restarts; reconnect";
            return refuse(socket, Close::new(CloseCode::Draining, text)).await;
        }
    };
    let session = hub.session_id();
    debug!(
        document = %admission.document, %session, user = &*admission.grant.identity.sub,
        access = ?admission.grant.access, "A session begins."
    );
    hub.sessions.fetch_add(1, Ordering::Relaxed);
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
        heard_at: now,
        pinged_at: now,
        kept_alive_at: now,
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
            refuse(socket, close).await;
        }
    }
    hub.sessions.fetch_sub(1, Ordering::Relaxed);
    debug!(document = %admission.document, %session, "A session ended.");
}

fn expiry(hub: &Hub, grant: &Grant) -> Instant {
    let lasts = grant.ends_at() - hub.clock.now();
    // Far beyond any process's life, and still within what a timer can hold.
    Instant::now() + Duration::from_millis(lasts.0).min(Duration::from_secs(10 * 365 * 86_400))
}

struct Connection {
    socket: Socket,
    mailbox: Mailbox,
    session: SessionId,
    outbox: Arc<Outbox>,
    heard_at: Instant,
    pinged_at: Instant,
    kept_alive_at: Instant,
    expires_at: Instant,
}

enum Event {
    Received(Option<Result<Message, WsError>>),
    Attention(Attention),
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
            let event = tokio::select! {
                biased;
                // First: a peer that never stops sending must not outlive its token.
                () = timer.as_mut() => Event::Timer,
                attention = poll_fn(|context| outbox.poll_attention(context)) => Event::Attention(attention),
                received = self.socket.next() => Event::Received(received),
                () = gone.as_mut() => Event::DocumentGone,
            };
            let end = match event {
                Event::Received(Some(Ok(message))) => self.received(message).await,
                Event::Received(Some(Err(error))) => Some(reading_failed(&error)),
                Event::Received(None) | Event::Attention(Attention::Broken) => Some(None),
                // Nothing is left to write, so the document may send its diff.
                Event::Attention(Attention::Lagging) => {
                    drop(mailbox.send(Mail::Drained { session: self.session }).await);
                    None
                }
                Event::Attention(Attention::Close(close)) => Some(Some(close)),
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

    async fn received(&mut self, message: Message) -> Option<Option<Close>> {
        self.heard_at = Instant::now();
        match message {
            Message::Binary(frame) => self.frame(&frame).await,
            Message::Text(_) => {
                let text = "a text frame arrived; this protocol is binary";
                Some(Some(Close::new(CloseCode::BadFrame, text)))
            }
            // tungstenite answers these at the next read. After its close nothing may follow.
            Message::Close(_) => {
                self.outbox.end();
                None
            }
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => None,
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
        let keep_alive = self.sent_at() + KEEP_ALIVE;
        ping.min(silence).min(keep_alive).min(self.expires_at)
    }

    /// When the client was last sent something, or would have been if it read.
    fn sent_at(&self) -> Instant {
        self.outbox.written_at().max(self.kept_alive_at)
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
            self.outbox.ping();
        }
        if now >= self.sent_at() + KEEP_ALIVE {
            self.kept_alive_at = now;
            self.outbox.send(wire::keep_alive());
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
