//! Frames on their way from a document to one socket, bounded by bytes.
//!
//! Whoever has frames writes them: a document's task queues what a batch of mail asks for and
//! writes it as long as the kernel takes it, without waking another task. What the kernel does not
//! take waits here, and the connection goes on with it once the socket is writable. Measured
//! against a task switch for each frame: docs/decisions/0009.

mod queue;

use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use syncline_protocol::Close;
use syncline_protocol::document::Delivery;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::time::Instant;

pub(crate) use self::queue::Pushed;
use self::queue::{Flow, Queue, Written};

/// A ping without content (RFC 6455 §5.5.2).
const PING: &[u8] = &[0x89, 0];

/// A session's queue and the writing half of its socket. Nothing else writes to that.
#[derive(Debug)]
pub(crate) struct SendQueue {
    state: Mutex<State>,
    socket: OwnedWriteHalf,
    /// Whether there is something that only the connection can do, and who it is.
    needs_attention: AtomicBool,
    connection: AtomicWaker,
    /// Whether a close waits. Asked for every message of the session, so beside the lock.
    is_closed: AtomicBool,
    bytes_max: usize,
}

#[derive(Debug)]
struct State {
    queue: Queue,
    writing: Writing,
    written_at: Instant,
}

/// Whether the socket can be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writing {
    /// By anybody.
    Open,
    /// The connection waits until it can be, and writes until nothing is left.
    Blocked,
    /// It failed; the peer is gone.
    Broken,
}

/// What a connection has to do for its outbox.
#[derive(Debug)]
pub(crate) enum SendQueueEvent {
    /// The queue was dropped and everything else is written: tell the document that there is room
    /// again. Said once.
    Lagging,
    /// Close the socket with this.
    Close(Close),
    /// Give up; nothing can be written any more.
    Broken,
}

impl SendQueue {
    pub(crate) fn new(socket: OwnedWriteHalf, bytes_max: usize) -> Self {
        let state =
            State { queue: Queue::default(), writing: Writing::Open, written_at: Instant::now() };
        Self {
            state: Mutex::new(state),
            socket,
            needs_attention: AtomicBool::new(false),
            connection: AtomicWaker::new(),
            is_closed: AtomicBool::new(false),
            bytes_max,
        }
    }

    /// Queues a frame for the next [`flush`](Self::flush).
    pub(crate) fn push(&self, frame: Bytes, delivery: Delivery) -> Pushed {
        let mut state = self.state();
        // Room that the kernel has and nobody has used yet must not cost the session its queue.
        if !state.queue.has_room_for(&frame, self.bytes_max) {
            self.write(&mut state, Instant::now());
        }
        let pushed = state.queue.push(frame, delivery, self.bytes_max);
        drop(state);
        if pushed == Pushed::Overflowed {
            self.call();
        }
        pushed
    }

    /// Writes what the kernel takes and leaves the rest to the connection.
    pub(crate) fn flush(&self, now: Instant) {
        self.write(&mut self.state(), now);
    }

    /// Writes a frame of the connection's own.
    pub(crate) fn send(&self, frame: Bytes) {
        self.push(frame, Delivery::Skippable);
        self.flush(Instant::now());
    }

    /// Writes a ping, unless a control frame waits already.
    pub(crate) fn ping(&self) {
        self.try_control(PING);
    }

    /// Lets frames in again after an overflow.
    pub(crate) fn reopen(&self) {
        self.state().queue.reopen();
    }

    /// Drops what is queued and has the socket closed.
    pub(crate) fn close(&self, close: Close) {
        let mut state = self.state();
        state.queue.end();
        state.queue.close.get_or_insert(close);
        self.is_closed.store(true, Ordering::Release);
        drop(state);
        self.call();
    }

    /// Whether it was closed: nothing more is sent, and nothing more of the session is taken in.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Ready once it was closed, for a connection that waits for something else meanwhile. At most
    /// one task may ask, also for [`poll_attention`](Self::poll_attention).
    pub(crate) fn poll_closed(&self, context: &mut Context<'_>) -> Poll<Close> {
        self.connection.register(context.waker());
        if !self.is_closed() {
            return Poll::Pending;
        }
        let close = self.state().queue.close.clone();
        close.map_or(Poll::Pending, Poll::Ready)
    }

    /// Drops what is queued and takes no more: a close frame is next, or has arrived.
    pub(crate) fn end(&self) {
        self.state().queue.end();
    }

    /// When something was last written.
    pub(crate) fn written_at(&self) -> Instant {
        self.state().written_at
    }

    /// Goes on with what the kernel has not taken. Ready when the connection has to do something;
    /// at most one task may ask.
    pub(crate) fn poll_attention(&self, context: &mut Context<'_>) -> Poll<SendQueueEvent> {
        self.connection.register(context.waker());
        if !self.needs_attention.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        match self.examine() {
            Ok(attention) => return Poll::Ready(attention),
            Err(Written::All) => {}
            Err(Written::Part) => {
                // The next poll, whatever it is for, tries again.
                self.needs_attention.store(true, Ordering::Release);
                let stream: &TcpStream = self.socket.as_ref();
                if stream.poll_write_ready(context).is_ready() {
                    context.waker().wake_by_ref();
                }
            }
        }
        Poll::Pending
    }

    /// Has the connection look.
    fn call(&self) {
        self.needs_attention.store(true, Ordering::Release);
        self.connection.wake();
    }

    fn examine(&self) -> Result<SendQueueEvent, Written> {
        let mut state = self.state();
        if let Some(close) = state.queue.close.clone() {
            return Ok(SendQueueEvent::Close(close));
        }
        match self.try_again(&mut state) {
            Writing::Broken => return Ok(SendQueueEvent::Broken),
            Writing::Blocked => return Err(Written::Part),
            Writing::Open => {}
        }
        if state.queue.flow == Flow::Overflowed {
            state.queue.flow = Flow::Draining;
            return Ok(SendQueueEvent::Lagging);
        }
        Err(Written::All)
    }

    /// Has the WebSocket library's control frame written, if there is room for one.
    pub(crate) fn poll_control(&self, context: &mut Context<'_>, frame: &[u8]) -> Poll<()> {
        let mut state = self.state();
        if !state.queue.has_room_for_control() {
            let flushed = self.poll_flushed(&mut state, context);
            if flushed.is_pending() {
                return Poll::Pending;
            }
        }
        self.write_control(&mut state, frame);
        Poll::Ready(())
    }

    /// Has a control frame written that a later one may stand for, unless there is no room for it.
    pub(crate) fn try_control(&self, frame: &[u8]) {
        let mut state = self.state();
        if state.queue.has_room_for_control() {
            self.write_control(&mut state, frame);
        }
    }

    fn write_control(&self, state: &mut State, frame: &[u8]) {
        state.queue.push_control(Bytes::copy_from_slice(frame));
        self.write(state, Instant::now());
    }

    /// Completes when every control frame is written. What the document has queued may wait on.
    ///
    /// # Errors
    /// If the peer is gone.
    pub(crate) fn poll_flush(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state();
        let flushed = self.poll_flushed(&mut state, context);
        if state.writing == Writing::Broken {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        flushed.map(Ok)
    }

    fn poll_flushed(&self, state: &mut State, context: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.try_again(state) == Writing::Broken || state.queue.is_flushed() {
                return Poll::Ready(());
            }
            let stream: &TcpStream = self.socket.as_ref();
            if stream.poll_write_ready(context).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Says that nothing more will be written.
    pub(crate) fn shutdown(&self) -> io::Result<()> {
        let stream: &TcpStream = self.socket.as_ref();
        socket2::SockRef::from(stream).shutdown(std::net::Shutdown::Write)
    }

    /// Writes although the kernel took no more when this was last tried.
    fn try_again(&self, state: &mut State) -> Writing {
        if state.writing != Writing::Broken {
            self.write_now(state, Instant::now());
        }
        state.writing
    }

    fn write(&self, state: &mut State, now: Instant) {
        if state.writing == Writing::Open {
            self.write_now(state, now);
        }
    }

    fn write_now(&self, state: &mut State, now: Instant) {
        let was = std::mem::replace(&mut state.writing, Writing::Open);
        if state.queue.is_empty() {
            return;
        }
        let write = |slices: &[IoSlice<'_>]| match slices {
            [piece] => self.socket.try_write(piece),
            pieces => self.socket.try_write_vectored(pieces),
        };
        match state.queue.write_to(write) {
            Ok(Written::All) => {}
            Ok(Written::Part) => {
                state.writing = Writing::Blocked;
                // Once: the connection tries again itself, and would only wake itself.
                if was != Writing::Blocked {
                    self.call();
                }
            }
            Err(_) => {
                state.writing = Writing::Broken;
                state.queue.end();
                self.call();
            }
        }
        state.written_at = now;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every critical section above leaves the state whole at each point.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
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
    async fn a_connection_whose_peer_reads_nothing_is_left_in_peace() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (_reading, writing) = listener.accept().await.unwrap().0.into_split();
        let send_queue = SendQueue::new(writing, usize::MAX);
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut context = Context::from_waker(&waker);
        let wakes = || woken.0.load(Ordering::Relaxed);
        assert!(send_queue.poll_attention(&mut context).is_pending());
        // Until the kernel takes no more, which is when the connection is called.
        while wakes() == 0 {
            send_queue.push(vec![7; 65_536].into(), Delivery::Required);
            send_queue.flush(Instant::now());
        }
        for _ in 0..100 {
            assert!(send_queue.poll_attention(&mut context).is_pending());
            // Whatever is still on its way to the peer may make room once or twice.
            tokio::task::yield_now().await;
        }
        assert!(wakes() < 10, "woken {} times, though nothing happened", wakes());
        // And it goes on as soon as the peer does.
        drop(peer);
        while !matches!(
            send_queue.poll_attention(&mut context),
            Poll::Ready(SendQueueEvent::Broken)
        ) {
            tokio::task::yield_now().await;
        }
    }
}
