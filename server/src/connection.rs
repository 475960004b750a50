//! One socket: frames in, frames out, pings, and an end that says why.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use syncline_protocol::wire::{self, ClientMessage, Dialect, ServerMessage};
use syncline_protocol::{Close, CloseCode, DocumentName, Epoch, Limit};
use tokio::time::{Instant, sleep_until};
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tracing::{debug, info};

use crate::allowance::Allowance;
use crate::hub::{Gone, JoinError, Mail, Mailbox};
use crate::limits::{KEEP_ALIVE, PING, SILENCE};
use crate::metrics::METRICS;
use crate::outbox::{Attention, Outbox};
use crate::places::SessionPlaces;
use crate::renewal::Renewal;
use crate::server::Context;
use crate::sessions::{Arrival, Held, LiveSession};
use crate::socket::{Socket, refuse};

/// What a verified client asked for.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) document: DocumentName,
    pub(crate) held: Held,
    pub(crate) dialect: Dialect,
    /// The history that the client says it holds.
    pub(crate) epoch: Option<Epoch>,
    /// The address at the other end.
    pub(crate) peer: String,
}

/// Serves one client until either side ends it.
pub(crate) async fn serve(
    context: Arc<Context>,
    socket: Socket,
    outbox: Arc<Outbox>,
    admission: Admission,
) {
    let hub = &context.hub;
    let Admission { document, held, dialect, epoch, peer } = admission;
    let (mailbox, _places) = match open(&context, &document, &held) {
        Ok(opened) => opened,
        Err(close) => {
            info!(%document, peer, code = close.code.word(), text = close.text, "Refused a session.");
            METRICS.refused(&close);
            return refuse(socket, close).await;
        }
    };
    let session = hub.session_id();
    let opened_at = outbox.written_at();
    let (peer, since) = (Arc::<str>::from(peer), hub.clock.now());
    let arrival = Arrival { document: document.clone(), dialect, peer: Arc::clone(&peer), since };
    let live = LiveSession::new(session, arrival, mailbox.clone(), outbox, held);
    let entered = hub.sessions.enter(live);
    let live = Arc::clone(&entered.session);
    // Revoked since the token was checked: nobody found this session among those who are connected.
    let admitted = live.change(|held| context.revoked.limit(&document, held.clone()));
    let grant = match admitted {
        Ok(grant) => grant,
        Err(close) => {
            METRICS.refused(&close);
            drop((entered, live, mailbox));
            return refuse(socket, close).await;
        }
    };
    METRICS.sessions.add(dialect, 1);
    debug!(
        %document, %session, peer = &*peer, user = &*grant.identity.sub, access = ?grant.access,
        "A session begins."
    );
    let now = Instant::now();
    let connection = Connection {
        context: &context,
        socket,
        live: Arc::clone(&live),
        dialect,
        heard_at: now,
        pinged_at: now,
        kept_alive_at: now,
        opened_at,
        allowance: Allowance::new(&hub.limits, now),
        paused_until: None,
        renewal: Renewal::new(session, &grant, &hub.clock, dialect == Dialect::SynclineV1),
    };
    if mailbox.send(Mail::Join { session: live, dialect, epoch }).await.is_ok() {
        let (socket, close) = connection.run().await;
        // The document may be busy, and the client must not wait for that.
        let leave = async {
            // The mailbox closes only when the document's task is gone.
            drop(mailbox.send(Mail::Leave { session }).await);
            drop((entered, mailbox));
        };
        let goodbye = async {
            if let Some(close) = close {
                info!(
                    %document, %session, peer = &*peer, code = close.code.word(), text = close.text,
                    "A session was closed."
                );
                METRICS.closed(&close);
                refuse(socket, close).await;
            } else {
                METRICS.sessions_left.add(1);
            }
        };
        tokio::join!(leave, goodbye);
    }
    debug!(%document, %session, "A session ended.");
}

/// The way to a document, and the places of one more session there.
fn open(
    context: &Context,
    document: &DocumentName,
    held: &Held,
) -> Result<(Mailbox, SessionPlaces), Close> {
    let places = context.places.for_session(&held.grant.identity.sub, document)?;
    let mailbox = context.hub.open(document).map_err(|error| match error {
        JoinError::TooManyDocuments => {
            let text = "as many documents are open as this server allows; try again later";
            Close::at_limit(Limit::Documents, CloseCode::Overloaded, text)
        }
        JoinError::Draining => Close::new(CloseCode::Draining, "the server restarts; reconnect"),
    })?;
    Ok((mailbox, places))
}

struct Connection<'a> {
    context: &'a Context,
    socket: Socket,
    live: Arc<LiveSession>,
    dialect: Dialect,
    heard_at: Instant,
    pinged_at: Instant,
    kept_alive_at: Instant,
    /// What the outbox says before anything was written.
    opened_at: Instant,
    allowance: Allowance,
    /// Nothing is read before this: more came than may.
    paused_until: Option<Instant>,
    renewal: Renewal,
}

enum Event {
    Received(Option<Result<Message, WsError>>),
    Attention(Attention),
    Timer,
    DocumentGone,
}

impl Connection<'_> {
    /// Runs until the end; returns the close to send, if the peer is still there to hear it.
    async fn run(mut self) -> (Socket, Option<Close>) {
        let live = Arc::clone(&self.live);
        let (outbox, mailbox) = (&live.outbox, &live.mailbox);
        // Registered once, not at every turn of the loop. Activity only moves the next timer
        // later, so one that fires early is set anew; another token may move it to an earlier one.
        let mut gone = pin!(mailbox.closed());
        let mut timer = pin!(sleep_until(self.next_timer()));
        loop {
            let event = tokio::select! {
                biased;
                // First: a peer that never stops sending must not outlive its token.
                () = timer.as_mut() => Event::Timer,
                attention = poll_fn(|context| outbox.poll_attention(context)) => Event::Attention(attention),
                received = self.socket.next(), if self.paused_until.is_none() => {
                    Event::Received(received)
                }
                () = gone.as_mut() => Event::DocumentGone,
            };
            let end = match event {
                Event::Received(Some(Ok(message))) => self.received(message).await,
                Event::Received(Some(Err(error))) => Some(reading_failed(&error)),
                Event::Received(None) | Event::Attention(Attention::Broken) => Some(None),
                // Nothing is left to write, so the document may send its diff.
                Event::Attention(Attention::Lagging) => {
                    deliver(&live, Mail::Drained { session: live.session }).await
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
            // A pause is a timer earlier than the one that is set.
            if self.renewal.take_change() || self.paused_until.is_some() {
                timer.as_mut().reset(self.next_timer());
            }
        }
    }

    async fn received(&mut self, message: Message) -> Option<Option<Close>> {
        self.heard_at = Instant::now();
        let handled = self.live.handling.take();
        self.paused_until = self.allowance.spend(message.len(), handled, self.heard_at);
        if self.paused_until.is_some() {
            debug!(session = %self.live.session, "A session sends or costs more than it may; it has to wait.");
            METRICS.hit(self.allowance.limit(message.len(), handled));
        }
        match message {
            Message::Binary(frame) => self.frame(&frame).await,
            Message::Text(_) => {
                let text = "a text frame arrived; this protocol is binary";
                Some(Some(Close::new(CloseCode::BadFrame, text)))
            }
            // tungstenite answers these at the next read. After its close nothing may follow.
            Message::Close(_) => {
                self.live.outbox.end();
                None
            }
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => None,
        }
    }

    async fn frame(&mut self, frame: &Bytes) -> Option<Option<Close>> {
        let decoded = match self.dialect {
            Dialect::SynclineV1 => wire::decode_token(frame),
            Dialect::YWebsocket => Ok(None),
        };
        match decoded {
            // Boxed: it is rare, and the connection would have room for it all its life.
            Ok(Some(token)) => return Box::pin(self.token(token)).await,
            Ok(None) => {}
            Err(error) => return Some(Some(Close::new(CloseCode::BadFrame, error))),
        }
        match ClientMessage::decode(frame) {
            Ok(message) => {
                let live = Arc::clone(&self.live);
                let sending = async {
                    let turn = live.handling.turn(&message).await;
                    live.mailbox.send_message(live.session, message, turn).await
                };
                delivered(&live, sending).await
            }
            Err(error) => Some(Some(Close::new(CloseCode::BadFrame, error))),
        }
    }

    /// A fresh token: what it allows holds from here on.
    async fn token(&mut self, token: &str) -> Option<Option<Close>> {
        if !self.renewal.takes_token(Instant::now()) {
            let text = "tokens came faster than one a second; send one when it is asked for";
            let limit = Limit::TokensPerSecond;
            return Some(Some(Close::at_limit(limit, CloseCode::RateLimited, text)));
        }
        let context = self.context;
        let renewed = context.admit(token, &self.live.arrival.document).await.and_then(|next| {
            self.live.change(|held| {
                if next.grant.identity.sub != held.grant.identity.sub {
                    let text = "the new token is somebody else's; connect anew with it";
                    return Err(Close::new(CloseCode::TokenInvalid, text));
                }
                // Asked again: an order to revoke may have come since, and have found the old one.
                context.revoked.limit(&self.live.arrival.document, next)
            })
        });
        match renewed {
            Ok(grant) => {
                self.renewal.granted(&grant, &context.hub.clock);
                let mail = Mail::Regranted { session: self.live.session, done: None };
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
        self.live.outbox.written_at().max(self.kept_alive_at)
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
        let is_greeted = self.live.outbox.written_at() != self.opened_at;
        if let Some(seconds_left) = self.renewal.ask(now, is_greeted) {
            let question = ServerMessage::TokenWanted { seconds_left }.encode();
            self.live.outbox.send(question);
        }
        if now >= self.pinged_at + PING {
            self.pinged_at = now;
            self.live.outbox.ping();
        }
        if now >= self.sent_at() + KEEP_ALIVE {
            self.kept_alive_at = now;
            self.live.outbox.send(wire::keep_alive());
        }
        None
    }
}

async fn deliver(live: &LiveSession, mail: Mail) -> Option<Option<Close>> {
    delivered(live, live.mailbox.send(mail)).await
}

/// Waits for room in the mailbox, which stops reading and lets TCP slow the client down. A close from
/// elsewhere ends the wait. A mailbox that is gone is noticed by the loop.
async fn delivered(
    live: &LiveSession,
    sending: impl Future<Output = Result<(), Gone>>,
) -> Option<Option<Close>> {
    tokio::select! {
        biased;
        _ = sending => None,
        close = poll_fn(|context| live.outbox.poll_closed(context)) => Some(Some(close)),
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
        WsError::Utf8(_) => {
            Some(Close::new(CloseCode::BadFrame, "a text frame arrived; this protocol is binary"))
        }
        _ => None,
    }
}
