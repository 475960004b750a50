//! When the frames of a document are written: at once, or together with what others write in the
//! next moment.

use std::time::Duration;

use syncline_protocol::SessionId;
use tokio::time::Instant;

/// How many sessions must have spoken within a [`SPAN`] to make a crowd. Two people who type to
/// each other never wait.
const CROWD: usize = 3;

/// How many messages they must have sent in it, a key and a caret each. Ten people who type send as
/// many in a second, and would wait for nobody.
const BUSY: u32 = 30;

/// The span in which speakers are counted.
const SPAN: Duration = Duration::from_millis(100);

/// How long the first frame for a crowded document waits for others. Sixty people who type make one
/// every 2 ms for each of them; a person notices nothing below ten times that. The runtime's timer
/// and the system's wait are both rounded up to a millisecond, so it becomes 4 ms at most.
const GATHER: Duration = Duration::from_micros(2_000);

/// Tells whether frames have to wait.
#[derive(Debug)]
pub(super) struct WriteBatching {
    /// Since when frames wait.
    queued_at: Option<Instant>,
    span_began: Instant,
    speakers: Vec<SessionId>,
    messages: u32,
    was_crowded: bool,
}

impl WriteBatching {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            queued_at: None,
            span_began: now,
            speakers: Vec::new(),
            messages: 0,
            was_crowded: false,
        }
    }

    /// A session has said something.
    pub(super) fn heard(&mut self, now: Instant, session: SessionId) {
        if now >= self.span_began + SPAN {
            // A span that nobody spoke in is not kept: the one before the silence is over.
            self.was_crowded = self.is_crowded() && now < self.span_began + 2 * SPAN;
            self.span_began = now;
            self.speakers.clear();
            self.messages = 0;
        }
        self.messages += 1;
        if self.speakers.len() < CROWD && !self.speakers.contains(&session) {
            self.speakers.push(session);
        }
    }

    /// Frames are queued.
    pub(super) fn queued(&mut self, now: Instant) {
        self.queued_at.get_or_insert(now);
    }

    /// Until when the frames that are queued are to wait; None: not any more.
    pub(super) fn wait_until(&self, now: Instant) -> Option<Instant> {
        let at = self.queued_at? + GATHER;
        (at > now && (self.was_crowded || self.is_crowded())).then_some(at)
    }

    /// Everything has been written.
    pub(super) fn flushed(&mut self) {
        self.queued_at = None;
    }

    fn is_crowded(&self) -> bool {
        self.speakers.len() >= CROWD && self.messages >= BUSY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn two_never_wait_and_a_crowd_does_for_a_moment() {
        let start = Instant::now();
        let mut pace = WriteBatching::new(start);
        for ms in 0..1_000 {
            let now = start + ms * MS;
            pace.heard(now, SessionId::new(u64::from(ms % 2)));
            pace.queued(now);
            assert_eq!(pace.wait_until(now), None, "{ms}");
            pace.flushed();
        }
        let crowded = start + 1_000 * MS;
        pace.queued(crowded);
        for message in 0..u64::from(BUSY) {
            assert_eq!(pace.wait_until(crowded), None, "{message} messages are no crowd");
            pace.heard(crowded, SessionId::new(message % 3));
        }
        assert_eq!(pace.wait_until(crowded + MS), Some(crowded + GATHER));
        pace.queued(crowded + MS);
        assert_eq!(pace.wait_until(crowded + MS), Some(crowded + GATHER), "the first one counts");
        assert_eq!(pace.wait_until(crowded + GATHER), None);
        pace.flushed();
        assert_eq!(pace.wait_until(crowded), None, "nothing is queued");
    }

    #[test]
    fn a_crowd_is_forgotten_when_it_falls_silent() {
        let start = Instant::now();
        let mut pace = WriteBatching::new(start);
        for message in 0..u64::from(BUSY) {
            pace.heard(start, SessionId::new(message % 3));
        }
        let next = start + SPAN;
        pace.heard(next, SessionId::new(0));
        pace.queued(next);
        assert!(pace.wait_until(next).is_some(), "it was crowded a moment ago");
        pace.flushed();
        let later = next + SPAN;
        pace.heard(later, SessionId::new(0));
        pace.queued(later);
        assert!(pace.wait_until(later).is_none());
    }
}
