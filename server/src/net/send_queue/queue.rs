//! What waits to be written to one socket, and in which order it goes out.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::{Buf, Bytes};
use syncline_protocol::Close;
use syncline_protocol::document::Delivery;

/// Frames handed to the kernel at once, at most. With two slices each that is a sixteenth of what
/// it takes (`IOV_MAX`).
const FRAMES_PER_WRITE: usize = 32;

/// Up to here frames are copied behind their headers, into one piece. The kernel takes one piece
/// with 7 % less CPU than two, which is 20 times what copying a keystroke costs.
const COPIED_BYTES: usize = 1024;

/// The queue of one session. Three kinds of bytes leave it, in this order: the rest of a frame
/// that the kernel took a part of, a control frame, and the frames of the document.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// What follows half a frame must be its other half, whatever has happened since.
    begun: Bytes,
    /// One control frame, ready to be written; the WebSocket library has no second one to send.
    control: Bytes,
    /// Payloads, shared with the queues of other sessions.
    frames: VecDeque<Bytes>,
    /// The size of `frames`, without the first if that is free.
    bytes: usize,
    /// Whether the first frame found nothing before it, and so does not count.
    is_first_free: bool,
    pub(super) flow: Flow,
    pub(super) close: Option<Close>,
}

/// Whether a queue takes frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Flow {
    #[default]
    Open,
    /// The queue was dropped; the connection does not know yet.
    Overflowed,
    /// The connection has been told, and the document will reopen the queue.
    Draining,
    /// Nothing more is queued: the close has been said, or the peer has said it.
    Ended,
}

/// What became of a pushed frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// It is queued where nothing was: somebody has to write it.
    First,
    /// It is queued behind others; or it was skippable and the queue is full.
    Done,
    /// The queue was full and has been dropped. Nothing is queued until it is reopened.
    Overflowed,
}

/// How far a queue has been written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// Nothing is left.
    All,
    /// The kernel takes no more for the moment.
    Part,
}

impl Queue {
    /// Queues a frame. One that finds nothing before it passes whatever its size.
    pub(super) fn push(&mut self, frame: Bytes, delivery: Delivery, bytes_max: usize) -> Pushed {
        if self.flow != Flow::Open {
            return Pushed::Done;
        }
        // A diff of a large document may exceed the bound, and what is queued behind it must not
        // push it out again.
        let is_free = self.is_empty();
        let cost = if is_free { 0 } else { frame.len() };
        if self.bytes + cost > bytes_max {
            if delivery == Delivery::Skippable {
                return Pushed::Done;
            }
            self.drop_frames();
            self.flow = Flow::Overflowed;
            return Pushed::Overflowed;
        }
        self.bytes += cost;
        self.is_first_free |= is_free;
        self.frames.push_back(frame);
        if self.frames.len() == 1 { Pushed::First } else { Pushed::Done }
    }

    /// Whether a frame would be queued without dropping anything.
    pub(super) fn has_room_for(&self, frame: &Bytes, bytes_max: usize) -> bool {
        self.is_empty() || self.bytes + frame.len() <= bytes_max
    }

    /// Whether a control frame can be taken.
    pub(super) fn has_room_for_control(&self) -> bool {
        self.control.is_empty()
    }

    /// Queues a whole control frame, ahead of the document's frames.
    pub(super) fn push_control(&mut self, frame: Bytes) {
        self.control = frame;
    }

    /// Drops the document's frames and takes no more.
    pub(super) fn end(&mut self) {
        self.drop_frames();
        self.flow = Flow::Ended;
    }

    /// Takes frames again after an overflow.
    pub(super) fn reopen(&mut self) {
        if self.flow != Flow::Ended {
            self.flow = Flow::Open;
        }
    }

    fn drop_frames(&mut self) {
        self.frames = VecDeque::new();
        self.bytes = 0;
        self.is_first_free = false;
    }

    /// Whether everything but the document's frames is written.
    pub(super) fn is_flushed(&self) -> bool {
        self.begun.is_empty() && self.control.is_empty()
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.is_flushed() && self.frames.is_empty()
    }

    /// Writes until nothing is left or the kernel takes no more.
    ///
    /// # Errors
    /// Those of `write`. The peer is gone then.
    pub(super) fn write_to(
        &mut self,
        mut write: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<Written> {
        while !self.is_empty() {
            match self.write_once(&mut write) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Written::Part);
                }
                Err(error) => return Err(error),
            }
        }
        if self.frames.capacity() > FRAMES_PER_WRITE {
            self.frames = VecDeque::new();
        }
        Ok(Written::All)
    }

    fn write_once(
        &mut self,
        write: &mut impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<()> {
        if self.begun.is_empty() {
            self.begun = std::mem::take(&mut self.control);
        }
        if !self.begun.is_empty() {
            let written = write(&[IoSlice::new(&self.begun)])?;
            self.begun.advance(written.min(self.begun.len()));
            return Ok(());
        }
        let mut joined = Joined::new();
        let written = if self.frames.iter().all(|frame| joined.take(frame)) {
            write(&[IoSlice::new(joined.as_slice())])?
        } else {
            let frames = self.frames.iter().take(FRAMES_PER_WRITE);
            let headers: Vec<_> = frames.clone().map(Header::of).collect();
            let slices: Vec<_> = headers
                .iter()
                .zip(frames)
                .flat_map(|(header, frame)| [IoSlice::new(header.as_slice()), IoSlice::new(frame)])
                .collect();
            write(&slices)?
        };
        self.advance(written);
        Ok(())
    }

    /// The kernel has taken this many bytes of the frames.
    fn advance(&mut self, mut written: usize) {
        while written > 0
            && let Some(mut frame) = self.frames.pop_front()
        {
            if !std::mem::take(&mut self.is_first_free) {
                self.bytes -= frame.len();
            }
            let header = Header::of(&frame);
            let header = header.as_slice();
            if let Some(rest @ [_, ..]) = header.get(written..) {
                self.begun = [rest, &frame].concat().into();
                return;
            }
            written -= header.len();
            let of_frame = written.min(frame.len());
            written -= of_frame;
            frame.advance(of_frame);
            self.begun = frame;
        }
    }
}

/// Small frames behind each other, with their headers.
struct Joined {
    bytes: [u8; COPIED_BYTES],
    len: usize,
}

impl Joined {
    fn new() -> Self {
        Self { bytes: [0; COPIED_BYTES], len: 0 }
    }

    /// Appends a frame. False, and as before, if there is no room for it.
    fn take(&mut self, frame: &Bytes) -> bool {
        let header = Header::of(frame);
        let header = header.as_slice();
        let end = self.len + header.len() + frame.len();
        let Some(room) = self.bytes.get_mut(self.len..end) else { return false };
        let (head, body) = room.split_at_mut(header.len());
        head.copy_from_slice(header);
        body.copy_from_slice(frame);
        self.len = end;
        true
    }

    fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// The header of an unmasked, unfragmented binary frame (RFC 6455 §5.2).
struct Header {
    bytes: [u8; 10],
    len: usize,
}

impl Header {
    fn of(payload: &Bytes) -> Self {
        const BINARY: u8 = 0x82;
        let [h, g, f, e, d, c, b, a] = (payload.len() as u64).to_be_bytes();
        match payload.len() {
            0..=125 => Self { bytes: [BINARY, a, 0, 0, 0, 0, 0, 0, 0, 0], len: 2 },
            126..=0xffff => Self { bytes: [BINARY, 126, b, a, 0, 0, 0, 0, 0, 0], len: 4 },
            _ => Self { bytes: [BINARY, 127, h, g, f, e, d, c, b, a], len: 10 },
        }
    }

    fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: usize = 10;

    fn frame(bytes: usize) -> Bytes {
        vec![7; bytes].into()
    }

    /// What leaves the queue if the kernel takes `step` bytes at a time.
    fn drain(queue: &mut Queue, step: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let written = queue.write_to(|slices| {
            let before = out.len();
            for slice in slices {
                let room = step - (out.len() - before);
                out.extend(slice.iter().take(room));
            }
            Ok(out.len() - before)
        });
        assert_eq!(written.unwrap(), Written::All);
        assert!(queue.is_empty());
        out
    }

    #[test]
    fn a_first_frame_may_exceed_the_bound_and_is_not_pushed_out() {
        let mut queue = Queue::default();
        assert_eq!(queue.push(frame(100), Delivery::Required, BOUND), Pushed::First);
        assert_eq!(queue.push(frame(6), Delivery::Required, BOUND), Pushed::Done);
        assert_eq!(drain(&mut queue, usize::MAX).len(), 2 + 100 + 2 + 6);
    }

    #[test]
    fn a_frame_behind_half_a_frame_counts() {
        let mut queue = Queue::default();
        queue.push(frame(100), Delivery::Required, BOUND);
        let mut room = 50;
        let written = queue.write_to(|_| match std::mem::take(&mut room) {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            taken => Ok(taken),
        });
        assert_eq!(written.unwrap(), Written::Part);
        assert_eq!(queue.push(frame(11), Delivery::Required, BOUND), Pushed::Overflowed);
        // The half is still completed.
        assert_eq!(drain(&mut queue, usize::MAX).len(), 52);
    }

    #[test]
    fn a_full_queue_is_dropped_as_a_whole() {
        let mut queue = Queue::default();
        for bytes in [1, 6] {
            assert_ne!(queue.push(frame(bytes), Delivery::Required, BOUND), Pushed::Overflowed);
        }
        assert_eq!(queue.push(frame(6), Delivery::Skippable, BOUND), Pushed::Done);
        assert_eq!(queue.push(frame(6), Delivery::Required, BOUND), Pushed::Overflowed);
        assert_eq!(queue.push(frame(1), Delivery::Required, BOUND), Pushed::Done);
        assert!(queue.is_empty());
        queue.reopen();
        assert_eq!(queue.push(frame(1), Delivery::Required, BOUND), Pushed::First);
    }

    #[test]
    fn frames_leave_whole_however_little_the_kernel_takes() {
        for step in [1, 2, 3, 7, 1_000, usize::MAX] {
            let mut queue = Queue::default();
            let mut expected = Vec::new();
            for bytes in [0, 1, 125, 126, 65_535, 65_536] {
                queue.push(frame(bytes), Delivery::Required, usize::MAX);
                expected.extend(Header::of(&frame(bytes)).as_slice());
                expected.extend(frame(bytes));
            }
            assert!(drain(&mut queue, step) == expected, "{step} bytes at a time");
        }
    }

    #[test]
    fn a_control_frame_goes_before_other_frames_but_never_into_one() {
        let mut queue = Queue::default();
        queue.push(frame(2), Delivery::Required, BOUND);
        queue.push(frame(1), Delivery::Required, BOUND);
        let mut room = 3;
        let written = queue.write_to(|_| match std::mem::take(&mut room) {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            taken => Ok(taken),
        });
        assert_eq!(written.unwrap(), Written::Part);
        queue.push_control(Bytes::from_static(&[0x89, 0]));
        assert!(!queue.has_room_for_control());
        assert_eq!(drain(&mut queue, 1), [7, 0x89, 0, 0x82, 1, 7]);
    }

    #[test]
    fn what_is_counted_goes_with_what_is_written() {
        let mut queue = Queue::default();
        for _ in 0..100 {
            for bytes in [50, 4, 6] {
                assert_ne!(queue.push(frame(bytes), Delivery::Required, BOUND), Pushed::Overflowed);
            }
            assert_eq!(queue.bytes, 10);
            drain(&mut queue, 9);
            assert_eq!(queue.bytes, 0);
        }
    }

    #[test]
    fn an_ended_queue_takes_nothing_more() {
        let mut queue = Queue::default();
        queue.push(frame(1), Delivery::Required, BOUND);
        queue.end();
        queue.reopen();
        assert_eq!(queue.push(frame(1), Delivery::Required, BOUND), Pushed::Done);
        assert!(queue.is_empty());
    }
}
