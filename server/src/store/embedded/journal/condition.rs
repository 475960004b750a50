//! Whether the journal can be written, for those who must not wait for a write.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use syncline_protocol::Timestamp;
use tracing::{info, warn};

use crate::clock;
use crate::store::embedded::journal::lock;
use crate::store::{AppendError, Health};

/// What is known of the disk.
#[derive(Clone, Debug)]
pub(super) struct WriteHealth(Arc<State>);

#[derive(Debug)]
struct State {
    /// The failure that ended writing.
    failed: OnceLock<String>,
    /// Why the last append was not stored, and since when none is.
    stalled: Mutex<Option<(String, Timestamp)>>,
    /// When each of the calls to the disk began that have not returned.
    busy_since: Mutex<Vec<Instant>>,
    /// How long a call may take before that is worth telling.
    patience: Duration,
}

/// A call to the disk is under way as long as this lives.
#[derive(Debug)]
pub(super) struct Busy(WriteHealth, Instant);

impl WriteHealth {
    pub(super) fn new(patience: Duration) -> Self {
        Self(Arc::new(State {
            failed: OnceLock::new(),
            stalled: Mutex::default(),
            busy_since: Mutex::default(),
            patience,
        }))
    }

    /// Whether nothing has ended writing.
    pub(super) fn check(&self) -> Result<(), AppendError> {
        match self.0.failed.get() {
            None => Ok(()),
            Some(reason) => Err(AppendError::Poisoned { reason: reason.clone() }),
        }
    }

    /// Ends writing. The first failure is the reason.
    pub(super) fn fail(&self, reason: String) {
        drop(self.0.failed.set(reason));
    }

    /// Takes note of how an append went.
    pub(super) fn note(&self, outcome: &Result<(), AppendError>) {
        let mut stalled = lock(&self.0.stalled);
        match outcome {
            Ok(()) if stalled.take().is_some() => info!("The journal takes updates again."),
            Err(AppendError::Stalled { reason }) if stalled.is_none() => {
                warn!(reason, "There is no room for updates; the journal waits for some.");
                *stalled = Some((reason.clone(), clock::now()));
            }
            Ok(()) | Err(_) => {}
        }
    }

    pub(super) fn is_stalled(&self) -> bool {
        lock(&self.0.stalled).is_some()
    }

    pub(super) fn busy(&self) -> Busy {
        let since = Instant::now();
        lock(&self.0.busy_since).push(since);
        Busy(self.clone(), since)
    }

    pub(super) fn health(&self) -> Health {
        if let Some(reason) = self.0.failed.get() {
            return Health::Failed { reason: reason.clone() };
        }
        if let Some((reason, since)) = lock(&self.0.stalled).clone() {
            return Health::Stalled { reason, since };
        }
        let busy = lock(&self.0.busy_since).iter().map(Instant::elapsed).max();
        match busy.filter(|busy| *busy >= self.0.patience) {
            None => Health::Writable,
            Some(busy) => {
                let millis = u64::try_from(busy.as_millis()).unwrap_or(u64::MAX);
                let reason = format!("the disk has not answered for {} s", busy.as_secs());
                let since = clock::now().as_unix_ms().saturating_sub(millis);
                Health::Stalled { reason, since: Timestamp::from_unix_ms(since) }
            }
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut busy_since = lock(&self.0.0.busy_since);
        if let Some(at) = busy_since.iter().position(|since| *since == self.1) {
            busy_since.swap_remove(at);
        }
    }
}
