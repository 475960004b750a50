//! The task of one document: turns commands and completions into inputs, and carries out effects.

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
use crate::net::socket_writer::{Pushed, SocketWriter};
use crate::services::Services;
use crate::session::cpu_budget::Meter;
use crate::session::live::LiveSession;
use crate::store::Record;
use crate::store::writer::{
    Durable, Progress, ProgressReceiver, StoreState, Urgency, WriterStopped,
};

/// The only task that touches a document.
pub(crate) struct DocumentTask {
    services: Arc<Services>,
    hub: Arc<Hub>,
    name: DocumentName,
    document: Document,
    commands: mpsc::Receiver<DocumentCommand>,
    sessions: BTreeMap<SessionId, Participant>,
    progress: Progress,
    durable: ProgressReceiver,
    /// Events other than commands. Each is polled only when it has been woken: to poll all of them at
    /// every turn cost as much as an update costs the CRDT.
    events: FuturesUnordered<BoxFuture<'static, Event>>,
    /// Reply channel of a pending comparison with the log.
    check: Option<oneshot::Sender<CheckOutcome>>,
    recovery_watch: RecoveryWatch,
    /// CPU permits of messages that are deferred until the document is loaded: at most one of a
    /// session.
    deferred_permits: Vec<OwnedSemaphorePermit>,
    /// Effects of one input. Empty between two; kept for its capacity.
    effects: Vec<Effect>,
    /// Effects of this turn on the store, in order. They are run after the turn's frames are written.
    store_effects: VecDeque<StoreEffect>,
    /// Updates that the store's queue had no room for yet, in order.
    unqueued: VecDeque<(Record, Urgency)>,
    /// Sockets with frames to write.
    unflushed: Vec<Arc<SocketWriter>>,
    batching: WriteBatching,
    stats: TaskStats,
    /// When this turn began, or its last command had been handled. To read the clock for each use cost
    /// as much as the validation of an update.
    now: Instant,
    store_state: StoreState,
    draining: bool,
}

/// An effect on the store.
enum StoreEffect {
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
    /// Whether its dialect acknowledges updates.
    urgency: Urgency,
    /// CPU time of its messages.
    meter: Meter,
    /// Whether its first SyncStep2 was applied without ending the process.
    synced: bool,
}

enum Event {
    /// The first of `unqueued` is in the store's queue.
    Queued(Result<(), WriterStopped>),
    Commands(usize),
    Durable(Durable),
    Store(StoreState, WatchStream<StoreState>),
    /// A load, snapshot or comparison has ended. There is one at a time.
    JobEnded(JobOutcome),
    /// An operator released the document from quarantine.
    Released,
    Deadline,
    Drain,
}

impl DocumentTask {
    pub(crate) fn new(
        services: Arc<Services>,
        hub: Arc<Hub>,
        name: DocumentName,
        commands: mpsc::Receiver<DocumentCommand>,
    ) -> Self {
        let limits = Limits {
            durability: services.store.durability(),
            stamping: services.stamping,
            ..services.limits.for_document()
        };
        let document = Document::new(limits);
        let (progress, durable) = Progress::new(Sequence::ZERO);
        let now = Instant::now();
        Self {
            services,
            hub,
            name,
            document,
            commands,
            sessions: BTreeMap::new(),
            progress,
            durable,
            events: FuturesUnordered::new(),
            check: None,
            recovery_watch: RecoveryWatch::Nothing,
            deferred_permits: Vec::new(),
            effects: Vec::new(),
            store_effects: VecDeque::new(),
            unqueued: VecDeque::new(),
            unflushed: Vec::new(),
            batching: WriteBatching::new(now),
            stats: TaskStats::default(),
            now,
            store_state: StoreState::Writable,
            draining: false,
        }
    }

    /// Runs until the document is released. A panic ends this document only: its mailbox closes, its
    /// connections close with `internal`, and the next load finds it in quarantine.
    pub(crate) async fn run(mut self: Box<Self>) {
        if AssertUnwindSafe(self.drive()).catch_unwind().await.is_err() {
            self.services.recovery.quarantine(&self.name, "the task that served it panicked");
            self.hub.forget(&self.name);
        }
    }

    async fn drive(&mut self) {
        let mut batch = Vec::new();
        let mut timer = Timer::default();
        self.await_store(WatchStream::new(self.services.writer.state()));
        let draining = self.services.draining.clone();
        self.await_event(draining.cancelled_owned().map(|()| Event::Drain));
        loop {
            timer.set(self.next_deadline());
            let event = tokio::select! {
                biased;
                durable = self.durable.changed() => Event::Durable(durable),
                Some(event) = self.events.next() => event,
                // Before commands, of which there may always be more.
                () = timer.elapsed() => Event::Deadline,
                // A full store queue slows the document's writers down. While the store is stalled
                // no updates are accepted, and everything else goes on.
                received = self.commands.recv_many(&mut batch, MAIL_BATCH),
                    if self.unqueued.is_empty() || !self.stores() => Event::Commands(received),
            };
            self.now = Instant::now();
            match event {
                // All senders are gone, the hub's last.
                Event::Commands(0) => return,
                Event::Commands(_) => batch.drain(..).for_each(|command| self.deliver(command)),
                Event::Durable(Durable::Through(through)) => {
                    self.stats.durable(through, self.now);
                    self.handle(Input::Persisted { through });
                }
                Event::Durable(Durable::Failed(reason)) => {
                    error!(document = %self.name, reason, "Updates could not be stored.");
                    self.stats.lost();
                    self.handle(Input::PersistFailed);
                }
                Event::Store(state, later) => {
                    self.await_store(later);
                    self.store_state = state;
                    self.handle(Input::Store(self.store_availability()));
                }
                Event::Queued(queued) => {
                    self.unqueued.pop_front();
                    match queued {
                        Ok(()) => self.await_room(),
                        Err(WriterStopped) => self.writer_stopped(),
                    }
                }
                Event::JobEnded(outcome) => self.job_ended(outcome),
                // It may have been loaded again since then.
                Event::Released if self.recovery_watch != RecoveryWatch::Release => {}
                Event::Released => {
                    info!(document = %self.name, "Released from quarantine; the next join loads it again.");
                    self.hub.forget(&self.name);
                    return;
                }
                Event::Deadline => {
                    let now = self.services.clock.at(self.now);
                    if self.document.next_deadline().is_some_and(|at| at <= now) {
                        self.handle(Input::Deadline);
                    }
                }
                Event::Drain => {
                    self.draining = true;
                    self.handle(Input::Drain);
                }
            }
            // Before the store is asked for room: readers get a burst of updates first.
            self.flush_in_time();
            self.stats.report(&mut self.document);
            let released = self.run_store_effects();
            if released {
                self.flush();
                return;
            }
        }
    }

    fn await_event(&self, event: impl Future<Output = Event> + Send + 'static) {
        self.events.push(event.boxed());
    }

    fn next_deadline(&self) -> Option<Instant> {
        let of_document = self.document.next_deadline().map(|at| self.services.clock.instant(at));
        let of_frames = || self.batching.wait_until(self.now).unwrap_or(self.now);
        let of_frames = (!self.unflushed.is_empty()).then(of_frames);
        of_document.into_iter().chain(of_frames).min()
    }

    /// Writes the queued frames, unless they wait for more.
    fn flush_in_time(&mut self) {
        if self.unflushed.is_empty() {
            return;
        }
        self.batching.queued(self.now);
        if self.batching.wait_until(self.now).is_none() {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.unflushed.drain(..).for_each(|writer| writer.flush(self.now));
        self.batching.flushed();
    }

    /// Applies an input, and carries out its effects but those on the store, which
    /// `run_store_effects` does.
    fn handle(&mut self, input: Input) {
        let now = self.services.clock.at(self.now);
        // Taken and put back, so that what one needed serves the next.
        let mut effects = std::mem::take(&mut self.effects);
        self.document.handle(now, input, &mut effects);
        let mut frames = EncodeOnce::default();
        let mut overflowed = Vec::new();
        for effect in effects.drain(..) {
            match effect {
                Effect::Send { to, message, delivery } => {
                    let Some(participant) = self.sessions.get(&to) else { continue };
                    let Some(frame) = frames.encode(participant.dialect, &message) else {
                        continue;
                    };
                    self.stats.sent(frame.len());
                    match participant.live.send_queue.push(frame, delivery) {
                        Pushed::Overflowed => overflowed.push(to),
                        Pushed::First => {
                            self.unflushed.push(Arc::clone(participant.live.send_queue.writer()));
                        }
                        Pushed::Done => {}
                    }
                }
                Effect::Close { session, close } => self.close(session, close),
                Effect::Append { sequence, update, session } => {
                    self.stats.accepted(sequence, self.now);
                    let participant = self.sessions.get(&session);
                    participant.inspect(|participant| participant.live.wrote(update.len()));
                    let urgency =
                        participant.map_or(Urgency::Unwatched, |participant| participant.urgency);
                    let record = Record {
                        document: self.name.clone(),
                        sequence,
                        time: now,
                        author: participant
                            .map(|participant| Arc::clone(&participant.author))
                            .unwrap_or_default(),
                        update,
                    };
                    self.store_effects.push_back(StoreEffect::Append(record, urgency));
                }
                Effect::Load => self.store_effects.push_back(StoreEffect::Load),
                Effect::Snapshot { snapshot, state_vector } => {
                    self.store_effects.push_back(StoreEffect::Snapshot { snapshot, state_vector });
                }
                Effect::Compare { live, state_vector } => {
                    self.store_effects.push_back(StoreEffect::Compare { live, state_vector });
                }
                Effect::Unload => self.store_effects.push_back(StoreEffect::Unload),
            }
        }
        self.effects = effects;
        for session in overflowed {
            debug!(document = %self.name, %session, "The send queue of a session overflowed.");
            METRICS.hit(Limit::OutboxBytes);
            self.handle(Input::Overflowed { session });
        }
    }

    fn close(&mut self, session: SessionId, close: Close) {
        let Some(participant) = self.sessions.remove(&session) else { return };
        if close.code != CloseCode::Draining {
            info!(
                document = %self.name, %session, code = close.code.name(), text = close.text,
                "Closing a session."
            );
        }
        participant.live.send_queue.close(close);
    }
}
