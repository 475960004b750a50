//! The rate limit of one session. A session above its rate is not read for a while, so that TCP slows
//! its client down: nothing is lost, and no other session waits.

use std::time::Duration;

use syncline_protocol::Limit;
use tokio::time::Instant;

use crate::config::limits::{BURST, Limits};

/// A leaky bucket in time: what a message, its bytes, and the document's work for it cost.
#[derive(Debug)]
pub(crate) struct RateLimit {
    message: Duration,
    kib: Duration,
    /// Cost of the document's work, as a multiple of its duration.
    work: f64,
    /// When all messages so far would have arrived at the allowed rate.
    due: Instant,
}

impl RateLimit {
    pub(crate) fn new(limits: &Limits, now: Instant) -> Self {
        let each =
            |rate: u64| Duration::from_secs(1) / u32::try_from(rate.max(1)).unwrap_or(u32::MAX);
        Self {
            message: each(limits.messages_per_second),
            kib: each(limits.bytes_per_second / 1_024),
            work: 1_000.0 / limits.handling_ms_per_second.max(1) as f64,
            due: now,
        }
    }

    /// Charges a message, and the document's `work` for earlier ones. Returns until when nothing more
    /// may be read, if the rate is exceeded.
    pub(crate) fn charge(&mut self, bytes: usize, work: Duration, now: Instant) -> Option<Instant> {
        let cost = self.message + self.of_bytes(bytes) + work.mul_f64(self.work);
        self.due = self.due.max(now) + cost;
        let free = self.due.checked_sub(BURST)?;
        (free > now).then_some(free)
    }

    /// The limit of which such a message takes most.
    pub(crate) fn exceeded(&self, bytes: usize, work: Duration) -> Limit {
        let costs = [
            (self.message, Limit::MessagesPerSecond),
            (self.of_bytes(bytes), Limit::BytesPerSecond),
            (work.mul_f64(self.work), Limit::HandlingMsPerSecond),
        ];
        let most = costs.into_iter().max_by_key(|(cost, _)| *cost);
        most.map_or(Limit::MessagesPerSecond, |(_, limit)| limit)
    }

    fn of_bytes(&self, bytes: usize) -> Duration {
        self.kib.saturating_mul(u32::try_from(bytes / 1_024).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate_limit(now: Instant) -> RateLimit {
        let limits = Limits {
            messages_per_second: 100,
            bytes_per_second: 1_024 * 1_024,
            ..Limits::default()
        };
        RateLimit::new(&limits, now)
    }

    /// How many messages in a row pass before a pause.
    fn burst(rate_limit: &mut RateLimit, bytes: usize, now: Instant) -> usize {
        (0..1_000_000).find(|_| rate_limit.charge(bytes, Duration::ZERO, now).is_some()).unwrap()
    }

    #[test]
    fn edge_5_a_burst_passes_and_then_the_rate_holds() {
        let now = Instant::now() + BURST;
        let mut rate_limit = rate_limit(now);
        assert_eq!(burst(&mut rate_limit, 10, now), 1_000);
        let paused = rate_limit.charge(10, Duration::ZERO, now).unwrap() - now;
        assert!(paused <= Duration::from_millis(20), "{paused:?}");
        // A second earns a hundred; what was used beyond the burst is two of them.
        assert_eq!(burst(&mut rate_limit, 10, now + Duration::from_secs(1)), 98);
        assert_eq!(burst(&mut rate_limit, 10, now + Duration::from_secs(3_600)), 1_000);
    }

    #[test]
    fn edge_5_bytes_count_too() {
        let now = Instant::now() + BURST;
        let mut rate_limit = rate_limit(now);
        let sent = burst(&mut rate_limit, 1_024 * 1_024, now);
        assert!((8..=10).contains(&sent), "{sent}");
    }

    #[test]
    fn edge_5_honest_clients_stay_below_the_limit() {
        let now = Instant::now() + BURST;
        let mut rate_limit = RateLimit::new(&Limits::default(), now);
        // A first sync as large as may be, a pasted book, and an hour of 60 keys a second.
        assert_eq!(rate_limit.charge(8 << 20, Duration::from_millis(500), now), None);
        assert_eq!(rate_limit.charge(1 << 20, Duration::from_millis(50), now), None);
        for key in 0..60 * 3_600 {
            let at = now + Duration::from_secs(1) / 60 * key;
            assert_eq!(rate_limit.charge(40, Duration::from_micros(100), at), None);
        }
    }

    #[test]
    fn edge_9_the_documents_work_counts_too() {
        let now = Instant::now() + BURST;
        let limits = Limits { handling_ms_per_second: 100, ..Limits::default() };
        let mut rate_limit = RateLimit::new(&limits, now);
        let tenth = Duration::from_millis(100);
        let passed = (0..100).find(|_| rate_limit.charge(0, tenth, now).is_some());
        // A second of work is ten seconds' worth, less what ten messages cost.
        assert_eq!(passed, Some(9));
        let paused = rate_limit.charge(0, tenth, now).unwrap() - now;
        assert!(paused >= Duration::from_secs(1), "{paused:?}");
        assert_eq!(rate_limit.charge(0, tenth, now + Duration::from_secs(3)), None);
    }
}
