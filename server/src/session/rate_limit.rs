//! How fast one session may send. Whoever is faster is not read for a while, and TCP slows it down:
//! nothing is lost, and nobody else waits.

use std::time::Duration;

use syncline_protocol::Limit;
use tokio::time::Instant;

use crate::config::limits::{BURST, Limits};

/// What a message, its bytes and the handling of it cost, in time.
#[derive(Debug)]
pub(crate) struct RateLimit {
    message: Duration,
    kib: Duration,
    /// How many times as long as a document worked for the session.
    handling: f64,
    /// When everything heard so far would have been said at the allowed rate.
    due: Instant,
}

impl RateLimit {
    pub(crate) fn new(limits: &Limits, now: Instant) -> Self {
        let each =
            |rate: u64| Duration::from_secs(1) / u32::try_from(rate.max(1)).unwrap_or(u32::MAX);
        Self {
            message: each(limits.messages_per_second),
            kib: each(limits.bytes_per_second / 1_024),
            handling: 1_000.0 / limits.handling_ms_per_second.max(1) as f64,
            due: now,
        }
    }

    /// Counts a message, and how long its document has worked for others of the session meanwhile.
    /// How long nothing more is to be read, if that is now too much.
    pub(crate) fn charge(
        &mut self,
        bytes: usize,
        handled: Duration,
        now: Instant,
    ) -> Option<Instant> {
        let cost = self.message + self.of_bytes(bytes) + handled.mul_f64(self.handling);
        self.due = self.due.max(now) + cost;
        let free = self.due.checked_sub(BURST)?;
        (free > now).then_some(free)
    }

    /// Which limit such a message takes most of.
    pub(crate) fn exceeded(&self, bytes: usize, handled: Duration) -> Limit {
        let costs = [
            (self.message, Limit::MessagesPerSecond),
            (self.of_bytes(bytes), Limit::BytesPerSecond),
            (handled.mul_f64(self.handling), Limit::HandlingMsPerSecond),
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

    fn allowance(now: Instant) -> RateLimit {
        let limits = Limits {
            messages_per_second: 100,
            bytes_per_second: 1_024 * 1_024,
            ..Limits::default()
        };
        RateLimit::new(&limits, now)
    }

    /// How many messages in a row pass before a pause.
    fn burst(allowance: &mut RateLimit, bytes: usize, now: Instant) -> usize {
        (0..1_000_000).find(|_| allowance.charge(bytes, Duration::ZERO, now).is_some()).unwrap()
    }

    #[test]
    fn edge_5_a_burst_passes_and_then_the_rate_holds() {
        let now = Instant::now() + BURST;
        let mut allowance = allowance(now);
        assert_eq!(burst(&mut allowance, 10, now), 1_000);
        let paused = allowance.charge(10, Duration::ZERO, now).unwrap() - now;
        assert!(paused <= Duration::from_millis(20), "{paused:?}");
        // A second earns a hundred; what was used beyond the burst is two of them.
        assert_eq!(burst(&mut allowance, 10, now + Duration::from_secs(1)), 98);
        assert_eq!(burst(&mut allowance, 10, now + Duration::from_secs(3_600)), 1_000);
    }

    #[test]
    fn edge_5_bytes_count_too() {
        let now = Instant::now() + BURST;
        let mut allowance = allowance(now);
        let sent = burst(&mut allowance, 1_024 * 1_024, now);
        assert!((8..=10).contains(&sent), "{sent}");
    }

    #[test]
    fn edge_5_no_honest_client_meets_it() {
        let now = Instant::now() + BURST;
        let mut allowance = RateLimit::new(&Limits::default(), now);
        // A first sync as large as may be, a pasted book, and an hour of 60 keys a second.
        assert_eq!(allowance.charge(8 << 20, Duration::from_millis(500), now), None);
        assert_eq!(allowance.charge(1 << 20, Duration::from_millis(50), now), None);
        for key in 0..60 * 3_600 {
            let at = now + Duration::from_secs(1) / 60 * key;
            assert_eq!(allowance.charge(40, Duration::from_micros(100), at), None);
        }
    }

    #[test]
    fn edge_9_handling_counts_too() {
        let now = Instant::now() + BURST;
        let limits = Limits { handling_ms_per_second: 100, ..Limits::default() };
        let mut allowance = RateLimit::new(&limits, now);
        let tenth = Duration::from_millis(100);
        let passed = (0..100).find(|_| allowance.charge(0, tenth, now).is_some());
        // A second of work is ten seconds' worth, less what ten messages cost.
        assert_eq!(passed, Some(9));
        let paused = allowance.charge(0, tenth, now).unwrap() - now;
        assert!(paused >= Duration::from_secs(1), "{paused:?}");
        assert_eq!(allowance.charge(0, tenth, now + Duration::from_secs(3)), None);
    }
}
