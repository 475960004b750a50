//! Drives one document: mail and completions in, effects out.

mod background;
mod pace;
mod timer;

use std::collections::{BTreeMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use syncline_protocol::document::{CheckOutcome, Delivery, Document, Effect, Input, Limits};
use syncline_protocol::gate::StateVector;
use syncline_protocol::wire::{ClientMessage, Dialect};
use syncline_protocol::{Close, CloseCode, DocumentName, Sequence, SessionId, Snapshot};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::WatchStream;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, error, info};

use self::pace::Pace;
use self::timer::Timer;
use crate::hub::{Hub, Mail};
use crate::in_flight::first_sync;
use crate::limits::MAIL_BATCH;
use crate::outbox::{Outbox, Pushed};
use crate::quarantine::Interrupted;
use crate::sessions::LiveSession;
use crate::store::Record;
use crate::store::writer::{Durable, Progress, StoreState, StoreWriter, Urgency, WriterStopped};
use crate::stored_document::{Opened, Watch};

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
    /// Queues that hold something nobody is writing.
    unflushed: Vec<Arc<Outbox>>,
    pace: Pace,
    /// Updates that the store's queue had no room for yet, in order.
    unsent: VecDeque<(Record, Urgency)>,
    store_state: StoreState,
    draining: bool,
}

/// An effect that touches the store, and so may have to wait.
enum Work {
    Load,
    Append(Record, Urgency),
    Snapshot { snapshot: Snapshot, known: StateVector },
    Compare { live: Snapshot, known: StateVector },
    Unload,
}

struct Seat {
    live: Arc<LiveSession>,
    author: Arc<str>,
    /// Whether its client waits to be told what is on disk.
    urgency: Urgency,
    /// Whether its first SyncStep2 has been applied, and the process is still there.
    synced: bool,
}

enum Event {
    Sent(Result<(), WriterStopped>),
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
        let limits = Limits {
            durability: hub.store.durability(),
            stamping: hub.stamping,
            ..hub.limits.for_document()
        };
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
            unflushed: Vec::new(),
            pace: Pace::new(Instant::now()),
            unsent: VecDeque::new(),
            store_state: StoreState::Writable,
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
        // Registered once, not at every turn of the loop.
        let mut drain = pin!(hub.draining.cancelled());
        let mut timer = Timer::default();
        loop {
            timer.set(self.next_deadline());
            let event = tokio::select! {
                biased;
                Some(durable) = self.durable.next() => Event::Durable(durable),
                Some(state) = self.store.next() => Event::Store(state),
                () = drain.as_mut(), if !self.draining => Event::Drain,
                opened = ended(&mut self.blocking) => Event::Blocking(opened),
                () = released(&mut self.release) => Event::Released,
                // Before the mail, which may never end.
                () = timer.elapsed() => Event::Deadline,
                sent = send_first(&hub.writer, &self.unsent, &self.progress) => Event::Sent(sent),
                // A full queue slows the document's writers down. While nothing is stored no
                // updates are accepted, and everything else goes on.
                received = self.mail.recv_many(&mut batch, MAIL_BATCH),
                    if self.unsent.is_empty() || !self.stores() => Event::Mail(received),
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
                Event::Store(state) => {
                    self.store_state = state;
                    let stores = self.stores();
                    self.handle(if stores { Input::StoreResumed } else { Input::StoreStalled });
                }
                Event::Sent(sent) => {
                    self.unsent.pop_front();
                    self.sent(sent);
                }
                Event::Blocking(opened) => self.opened(opened),
                Event::Released => {
                    info!(document = %self.name, "Released from quarantine; opened afresh.");
                    self.hub.forget(&self.name);
                    return;
                }
                Event::Deadline => {
                    let now = self.hub.clock.now();
                    if self.document.next_deadline().is_some_and(|at| at <= now) {
                        self.handle(Input::Deadline);
                    }
                }
                Event::Drain => {
                    self.draining = true;
                    self.handle(Input::Drain);
                }
            }
            // Before the store is asked for room: a burst of updates reaches its readers first.
            self.flush_in_time();
            let released = self.carry_out();
            if released {
                self.flush();
                return;
            }
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let of_document = self.document.next_deadline().map(|at| self.hub.clock.instant(at));
        let now = Instant::now();
        let of_frames = || self.pace.wait_until(now).unwrap_or(now);
        let of_frames = (!self.unflushed.is_empty()).then(of_frames);
        of_document.into_iter().chain(of_frames).min()
    }

    /// Writes what is queued, unless it is to wait for more.
    fn flush_in_time(&mut self) {
        if !self.unflushed.is_empty() && self.pace.wait_until(Instant::now()).is_none() {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.unflushed.drain(..).for_each(|outbox| outbox.flush());
        self.pace.flushed(Instant::now());
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
            // What they sent waits inside, and would be handled now.
            let closed = self.sessions.iter().filter(|(_, seat)| seat.live.outbox.is_closed());
            for session in closed.map(|(&session, _)| session).collect::<Vec<_>>() {
                self.regranted(session);
            }
            self.watch = opened.watch;
            self.release = (self.watch == Watch::Release).then(|| self.await_release());
        }
        let hub = Arc::clone(&self.hub);
        // Applies what arrived meanwhile, the first syncs of sessions among it.
        let mark = matches!(opened.input, Input::Loaded(_))
            .then(|| hub.trouble.mark(&self.name, &first_sync("", &[])));
        self.handle(opened.input);
        drop(mark);
    }

    fn deliver(&mut self, mail: Mail) {
        match mail {
            Mail::Join { session: live, dialect, epoch } => {
                let (session, grant) = (live.session, live.grant());
                let urgency = match dialect {
                    Dialect::SynclineV1 => Urgency::Awaited,
                    Dialect::YWebsocket => Urgency::Unwatched,
                };
                let author = Arc::clone(&grant.identity.sub);
                self.sessions.insert(session, Seat { live, author, urgency, synced: false });
                self.handle(Input::Joined { session, grant, dialect, epoch });
            }
            Mail::Message { session, message, room } => {
                self.pace.heard(Instant::now(), session);
                self.receive(session, message);
                drop(room);
            }
            Mail::Regranted { session, done } => {
                self.regranted(session);
                if done.is_some_and(|done| done.send(()).is_err()) {
                    debug!(document = %self.name, %session, "Nobody waits for this any more.");
                }
            }
            Mail::Check { done } => {
                self.check = Some(done);
                self.handle(Input::Check);
            }
            Mail::Drained { session } => {
                if let Some(seat) = self.sessions.get(&session) {
                    seat.live.outbox.reopen();
                }
                self.handle(Input::Drained { session });
            }
            Mail::Leave { session } => {
                self.sessions.remove(&session);
                self.handle(Input::Left { session });
            }
        }
    }

    /// Another grant holds for a session, or its socket is to be closed and it has no say any more.
    fn regranted(&mut self, session: SessionId) {
        let Some(seat) = self.sessions.get(&session) else { return };
        if seat.live.outbox.is_closed() {
            self.sessions.remove(&session);
            self.handle(Input::Left { session });
        } else {
            let grant = seat.live.grant();
            self.handle(Input::Granted { session, grant });
        }
    }

    /// Until a session's first sync is done, what it sends may be what ended a process before.
    fn receive(&mut self, session: SessionId, message: ClientMessage) {
        // Closed from elsewhere: what it sent before that, and is not handled yet, counts no more.
        if self.sessions.get(&session).is_none_or(|seat| seat.live.outbox.is_closed()) {
            return;
        }
        let is_sync = matches!(message, ClientMessage::SyncStep2 { .. });
        // What arrives before the document is there is applied by `opened`.
        let is_applied = is_sync && self.stores() && self.document.known().is_some();
        let step = match (self.sessions.get_mut(&session), &message) {
            (Some(seat), ClientMessage::SyncStep2 { update }) if is_applied && !seat.synced => {
                seat.synced = true;
                first_sync(&seat.author, update)
            }
            _ => return self.handle(Input::Received { session, message }),
        };
        let hub = Arc::clone(&self.hub);
        let mark = hub.trouble.mark(&self.name, &step);
        self.handle(Input::Received { session, message });
        drop(mark);
        if self.watch == Watch::Suspect(step.clone()) {
            self.watch = Watch::Nothing;
            self.clear_suspicion(step);
        }
    }

    fn clear_suspicion(&self, step: Interrupted) {
        let (hub, name) = (Arc::clone(&self.hub), self.name.clone());
        self.hub.tasks.spawn_blocking(move || hub.trouble.clear(&name, &step));
    }

    /// Applies an input and queues what it asks for. What touches the store is left for
    /// `carry_out`.
    fn handle(&mut self, input: Input) {
        let now = self.hub.clock.now();
        let mut effects = Vec::new();
        self.document.handle(now, input, &mut effects);
        let mut overflowed = Vec::new();
        for effect in effects {
            match effect {
                Effect::Send { to, frame, delivery } => match self.send(to, frame, delivery) {
                    Pushed::Overflowed => overflowed.push(to),
                    Pushed::First | Pushed::Done => {}
                },
                Effect::Close { session, close } => self.close(session, close),
                Effect::Append { sequence, update, session } => {
                    let seat = self.sessions.get(&session);
                    let urgency = seat.map_or(Urgency::Unwatched, |seat| seat.urgency);
                    let record = Record {
                        document: self.name.clone(),
                        sequence,
                        time: now,
                        author: seat.map(|seat| Arc::clone(&seat.author)).unwrap_or_default(),
                        update,
                    };
                    self.work.push(Work::Append(record, urgency));
                }
                Effect::Load => self.work.push(Work::Load),
                Effect::Snapshot { snapshot, known } => {
                    self.work.push(Work::Snapshot { snapshot, known });
                }
                Effect::Compare { live, known } => self.work.push(Work::Compare { live, known }),
                Effect::Unload => self.work.push(Work::Unload),
            }
        }
        for session in overflowed {
            debug!(document = %self.name, %session, "A session fell behind.");
            self.handle(Input::Overflowed { session });
        }
    }

    fn send(&mut self, to: SessionId, frame: Bytes, delivery: Delivery) -> Pushed {
        let Some(seat) = self.sessions.get(&to) else { return Pushed::Done };
        let pushed = seat.live.outbox.push(frame, delivery);
        if pushed == Pushed::First {
            self.unflushed.push(Arc::clone(&seat.live.outbox));
        }
        pushed
    }

    fn close(&mut self, session: SessionId, close: Close) {
        let Some(seat) = self.sessions.remove(&session) else { return };
        if close.code != CloseCode::Draining {
            info!(
                document = %self.name, %session, code = close.code.word(), text = close.text,
                "Closing a session."
            );
        }
        seat.live.outbox.close(close);
    }

    /// Whether the store takes updates at the moment.
    fn stores(&self) -> bool {
        self.store_state == StoreState::Writable
    }

    /// Hands an update to the store's queue, or keeps it until there is room.
    fn append(&mut self, record: Record, urgency: Urgency) {
        if self.unsent.is_empty() {
            let append = self.hub.writer.append(record.clone(), urgency, &self.progress);
            match append.now_or_never() {
                Some(sent) => self.sent(sent),
                None => self.unsent.push_back((record, urgency)),
            }
        } else {
            self.unsent.push_back((record, urgency));
        }
    }

    fn sent(&mut self, sent: Result<(), WriterStopped>) {
        if sent.is_err() {
            self.unsent.clear();
            self.handle(Input::PersistFailed);
        }
    }

    /// Carries out what touches the store. Returns whether the document is released.
    fn carry_out(&mut self) -> bool {
        let mut unload = false;
        while !self.work.is_empty() {
            for work in std::mem::take(&mut self.work) {
                // Whatever follows a wish to unload takes it back.
                unload = matches!(work, Work::Unload);
                match work {
                    Work::Append(record, urgency) => self.append(record, urgency),
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
}

/// Completes when the first of `unsent` is in the store's queue. Dropped before that, it has done
/// nothing.
async fn send_first(
    writer: &StoreWriter,
    unsent: &VecDeque<(Record, Urgency)>,
    progress: &Progress,
) -> Result<(), WriterStopped> {
    match unsent.front() {
        Some((record, urgency)) => writer.append(record.clone(), *urgency, progress).await,
        None => std::future::pending().await,
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
