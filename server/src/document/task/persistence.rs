//! What a document has to do with its store, and with work on other threads: handed over in order, and
//! awaited.

use futures_util::future::FutureExt;
use futures_util::stream::StreamExt;
use syncline_protocol::Limit;
use syncline_protocol::document::{Input, StoreAvailability};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::WatchStream;

use crate::document::loader::JobOutcome;
use crate::document::task::{DocumentTask, Event, Work};
use crate::metrics::METRICS;
use crate::store::Record;
use crate::store::writer::{StoreState, TryAppendError, Urgency, WriterStopped};

impl DocumentTask {
    /// Awaits the store's next state, or its first. None comes when the server has ended.
    pub(super) fn await_store(&self, states: WatchStream<StoreState>) {
        self.await_event(states.into_future().then(|(state, later)| async move {
            match state {
                Some(state) => Event::Store(state, later),
                None => std::future::pending().await,
            }
        }));
    }

    /// Awaits room in the store's queue for the first of `unsent`. Dropped before there is any,
    /// that does nothing.
    pub(super) fn await_room(&self) {
        let Some((record, urgency)) = self.unsent.front().cloned() else { return };
        let (writer, progress) = (self.hub.writer.clone(), self.progress.clone());
        self.await_event(
            async move { Event::Sent(writer.append(record, urgency, &progress).await) },
        );
    }

    /// Awaits the end of work that has begun.
    fn await_opened(&self, work: JoinHandle<JobOutcome>) {
        let failed = |_| JobOutcome::nothing(Input::LoadFailed);
        self.await_event(work.map(move |opened| Event::Blocking(opened.unwrap_or_else(failed))));
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
        if !self.unsent.is_empty() {
            return self.unsent.push_back((record, urgency));
        }
        match self.hub.writer.try_append(record, urgency, &self.progress) {
            Ok(()) => {}
            Err(TryAppendError::Full(record)) => {
                METRICS.hit(Limit::StoreQueueBytes);
                self.unsent.push_back((record, urgency));
                self.await_room();
            }
            Err(TryAppendError::Stopped(WriterStopped)) => self.stopped(),
        }
    }

    /// The store takes nothing any more.
    pub(super) fn stopped(&mut self) {
        self.unsent.clear();
        self.counting.lost();
        self.handle(Input::PersistFailed);
    }

    /// Carries out what touches the store. Returns whether the document is released.
    pub(super) fn carry_out(&mut self) -> bool {
        let mut unload = false;
        while let Some(work) = self.work.pop_front() {
            // Whatever follows a wish to unload takes it back.
            unload = matches!(work, Work::Unload);
            match work {
                Work::Append(record, urgency) => self.append(record, urgency),
                Work::Load => self.await_opened(self.load()),
                Work::Snapshot { snapshot, state_vector } => {
                    self.await_opened(self.write_snapshot(snapshot, state_vector));
                }
                Work::Compare { live, state_vector } => {
                    self.await_opened(self.check(live, state_vector));
                }
                Work::Unload => {}
            }
        }
        if unload && self.draining {
            // The hub lets nobody in any more: once the last session has let go of the mailbox, it
            // closes, and the task ends.
            self.hub.forget(&self.name);
            return false;
        }
        unload && self.hub.release(&self.name, &self.mail)
    }
}
