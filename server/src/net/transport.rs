//! A WebSocket over an upgraded TCP connection: both halves, pings, idle and keep-alive times, pauses,
//! and the close. It knows nothing of documents; lanes queue frames on its writer.

mod stream;

use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::{Parts, Upgraded};
use hyper_util::rt::TokioIo;
use syncline_protocol::{Close, CloseCode, Limit};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode as WsCloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use self::stream::{TooFragmented, WsTransport};
use crate::config::limits::{KEEP_ALIVE, LINGER, Limits, PING, READ_BUFFER_BYTES, SILENCE};
use crate::net::socket_writer::{SendQueue, SocketWriter};

/// A socket that serves one client.
pub(crate) struct Transport {
    socket: WebSocketStream<WsTransport>,
    writer: Arc<SocketWriter>,
    times: Times,
}

/// When a socket was last used in each direction, and what is due next.
#[derive(Clone, Copy, Debug)]
struct Times {
    heard_at: Instant,
    pinged_at: Instant,
    kept_alive_at: Instant,
    /// What the writer reports before anything was written.
    opened_at: Instant,
    /// Nothing is read before this time: the client exceeded its rate.
    paused_until: Option<Instant>,
}

/// The peer has answered neither ping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Silent;

impl Transport {
    /// Takes over an upgraded connection. `None` if it is no TCP connection of this server.
    /// Messages longer than `message_bytes` are an error of [`next`](Self::next).
    pub(crate) async fn accept(
        upgraded: Upgraded,
        limits: &Limits,
        message_bytes: usize,
    ) -> Option<Self> {
        let Parts { io, read_buf, .. } = upgraded.downcast::<TokioIo<TcpStream>>().ok()?;
        let (reading, writing) = io.into_inner().into_split();
        let writer = SocketWriter::new(writing, limits.outbox_bytes);
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_message_size(Some(message_bytes))
            .max_frame_size(Some(message_bytes));
        let unconsumed_max = 2 * message_bytes + READ_BUFFER_BYTES;
        let stream = WsTransport::new(reading, Arc::clone(&writer), unconsumed_max);
        // Each time its buffer is used up, the library allocates one of this initial capacity. With
        // an empty one it would read a keystroke and a caret in two calls.
        let mut already_read = Vec::with_capacity(READ_BUFFER_BYTES.max(read_buf.len()));
        already_read.extend_from_slice(&read_buf);
        let socket =
            WebSocketStream::from_partially_read(stream, already_read, Role::Server, Some(config));
        let socket = socket.await;
        let times = Times::new(Instant::now(), writer.written_at());
        Some(Self { socket, writer, times })
    }

    /// The queue of the socket's first lane, the only one of a y-websocket connection.
    pub(crate) fn first_lane(&self) -> SendQueue {
        self.writer.first_lane()
    }

    /// The write half.
    pub(crate) fn writer(&self) -> &Arc<SocketWriter> {
        &self.writer
    }

    /// The next message; `None` after the peer's close.
    pub(crate) async fn next(&mut self) -> Option<Result<Message, WsError>> {
        self.socket.next().await
    }

    /// Counts a message. After a close nothing more is written.
    pub(crate) fn received(&mut self, message: &Message, now: Instant) {
        self.socket.get_mut().consumed(message);
        self.times.heard_at = now;
        if matches!(message, Message::Close(_)) {
            self.writer.end();
        }
    }

    /// Stops reading until `until`, if that is set, or resumes.
    pub(crate) fn pause(&mut self, until: Option<Instant>) {
        self.times.pause(until);
    }

    /// Whether reading is paused.
    pub(crate) fn is_paused(&self) -> bool {
        self.times.paused_until.is_some()
    }

    /// Starts the idle time again: the client could not be heard until now.
    pub(crate) fn restart_idle(&mut self, now: Instant) {
        self.times.restart_idle(now);
    }

    /// Whether anything was ever written.
    pub(crate) fn has_written(&self) -> bool {
        self.writer.written_at() != self.times.opened_at
    }

    /// The next time at which a pause ends, or something is due.
    pub(crate) fn next_timer(&self) -> Instant {
        self.times.next_timer(self.writer.written_at())
    }

    /// Ends a pause that is over.
    pub(crate) fn resume(&mut self, now: Instant) {
        self.times.resume(now);
    }

    /// # Errors
    /// If the peer was silent for [`SILENCE`].
    pub(crate) fn check_idle(&self, now: Instant) -> Result<(), Silent> {
        if now >= self.times.heard_at + SILENCE { Err(Silent) } else { Ok(()) }
    }

    /// Pings if it is time. Returns whether a keep-alive message is due, which the caller sends: its
    /// form is the dialect's.
    pub(crate) fn ping_or_keep_alive(&mut self, now: Instant) -> bool {
        let written_at = self.writer.written_at();
        if self.times.take_ping(now) {
            self.writer.ping();
        }
        self.times.take_keep_alive(written_at, now)
    }

    /// Sends a close frame and waits for the peer's, for [`LINGER`] at most. A browser cannot read a
    /// rejected handshake, so a rejection is a close of an accepted socket.
    pub(crate) fn close_gracefully(self, close: Close) -> impl Future<Output = ()> {
        // Boxed: the task of a connection would reserve room for it all its life.
        Box::pin(self.exchange_closes(close))
    }

    async fn exchange_closes(self, close: Close) {
        let Self { mut socket, writer, .. } = self;
        let code = WsCloseCode::from(close.code.number());
        let frame = CloseFrame { code, reason: close.reason().into() };
        writer.end();
        let exchange = async {
            if socket.send(Message::Close(Some(frame))).await.is_err() {
                return;
            }
            // With unread input in the kernel, dropping the socket would send a reset, and that can
            // overtake the close frame. So read until the peer has closed too.
            while let Some(Ok(_)) = socket.next().await {}
            // After a message that was too large the library reads no more, and the rest of it is
            // still arriving.
            let stream = socket.get_mut();
            drop(stream.shutdown().await);
            stream.drain().await;
        };
        // At the bound the peer is slow or hostile, and the socket is dropped either way.
        drop(timeout(LINGER, exchange).await);
    }
}

/// The close for a failed read; `None` if the peer is gone, so that no close can reach it.
pub(crate) fn close_for(error: &WsError) -> Option<Close> {
    const TEXT: &str = "a text frame arrived; this protocol is binary";
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "foreign, and any other error means that the peer is gone"
    )]
    match error {
        WsError::Capacity(CapacityError::MessageTooLong { size, max_size }) => {
            Some(Close::at_limit(
                Limit::MessageBytes,
                CloseCode::MessageTooLarge,
                format!("the message is {size} bytes, at most {max_size} are allowed"),
            ))
        }
        WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
        WsError::Protocol(error) => Some(Close::new(CloseCode::BadFrame, error)),
        WsError::Io(error) => {
            let error = error.get_ref().and_then(|error| error.downcast_ref::<TooFragmented>())?;
            Some(Close::at_limit(Limit::MessageBytes, CloseCode::MessageTooLarge, error))
        }
        WsError::Utf8(_) => Some(Close::new(CloseCode::BadFrame, TEXT)),
        _ => None,
    }
}

impl Times {
    fn new(now: Instant, opened_at: Instant) -> Self {
        Self { heard_at: now, pinged_at: now, kept_alive_at: now, opened_at, paused_until: None }
    }

    /// A paused client must not trip the idle timeout, so its idle time starts at the pause's end.
    fn pause(&mut self, until: Option<Instant>) {
        self.paused_until = until;
        self.heard_at = until.unwrap_or(self.heard_at);
    }

    fn resume(&mut self, now: Instant) {
        self.paused_until = self.paused_until.filter(|until| now < *until);
    }

    fn restart_idle(&mut self, now: Instant) {
        self.heard_at = self.paused_until.unwrap_or(now);
    }

    fn next_timer(&self, written_at: Instant) -> Instant {
        let ping = self.pinged_at + PING;
        let silence = self.heard_at + SILENCE;
        let keep_alive = self.sent_at(written_at) + KEEP_ALIVE;
        let next = ping.min(silence).min(keep_alive);
        self.paused_until.map_or(next, |until| until.min(next))
    }

    /// Whether a ping is due; the next one is then counted from `now`.
    fn take_ping(&mut self, now: Instant) -> bool {
        let is_due = now >= self.pinged_at + PING;
        if is_due {
            self.pinged_at = now;
        }
        is_due
    }

    /// Whether a keep-alive message is due; the next one is then counted from `now`.
    fn take_keep_alive(&mut self, written_at: Instant, now: Instant) -> bool {
        let is_due = now >= self.sent_at(written_at) + KEEP_ALIVE;
        if is_due {
            self.kept_alive_at = now;
        }
        is_due
    }

    /// When the client was last sent something, or would have been if its socket took it.
    fn sent_at(&self, written_at: Instant) -> Instant {
        written_at.max(self.kept_alive_at)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_pause_does_not_count_as_silence() {
        let start = Instant::now();
        let mut times = Times::new(start, start);
        let until = start + SILENCE + Duration::from_secs(1);
        times.pause(Some(until));
        assert_eq!(times.heard_at, until);
        times.resume(until);
        assert_eq!(times.paused_until, None);
        times.pause(None);
        assert_eq!(times.heard_at, until, "a message without a pause changes nothing here");
    }

    #[test]
    fn a_write_delays_the_keep_alive_and_not_the_ping() {
        let start = Instant::now();
        let mut times = Times::new(start, start);
        assert_eq!(times.next_timer(start), start + KEEP_ALIVE);
        let written = start + KEEP_ALIVE - Duration::from_secs(1);
        assert_eq!(times.next_timer(written), start + PING);
        assert!(times.take_ping(start + PING));
        assert!(!times.take_keep_alive(written, start + PING));
        assert!(!times.take_ping(written + KEEP_ALIVE));
        assert!(times.take_keep_alive(written, written + KEEP_ALIVE));
        assert!(!times.take_keep_alive(written, written + KEEP_ALIVE), "once");
    }
}
