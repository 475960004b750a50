//! What the messages of one session cost its document in time. A message that takes long is handled
//! alone: until it is, the session's next one of that kind is not handed over, so that whoever shares
//! the document waits for one and not for a mailbox full of them. All of it is charged to the
//! session's allowance.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use syncline_protocol::wire::ClientMessage;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::limits::{HEAVY_BYTES, HEAVY_TIME};

/// Less is not worth telling another thread of.
const WORTH_TELLING: Duration = Duration::from_millis(1);

/// A heavy message of the session has not been handled yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Busy;

/// One session's account, shared by its document, which fills it, and its connection, which pays.
#[derive(Debug)]
pub(crate) struct CpuBudget {
    nanos: AtomicU64,
    /// Whether the last message that was handled took long.
    is_slow: AtomicBool,
    /// One permit: the turn of a heavy message.
    turn: Arc<Semaphore>,
}

impl Default for CpuBudget {
    fn default() -> Self {
        let turn = Arc::new(Semaphore::new(1));
        Self { nanos: AtomicU64::new(0), is_slow: AtomicBool::new(false), turn }
    }
}

impl CpuBudget {
    /// What was spent since this was asked last.
    pub(crate) fn take(&self) -> Duration {
        // The write, for which the document's thread would have to wait, is rarely needed.
        if self.nanos.load(Ordering::Relaxed) == 0 {
            return Duration::ZERO;
        }
        Duration::from_nanos(self.nanos.swap(0, Ordering::Relaxed))
    }

    /// The turn of a message that need not wait for one. It goes with the message; None for a light
    /// one, which needs none.
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
            // It fails only when the semaphore is closed, which nobody does.
            Err(Busy) => Arc::clone(&self.turn).acquire_owned().await.ok(),
        }
    }

    /// Questions make the document encode itself; everything else grows with its bytes, unless the
    /// session has shown otherwise.
    fn is_heavy(&self, message: &ClientMessage) -> bool {
        matches!(message, ClientMessage::SyncStep1 { .. })
            || message.payload_len() > HEAVY_BYTES
            || self.is_slow.load(Ordering::Relaxed)
    }
}

/// The document's side of it: adds up what is too little to be told.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    untold: Duration,
    was_slow: bool,
}

impl Meter {
    /// A message took so long.
    pub(crate) fn took(&mut self, time: Duration, account: &CpuBudget) {
        let is_slow = time >= HEAVY_TIME;
        if is_slow != self.was_slow {
            self.was_slow = is_slow;
            account.is_slow.store(is_slow, Ordering::Relaxed);
        }
        self.untold += time;
        if self.untold >= WORTH_TELLING {
            let nanos = u64::try_from(self.untold.as_nanos()).unwrap_or(u64::MAX);
            self.untold = Duration::ZERO;
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
    fn edge_9_one_heavy_message_waits_for_the_other_and_no_light_one_does() {
        let account = CpuBudget::default();
        let turn = |message: ClientMessage| account.turn(&message).now_or_never();
        let first = turn(question()).expect("nobody is before it");
        assert!(first.is_some());
        assert!(turn(question()).is_none(), "it waits");
        assert!(turn(update(HEAVY_BYTES + 1)).is_none(), "it waits");
        assert!(turn(update(HEAVY_BYTES)).expect("it does not wait").is_none());
        drop(first);
        assert!(turn(question()).expect("the first is done").is_some());
    }

    #[test]
    fn edge_9_a_session_whose_messages_take_long_has_one_of_them_handled_at_a_time() {
        let (account, mut meter) = (CpuBudget::default(), Meter::default());
        meter.took(HEAVY_TIME, &account);
        let first = account.turn(&update(1)).now_or_never().expect("nobody is before it");
        assert!(first.is_some());
        assert!(account.turn(&update(1)).now_or_never().is_none(), "it waits");
        meter.took(Duration::from_micros(10), &account);
        assert!(account.turn(&update(1)).now_or_never().is_some_and(|turn| turn.is_none()));
    }
}
