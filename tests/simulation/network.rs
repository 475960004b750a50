//! Connections: pipes that keep order, lose what is in flight when they are cut, and the bounded
//! outbox of the server's end.

use std::collections::VecDeque;

use bytes::Bytes;
use syncline_protocol::document::Delivery;
use syncline_protocol::{CloseCode, Epoch, SessionId};

/// One direction of a connection.
#[derive(Debug, Default)]
pub(crate) struct Pipe {
    queue: VecDeque<(u64, Packet)>,
    latest: u64,
    /// Bytes in flight. They stay when the connection is cut: they are never confirmed.
    pub(crate) bytes: usize,
}

#[derive(Clone, Debug)]
pub(crate) enum Packet {
    Frame(Bytes),
    Close(CloseCode),
}

impl Packet {
    fn len(&self) -> usize {
        match self {
            Self::Frame(frame) => frame.len(),
            Self::Close(_) => 0,
        }
    }
}

impl Pipe {
    /// Nothing arrives before `at`.
    pub(crate) fn opens(&mut self, at: u64) {
        self.latest = at;
    }

    /// Puts a packet in and returns when it arrives, which is never before its predecessor.
    pub(crate) fn send(&mut self, at: u64, packet: Packet) -> u64 {
        self.latest = self.latest.max(at);
        self.bytes += packet.len();
        self.queue.push_back((self.latest, packet));
        self.latest
    }

    pub(crate) fn arrived(&mut self, now: u64) -> Option<Packet> {
        if self.queue.front()?.0 > now {
            return None;
        }
        let (_, packet) = self.queue.pop_front()?;
        self.bytes -= packet.len();
        Some(packet)
    }

    fn lose(&mut self) {
        self.queue.clear();
    }
}

/// A connection between a client and a session of the server.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not a state")]
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) client: usize,
    pub(crate) session: SessionId,
    pub(crate) up: Pipe,
    pub(crate) down: Pipe,
    pub(crate) send_queue: SendQueue,
    /// Taken from the outbox and not yet in the socket.
    pub(crate) unsent: VecDeque<Bytes>,
    /// Bytes that fit into the socket before the client reads.
    pub(crate) window: usize,
    /// Whether the client reads nothing at the moment.
    pub(crate) stalled: bool,
    /// Whether packets vanish.
    pub(crate) is_cut: bool,
    /// Whether the server's end is open.
    pub(crate) at_server: bool,
    pub(crate) sent_at: u64,
    /// The updates that the client has sent, in order.
    pub(crate) updates: Vec<Bytes>,
    /// How many of them the server called saved.
    pub(crate) saved: usize,
    /// Whether presence was skipped for it.
    pub(crate) skipped: bool,
    /// The history that it has joined.
    pub(crate) epoch: Epoch,
}

impl Link {
    pub(crate) fn cut(&mut self) {
        self.is_cut = true;
        self.up.lose();
        self.down.lose();
    }

    /// The next frame, if it fits into the socket and the connection is not being closed.
    pub(crate) fn next_to_send(&mut self) -> Option<Bytes> {
        let len = self.unsent.front()?.len();
        let has_room = self.down.bytes == 0 || self.down.bytes + len <= self.window;
        if has_room && self.send_queue.closing().is_none() { self.unsent.pop_front() } else { None }
    }
}

/// As `server/src/net/socket_writer.rs` is, without its locks.
#[derive(Debug)]
pub(crate) struct SendQueue {
    frames: VecDeque<Bytes>,
    bytes: usize,
    bytes_max: usize,
    flow: Flow,
    close: Option<CloseCode>,
}

#[derive(Debug, PartialEq, Eq)]
enum Flow {
    Open,
    Overflowed,
    Draining,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    Queued,
    Skipped,
    Overflowed,
}

#[derive(Debug)]
pub(crate) enum Taken {
    Frames(VecDeque<Bytes>),
    Lagging,
    Close(CloseCode),
}

impl SendQueue {
    pub(crate) fn new(bytes_max: usize) -> Self {
        let frames = VecDeque::new();
        Self { frames, bytes: 0, bytes_max, flow: Flow::Open, close: None }
    }

    pub(crate) fn push(&mut self, frame: Bytes, delivery: Delivery) -> Pushed {
        if self.flow != Flow::Open || self.close.is_some() {
            return Pushed::Skipped;
        }
        if !self.frames.is_empty() && self.bytes + frame.len() > self.bytes_max {
            if delivery == Delivery::Skippable {
                return Pushed::Skipped;
            }
            self.frames.clear();
            self.bytes = 0;
            self.flow = Flow::Overflowed;
            return Pushed::Overflowed;
        }
        self.bytes += frame.len();
        self.frames.push_back(frame);
        assert!(self.frames.len() == 1 || self.bytes <= self.bytes_max, "the outbox is bounded");
        Pushed::Queued
    }

    pub(crate) fn reopen(&mut self) {
        self.flow = Flow::Open;
    }

    pub(crate) fn close(&mut self, code: CloseCode) {
        self.frames.clear();
        self.bytes = 0;
        self.close.get_or_insert(code);
    }

    pub(crate) fn closing(&self) -> Option<CloseCode> {
        self.close
    }

    pub(crate) fn take(&mut self) -> Option<Taken> {
        if let Some(code) = self.close {
            return Some(Taken::Close(code));
        }
        if !self.frames.is_empty() {
            self.bytes = 0;
            return Some(Taken::Frames(std::mem::take(&mut self.frames)));
        }
        if self.flow == Flow::Overflowed {
            self.flow = Flow::Draining;
            return Some(Taken::Lagging);
        }
        None
    }
}
