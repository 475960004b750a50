//! A client's connection: a transport and the lane on it. It moves messages from the socket to the
//! document, notices what its timers and its writer report, and ends with a close that gives the
//! reason.
//!
//! A y-websocket connection has one lane. A dialect with several documents on a socket has a map of
//! them: everything of one document is in [`Lane`], and everything of the socket in [`Transport`].

mod admission;
mod lane;

use std::future::poll_fn;
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt, OptionFuture};
use syncline_protocol::wire::ClientFrame;
use syncline_protocol::wire::ServerMessage;
use syncline_protocol::{Close, CloseCode, Limit};
use tokio::time::{Instant, sleep_until};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tracing::{debug, info};

use self::lane::Lane;
use crate::app::App;
use crate::document::mailbox::{DocumentCommand, Gone};
use crate::metrics::METRICS;
use crate::net::peer::Peer;
use crate::net::socket_writer::{LaneEvent, WriterEvent};
use crate::net::transport::{Silent, Transport, close_for};

pub(crate) use self::admission::{Admitted, Client, Refusal, admit};

struct Connection {
    app: Arc<App>,
    transport: Transport,
    lane: Lane,
    /// Holds the connection's quota permits.
    _peer: Option<Peer>,
}

/// How a connection ends.
#[derive(Debug)]
enum End {
    /// The peer left, or is gone: no close can reach it.
    Left,
    /// The server closes it.
    Close(Close),
}

impl From<Close> for End {
    fn from(close: Close) -> Self {
        Self::Close(close)
    }
}

enum Event {
    Received(Option<Result<Message, WsError>>),
    /// The document has taken the pending message.
    Delivered,
    Writer(WriterEvent),
    Timer,
    DocumentGone,
}

/// Opens the lane of an admitted client and serves it until either side ends it: in a task of its own,
/// because the task of the upgrade has room for much that is over by now.
pub(crate) async fn serve(
    app: Arc<App>,
    transport: Transport,
    admitted: Admitted,
    peer: Option<Peer>,
) {
    match admitted.open_lane(&app, transport.first_lane()).await {
        Ok(lane) => {
            let connection = Connection { app: Arc::clone(&app), transport, lane, _peer: peer };
            app.services.tasks.spawn(connection.serve());
        }
        Err(refusal) => {
            refusal.report(&app);
            transport.close_gracefully(refusal.close).await;
        }
    }
}

impl Connection {
    /// Serves the client until either side ends it.
    #[expect(
        clippy::manual_async_fn,
        reason = "an async function would have room for `self` twice, all the time"
    )]
    fn serve(mut self) -> impl Future<Output = ()> {
        async move {
            let end = self.run().await;
            Box::pin(self.end(end)).await;
        }
    }

    /// Leaves the document, and closes the socket if the client is still there.
    async fn end(self, end: End) {
        let Self { transport, lane, .. } = self;
        let client = &lane.session().client;
        let (document, peer) = (client.document.clone(), Arc::clone(&client.peer));
        let session = lane.session().id;
        if let End::Close(close) = &end {
            lane.session().closed(close);
        }
        let close = async {
            match end {
                End::Close(close) => {
                    info!(
                        %document, %session, peer = &*peer, code = close.code.name(),
                        text = close.text, "A session was closed."
                    );
                    METRICS.closed(&close);
                    transport.close_gracefully(close).await;
                }
                End::Left => METRICS.sessions_left.add(1),
            }
        };
        // The document may be busy, and the client must not wait for that.
        tokio::join!(lane.leave(), close);
        debug!(%document, %session, "A session ended.");
    }

    /// Runs until the end. Rare waits are boxed: the task would have room for them all its life.
    async fn run(&mut self) -> End {
        let (session, mailbox) = (Arc::clone(self.lane.session()), self.lane.mailbox().clone());
        let writer = Arc::clone(self.transport.writer());
        // Registered once, not at every turn of the loop. Activity only moves the next timer
        // later, so one that fires early is set again; another token may move it to an earlier one.
        let mut gone = pin!(mailbox.closed());
        let mut timer = pin!(sleep_until(self.next_timer()));
        // A message for which the document has no room. Nothing is read meanwhile, so TCP slows the
        // client down.
        let mut pending: Option<BoxFuture<'_, Result<(), Gone>>> = None;
        loop {
            let reads = !self.transport.is_paused() && pending.is_none();
            let event = tokio::select! {
                biased;
                // First: a peer that never stops sending must not outlive its token.
                () = timer.as_mut() => Event::Timer,
                event = poll_fn(|context| writer.poll_event(context)) => Event::Writer(event),
                received = self.transport.next(), if reads => Event::Received(received),
                // A mailbox that is gone is an event of its own.
                Some(_) = OptionFuture::from(pending.as_mut()), if pending.is_some() => {
                    Event::Delivered
                }
                () = gone.as_mut() => Event::DocumentGone,
            };
            let flow = match event {
                Event::Received(Some(Ok(message))) => match self.received(&message) {
                    Ok(None) => ControlFlow::Continue(()),
                    Ok(Some(ClientFrame::Token(token))) => {
                        Box::pin(self.lane.renew(&self.app, token)).await
                    }
                    Ok(Some(ClientFrame::Message(message))) => {
                        if let Err(message) = lane::try_send(&session, &mailbox, message) {
                            pending = Some(lane::send(&session, &mailbox, message).boxed());
                        }
                        ControlFlow::Continue(())
                    }
                    Err(close) => ControlFlow::Break(End::Close(close)),
                },
                Event::Received(Some(Err(error))) => {
                    ControlFlow::Break(close_for(&error).map_or(End::Left, End::Close))
                }
                Event::Received(None) | Event::Writer(WriterEvent::Broken) => {
                    ControlFlow::Break(End::Left)
                }
                Event::Delivered => {
                    pending = None;
                    self.transport.restart_idle(Instant::now());
                    ControlFlow::Continue(())
                }
                Event::Writer(WriterEvent::Lanes) => self.lane_event().await,
                Event::Timer => {
                    if pending.is_some() {
                        // A client that is not read must not trip the idle timeout.
                        self.transport.restart_idle(Instant::now());
                    }
                    let flow = self.timer();
                    timer.as_mut().reset(self.next_timer());
                    flow
                }
                Event::DocumentGone => {
                    let text = "the document failed and is loaded again; reconnect";
                    ControlFlow::Break(End::Close(Close::new(CloseCode::Internal, text)))
                }
            };
            if let ControlFlow::Break(end) = flow {
                return end;
            }
            // A pause is a timer earlier than the one that is set.
            if self.lane.take_timer_change() || self.transport.is_paused() {
                timer.as_mut().reset(self.next_timer());
            }
        }
    }

    /// Charges a message to the lane's rate, and decodes it.
    fn received(&mut self, message: &Message) -> Result<Option<ClientFrame>, Close> {
        let now = Instant::now();
        self.transport.received(message, now);
        let paused_until = self.lane.charge(message.len(), now);
        self.transport.pause(paused_until);
        match message {
            Message::Binary(frame) => self.lane.decode(frame).map(Some),
            Message::Text(_) => {
                let text = "a text frame arrived; this protocol is binary";
                Err(Close::new(CloseCode::BadFrame, text))
            }
            // tungstenite answers these at the next read.
            Message::Close(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Ok(None),
        }
    }

    /// Handles what the writer reports for the lane.
    async fn lane_event(&self) -> ControlFlow<End> {
        match self.lane.session().send_queue.take_event() {
            None => ControlFlow::Continue(()),
            Some(LaneEvent::Close(close)) => ControlFlow::Break(End::Close(close)),
            // Everything else is written, so the document can send its diff.
            Some(LaneEvent::Lagging) => {
                let session = self.lane.session().id;
                Box::pin(self.lane.command(DocumentCommand::Drained { session })).await
            }
        }
    }

    fn next_timer(&self) -> Instant {
        self.transport.next_timer().min(self.lane.next_timer())
    }

    fn timer(&mut self) -> ControlFlow<End> {
        let now = Instant::now();
        self.transport.resume(now);
        if let Err(close) = self.lane.check_expiry(now) {
            return ControlFlow::Break(End::Close(close));
        }
        if let Err(Silent) = self.transport.check_idle(now) {
            METRICS.hit(Limit::SilenceTime);
            return ControlFlow::Break(End::Left);
        }
        // Before anything was written, its first frame, Welcome, is still to come.
        self.lane.ask_for_token(now, self.transport.has_written());
        if self.transport.ping_or_keep_alive(now) {
            self.lane.send(&ServerMessage::keep_alive());
        }
        ControlFlow::Continue(())
    }
}
