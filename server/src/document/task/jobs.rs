//! Jobs of a document on other threads: loads, snapshots, comparisons.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::FutureExt;
use syncline_protocol::Snapshot;
use syncline_protocol::document::{CheckOutcome, Input, SnapshotOutcome};
use syncline_protocol::validate::StateVector;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tracing::{debug, error};

use crate::document::loader::{self, JobOutcome, RecoveryWatch};
use crate::document::task::{DocumentTask, Event};
use crate::metrics::METRICS;
use crate::metrics::labels::{Compared, Outcome};
use crate::quarantine::crash_marker::first_sync;
use crate::services::Services;

/// How often a quarantined document checks whether it was released.
const RELEASE_POLL: Duration = Duration::from_secs(2);

impl DocumentTask {
    pub(super) fn load(&self) -> JoinHandle<JobOutcome> {
        let (services, name) = (Arc::clone(&self.services), self.name.clone());
        self.services.tasks.spawn(async move {
            let policy = loader::open_policy(&services, &name).await;
            let work = {
                let services = Arc::clone(&services);
                move || {
                    let began = Instant::now();
                    let opened = loader::open(&services, &name, policy);
                    METRICS.load_time.time(began.elapsed());
                    let is_loaded = matches!(opened.input, Input::Loaded(_));
                    METRICS.loads.add(Outcome::of(is_loaded), 1);
                    opened
                }
            };
            in_background(services, JobOutcome::nothing(Input::LoadFailed), work).await
        })
    }

    pub(super) fn write_snapshot(
        &self,
        snapshot: Snapshot,
        state_vector: StateVector,
    ) -> JoinHandle<JobOutcome> {
        let (services, name) = (Arc::clone(&self.services), self.name.clone());
        let ended = |outcome| JobOutcome::nothing(Input::SnapshotEnded(outcome));
        self.spawn_blocking(ended(SnapshotOutcome::Failed), move || {
            let began = Instant::now();
            let outcome = loader::write_snapshot(&services, &name, &snapshot, &state_vector);
            METRICS.snapshot_time.time(began.elapsed());
            METRICS.snapshots.add(Outcome::of(outcome == SnapshotOutcome::Written), 1);
            ended(outcome)
        })
    }

    pub(super) fn check(
        &self,
        live: Snapshot,
        state_vector: StateVector,
    ) -> JoinHandle<JobOutcome> {
        let (services, name) = (Arc::clone(&self.services), self.name.clone());
        let ended = |outcome| JobOutcome::nothing(Input::Compared(outcome));
        self.spawn_blocking(ended(CheckOutcome::Unknown), move || {
            let outcome = loader::check(&services, &name, &live, &state_vector);
            METRICS.comparisons.add(Compared::from(&outcome), 1);
            ended(outcome)
        })
    }

    fn spawn_blocking(
        &self,
        on_failure: JobOutcome,
        work: impl FnOnce() -> JobOutcome + Send + 'static,
    ) -> JoinHandle<JobOutcome> {
        self.services.tasks.spawn(in_background(Arc::clone(&self.services), on_failure, work))
    }

    /// A load, snapshot or comparison has ended.
    pub(super) fn job_ended(&mut self, ended: JobOutcome) {
        if let Input::Compared(outcome) = ended.input
            && let Some(check) = self.check.take()
            && check.send(outcome).is_err()
        {
            debug!(document = %self.name, "The scrubber did not wait for this comparison.");
        }
        if let Input::Loaded(_) = ended.input {
            // Their deferred messages would be handled now.
            let closed = self
                .sessions
                .iter()
                .filter(|(_, participant)| participant.live.send_queue.is_closed());
            for session in closed.map(|(&session, _)| session).collect::<Vec<_>>() {
                self.remove(session);
            }
            self.recovery_watch = ended.watch;
            if self.recovery_watch == RecoveryWatch::Release {
                self.await_event(self.released().map(|()| Event::Released));
            }
        }
        let services = Arc::clone(&self.services);
        // Applies deferred messages, first syncs among them.
        let mark = matches!(ended.input, Input::Loaded(_))
            .then(|| services.recovery.mark(&self.name, &first_sync("", &[])));
        self.handle(ended.input);
        self.answer_deferred();
        drop(mark);
    }

    /// Answers deferred messages, each charged to its session.
    fn answer_deferred(&mut self) {
        self.charge(None);
        while let Some(session) = self.document.next_deferred() {
            self.handle(Input::Continue);
            self.charge(Some(session));
        }
        if self.document.state_vector().is_some() {
            self.deferred_permits.clear();
        }
    }

    /// Completes when an operator has released the document.
    pub(super) fn released(&self) -> impl Future<Output = ()> + Send + 'static {
        let (services, name) = (Arc::clone(&self.services), self.name.clone());
        async move {
            loop {
                sleep(RELEASE_POLL).await;
                let (services, name) = (Arc::clone(&services), name.clone());
                let look = move || services.recovery.is_released(&name);
                if matches!(tokio::task::spawn_blocking(look).await, Ok(true)) {
                    return;
                }
            }
        }
    }
}

/// Runs `work` on a thread that may block, once there is a permit for it.
async fn in_background(
    services: Arc<Services>,
    on_failure: JobOutcome,
    work: impl FnOnce() -> JobOutcome + Send + 'static,
) -> JobOutcome {
    let _permit = tokio::select! {
        // The semaphore is never closed.
        permit = services.blocking.acquire() => permit,
        // A stop does not wait for work that has not begun: the log holds everything.
        () = services.draining.cancelled() => return on_failure,
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(ended) => ended,
        Err(failure) => {
            error!(%failure, "Loading, comparing or writing a document panicked.");
            on_failure
        }
    }
}
