//! The write half of a socket, shared by the connection and the documents of its lanes.
//!
//! The document task writes directly to the socket until it would block; the connection task finishes
//! the rest once the socket is writable. Measured against a task switch for each frame:
//! docs/decisions/0009. One lock covers the queues of all lanes and what the socket has under way,
//! because a write takes from both: with a lock for each, every flush would take two.

mod frame;
mod lane_queue;
mod output;

use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use syncline_protocol::Close;
use syncline_protocol::document::Delivery;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::time::Instant;

pub(crate) use self::lane_queue::{LaneEvent, Pushed};
use self::output::{LaneId, Output, Written};
use crate::sync::lock;

/// A ping without content (RFC 6455 §5.5.2).
const PING: &[u8] = &[0x89, 0];

/// The write half of a socket. Nothing else writes to it.
#[derive(Debug)]
pub(crate) struct SocketWriter {
    state: Mutex<State>,
    socket: OwnedWriteHalf,
    /// Whether there is something that only the connection can do.
    needs_connection: AtomicBool,
    connection: AtomicWaker,
    /// The bound of each lane.
    lane_bytes_max: usize,
}

#[derive(Debug)]
struct State {
    output: Output,
    writable: Writable,
    written_at: Instant,
}

/// Whether the socket can be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writable {
    /// By any task.
    Open,
    /// The kernel took no more. The connection waits until it does, and writes the rest.
    Blocked,
    /// It failed; the peer is gone.
    Broken,
}

/// What a connection has to do for its socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriterEvent {
    /// Ask each lane for its event.
    Lanes,
    /// Give up; nothing can be written any more.
    Broken,
}

/// The send queue of one lane.
#[derive(Debug)]
pub(crate) struct SendQueue {
    writer: Arc<SocketWriter>,
    lane: LaneId,
    /// Whether the lane was closed. Asked for every message of the session, so outside the lock.
    is_closed: AtomicBool,
}

impl SendQueue {
    /// Queues a frame for the next [`flush`](SocketWriter::flush) of the socket.
    pub(crate) fn push(&self, frame: Bytes, delivery: Delivery) -> Pushed {
        let (writer, lane) = (&*self.writer, self.lane);
        let mut state = lock(&writer.state);
        // Room that the kernel has by now must not cost the session its queue.
        if !state.output.fits(lane, &frame, writer.lane_bytes_max) {
            writer.write(&mut state, Instant::now());
        }
        let pushed = state.output.push(lane, frame, delivery, writer.lane_bytes_max);
        drop(state);
        if pushed == Pushed::Overflowed {
            writer.notify();
        }
        pushed
    }

    /// Queues and writes a frame of the connection's own. Dropped if the queue is full.
    pub(crate) fn send(&self, frame: Bytes) {
        self.push(frame, Delivery::Skippable);
        self.writer.flush(Instant::now());
    }

    /// Accepts frames again after an overflow.
    pub(crate) fn reopen(&self) {
        lock(&self.writer.state).output.lane_mut(self.lane).reopen();
    }

    /// Drops the queue and has the connection close the lane. The first close counts.
    pub(crate) fn close(&self, close: Close) {
        let mut state = lock(&self.writer.state);
        state.output.lane_mut(self.lane).close(close);
        self.is_closed.store(true, Ordering::Release);
        drop(state);
        self.writer.notify();
    }

    /// Whether the lane was closed: it sends nothing more, and its messages are ignored.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Ready once the lane was closed, for a connection that waits for something else meanwhile. At
    /// most one task may ask, also for [`SocketWriter::poll_event`].
    pub(crate) fn poll_closed(&self, context: &mut Context<'_>) -> Poll<Close> {
        self.writer.connection.register(context.waker());
        if !self.is_closed() {
            return Poll::Pending;
        }
        let close = lock(&self.writer.state).output.lane_mut(self.lane).closed().cloned();
        close.map_or(Poll::Pending, Poll::Ready)
    }

    /// What the connection has to do for this lane, if anything.
    pub(crate) fn take_event(&self) -> Option<LaneEvent> {
        lock(&self.writer.state).output.lane_mut(self.lane).take_event()
    }

    /// The socket that the lane is on.
    pub(crate) fn writer(&self) -> &Arc<SocketWriter> {
        &self.writer
    }
}

impl SocketWriter {
    /// A writer with one lane, bounded to `lane_bytes_max`.
    pub(crate) fn new(socket: OwnedWriteHalf, lane_bytes_max: usize) -> Arc<Self> {
        let state =
            State { output: Output::new(1), writable: Writable::Open, written_at: Instant::now() };
        Arc::new(Self {
            state: Mutex::new(state),
            socket,
            needs_connection: AtomicBool::new(false),
            connection: AtomicWaker::new(),
            lane_bytes_max,
        })
    }

    /// The queue of the first lane, the only one of a y-websocket connection.
    pub(crate) fn first_lane(self: &Arc<Self>) -> SendQueue {
        let is_closed = AtomicBool::new(false);
        SendQueue { writer: Arc::clone(self), lane: LaneId::FIRST, is_closed }
    }

    /// Writes as much as the kernel takes; the connection writes the rest.
    pub(crate) fn flush(&self, now: Instant) {
        self.write(&mut lock(&self.state), now);
    }

    /// Writes a ping, unless a control frame is waiting.
    pub(crate) fn ping(&self) {
        self.try_control(PING);
    }

    /// Drops the frames of all lanes and accepts no more: a close frame is next, or has arrived.
    pub(crate) fn end(&self) {
        lock(&self.state).output.end();
    }

    /// When something was last written; when the writer was made, if nothing was.
    pub(crate) fn written_at(&self) -> Instant {
        lock(&self.state).written_at
    }

    /// Writes what the kernel did not take before. Ready when the connection has to do something; at
    /// most one task may ask.
    pub(crate) fn poll_event(&self, context: &mut Context<'_>) -> Poll<WriterEvent> {
        self.connection.register(context.waker());
        if !self.needs_connection.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        match self.poll_state() {
            Ok(event) => return Poll::Ready(event),
            Err(Written::All) => {}
            Err(Written::Part) => {
                // The next poll, whatever woke it, tries again.
                self.needs_connection.store(true, Ordering::Release);
                let stream: &TcpStream = self.socket.as_ref();
                if stream.poll_write_ready(context).is_ready() {
                    context.waker().wake_by_ref();
                }
            }
        }
        Poll::Pending
    }

    /// Wakes the connection for [`poll_event`](Self::poll_event).
    fn notify(&self) {
        self.needs_connection.store(true, Ordering::Release);
        self.connection.wake();
    }

    fn poll_state(&self) -> Result<WriterEvent, Written> {
        let mut state = lock(&self.state);
        if state.output.has_close() {
            return Ok(WriterEvent::Lanes);
        }
        match self.retry(&mut state) {
            Writable::Broken => Ok(WriterEvent::Broken),
            Writable::Blocked => Err(Written::Part),
            Writable::Open if state.output.has_overflow() => Ok(WriterEvent::Lanes),
            Writable::Open => Err(Written::All),
        }
    }

    /// Writes a control frame of the WebSocket library, once there is room for it.
    pub(crate) fn poll_control(&self, context: &mut Context<'_>, frame: &[u8]) -> Poll<()> {
        let mut state = lock(&self.state);
        if !state.output.takes_control() {
            let flushed = self.poll_flushed(&mut state, context);
            if flushed.is_pending() {
                return Poll::Pending;
            }
        }
        self.write_control(&mut state, frame);
        Poll::Ready(())
    }

    /// Writes a control frame that a later one can replace, unless another is waiting.
    pub(crate) fn try_control(&self, frame: &[u8]) {
        let mut state = lock(&self.state);
        if state.output.takes_control() {
            self.write_control(&mut state, frame);
        }
    }

    fn write_control(&self, state: &mut State, frame: &[u8]) {
        state.output.push_control(Bytes::copy_from_slice(frame));
        self.write(state, Instant::now());
    }

    /// Completes when every control frame is written. Frames of the lanes may still be queued.
    ///
    /// # Errors
    /// If the peer is gone.
    pub(crate) fn poll_flush(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = lock(&self.state);
        let flushed = self.poll_flushed(&mut state, context);
        if state.writable == Writable::Broken {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        flushed.map(Ok)
    }

    fn poll_flushed(&self, state: &mut State, context: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.retry(state) == Writable::Broken || state.output.is_flushed() {
                return Poll::Ready(());
            }
            let stream: &TcpStream = self.socket.as_ref();
            if stream.poll_write_ready(context).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Shuts the write half down.
    pub(crate) fn shutdown(&self) -> io::Result<()> {
        let stream: &TcpStream = self.socket.as_ref();
        socket2::SockRef::from(stream).shutdown(std::net::Shutdown::Write)
    }

    /// Writes even if the kernel took no more at the last try.
    fn retry(&self, state: &mut State) -> Writable {
        if state.writable != Writable::Broken {
            self.write_now(state, Instant::now());
        }
        state.writable
    }

    fn write(&self, state: &mut State, now: Instant) {
        if state.writable == Writable::Open {
            self.write_now(state, now);
        }
    }

    fn write_now(&self, state: &mut State, now: Instant) {
        let was = std::mem::replace(&mut state.writable, Writable::Open);
        if state.output.is_empty() {
            return;
        }
        let write = |slices: &[IoSlice<'_>]| match slices {
            [piece] => self.socket.try_write(piece),
            pieces => self.socket.try_write_vectored(pieces),
        };
        match state.output.write_to(write) {
            Ok(Written::All) => {}
            Ok(Written::Part) => {
                state.writable = Writable::Blocked;
                // Only the first time: a connection that retries would wake itself for ever.
                if was != Writable::Blocked {
                    self.notify();
                }
            }
            Err(_) => {
                state.writable = Writable::Broken;
                state.output.end();
                self.notify();
            }
        }
        state.written_at = now;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::{Wake, Waker};

    use tokio::net::TcpListener;

    use super::*;

    #[derive(Debug, Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn a_blocked_socket_does_not_wake_its_connection_in_a_loop() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (_reading, writing) = listener.accept().await.unwrap().0.into_split();
        let writer = SocketWriter::new(writing, usize::MAX);
        let queue = writer.first_lane();
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut context = Context::from_waker(&waker);
        let wakes = || woken.0.load(Ordering::Relaxed);
        assert!(writer.poll_event(&mut context).is_pending());
        // Until the kernel takes no more, which notifies the connection.
        while wakes() == 0 {
            queue.push(vec![7; 65_536].into(), Delivery::Required);
            writer.flush(Instant::now());
        }
        for _ in 0..100 {
            assert!(writer.poll_event(&mut context).is_pending());
            // Bytes that reach the peer may make room once or twice.
            tokio::task::yield_now().await;
        }
        assert!(wakes() < 10, "woken {} times, though nothing happened", wakes());
        // It continues as soon as the socket changes.
        drop(peer);
        while !matches!(writer.poll_event(&mut context), Poll::Ready(WriterEvent::Broken)) {
            tokio::task::yield_now().await;
        }
    }
}
