//! Effects on the store and on other threads: handed over in order, and tracked.

use futures_util::future::FutureExt;
use futures_util::stream::StreamExt;
use syncline_protocol::Limit;
use syncline_protocol::document::{Input, StoreAvailability};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::WatchStream;

use crate::document::loader::JobOutcome;
use crate::document::task::{DocumentTask, Event, StoreEffect};
use crate::metrics::METRICS;
use crate::store::Record;
use crate::store::writer::{StoreState, TryAppendError, Urgency, WriterStopped};

impl DocumentTask {
    /// Awaits the store's next state, or its first. There is none after the server has stopped.
    pub(super) fn await_store(&self, states: WatchStream<StoreState>) {
        self.await_event(states.into_future().then(|(state, later)| async move {
            match state {
                Some(state) => Event::Store(state, later),
                None => std::future::pending().await,
            }
        }));
    }

    /// Awaits room in the store's queue for the first of `unqueued`. Safe to cancel.
    pub(super) fn await_room(&self) {
        let Some((record, urgency)) = self.unqueued.front().cloned() else { return };
        let (writer, progress) = (self.services.writer.clone(), self.progress.clone());
        self.await_event(
            async move { Event::Queued(writer.append(record, urgency, &progress).await) },
        );
    }

    /// Turns the end of a job into an event.
    fn track_job(&self, job: JoinHandle<JobOutcome>) {
        let failed = |_| JobOutcome::nothing(Input::LoadFailed);
        self.await_event(job.map(move |ended| Event::JobEnded(ended.unwrap_or_else(failed))));
    }

    /// Whether the store takes updates at the moment.
    pub(super) fn store_availability(&self) -> StoreAvailability {
        match self.store_state {
            StoreState::Writable => StoreAvailability::Writable,
            StoreState::Stalled(_) | StoreState::Failed(_) => StoreAvailability::Stalled,
        }
    }

    pub(super) fn stores(&self) -> bool {
        self.store_availability() == StoreAvailability::Writable
    }

    /// Hands an update to the store's queue, or keeps it until there is room.
    fn append(&mut self, record: Record, urgency: Urgency) {
        if !self.unqueued.is_empty() {
            return self.unqueued.push_back((record, urgency));
        }
        match self.services.writer.try_append(record, urgency, &self.progress) {
            Ok(()) => {}
            Err(TryAppendError::Full(record)) => {
                METRICS.hit(Limit::StoreQueueBytes);
                self.unqueued.push_back((record, urgency));
                self.await_room();
            }
            Err(TryAppendError::Stopped(WriterStopped)) => self.writer_stopped(),
        }
    }

    /// The store writer has stopped for good.
    pub(super) fn writer_stopped(&mut self) {
        self.unqueued.clear();
        self.stats.lost();
        self.handle(Input::PersistFailed);
    }

    /// Runs this turn's effects on the store. Returns whether the document is released.
    pub(super) fn run_store_effects(&mut self) -> bool {
        let mut unload = false;
        while let Some(effect) = self.store_effects.pop_front() {
            // Any later effect revokes an unload.
            unload = matches!(effect, StoreEffect::Unload);
            match effect {
                StoreEffect::Append(record, urgency) => self.append(record, urgency),
                StoreEffect::Load => self.track_job(self.load()),
                StoreEffect::Snapshot { snapshot, state_vector } => {
                    self.track_job(self.write_snapshot(snapshot, state_vector));
                }
                StoreEffect::Compare { live, state_vector } => {
                    self.track_job(self.check(live, state_vector));
                }
                StoreEffect::Unload => {}
            }
        }
        if unload && self.draining {
            // The hub admits no session any more: the mailbox closes with the last session's handle,
            // and the task ends.
            self.hub.forget(&self.name);
            return false;
        }
        unload && self.hub.release(&self.name, &self.commands)
    }
}
