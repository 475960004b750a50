//! Everything that waits to be written to one socket, and the order in which it leaves.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::{Buf, Bytes};
use syncline_protocol::document::Delivery;

use crate::net::socket_writer::frame::{Header, Joined};
use crate::net::socket_writer::lane_queue::{LaneQueue, Pushed};

/// Frames handed to the kernel at once, at most. With two slices each that is a sixteenth of what
/// it takes (`IOV_MAX`).
const FRAMES_PER_WRITE: usize = 32;

/// The number of a lane on its socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LaneId(usize);

impl LaneId {
    /// The lane that every socket has. A y-websocket connection has no other.
    pub(super) const FIRST: Self = Self(0);
}

/// Three kinds of bytes leave a socket, in this order: the rest of a frame of which the kernel took a
/// part, a control frame, and the frames of the lanes in turn.
#[derive(Debug)]
pub(super) struct Output {
    /// The rest of a frame. Nothing may be written before it.
    begun: Bytes,
    /// The lane of `begun`; none for a control frame.
    begun_by: Option<LaneId>,
    /// One control frame, ready to be written; the WebSocket library has no second one to send.
    control: Bytes,
    lanes: Lanes,
    /// The lane whose frames are written next.
    turn: LaneId,
}

/// The queues of a socket's lanes. The first is stored inline: one lane costs no allocation.
#[derive(Debug, Default)]
struct Lanes {
    first: LaneQueue,
    others: Vec<LaneQueue>,
}

impl Lanes {
    fn count(&self) -> usize {
        1 + self.others.len()
    }

    fn get_mut(&mut self, lane: LaneId) -> &mut LaneQueue {
        match lane.0.checked_sub(1) {
            Some(other) => self.others.get_mut(other).unwrap_or(&mut self.first),
            None => &mut self.first,
        }
    }

    fn iter(&self) -> impl Iterator<Item = &LaneQueue> {
        std::iter::once(&self.first).chain(&self.others)
    }
}

/// How far the output was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// Nothing is left.
    All,
    /// The kernel takes no more for the moment.
    Part,
}

impl Output {
    pub(super) fn new(lanes: usize) -> Self {
        let others = std::iter::repeat_with(LaneQueue::default);
        let others = others.take(lanes.saturating_sub(1)).collect();
        Self {
            begun: Bytes::new(),
            begun_by: None,
            control: Bytes::new(),
            lanes: Lanes { first: LaneQueue::default(), others },
            turn: LaneId::FIRST,
        }
    }

    pub(super) fn lane_mut(&mut self, lane: LaneId) -> &mut LaneQueue {
        self.lanes.get_mut(lane)
    }

    /// Whether the connection has to close a lane.
    pub(super) fn has_close(&self) -> bool {
        self.lanes.iter().any(|lane| lane.closed().is_some())
    }

    /// Whether the connection has to announce that a lane overflowed.
    pub(super) fn has_overflow(&self) -> bool {
        self.lanes.iter().any(LaneQueue::has_overflowed)
    }

    /// Queues a frame of a lane.
    pub(super) fn push(
        &mut self,
        lane: LaneId,
        frame: Bytes,
        delivery: Delivery,
        bytes_max: usize,
    ) -> Pushed {
        let is_first = self.is_first(lane);
        self.lanes.get_mut(lane).push(frame, delivery, is_first, bytes_max)
    }

    /// Whether a frame would be queued without dropping anything.
    pub(super) fn fits(&mut self, lane: LaneId, frame: &Bytes, bytes_max: usize) -> bool {
        self.is_first(lane) || self.lanes.get_mut(lane).fits(frame, bytes_max)
    }

    /// Whether a lane's next frame has none of the same lane before it. Frames of other lanes do not
    /// count, or a busy lane could keep a diff of another one out for ever.
    fn is_first(&mut self, lane: LaneId) -> bool {
        let is_begun = !self.begun.is_empty() && self.begun_by == Some(lane);
        !is_begun && self.control.is_empty() && self.lanes.get_mut(lane).frames.is_empty()
    }

    /// Whether a control frame can be queued.
    pub(super) fn takes_control(&self) -> bool {
        self.control.is_empty()
    }

    /// Queues a whole control frame, ahead of the lanes' frames.
    pub(super) fn push_control(&mut self, frame: Bytes) {
        self.control = frame;
    }

    /// Drops the frames of all lanes and accepts no more.
    pub(super) fn end(&mut self) {
        self.lanes.first.end();
        self.lanes.others.iter_mut().for_each(LaneQueue::end);
    }

    /// Whether everything but the lanes' frames is written.
    pub(super) fn is_flushed(&self) -> bool {
        self.begun.is_empty() && self.control.is_empty()
    }

    /// Whether nothing is left to write.
    pub(super) fn is_empty(&self) -> bool {
        self.is_flushed() && self.lanes.iter().all(|lane| lane.frames.is_empty())
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
        for lane in std::iter::once(&mut self.lanes.first).chain(&mut self.lanes.others) {
            if lane.frames.capacity() > FRAMES_PER_WRITE {
                lane.frames = VecDeque::new();
            }
        }
        Ok(Written::All)
    }

    fn write_once(
        &mut self,
        write: &mut impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<()> {
        if self.begun.is_empty() {
            self.begun = std::mem::take(&mut self.control);
            self.begun_by = None;
        }
        if !self.begun.is_empty() {
            let written = write(&[IoSlice::new(&self.begun)])?;
            self.begun.advance(written.min(self.begun.len()));
            return Ok(());
        }
        let lane = self.next_lane();
        let frames = &self.lanes.get_mut(lane).frames;
        let mut joined = Joined::new();
        let written = if frames.iter().all(|frame| joined.append(frame)) {
            write(&[IoSlice::new(joined.as_slice())])?
        } else {
            let frames = frames.iter().take(FRAMES_PER_WRITE);
            let headers: Vec<_> = frames.clone().map(Header::of).collect();
            let slices: Vec<_> = headers
                .iter()
                .zip(frames)
                .flat_map(|(header, frame)| [IoSlice::new(header.as_slice()), IoSlice::new(frame)])
                .collect();
            write(&slices)?
        };
        self.advance(lane, written);
        Ok(())
    }

    /// The lane whose turn it is, or the next one that has frames. Its successor has the next turn.
    fn next_lane(&mut self) -> LaneId {
        let count = self.lanes.count();
        let turns = (self.turn.0..count).chain(0..self.turn.0).map(LaneId);
        let found = turns.into_iter().find(|&lane| !self.lanes.get_mut(lane).frames.is_empty());
        let lane = found.unwrap_or(LaneId::FIRST);
        self.turn = LaneId((lane.0 + 1) % count);
        lane
    }

    /// Removes what the kernel has taken: this many bytes of a lane's frames.
    fn advance(&mut self, lane: LaneId, mut written: usize) {
        while written > 0
            && let Some(mut frame) = self.lanes.get_mut(lane).pop()
        {
            self.begun_by = Some(lane);
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

#[cfg(test)]
mod tests {
    use syncline_protocol::{Close, CloseCode};

    use super::*;
    use crate::net::socket_writer::lane_queue::LaneEvent;

    const BOUND: usize = 10;
    const A: LaneId = LaneId(0);
    const B: LaneId = LaneId(1);

    fn frame(bytes: usize) -> Bytes {
        vec![7; bytes].into()
    }

    /// What leaves the output if the kernel takes `step` bytes at a time.
    fn drain(output: &mut Output, step: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let written = output.write_to(|slices| {
            let before = out.len();
            for slice in slices {
                let rest = step - (out.len() - before);
                out.extend(slice.iter().take(rest));
            }
            Ok(out.len() - before)
        });
        assert_eq!(written.unwrap(), Written::All);
        assert!(output.is_empty());
        out
    }

    #[test]
    fn a_first_frame_may_exceed_the_bound_and_is_not_pushed_out() {
        let mut output = Output::new(1);
        assert_eq!(output.push(A, frame(100), Delivery::Required, BOUND), Pushed::First);
        assert_eq!(output.push(A, frame(6), Delivery::Required, BOUND), Pushed::Done);
        assert_eq!(drain(&mut output, usize::MAX).len(), 2 + 100 + 2 + 6);
    }

    #[test]
    fn a_frame_behind_half_a_frame_counts() {
        let mut output = Output::new(1);
        output.push(A, frame(100), Delivery::Required, BOUND);
        let mut left = 50;
        let written = output.write_to(|_| match std::mem::take(&mut left) {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            taken => Ok(taken),
        });
        assert_eq!(written.unwrap(), Written::Part);
        assert_eq!(output.push(A, frame(11), Delivery::Required, BOUND), Pushed::Overflowed);
        // The half is still completed.
        assert_eq!(drain(&mut output, usize::MAX).len(), 52);
    }

    #[test]
    fn a_full_queue_is_dropped_as_a_whole() {
        let mut output = Output::new(1);
        for bytes in [1, 6] {
            assert_ne!(output.push(A, frame(bytes), Delivery::Required, BOUND), Pushed::Overflowed);
        }
        assert_eq!(output.push(A, frame(6), Delivery::Skippable, BOUND), Pushed::Done);
        assert_eq!(output.push(A, frame(6), Delivery::Required, BOUND), Pushed::Overflowed);
        assert_eq!(output.push(A, frame(1), Delivery::Required, BOUND), Pushed::Done);
        assert!(output.is_empty());
        output.lane_mut(A).reopen();
        assert_eq!(output.push(A, frame(1), Delivery::Required, BOUND), Pushed::First);
    }

    #[test]
    fn frames_leave_whole_however_little_the_kernel_takes() {
        for step in [1, 2, 3, 7, 1_000, usize::MAX] {
            let mut output = Output::new(1);
            let mut expected = Vec::new();
            for bytes in [0, 1, 125, 126, 65_535, 65_536] {
                output.push(A, frame(bytes), Delivery::Required, usize::MAX);
                expected.extend(Header::of(&frame(bytes)).as_slice());
                expected.extend(frame(bytes));
            }
            assert!(drain(&mut output, step) == expected, "{step} bytes at a time");
        }
    }

    #[test]
    fn a_control_frame_goes_before_other_frames_but_never_into_one() {
        let mut output = Output::new(1);
        output.push(A, frame(2), Delivery::Required, BOUND);
        output.push(A, frame(1), Delivery::Required, BOUND);
        let mut left = 3;
        let written = output.write_to(|_| match std::mem::take(&mut left) {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            taken => Ok(taken),
        });
        assert_eq!(written.unwrap(), Written::Part);
        output.push_control(Bytes::from_static(&[0x89, 0]));
        assert!(!output.takes_control());
        assert_eq!(drain(&mut output, 1), [7, 0x89, 0, 0x82, 1, 7]);
    }

    #[test]
    fn what_is_counted_goes_with_what_is_written() {
        let mut output = Output::new(1);
        for _ in 0..100 {
            for bytes in [50, 4, 6] {
                assert_ne!(
                    output.push(A, frame(bytes), Delivery::Required, BOUND),
                    Pushed::Overflowed
                );
            }
            assert_eq!(output.lane_mut(A).bytes(), 10);
            drain(&mut output, 9);
            assert_eq!(output.lane_mut(A).bytes(), 0);
        }
    }

    #[test]
    fn an_ended_queue_takes_nothing_more() {
        let mut output = Output::new(1);
        output.push(A, frame(1), Delivery::Required, BOUND);
        output.end();
        output.lane_mut(A).reopen();
        assert_eq!(output.push(A, frame(1), Delivery::Required, BOUND), Pushed::Done);
        assert!(output.is_empty());
    }

    #[test]
    fn lanes_take_turns() {
        let mut output = Output::new(2);
        for _ in 0..3 {
            output.push(A, vec![1; 600].into(), Delivery::Required, 10_000);
        }
        output.push(B, vec![2; 600].into(), Delivery::Required, 10_000);
        let mut first_bytes = Vec::new();
        let written = output.write_to(|slices| {
            let joined: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
            first_bytes.push(joined[4]);
            Ok(604)
        });
        assert_eq!(written.unwrap(), Written::All);
        assert_eq!(first_bytes, [1, 2, 1, 1], "a frame of each, then the rest");
    }

    #[test]
    fn an_overflow_and_a_close_concern_one_lane() {
        let mut output = Output::new(2);
        output.push(A, frame(3), Delivery::Required, BOUND);
        output.push(B, frame(3), Delivery::Required, BOUND);
        output.push(A, frame(8), Delivery::Required, BOUND);
        assert_eq!(output.push(A, frame(8), Delivery::Required, BOUND), Pushed::Overflowed);
        assert!(output.has_overflow() && !output.has_close());
        assert_eq!(output.lane_mut(B).take_event(), None);
        assert_eq!(output.push(B, frame(3), Delivery::Required, BOUND), Pushed::Done);
        assert_eq!(output.lane_mut(A).take_event(), Some(LaneEvent::Lagging));
        assert_eq!(output.lane_mut(A).take_event(), None, "reported once");
        assert_eq!(drain(&mut output, 1), [0x82, 3, 7, 7, 7, 0x82, 3, 7, 7, 7]);

        let close = Close::new(CloseCode::Disconnected, "");
        output.push(B, frame(3), Delivery::Required, BOUND);
        output.lane_mut(A).reopen();
        output.lane_mut(A).close(close.clone());
        assert_eq!(output.lane_mut(A).take_event(), Some(LaneEvent::Close(close)));
        assert_eq!(output.push(A, frame(1), Delivery::Required, BOUND), Pushed::Done);
        assert_eq!(drain(&mut output, 1), [0x82, 3, 7, 7, 7], "the other lane goes on");
    }

    #[test]
    fn a_diff_of_a_lane_passes_behind_half_a_frame_of_another() {
        let mut output = Output::new(2);
        output.push(A, frame(100), Delivery::Required, BOUND);
        let mut left = 50;
        let written = output.write_to(|_| match std::mem::take(&mut left) {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            taken => Ok(taken),
        });
        assert_eq!(written.unwrap(), Written::Part);
        assert_eq!(output.push(B, frame(100), Delivery::Required, BOUND), Pushed::First);
        assert_eq!(drain(&mut output, usize::MAX).len(), 52 + 102);
    }
}
