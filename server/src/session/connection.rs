//! One socket: frames in, frames out, pings, and an end that says why.

mod admission;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::{BoxFuture, FutureExt, OptionFuture};
use syncline_protocol::wire::{ClientFrame, ClientMessage, Dialect, ServerMessage};
use syncline_protocol::{Close, CloseCode, Limit};
use tokio::time::{Instant, sleep_until};
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tracing::{debug, info};

use crate::app::App;
use crate::audit::Event as Audited;
use crate::config::limits::{KEEP_ALIVE, PING, SILENCE};
use crate::document::mailbox::{DocumentCommand, Gone};
use crate::metrics::METRICS;
use crate::net::listener::Peer;
use crate::net::send_queue::SendQueueEvent;
use crate::net::transport::{Socket, TooFragmented, refuse};
use crate::session::quota::SessionPermits;
use crate::session::rate_limit::RateLimit;
use crate::session::registry::{LiveSession, RegistryGuard};
use crate::session::token_refresh::TokenRefresh;

pub(crate) use self::admission::{Admission, serve};

struct Connection {
    app: Arc<App>,
    socket: Socket,
    live: Arc<LiveSession>,
    entered: RegistryGuard,
    dialect: Dialect,
    heard_at: Instant,
    pinged_at: Instant,
    kept_alive_at: Instant,
    /// What the outbox says before anything was written.
    opened_at: Instant,
    allowance: RateLimit,
    /// Nothing is read before this: more came than may.
    paused_until: Option<Instant>,
    renewal: TokenRefresh,
    _places: SessionPermits,
    _place: Option<Peer>,
}

enum Event {
    Received(Option<Result<Message, WsError>>),
    /// The document has taken the message that it had no room for.
    Delivered,
    SendQueueEvent(SendQueueEvent),
    Timer,
    DocumentGone,
}

/// What is to be done for a message that arrived.
enum Received {
    Nothing,
    /// The document is to have it.
    Message(ClientMessage),
    /// It is a fresh token.
    Token(String),
    /// The connection ends, with this close if there is one to send.
    End(Option<Close>),
}

impl Connection {
    /// Serves the client until either side ends it.
    #[expect(
        clippy::manual_async_fn,
        reason = "an async function would have room for `self` twice, all the time"
    )]
    fn serve(mut self) -> impl Future<Output = ()> {
        async move {
            let close = self.run().await;
            Box::pin(self.end(close)).await;
        }
    }

    /// Tells the document, and the client if it is still there.
    async fn end(self, close: Option<Close>) {
        let Self { socket, live, entered, .. } = self;
        if let Some(close) = &close {
            live.closed(close);
        }
        let (document, session) = (live.arrival.document.clone(), live.session);
        let (peer, mailbox) = (Arc::clone(&live.arrival.peer), live.mailbox.clone());
        drop(live);
        // The document may be busy, and the client must not wait for that.
        let leave = async {
            // The mailbox closes only when the document's task is gone.
            drop(mailbox.send(DocumentCommand::Leave { session }).await);
            drop((entered, mailbox));
        };
        let goodbye = async {
            if let Some(close) = close {
                info!(
                    %document, %session, peer = &*peer, code = close.code.name(), text = close.text,
                    "A session was closed."
                );
                METRICS.closed(&close);
                refuse(socket, close).await;
            } else {
                METRICS.sessions_left.add(1);
            }
        };
        tokio::join!(leave, goodbye);
        debug!(%document, %session, "A session ended.");
    }

    /// Runs until the end; returns the close to send, if the peer is still there to hear it. What
    /// has to be waited for is boxed: it is rare, and the task would have room for it all its life.
    async fn run(&mut self) -> Option<Close> {
        let live = Arc::clone(&self.live);
        let (send_queue, mailbox) = (&live.send_queue, &live.mailbox);
        // Registered once, not at every turn of the loop. Activity only moves the next timer
        // later, so one that fires early is set anew; another token may move it to an earlier one.
        let mut gone = pin!(mailbox.closed());
        let mut timer = pin!(sleep_until(self.next_timer()));
        // A message that the document has no room for. Nothing is read meanwhile, so that TCP slows
        // the client down.
        let mut delivery: Option<BoxFuture<'_, Result<(), Gone>>> = None;
        loop {
            let reads = self.paused_until.is_none() && delivery.is_none();
            let event = tokio::select! {
                biased;
                // First: a peer that never stops sending must not outlive its token.
                () = timer.as_mut() => Event::Timer,
                attention = poll_fn(|context| send_queue.poll_attention(context)) => Event::SendQueueEvent(attention),
                received = self.socket.next(), if reads => Event::Received(received),
                // A mailbox that is gone is an event of its own.
                Some(_) = OptionFuture::from(delivery.as_mut()), if delivery.is_some() => {
                    Event::Delivered
                }
                () = gone.as_mut() => Event::DocumentGone,
            };
            let end = match event {
                Event::Received(Some(Ok(message))) => match self.received(&message) {
                    Received::Nothing => None,
                    Received::End(close) => Some(close),
                    Received::Token(token) => Box::pin(self.token(&token)).await,
                    Received::Message(message) => match live.try_send(message) {
                        Ok(()) => None,
                        Err(message) => {
                            delivery = Some(live.send(message).boxed());
                            None
                        }
                    },
                },
                Event::Delivered => {
                    delivery = None;
                    self.heard_at = self.paused_until.unwrap_or_else(Instant::now);
                    None
                }
                Event::Received(Some(Err(error))) => Some(reading_failed(&error)),
                Event::Received(None) | Event::SendQueueEvent(SendQueueEvent::Broken) => Some(None),
                // Nothing is left to write, so the document may send its diff.
                Event::SendQueueEvent(SendQueueEvent::Lagging) => {
                    Box::pin(deliver(&live, DocumentCommand::Drained { session: live.session }))
                        .await
                }
                Event::SendQueueEvent(SendQueueEvent::Close(close)) => Some(Some(close)),
                Event::Timer => {
                    if delivery.is_some() {
                        // It cannot be heard.
                        self.heard_at = Instant::now();
                    }
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
                return close;
            }
            // A pause is a timer earlier than the one that is set.
            if self.renewal.take_change() || self.paused_until.is_some() {
                timer.as_mut().reset(self.next_timer());
            }
        }
    }

    fn received(&mut self, message: &Message) -> Received {
        let now = Instant::now();
        self.socket.get_mut().heard(message);
        let handled = self.live.handling.take();
        self.paused_until = self.allowance.spend(message.len(), handled, now);
        // Who is not listened to is not silent.
        self.heard_at = self.paused_until.unwrap_or(now);
        if self.paused_until.is_some() {
            debug!(session = %self.live.session, "A session sends or costs more than it may; it has to wait.");
            METRICS.hit(self.allowance.limit(message.len(), handled));
        }
        match message {
            Message::Binary(frame) => self.frame(frame),
            Message::Text(_) => {
                let text = "a text frame arrived; this protocol is binary";
                Received::End(Some(Close::new(CloseCode::BadFrame, text)))
            }
            // tungstenite answers these at the next read. After its close nothing may follow.
            Message::Close(_) => {
                self.live.send_queue.end();
                Received::Nothing
            }
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Received::Nothing,
        }
    }

    fn frame(&self, frame: &Bytes) -> Received {
        match self.dialect.decode(frame) {
            Ok(ClientFrame::Message(message)) => Received::Message(message),
            Ok(ClientFrame::Token(token)) => Received::Token(token),
            Err(error) => Received::End(Some(Close::new(CloseCode::BadFrame, error))),
        }
    }

    /// A fresh token: what it allows holds from here on.
    async fn token(&mut self, token: &str) -> Option<Option<Close>> {
        if !self.renewal.takes_token(Instant::now()) {
            let text = "tokens came faster than one a second; send one when it is asked for";
            let limit = Limit::TokensPerSecond;
            return Some(Some(Close::at_limit(limit, CloseCode::RateLimited, text)));
        }
        let app = &self.app;
        let mut is_less = false;
        let renewed = app.admit(token, &self.live.arrival.document).await.and_then(|next| {
            self.live.change(|held| {
                if next.grant.identity.sub != held.grant.identity.sub {
                    let text = "the new token is somebody else's; connect anew with it";
                    return Err(Close::new(CloseCode::TokenInvalid, text));
                }
                // Asked again: an order to revoke may have come since, and have found the old one.
                let next = app.revoked.limit(&self.live.arrival.document, next)?;
                is_less = next.grant.is_narrower_than(&held.grant);
                Ok(next)
            })
        });
        match renewed {
            Ok(grant) => {
                self.renewal.granted(&grant, &app.hub.clock);
                let event = if is_less { Audited::RightsNarrowed } else { Audited::RightsRenewed };
                app.audit.record(|| self.live.entry(event));
                let mail = DocumentCommand::Regranted { session: self.live.session, done: None };
                deliver(&self.live, mail).await
            }
            Err(close) => Some(Some(close)),
        }
    }

    fn next_timer(&self) -> Instant {
        let ping = self.pinged_at + PING;
        let silence = self.heard_at + SILENCE;
        let keep_alive = self.sent_at() + KEEP_ALIVE;
        let next = ping.min(silence).min(keep_alive).min(self.renewal.next());
        self.paused_until.map_or(next, |until| until.min(next))
    }

    /// When the client was last sent something, or would have been if it read.
    fn sent_at(&self) -> Instant {
        self.live.send_queue.written_at().max(self.kept_alive_at)
    }

    /// Writes a message of the connection's own, if the dialect has it.
    fn send(&self, message: &ServerMessage) {
        if let Some(frame) = self.dialect.encode(message) {
            self.live.send_queue.send(frame);
        }
    }

    fn timer(&mut self) -> Option<Option<Close>> {
        let now = Instant::now();
        self.paused_until = self.paused_until.filter(|until| now < *until);
        if now >= self.renewal.ends_at() {
            let text = "the token expired while connected; connect with a new one";
            return Some(Some(Close::new(CloseCode::TokenExpired, text)));
        }
        if now >= self.heard_at + SILENCE {
            METRICS.hit(Limit::SilenceTime);
            return Some(None);
        }
        // Before anything was written its first frame, Welcome, is still to come.
        let is_greeted = self.live.send_queue.written_at() != self.opened_at;
        if let Some(seconds_left) = self.renewal.ask(now, is_greeted) {
            self.send(&ServerMessage::TokenWanted { seconds_left });
        }
        if now >= self.pinged_at + PING {
            self.pinged_at = now;
            self.live.send_queue.ping();
        }
        if now >= self.sent_at() + KEEP_ALIVE {
            self.kept_alive_at = now;
            self.send(&ServerMessage::keep_alive());
        }
        None
    }
}

/// Waits for room in the mailbox. A close from elsewhere ends the wait. A mailbox that is gone is
/// noticed by the loop.
async fn deliver(live: &LiveSession, mail: DocumentCommand) -> Option<Option<Close>> {
    tokio::select! {
        biased;
        _ = live.mailbox.send(mail) => None,
        close = poll_fn(|context| live.send_queue.poll_closed(context)) => Some(Some(close)),
    }
}

fn reading_failed(error: &WsError) -> Option<Close> {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "foreign, and any other error ends in silence"
    )]
    match error {
        WsError::Capacity(CapacityError::MessageTooLong { size, max_size }) => {
            Some(Close::at_limit(
                Limit::MessageBytes,
                CloseCode::MessageTooLarge,
                format!("the message is {size} bytes, at most {max_size} are allowed"),
            ))
        }
        // The peer is gone; there is nobody to tell.
        WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
        WsError::Protocol(error) => Some(Close::new(CloseCode::BadFrame, error)),
        WsError::Io(error) => {
            let scattered =
                error.get_ref().and_then(|error| error.downcast_ref::<TooFragmented>())?;
            let limit = Limit::MessageBytes;
            Some(Close::at_limit(limit, CloseCode::MessageTooLarge, scattered))
        }
        WsError::Utf8(_) => {
            Some(Close::new(CloseCode::BadFrame, "a text frame arrived; this protocol is binary"))
        }
        _ => None,
    }
}
