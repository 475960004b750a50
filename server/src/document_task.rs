//! Drives one document: mail and completions in, effects out.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use syncline_protocol::document::{
    CheckOutcome, Delivery, Document, Effect, Input, LoadedDocument, SnapshotOutcome, compare,
    verify_snapshot,
};
use syncline_protocol::gate::StateVector;
use syncline_protocol::{Close, CloseCode, DocumentName, Sequence, SessionId, Snapshot, Timestamp};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::sleep_until;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::WatchStream;
use tracing::{debug, error, info, warn};

use crate::hub::{Hub, Mail};
use crate::limits::MAIL_BATCH;
use crate::outbox::{Outbox, Pushed};
use crate::store::writer::{Durable, Progress, StoreState};
use crate::store::{Generation, LoadError, Record};

/// The one task that touches a document.
pub(crate) struct DocumentTask {
    hub: Arc<Hub>,
    name: DocumentName,
    document: Document,
    mail: mpsc::Receiver<Mail>,
    sessions: BTreeMap<SessionId, Seat>,
    progress: Progress,
    durable: WatchStream<Durable>,
    store_state: WatchStream<StoreState>,
    /// The load, snapshot or comparison under way. A document does one of them at a time.
    blocking: Option<JoinHandle<Input>>,
    work: Vec<Work>,
    draining: bool,
}

/// An effect that touches the store, and so may have to wait.
enum Work {
    Load,
    Append(Record),
    Snapshot { snapshot: Snapshot, known: StateVector },
    Compare { live: Snapshot, known: StateVector },
    Unload,
}

struct Seat {
    outbox: Arc<Outbox>,
    author: Arc<str>,
}

enum Event {
    Mail(usize),
    Durable(Durable),
    Store(StoreState),
    Blocking(Input),
    Deadline,
    Drain,
}

impl DocumentTask {
    pub(crate) fn new(hub: Arc<Hub>, name: DocumentName, mail: mpsc::Receiver<Mail>) -> Self {
        let document = Document::new(hub.limits.for_document());
        let (progress, durable) = Progress::new(Sequence::ZERO);
        let store_state = WatchStream::new(hub.writer.state());
        Self {
            hub,
            name,
            document,
            mail,
            sessions: BTreeMap::new(),
            progress,
            durable: WatchStream::from_changes(durable),
            store_state,
            blocking: None,
            work: Vec::new(),
            draining: false,
        }
    }

    /// Runs until the document is released. A panic ends this document only: its mailbox closes,
    /// its connections tell their clients to come back, and the next one loads it afresh.
    pub(crate) async fn run(mut self) {
        if AssertUnwindSafe(self.drive()).catch_unwind().await.is_err() {
            error!(document = %self.name, "A document's task panicked; its clients reconnect.");
            self.hub.forget(&self.name);
        }
    }

    async fn drive(&mut self) {
        let hub = Arc::clone(&self.hub);
        let mut batch = Vec::with_capacity(MAIL_BATCH);
        loop {
            let event = tokio::select! {
                biased;
                Some(durable) = self.durable.next() => Event::Durable(durable),
                Some(state) = self.store_state.next() => Event::Store(state),
                () = hub.draining.cancelled(), if !self.draining => Event::Drain,
                input = ended(&mut self.blocking) => Event::Blocking(input),
                // Before the mail, which may never end.
                () = until(&hub, self.document.next_deadline()) => Event::Deadline,
                received = self.mail.recv_many(&mut batch, MAIL_BATCH) => Event::Mail(received),
            };
            match event {
                // Every sender is gone, and the hub's own goes last.
                Event::Mail(0) => return,
                Event::Mail(_) => batch.drain(..).for_each(|mail| self.deliver(mail)),
                Event::Durable(Durable::Through(through)) => {
                    self.handle(Input::Persisted { through });
                }
                // What a stall holds up is stored when it has passed.
                Event::Store(StoreState::Writable | StoreState::Stalled(_)) => {}
                Event::Durable(Durable::Failed(reason))
                | Event::Store(StoreState::Failed(reason)) => {
                    error!(document = %self.name, reason, "Updates could not be stored.");
                    self.handle(Input::PersistFailed);
                }
                Event::Blocking(input) => {
                    self.blocking = None;
                    self.handle(input);
                }
                Event::Deadline => self.handle(Input::Deadline),
                Event::Drain => {
                    self.draining = true;
                    self.handle(Input::Drain);
                }
            }
            if self.carry_out().await {
                return;
            }
        }
    }

    fn deliver(&mut self, mail: Mail) {
        match mail {
            Mail::Join { session, grant, dialect, epoch, outbox } => {
                let seat = Seat { outbox, author: grant.identity };
                self.sessions.insert(session, seat);
                self.handle(Input::Joined { session, access: grant.access, dialect, epoch });
            }
            Mail::Message { session, message, room } => {
                self.handle(Input::Received { session, message });
                drop(room);
            }
            Mail::Drained { session } => {
                if let Some(seat) = self.sessions.get(&session) {
                    seat.outbox.reopen();
                }
                self.handle(Input::Drained { session });
            }
            Mail::Leave { session } => {
                self.sessions.remove(&session);
                self.handle(Input::Left { session });
            }
        }
    }

    /// Applies an input and sends what it asks for. What touches the store is left for `carry_out`,
    /// so a burst of updates reaches its readers before the store is asked for room.
    fn handle(&mut self, input: Input) {
        let now = self.hub.clock.now();
        let mut effects = Vec::new();
        self.document.handle(now, input, &mut effects);
        let mut overflowed = Vec::new();
        for effect in effects {
            match effect {
                Effect::Send { to, frame, delivery } => {
                    if self.send(to, frame, delivery) == Pushed::Overflowed {
                        overflowed.push(to);
                    }
                }
                Effect::Close { session, close } => self.close(session, close),
                Effect::Append { sequence, update, session } => {
                    let author = self.sessions.get(&session).map(|seat| Arc::clone(&seat.author));
                    self.work.push(Work::Append(Record {
                        document: self.name.clone(),
                        sequence,
                        time: now,
                        author: author.unwrap_or_default(),
                        update,
                    }));
                }
                Effect::Load => self.work.push(Work::Load),
                Effect::Snapshot { snapshot, known } => {
                    self.work.push(Work::Snapshot { snapshot, known });
                }
                Effect::Compare { live, known } => self.work.push(Work::Compare { live, known }),
                Effect::Quarantine { cause } => {
                    error!(document = %self.name, cause, "A document gave itself up.");
                }
                Effect::Unload => self.work.push(Work::Unload),
            }
        }
        for session in overflowed {
            debug!(document = %self.name, %session, "A session fell behind.");
            self.handle(Input::Overflowed { session });
        }
    }

    fn send(&self, to: SessionId, frame: Bytes, delivery: Delivery) -> Pushed {
        self.sessions.get(&to).map_or(Pushed::Done, |seat| seat.outbox.push(frame, delivery))
    }

    fn close(&mut self, session: SessionId, close: Close) {
        let Some(seat) = self.sessions.remove(&session) else { return };
        if close.code != CloseCode::Draining {
            info!(
                document = %self.name, %session, code = close.code.word(), text = close.text,
                "Closing a session."
            );
        }
        seat.outbox.close(close);
    }

    /// Carries out what touches the store. Returns whether the document is released.
    async fn carry_out(&mut self) -> bool {
        let mut unload = false;
        while !self.work.is_empty() {
            for work in std::mem::take(&mut self.work) {
                // Whatever follows a wish to unload takes it back.
                unload = matches!(work, Work::Unload);
                match work {
                    Work::Append(record) => {
                        if self.hub.writer.append(record, &self.progress).await.is_err() {
                            self.handle(Input::PersistFailed);
                        }
                    }
                    Work::Load => self.blocking = Some(self.load()),
                    Work::Snapshot { snapshot, known } => {
                        self.blocking = Some(self.write_snapshot(snapshot, known));
                    }
                    Work::Compare { live, known } => {
                        self.blocking = Some(self.compare(live, known));
                    }
                    Work::Unload => {}
                }
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

    fn load(&self) -> JoinHandle<Input> {
        let hub = Arc::clone(&self.hub);
        let name = self.name.clone();
        self.spawn_blocking(Input::LoadFailed, move || match load(&hub, &name) {
            Ok(loaded) => Input::Loaded(Box::new(loaded)),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                error!(document = %name, error, "A document could not be loaded.");
                Input::LoadFailed
            }
        })
    }

    fn write_snapshot(&self, snapshot: Snapshot, known: StateVector) -> JoinHandle<Input> {
        let hub = Arc::clone(&self.hub);
        let name = self.name.clone();
        let failed = Input::SnapshotEnded(SnapshotOutcome::Failed);
        self.spawn_blocking(failed, move || {
            if let Err(error) = verify_snapshot(&snapshot, &known, &hub.limits.for_document()) {
                error!(document = %name, %error, "A snapshot failed its check and was not kept.");
                return Input::SnapshotEnded(SnapshotOutcome::Failed);
            }
            match hub.store.write_snapshot(&name, &snapshot) {
                Ok(()) => Input::SnapshotEnded(SnapshotOutcome::Written),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    warn!(document = %name, error, "A snapshot could not be written.");
                    Input::SnapshotEnded(SnapshotOutcome::Failed)
                }
            }
        })
    }

    fn compare(&self, live: Snapshot, known: StateVector) -> JoinHandle<Input> {
        let hub = Arc::clone(&self.hub);
        let name = self.name.clone();
        self.spawn_blocking(Input::Compared(CheckOutcome::Unknown), move || {
            let stored = match hub.store.load(&name, Generation::Newest) {
                Ok(stored) => stored,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    error!(document = %name, error, "A document's log could not be read.");
                    return Input::Compared(CheckOutcome::Unknown);
                }
            };
            match compare(&live, &known, &stored, &hub.limits.for_document()) {
                Ok(()) => Input::Compared(CheckOutcome::Same),
                Err(error) => {
                    error!(document = %name, %error, "A document differs from its log.");
                    Input::Compared(CheckOutcome::Different)
                }
            }
        })
    }

    fn spawn_blocking(
        &self,
        on_failure: Input,
        work: impl FnOnce() -> Input + Send + 'static,
    ) -> JoinHandle<Input> {
        let hub = Arc::clone(&self.hub);
        self.hub.tasks.spawn(async move {
            let _permit = tokio::select! {
                // The semaphore is never closed, so this only ever waits.
                permit = hub.blocking.acquire() => permit,
                // A stop does not wait for work that has not begun: the log holds everything.
                () = hub.draining.cancelled() => return on_failure,
            };
            match tokio::task::spawn_blocking(work).await {
                Ok(input) => input,
                Err(failure) => {
                    error!(%failure, "Loading, comparing or writing a document panicked.");
                    on_failure
                }
            }
        })
    }
}

/// Why a stored document could not be opened.
#[derive(Debug, thiserror::Error)]
enum OpenDocumentError {
    #[error("it cannot be read")]
    Read(#[source] LoadError),
    #[error("neither its newest snapshot nor the one before can be replayed")]
    Replay(#[source] syncline_protocol::document::replay::DecodeError),
}

fn load(hub: &Hub, name: &DocumentName) -> Result<LoadedDocument, OpenDocumentError> {
    let limits = hub.limits.for_document();
    let read = |generation| hub.store.load(name, generation).map_err(OpenDocumentError::Read);
    let stored = read(Generation::Newest)?;
    LoadedDocument::decode(&stored, &limits).or_else(|error| {
        warn!(document = %name, %error, "The newest snapshot is unusable; trying the one before.");
        let stored = read(Generation::Previous)?;
        LoadedDocument::decode(&stored, &limits).map_err(OpenDocumentError::Replay)
    })
}

async fn ended(blocking: &mut Option<JoinHandle<Input>>) -> Input {
    match blocking {
        Some(work) => work.await.unwrap_or(Input::LoadFailed),
        None => std::future::pending().await,
    }
}

async fn until(hub: &Hub, deadline: Option<Timestamp>) {
    match deadline {
        Some(at) => sleep_until(hub.clock.instant(at)).await,
        None => std::future::pending().await,
    }
}
