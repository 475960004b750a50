//! Frames on their way from a document to one socket, bounded by bytes.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use syncline_protocol::Close;
use syncline_protocol::document::Delivery;
use tokio::sync::Notify;

/// A session's queue. The document pushes and never waits; the connection takes everything that
/// has gathered and writes it at once.
#[derive(Debug)]
pub(crate) struct Outbox {
    queue: Mutex<Queue>,
    ready: Notify,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<Bytes>,
    bytes: usize,
    flow: Flow,
    close: Option<Close>,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Flow {
    #[default]
    Open,
    /// The queue was dropped; the connection does not know yet.
    Overflowed,
    /// The connection has been told, and the document will reopen the queue.
    Draining,
}

/// What became of a pushed frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// It will be written, or it was skippable and the queue is full.
    Done,
    /// The queue was full and has been dropped. Nothing is queued until [`Outbox::reopen`].
    Overflowed,
}

/// What a connection finds in its outbox.
#[derive(Debug)]
pub(crate) enum Taken {
    /// Frames to write.
    Frames(VecDeque<Bytes>),
    /// The queue was dropped: tell the document that there is room again. Said once.
    Lagging,
    /// Write this and nothing more.
    Close(Close),
}

impl Outbox {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { queue: Mutex::default(), ready: Notify::new(), bytes_max }
    }

    /// Queues a frame. The first in the queue passes whatever its size and does not count.
    pub(crate) fn push(&self, frame: Bytes, delivery: Delivery) -> Pushed {
        let mut queue = self.queue();
        if queue.flow != Flow::Open || queue.close.is_some() {
            return Pushed::Done;
        }
        // The first frame is free: a diff of a large document may exceed the bound, and what is
        // queued behind it must not push it out again.
        let cost = if queue.frames.is_empty() { 0 } else { frame.len() };
        if queue.bytes + cost > self.bytes_max {
            if delivery == Delivery::Skippable {
                return Pushed::Done;
            }
            queue.frames = VecDeque::new();
            queue.bytes = 0;
            queue.flow = Flow::Overflowed;
            drop(queue);
            self.ready.notify_one();
            return Pushed::Overflowed;
        }
        queue.bytes += cost;
        queue.frames.push_back(frame);
        let was_empty = queue.frames.len() == 1;
        drop(queue);
        if was_empty {
            self.ready.notify_one();
        }
        Pushed::Done
    }

    /// Lets frames in again after an overflow.
    pub(crate) fn reopen(&self) {
        self.queue().flow = Flow::Open;
    }

    /// Drops what is queued and has the socket closed.
    pub(crate) fn close(&self, close: Close) {
        let mut queue = self.queue();
        queue.frames = VecDeque::new();
        queue.bytes = 0;
        queue.close.get_or_insert(close);
        drop(queue);
        self.ready.notify_one();
    }

    /// Waits for something to write. Safe to cancel.
    pub(crate) async fn take(&self) -> Taken {
        loop {
            if let Some(taken) = self.try_take() {
                return taken;
            }
            self.ready.notified().await;
        }
    }

    /// Waits for the close alone. Safe to cancel.
    pub(crate) async fn closed(&self) -> Close {
        loop {
            if let Some(close) = self.queue().close.clone() {
                return close;
            }
            self.ready.notified().await;
        }
    }

    fn try_take(&self) -> Option<Taken> {
        let mut queue = self.queue();
        if let Some(close) = queue.close.clone() {
            return Some(Taken::Close(close));
        }
        if !queue.frames.is_empty() {
            queue.bytes = 0;
            return Some(Taken::Frames(std::mem::take(&mut queue.frames)));
        }
        if queue.flow == Flow::Overflowed {
            queue.flow = Flow::Draining;
            return Some(Taken::Lagging);
        }
        None
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Every critical section above leaves the queue whole at each point.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(bytes: usize) -> Bytes {
        vec![0; bytes].into()
    }

    #[test]
    fn a_first_frame_may_exceed_the_bound_and_is_not_pushed_out() {
        let outbox = Outbox::new(10);
        assert_eq!(outbox.push(frame(100), Delivery::Required), Pushed::Done);
        assert_eq!(outbox.push(frame(6), Delivery::Required), Pushed::Done);
        assert!(matches!(outbox.try_take(), Some(Taken::Frames(frames)) if frames.len() == 2));
    }

    #[test]
    fn a_full_queue_is_dropped_as_a_whole_and_said_so_once() {
        let outbox = Outbox::new(10);
        for bytes in [1, 6] {
            assert_eq!(outbox.push(frame(bytes), Delivery::Required), Pushed::Done);
        }
        assert_eq!(outbox.push(frame(6), Delivery::Skippable), Pushed::Done);
        assert_eq!(outbox.push(frame(6), Delivery::Required), Pushed::Overflowed);
        assert_eq!(outbox.push(frame(1), Delivery::Required), Pushed::Done);
        assert!(matches!(outbox.try_take(), Some(Taken::Lagging)));
        assert!(outbox.try_take().is_none());
        outbox.reopen();
        outbox.push(frame(1), Delivery::Required);
        assert!(matches!(outbox.try_take(), Some(Taken::Frames(frames)) if frames.len() == 1));
    }

    #[test]
    fn a_close_takes_the_place_of_everything_queued() {
        let outbox = Outbox::new(10);
        outbox.push(frame(1), Delivery::Required);
        outbox.close(Close::new(syncline_protocol::CloseCode::Draining, "x"));
        outbox.push(frame(1), Delivery::Required);
        assert!(matches!(outbox.try_take(), Some(Taken::Close(_))));
    }
}
