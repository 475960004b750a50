//! Drives one document: mail and completions in, effects out.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use syncline_protocol::document::{
    CheckOutcome, Delivery, Document, Effect, Input, Limits, SnapshotOutcome,
};
use syncline_protocol::gate::StateVector;
use syncline_protocol::wire::ClientMessage;
use syncline_protocol::{Close, CloseCode, DocumentName, Sequence, SessionId, Snapshot, Timestamp};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{sleep, sleep_until};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::WatchStream;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, error, info};

use crate::hub::{Hub, Mail};
use crate::in_flight::first_sync;
use crate::limits::MAIL_BATCH;
use crate::outbox::{Outbox, Pushed};
use crate::store::Record;
use crate::store::writer::{Durable, Progress, StoreState};
use crate::stored_document::{self, Opened, Watch};

/// How often a document in quarantine looks whether it has been released.
const RELEASE_POLL: Duration = Duration::from_secs(2);

/// The one task that touches a document.
pub(crate) struct DocumentTask {
    hub: Arc<Hub>,
    name: DocumentName,
    document: Document,
    mail: mpsc::Receiver<Mail>,
    sessions: BTreeMap<SessionId, Seat>,
    progress: Progress,
    durable: WatchStream<Durable>,
    store: WatchStream<StoreState>,
    /// The load, snapshot or comparison under way. A document does one of them at a time.
    blocking: Option<JoinHandle<Opened>>,
    /// Who wants to hear how the comparison with the log ends.
    check: Option<oneshot::Sender<CheckOutcome>>,
    watch: Watch,
    /// Ends when an operator has released the document from quarantine.
    release: Option<AbortOnDropHandle<()>>,
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
    /// Whether its first SyncStep2 has been applied, and the process is still there.
    synced: bool,
}

enum Event {
    Mail(usize),
    Durable(Durable),
    Store(StoreState),
    Blocking(Opened),
    Released,
    Deadline,
    Drain,
}

impl DocumentTask {
    pub(crate) fn new(hub: Arc<Hub>, name: DocumentName, mail: mpsc::Receiver<Mail>) -> Self {
        let limits = Limits { durability: hub.store.durability(), ..hub.limits.for_document() };
        let document = Document::new(limits);
        let (progress, durable) = Progress::new(Sequence::ZERO);
        let store = WatchStream::new(hub.writer.state());
        Self {
            hub,
            name,
            document,
            mail,
            sessions: BTreeMap::new(),
            progress,
            durable: WatchStream::from_changes(durable),
            store,
            blocking: None,
            check: None,
            watch: Watch::Nothing,
            release: None,
            work: Vec::new(),
            draining: false,
        }
    }

    /// Runs until the document is released. A panic ends this document only: its mailbox closes,
    /// its connections tell their clients to come back, and they find it in quarantine.
    pub(crate) async fn run(mut self) {
        if AssertUnwindSafe(self.drive()).catch_unwind().await.is_err() {
            self.hub.trouble.quarantine(&self.name, "the task that served it panicked");
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
                Some(state) = self.store.next() => Event::Store(state),
                () = hub.draining.cancelled(), if !self.draining => Event::Drain,
                opened = ended(&mut self.blocking) => Event::Blocking(opened),
                () = released(&mut self.release) => Event::Released,
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
                Event::Durable(Durable::Failed(reason)) => {
                    error!(document = %self.name, reason, "Updates could not be stored.");
                    self.handle(Input::PersistFailed);
                }
                Event::Store(StoreState::Writable) => self.handle(Input::StoreResumed),
                Event::Store(StoreState::Stalled(_) | StoreState::Failed(_)) => {
                    self.handle(Input::StoreStalled);
                }
                Event::Blocking(opened) => self.opened(opened),
                Event::Released => {
                    info!(document = %self.name, "Released from quarantine; opened afresh.");
                    self.hub.forget(&self.name);
                    return;
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

    fn opened(&mut self, opened: Opened) {
        self.blocking = None;
        if let Input::Compared(outcome) = opened.input
            && let Some(check) = self.check.take()
            && check.send(outcome).is_err()
        {
            debug!(document = %self.name, "The sampler has gone on without an answer.");
        }
        if let Input::Loaded(_) = opened.input {
            self.watch = opened.watch;
            self.release = (self.watch == Watch::Release).then(|| self.await_release());
        }
        self.handle(opened.input);
    }

    fn deliver(&mut self, mail: Mail) {
        match mail {
            Mail::Join { session, grant, dialect, epoch, outbox } => {
                let seat = Seat { outbox, author: grant.identity, synced: false };
                self.sessions.insert(session, seat);
                self.handle(Input::Joined { session, access: grant.access, dialect, epoch });
            }
            Mail::Message { session, message, room } => {
                self.receive(session, message);
                drop(room);
            }
            Mail::Check { done } => {
                self.check = Some(done);
                self.handle(Input::Check);
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

    /// Until a session's first sync is done, what it sends may be what ended a process before.
    fn receive(&mut self, session: SessionId, message: ClientMessage) {
        let is_sync = matches!(message, ClientMessage::SyncStep2 { .. });
        let author = match self.sessions.get_mut(&session) {
            Some(seat) if is_sync && !seat.synced => {
                seat.synced = true;
                Arc::clone(&seat.author)
            }
            Some(_) | None => return self.handle(Input::Received { session, message }),
        };
        let hub = Arc::clone(&self.hub);
        let mark = hub.trouble.mark_first_sync(&self.name, &author);
        self.handle(Input::Received { session, message });
        drop(mark);
        if self.watch == Watch::Suspect(first_sync(&author)) {
            self.watch = Watch::Nothing;
            let name = self.name.clone();
            hub.clone().tasks.spawn_blocking(move || hub.trouble.clear(&name));
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
                        self.blocking = Some(self.check(live, known));
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

    fn load(&self) -> JoinHandle<Opened> {
        let hub = Arc::clone(&self.hub);
        let name = self.name.clone();
        let work = move || stored_document::open(&hub, &name);
        self.spawn_blocking(Opened::nothing(Input::LoadFailed), work)
    }

    fn write_snapshot(&self, snapshot: Snapshot, known: StateVector) -> JoinHandle<Opened> {
        let hub = Arc::clone(&self.hub);
        let name = self.name.clone();
        let ended = |outcome| Opened::nothing(Input::SnapshotEnded(outcome));
        self.spawn_blocking(ended(SnapshotOutcome::Failed), move || {
            ended(stored_document::write_snapshot(&hub, &name, &snapshot, &known))
        })
    }

    fn check(&self, live: Snapshot, known: StateVector) -> JoinHandle<Opened> {
        let hub = Arc::clone(&self.hub);
        let name = self.name.clone();
        let ended = |outcome| Opened::nothing(Input::Compared(outcome));
        self.spawn_blocking(ended(CheckOutcome::Unknown), move || {
            ended(stored_document::check(&hub, &name, &live, &known))
        })
    }

    fn await_release(&self) -> AbortOnDropHandle<()> {
        let hub = Arc::clone(&self.hub);
        let name = self.name.clone();
        AbortOnDropHandle::new(self.hub.tasks.spawn(async move {
            loop {
                sleep(RELEASE_POLL).await;
                let (hub, name) = (Arc::clone(&hub), name.clone());
                let look = move || hub.trouble.is_released(&name);
                if matches!(tokio::task::spawn_blocking(look).await, Ok(true)) {
                    return;
                }
            }
        }))
    }

    fn spawn_blocking(
        &self,
        on_failure: Opened,
        work: impl FnOnce() -> Opened + Send + 'static,
    ) -> JoinHandle<Opened> {
        let hub = Arc::clone(&self.hub);
        self.hub.tasks.spawn(async move {
            let _permit = tokio::select! {
                // The semaphore is never closed, so this only ever waits.
                permit = hub.blocking.acquire() => permit,
                // A stop does not wait for work that has not begun: the log holds everything.
                () = hub.draining.cancelled() => return on_failure,
            };
            match tokio::task::spawn_blocking(work).await {
                Ok(opened) => opened,
                Err(failure) => {
                    error!(%failure, "Loading, comparing or writing a document panicked.");
                    on_failure
                }
            }
        })
    }
}

async fn released(release: &mut Option<AbortOnDropHandle<()>>) {
    match release {
        // Aborted only with the task itself.
        Some(release) => drop(release.await),
        None => std::future::pending().await,
    }
}

async fn ended(blocking: &mut Option<JoinHandle<Opened>>) -> Opened {
    match blocking {
        Some(work) => work.await.unwrap_or_else(|_| Opened::nothing(Input::LoadFailed)),
        None => std::future::pending().await,
    }
}

async fn until(hub: &Hub, deadline: Option<Timestamp>) {
    match deadline {
        Some(at) => sleep_until(hub.clock.instant(at)).await,
        None => std::future::pending().await,
    }
}
