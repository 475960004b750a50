//! Drives one document: mail and completions in, effects out.

mod inbox;
mod jobs;
mod persistence;
mod stats;
mod timer;
mod write_batching;

use std::collections::{BTreeMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};
use syncline_protocol::document::{CheckOutcome, Document, Effect, Input, Limits};
use syncline_protocol::validate::StateVector;
use syncline_protocol::wire::{Dialect, EncodeOnce};
use syncline_protocol::{Close, CloseCode, DocumentName, Limit, Sequence, SessionId, Snapshot};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::Instant;
use tokio_stream::wrappers::WatchStream;
use tracing::{debug, error, info};

use self::stats::TaskStats;
use self::timer::Timer;
use self::write_batching::WriteBatching;
use crate::config::limits::MAIL_BATCH;
use crate::document::hub::Hub;
use crate::document::loader::{JobOutcome, RecoveryWatch};
use crate::document::mailbox::DocumentCommand;
use crate::metrics::METRICS;
use crate::net::send_queue::{Pushed, SendQueue};
use crate::session::cpu_budget::Meter;
use crate::session::registry::LiveSession;
use crate::store::Record;
use crate::store::writer::{
    Durable, Progress, ProgressReceiver, StoreState, Urgency, WriterStopped,
};

/// The one task that touches a document.
pub(crate) struct DocumentTask {
    hub: Arc<Hub>,
    name: DocumentName,
    document: Document,
    mail: mpsc::Receiver<DocumentCommand>,
    sessions: BTreeMap<SessionId, Participant>,
    progress: Progress,
    durable: ProgressReceiver,
    /// What is awaited beside mail. Polled only when it has come: asking each of them at every turn
    /// cost as much as an update costs the CRDT.
    awaited: FuturesUnordered<BoxFuture<'static, Event>>,
    /// Who wants to hear how the comparison with the log ends.
    check: Option<oneshot::Sender<CheckOutcome>>,
    watch: RecoveryWatch,
    work: VecDeque<Work>,
    /// Of the messages that wait for a load: at most one of a session.
    turns: Vec<OwnedSemaphorePermit>,
    /// Asked for by one input, and empty between two.
    effects: Vec<Effect>,
    /// Queues that hold something nobody is writing.
    unflushed: Vec<Arc<SendQueue>>,
    pace: WriteBatching,
    counting: TaskStats,
    /// When this turn began, or the last mail in it had been delivered. To read the clock for each
    /// use cost as much as the gate.
    now: Instant,
    /// Updates that the store's queue had no room for yet, in order.
    unsent: VecDeque<(Record, Urgency)>,
    store_state: StoreState,
    draining: bool,
}

/// An effect that touches the store, and so may have to wait.
enum Work {
    Load,
    Append(Record, Urgency),
    Snapshot { snapshot: Snapshot, state_vector: StateVector },
    Compare { live: Snapshot, state_vector: StateVector },
    Unload,
}

struct Participant {
    live: Arc<LiveSession>,
    dialect: Dialect,
    author: Arc<str>,
    /// Whether its client waits to be told what is on disk.
    urgency: Urgency,
    /// How long its messages take.
    meter: Meter,
    /// Whether its first SyncStep2 has been applied, and the process is still there.
    synced: bool,
}

enum Event {
    /// The first of `unsent` is in the store's queue.
    Sent(Result<(), WriterStopped>),
    DocumentCommand(usize),
    Durable(Durable),
    Store(StoreState, WatchStream<StoreState>),
    /// A load, snapshot or comparison has ended. A document does one of them at a time.
    Blocking(JobOutcome),
    Released,
    Deadline,
    Drain,
}

impl DocumentTask {
    pub(crate) fn new(
        hub: Arc<Hub>,
        name: DocumentName,
        mail: mpsc::Receiver<DocumentCommand>,
    ) -> Self {
        let limits = Limits {
            durability: hub.store.durability(),
            stamping: hub.stamping,
            ..hub.limits.for_document()
        };
        let document = Document::new(limits);
        let (progress, durable) = Progress::new(Sequence::ZERO);
        let now = Instant::now();
        Self {
            hub,
            name,
            document,
            mail,
            sessions: BTreeMap::new(),
            progress,
            durable,
            awaited: FuturesUnordered::new(),
            check: None,
            watch: RecoveryWatch::Nothing,
            work: VecDeque::new(),
            turns: Vec::new(),
            effects: Vec::new(),
            unflushed: Vec::new(),
            pace: WriteBatching::new(now),
            counting: TaskStats::default(),
            now,
            unsent: VecDeque::new(),
            store_state: StoreState::Writable,
            draining: false,
        }
    }

    /// Runs until the document is released. A panic ends this document only: its mailbox closes,
    /// its connections tell their clients to come back, and they find it in quarantine.
    pub(crate) async fn run(mut self: Box<Self>) {
        if AssertUnwindSafe(self.drive()).catch_unwind().await.is_err() {
            self.hub.trouble.quarantine(&self.name, "the task that served it panicked");
            self.hub.forget(&self.name);
        }
    }

    async fn drive(&mut self) {
        let mut batch = Vec::new();
        let mut timer = Timer::default();
        self.await_store(WatchStream::new(self.hub.writer.state()));
        let draining = self.hub.draining.clone();
        self.await_event(draining.cancelled_owned().map(|()| Event::Drain));
        loop {
            timer.set(self.next_deadline());
            let event = tokio::select! {
                biased;
                durable = self.durable.changed() => Event::Durable(durable),
                Some(event) = self.awaited.next() => event,
                // Before the mail, which may never end.
                () = timer.elapsed() => Event::Deadline,
                // A full queue slows the document's writers down. While nothing is stored no
                // updates are accepted, and everything else goes on.
                received = self.mail.recv_many(&mut batch, MAIL_BATCH),
                    if self.unsent.is_empty() || !self.stores() => Event::DocumentCommand(received),
            };
            self.now = Instant::now();
            match event {
                // Every sender is gone, and the hub's own goes last.
                Event::DocumentCommand(0) => return,
                Event::DocumentCommand(_) => batch.drain(..).for_each(|mail| self.deliver(mail)),
                Event::Durable(Durable::Through(through)) => {
                    self.counting.durable(through, self.now);
                    self.handle(Input::Persisted { through });
                }
                Event::Durable(Durable::Failed(reason)) => {
                    error!(document = %self.name, reason, "Updates could not be stored.");
                    self.counting.lost();
                    self.handle(Input::PersistFailed);
                }
                Event::Store(state, later) => {
                    self.await_store(later);
                    self.store_state = state;
                    self.handle(Input::Store(self.store_availability()));
                }
                Event::Sent(sent) => {
                    self.unsent.pop_front();
                    match sent {
                        Ok(()) => self.await_room(),
                        Err(WriterStopped) => self.stopped(),
                    }
                }
                Event::Blocking(opened) => self.opened(opened),
                // It may have been opened anew since it was awaited.
                Event::Released if self.watch != RecoveryWatch::Release => {}
                Event::Released => {
                    info!(document = %self.name, "Released from quarantine; opened afresh.");
                    self.hub.forget(&self.name);
                    return;
                }
                Event::Deadline => {
                    let now = self.hub.clock.at(self.now);
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
            self.counting.report(&mut self.document);
            let released = self.carry_out();
            if released {
                self.flush();
                return;
            }
        }
    }

    fn await_event(&self, event: impl Future<Output = Event> + Send + 'static) {
        self.awaited.push(event.boxed());
    }

    fn next_deadline(&self) -> Option<Instant> {
        let of_document = self.document.next_deadline().map(|at| self.hub.clock.instant(at));
        let of_frames = || self.pace.wait_until(self.now).unwrap_or(self.now);
        let of_frames = (!self.unflushed.is_empty()).then(of_frames);
        of_document.into_iter().chain(of_frames).min()
    }

    /// Writes what is queued, unless it is to wait for more.
    fn flush_in_time(&mut self) {
        if self.unflushed.is_empty() {
            return;
        }
        self.pace.queued(self.now);
        if self.pace.wait_until(self.now).is_none() {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.unflushed.drain(..).for_each(|send_queue| send_queue.flush(self.now));
        self.pace.flushed();
    }

    /// Applies an input, and carries out its effects but those on the store, which
    /// `run_store_effects` does.
    fn handle(&mut self, input: Input) {
        let now = self.hub.clock.at(self.now);
        // Taken and put back, so that what one needed serves the next.
        let mut effects = std::mem::take(&mut self.effects);
        self.document.handle(now, input, &mut effects);
        let mut frames = EncodeOnce::default();
        let mut overflowed = Vec::new();
        for effect in effects.drain(..) {
            match effect {
                Effect::Send { to, message, delivery } => {
                    let Some(seat) = self.sessions.get(&to) else { continue };
                    let Some(frame) = frames.encode(seat.dialect, &message) else { continue };
                    self.counting.sent(frame.len());
                    match seat.live.send_queue.push(frame, delivery) {
                        Pushed::Overflowed => overflowed.push(to),
                        Pushed::First => self.unflushed.push(Arc::clone(&seat.live.send_queue)),
                        Pushed::Done => {}
                    }
                }
                Effect::Close { session, close } => self.close(session, close),
                Effect::Append { sequence, update, session } => {
                    self.counting.accepted(sequence, self.now);
                    let seat = self.sessions.get(&session);
                    seat.inspect(|seat| seat.live.wrote(update.len()));
                    let urgency = seat.map_or(Urgency::Unwatched, |seat| seat.urgency);
                    let record = Record {
                        document: self.name.clone(),
                        sequence,
                        time: now,
                        author: seat.map(|seat| Arc::clone(&seat.author)).unwrap_or_default(),
                        update,
                    };
                    self.work.push_back(Work::Append(record, urgency));
                }
                Effect::Load => self.work.push_back(Work::Load),
                Effect::Snapshot { snapshot, state_vector } => {
                    self.work.push_back(Work::Snapshot { snapshot, state_vector });
                }
                Effect::Compare { live, state_vector } => {
                    self.work.push_back(Work::Compare { live, state_vector });
                }
                Effect::Unload => self.work.push_back(Work::Unload),
            }
        }
        self.effects = effects;
        for session in overflowed {
            debug!(document = %self.name, %session, "A session fell behind.");
            METRICS.hit(Limit::OutboxBytes);
            self.handle(Input::Overflowed { session });
        }
    }

    fn close(&mut self, session: SessionId, close: Close) {
        let Some(seat) = self.sessions.remove(&session) else { return };
        if close.code != CloseCode::Draining {
            info!(
                document = %self.name, %session, code = close.code.word(), text = close.text,
                "Closing a session."
            );
        }
        seat.live.send_queue.close(close);
    }
}
