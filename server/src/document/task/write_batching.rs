//! Write coalescing: delays the frames of a busy document by up to [`GATHER`], so that one write
//! carries the updates of many senders.

use std::time::Duration;

use syncline_protocol::SessionId;
use tokio::time::Instant;

/// How many sessions must send within a [`SPAN`] before frames are delayed. Two people who type to
/// each other never wait.
const CROWD: usize = 3;

/// How many messages they must send in it: one for a key, one for the caret. Ten people who type
/// send as many in a second, and are never delayed.
const BUSY: u32 = 30;

/// The span in which senders are counted.
const SPAN: Duration = Duration::from_millis(100);

/// How long the first frame of a busy document waits for others. Sixty people who type make one
/// every 2 ms for each of them; a person notices nothing below ten times that. The runtime's timer
/// and the system's wait are both rounded up to a millisecond, so it becomes 4 ms at most.
const GATHER: Duration = Duration::from_micros(2_000);

/// Decides whether frames have to wait.
#[derive(Debug)]
pub(super) struct WriteBatching {
    /// Since when frames wait.
    queued_at: Option<Instant>,
    span_began: Instant,
    senders: Vec<SessionId>,
    messages: u32,
    was_crowded: bool,
}

impl WriteBatching {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            queued_at: None,
            span_began: now,
            senders: Vec::new(),
            messages: 0,
            was_crowded: false,
        }
    }

    /// A session has sent a message.
    pub(super) fn received(&mut self, now: Instant, session: SessionId) {
        if now >= self.span_began + SPAN {
            // After a span without messages, the one before it does not count.
            self.was_crowded = self.is_crowded() && now < self.span_began + 2 * SPAN;
            self.span_began = now;
            self.senders.clear();
            self.messages = 0;
        }
        self.messages += 1;
        if self.senders.len() < CROWD && !self.senders.contains(&session) {
            self.senders.push(session);
        }
    }

    /// Frames are queued.
    pub(super) fn queued(&mut self, now: Instant) {
        self.queued_at.get_or_insert(now);
    }

    /// Until when the queued frames wait; None: they do not.
    pub(super) fn wait_until(&self, now: Instant) -> Option<Instant> {
        let at = self.queued_at? + GATHER;
        (at > now && (self.was_crowded || self.is_crowded())).then_some(at)
    }

    /// Everything has been written.
    pub(super) fn flushed(&mut self) {
        self.queued_at = None;
    }

    fn is_crowded(&self) -> bool {
        self.senders.len() >= CROWD && self.messages >= BUSY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn frames_of_two_never_wait_and_those_of_many_do() {
        let start = Instant::now();
        let mut batching = WriteBatching::new(start);
        for ms in 0..1_000 {
            let now = start + ms * MS;
            batching.received(now, SessionId::new(u64::from(ms % 2)));
            batching.queued(now);
            assert_eq!(batching.wait_until(now), None, "{ms}");
            batching.flushed();
        }
        let crowded = start + 1_000 * MS;
        batching.queued(crowded);
        for message in 0..u64::from(BUSY) {
            assert_eq!(batching.wait_until(crowded), None, "{message} messages are no crowd");
            batching.received(crowded, SessionId::new(message % 3));
        }
        assert_eq!(batching.wait_until(crowded + MS), Some(crowded + GATHER));
        batching.queued(crowded + MS);
        assert_eq!(
            batching.wait_until(crowded + MS),
            Some(crowded + GATHER),
            "the first one counts"
        );
        assert_eq!(batching.wait_until(crowded + GATHER), None);
        batching.flushed();
        assert_eq!(batching.wait_until(crowded), None, "nothing is queued");
    }

    #[test]
    fn a_silent_span_ends_the_delay() {
        let start = Instant::now();
        let mut batching = WriteBatching::new(start);
        for message in 0..u64::from(BUSY) {
            batching.received(start, SessionId::new(message % 3));
        }
        let next = start + SPAN;
        batching.received(next, SessionId::new(0));
        batching.queued(next);
        assert!(batching.wait_until(next).is_some(), "it was crowded a moment ago");
        batching.flushed();
        let later = next + SPAN;
        batching.received(later, SessionId::new(0));
        batching.queued(later);
        assert!(batching.wait_until(later).is_none());
    }
}
