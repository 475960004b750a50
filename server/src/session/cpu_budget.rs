//! Per-session CPU accounting. The document measures the time that it spends on a session's messages,
//! and the connection charges it to the session's rate. A heavy message is in the mailbox alone: the
//! session's next one waits until it is handled, so other sessions wait for one and not for a mailbox
//! full of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use syncline_protocol::wire::ClientMessage;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::limits::{HEAVY_BYTES, HEAVY_TIME};

/// The meter reports in steps of this: an atomic write for less costs more than it measures.
const REPORTED: Duration = Duration::from_millis(1);

/// The session's previous heavy message is not handled yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Busy;

/// One session's account: its document adds to it, its connection takes from it.
#[derive(Debug)]
pub(crate) struct CpuBudget {
    nanos: AtomicU64,
    /// Whether the last message took [`HEAVY_TIME`] or longer.
    is_slow: AtomicBool,
    /// One permit, held by the heavy message in the mailbox.
    turn: Arc<Semaphore>,
}

impl Default for CpuBudget {
    fn default() -> Self {
        let turn = Arc::new(Semaphore::new(1));
        Self { nanos: AtomicU64::new(0), is_slow: AtomicBool::new(false), turn }
    }
}

impl CpuBudget {
    /// The time spent since the last call.
    pub(crate) fn take(&self) -> Duration {
        // A write would make the document's thread wait for the cache line, and is rarely needed.
        if self.nanos.load(Ordering::Relaxed) == 0 {
            return Duration::ZERO;
        }
        Duration::from_nanos(self.nanos.swap(0, Ordering::Relaxed))
    }

    /// The turn of a message, which travels with it; `None` for a light one, which needs no turn.
    pub(crate) fn try_turn(
        &self,
        message: &ClientMessage,
    ) -> Result<Option<OwnedSemaphorePermit>, Busy> {
        if !self.is_heavy(message) {
            return Ok(None);
        }
        Arc::clone(&self.turn).try_acquire_owned().map(Some).map_err(|_| Busy)
    }

    /// Waits until the heavy messages of the session before this one have been handled.
    pub(crate) async fn turn(&self, message: &ClientMessage) -> Option<OwnedSemaphorePermit> {
        match self.try_turn(message) {
            Ok(turn) => turn,
            // Fails only on a closed semaphore, and this one is never closed.
            Err(Busy) => Arc::clone(&self.turn).acquire_owned().await.ok(),
        }
    }

    /// A SyncStep1 makes the document encode its state. The cost of other messages grows with their
    /// bytes, unless the session's last one was slow.
    fn is_heavy(&self, message: &ClientMessage) -> bool {
        matches!(message, ClientMessage::SyncStep1 { .. })
            || message.payload_len() > HEAVY_BYTES
            || self.is_slow.load(Ordering::Relaxed)
    }
}

/// The document's side: adds up times that are too short to report.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    unreported: Duration,
    was_slow: bool,
}

impl Meter {
    /// Adds the time of one message.
    pub(crate) fn took(&mut self, time: Duration, account: &CpuBudget) {
        let is_slow = time >= HEAVY_TIME;
        if is_slow != self.was_slow {
            self.was_slow = is_slow;
            account.is_slow.store(is_slow, Ordering::Relaxed);
        }
        self.unreported += time;
        if self.unreported >= REPORTED {
            let nanos = u64::try_from(self.unreported.as_nanos()).unwrap_or(u64::MAX);
            self.unreported = Duration::ZERO;
            account.nanos.fetch_add(nanos, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::FutureExt;

    use super::*;

    fn update(bytes: usize) -> ClientMessage {
        ClientMessage::Update { update: vec![0; bytes].into() }
    }

    fn question() -> ClientMessage {
        ClientMessage::SyncStep1 { state_vector: Bytes::from_static(&[0]) }
    }

    #[test]
    fn edge_9_time_adds_up_and_is_charged_once() {
        let (account, mut meter) = (CpuBudget::default(), Meter::default());
        meter.took(Duration::from_micros(600), &account);
        assert_eq!(account.take(), Duration::ZERO);
        meter.took(Duration::from_micros(600), &account);
        meter.took(Duration::from_millis(5), &account);
        assert_eq!(account.take(), Duration::from_micros(6_200));
        assert_eq!(account.take(), Duration::ZERO);
    }

    #[test]
    fn edge_9_heavy_messages_wait_for_each_other() {
        let account = CpuBudget::default();
        let turn = |message: ClientMessage| account.turn(&message).now_or_never();
        let first = turn(question()).expect("none is before it");
        assert!(first.is_some());
        assert!(turn(question()).is_none(), "it waits");
        assert!(turn(update(HEAVY_BYTES + 1)).is_none(), "it waits");
        assert!(turn(update(HEAVY_BYTES)).expect("it does not wait").is_none());
        drop(first);
        assert!(turn(question()).expect("the first is done").is_some());
    }

    #[test]
    fn edge_9_a_slow_session_has_one_message_in_the_mailbox() {
        let (account, mut meter) = (CpuBudget::default(), Meter::default());
        meter.took(HEAVY_TIME, &account);
        let first = account.turn(&update(1)).now_or_never().expect("none is before it");
        assert!(first.is_some());
        assert!(account.turn(&update(1)).now_or_never().is_none(), "it waits");
        meter.took(Duration::from_micros(10), &account);
        assert!(account.turn(&update(1)).now_or_never().is_some_and(|turn| turn.is_none()));
    }
}
