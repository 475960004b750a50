//! The clock of documents and sessions.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use syncline_protocol::Timestamp;
use tokio::time::Instant;

/// Wall-clock time that never goes backwards: read once at start, advanced by a monotonic clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    started: Instant,
    started_unix: Duration,
}

impl Clock {
    /// A clock set by the system's.
    #[must_use]
    pub(crate) fn start() -> Self {
        let started_unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started: Instant::now(), started_unix }
    }

    /// The current time.
    #[must_use]
    pub(crate) fn now(&self) -> Timestamp {
        self.at(Instant::now())
    }

    /// The time at the moment `instant`.
    #[must_use]
    pub(crate) fn at(&self, instant: Instant) -> Timestamp {
        let unix = self.started_unix + instant.duration_since(self.started);
        Timestamp::from_unix_ms(u64::try_from(unix.as_millis()).unwrap_or(u64::MAX))
    }

    /// The moment `at` on the runtime's clock, rounded up so that a timer never fires early.
    #[must_use]
    pub(crate) fn instant(&self, at: Timestamp) -> Instant {
        let unix = Duration::from_millis(at.as_unix_ms().saturating_add(1));
        self.started + unix.saturating_sub(self.started_unix)
    }
}

/// The system's time, which may jump; for callers without a [`Clock`].
#[must_use]
pub(crate) fn now() -> Timestamp {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_ms(u64::try_from(unix.as_millis()).unwrap_or(u64::MAX))
}
