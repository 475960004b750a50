//! The queue of one lane: the frames of one session, bounded by bytes.

use std::collections::VecDeque;

use bytes::Bytes;
use syncline_protocol::Close;
use syncline_protocol::document::Delivery;

/// One lane's frames, whether it accepts more, and the close that ends it.
#[derive(Debug, Default)]
pub(super) struct LaneQueue {
    /// Payloads, shared with the queues of other sessions.
    pub(super) frames: VecDeque<Bytes>,
    /// The size of `frames`, without the first if that is free.
    bytes: usize,
    /// Whether the first frame found an empty queue, and so does not count.
    is_first_free: bool,
    flow: Flow,
    close: Option<Close>,
}

/// Whether a queue accepts frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Flow {
    #[default]
    Open,
    /// The queue was dropped, and the connection has not been notified yet.
    Overflowed,
    /// The connection was notified; the document reopens the queue.
    Draining,
    /// Accepts nothing any more: a close frame is next, or has arrived.
    Ended,
}

/// Something that only the connection can do for a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LaneEvent {
    /// The queue overflowed and was dropped, and the socket is writable again: the document can send
    /// its diff. Reported once.
    Lagging,
    /// The server ends the lane with this close.
    Close(Close),
}

/// The result of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// Queued as the only frame: the caller has to flush the socket.
    First,
    /// Queued behind others; or dropped, because it was skippable and the queue is full.
    Done,
    /// The queue was full and was dropped. It accepts nothing until it is reopened.
    Overflowed,
}

impl LaneQueue {
    /// Queues a frame. `is_first`: nothing of this lane is waiting, so it passes whatever its size.
    pub(super) fn push(
        &mut self,
        frame: Bytes,
        delivery: Delivery,
        is_first: bool,
        bytes_max: usize,
    ) -> Pushed {
        if self.flow != Flow::Open {
            return Pushed::Done;
        }
        // A diff of a large document may exceed the bound, and frames queued behind it must not
        // push it out again.
        let cost = if is_first { 0 } else { frame.len() };
        if self.bytes + cost > bytes_max {
            if delivery == Delivery::Skippable {
                return Pushed::Done;
            }
            self.drop_frames();
            self.flow = Flow::Overflowed;
            return Pushed::Overflowed;
        }
        self.bytes += cost;
        self.is_first_free |= is_first;
        self.frames.push_back(frame);
        if self.frames.len() == 1 { Pushed::First } else { Pushed::Done }
    }

    /// Whether a frame behind others fits without dropping anything.
    pub(super) fn fits(&self, frame: &Bytes, bytes_max: usize) -> bool {
        self.bytes + frame.len() <= bytes_max
    }

    /// Removes the first frame.
    pub(super) fn pop(&mut self) -> Option<Bytes> {
        let frame = self.frames.pop_front()?;
        if !std::mem::take(&mut self.is_first_free) {
            self.bytes -= frame.len();
        }
        Some(frame)
    }

    /// Drops the frames and accepts no more.
    pub(super) fn end(&mut self) {
        self.drop_frames();
        self.flow = Flow::Ended;
    }

    /// Ends the lane. The first close counts.
    pub(super) fn close(&mut self, close: Close) {
        self.end();
        self.close.get_or_insert(close);
    }

    /// Accepts frames again after an overflow.
    pub(super) fn reopen(&mut self) {
        if self.flow != Flow::Ended {
            self.flow = Flow::Open;
        }
    }

    /// The close that ends the lane, if there is one.
    pub(super) fn closed(&self) -> Option<&Close> {
        self.close.as_ref()
    }

    /// Whether the queue was dropped and the connection not notified.
    pub(super) fn has_overflowed(&self) -> bool {
        self.flow == Flow::Overflowed
    }

    /// What the connection has to do, if anything.
    pub(super) fn take_event(&mut self) -> Option<LaneEvent> {
        if let Some(close) = &self.close {
            return Some(LaneEvent::Close(close.clone()));
        }
        let has_overflowed = self.has_overflowed();
        has_overflowed.then(|| {
            self.flow = Flow::Draining;
            LaneEvent::Lagging
        })
    }

    fn drop_frames(&mut self) {
        self.frames = VecDeque::new();
        self.bytes = 0;
        self.is_first_free = false;
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}
