//! The registry of live sessions: what holds for each at the moment, and how it is taken away.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use syncline_protocol::wire::{ClientMessage, Dialect};
use syncline_protocol::{Close, DocumentName, Grant, SessionId, Timestamp};

use crate::audit::{Audit, Entry, Event};
use crate::document::hub::Hub;
use crate::document::mailbox::{Gone, Mailbox};
use crate::net::send_queue::SendQueue;
use crate::session::cpu_budget::{Busy, CpuBudget};

/// What somebody may do, and the age of the token that says so.
#[derive(Clone, Debug)]
pub(crate) struct Rights {
    pub(crate) grant: Grant,
    /// Seconds since the Unix epoch; 0 if the token does not say.
    pub(crate) issued_at: u64,
}

/// Who came where, how, from where and when.
#[derive(Debug)]
pub(crate) struct ClientInfo {
    pub(crate) document: DocumentName,
    pub(crate) dialect: Dialect,
    /// The address at the other end.
    pub(crate) peer: Arc<str>,
    pub(crate) since: Timestamp,
}

/// One session, as its connection, its document and whoever may end it share it.
#[derive(Debug)]
pub(crate) struct LiveSession {
    pub(crate) session: SessionId,
    pub(crate) arrival: ClientInfo,
    pub(crate) mailbox: Mailbox,
    pub(crate) send_queue: Arc<SendQueue>,
    pub(crate) handling: CpuBudget,
    /// Read at the moment that counts and never carried along, so that an older one cannot come
    /// after a newer one.
    held: Mutex<Rights>,
    /// What the audit log is told when the last of them lets go of it, if there is one.
    trail: OnceLock<Box<AuditTrail>>,
}

/// What a session leaves in the audit log.
#[derive(Debug)]
struct AuditTrail {
    audit: Audit,
    updates: AtomicU64,
    bytes: AtomicU64,
    /// Why it was closed, if the server did that.
    close: OnceLock<Close>,
}

impl LiveSession {
    pub(crate) fn new(
        session: SessionId,
        arrival: ClientInfo,
        mailbox: Mailbox,
        send_queue: Arc<SendQueue>,
        held: Rights,
    ) -> Self {
        let (handling, trail) = (CpuBudget::default(), OnceLock::new());
        let held = Mutex::new(held);
        Self { session, arrival, mailbox, send_queue, handling, held, trail }
    }

    /// Hands a message of the client to its document, or gives it back if it has to wait for that.
    pub(crate) fn try_send(&self, message: ClientMessage) -> Result<(), ClientMessage> {
        match self.handling.try_turn(&message) {
            Ok(turn) => self.mailbox.try_send_message(self.session, message, turn),
            Err(Busy) => Err(message),
        }
    }

    /// Hands a message of the client to its document; waits for its turn and for room.
    pub(crate) async fn send(&self, message: ClientMessage) -> Result<(), Gone> {
        let turn = self.handling.turn(&message).await;
        self.mailbox.send_message(self.session, message, turn).await
    }

    /// What holds at the moment.
    pub(crate) fn grant(&self) -> Grant {
        self.held().grant.clone()
    }

    /// Changes what holds, as one step. Unchanged after an error.
    pub(crate) fn change(
        &self,
        change: impl FnOnce(&Rights) -> Result<Rights, Close>,
    ) -> Result<Grant, Close> {
        let mut held = self.held();
        *held = change(&held)?;
        Ok(held.grant.clone())
    }

    /// It is let in. From here on it is told of in the audit log.
    pub(crate) fn opened(&self, audit: &Audit) {
        if audit.is_on() {
            let (updates, bytes, close) = Default::default();
            // Called once.
            let trail = AuditTrail { audit: audit.clone(), updates, bytes, close };
            drop(self.trail.set(Box::new(trail)));
            audit.record(|| self.entry(Event::SessionOpened));
        }
    }

    /// An update of it was taken in.
    pub(crate) fn wrote(&self, bytes: usize) {
        let Some(trail) = self.trail.get() else { return };
        trail.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        if trail.updates.fetch_add(1, Ordering::Relaxed) == 0 {
            trail.audit.record(|| self.entry(Event::SessionWrote));
        }
    }

    /// The server closes it.
    pub(crate) fn closed(&self, close: &Close) {
        if let Some(trail) = self.trail.get() {
            // The first reason counts.
            drop(trail.close.set(close.clone()));
        }
    }

    /// What is known of it, for the audit log.
    pub(crate) fn entry(&self, event: Event) -> Entry {
        let (arrival, grant) = (&self.arrival, self.grant());
        Entry::new(event)
            .of(&grant.identity)
            .document(&arrival.document)
            .session(self.session)
            .peer(&arrival.peer)
            .access(Some(grant.access))
            .dialect(arrival.dialect)
    }

    fn held(&self) -> MutexGuard<'_, Rights> {
        // Replaced as a whole.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for LiveSession {
    /// Its connection and its document have let go of it: nothing more of it is taken in.
    fn drop(&mut self) {
        let Some(trail) = self.trail.get() else { return };
        trail.audit.record(|| {
            let (updates, bytes) = (&trail.updates, &trail.bytes);
            let wrote = (updates.load(Ordering::Relaxed), bytes.load(Ordering::Relaxed));
            let entry = self.entry(Event::SessionClosed).wrote(wrote.0, wrote.1);
            match trail.close.get() {
                Some(close) => entry.close(close),
                None => entry.word("left"),
            }
        });
    }
}

/// Everybody who is connected.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    list: Mutex<BTreeMap<SessionId, Arc<LiveSession>>>,
    /// How many sessions there are of each dialect.
    by_dialect: [AtomicU64; Dialect::ALL.len()],
}

impl Sessions {
    /// Lists a session for as long as the answer lives.
    pub(crate) fn enter(hub: &Arc<Hub>, session: LiveSession) -> RegistryGuard {
        let session = Arc::new(session);
        hub.sessions.of(session.arrival.dialect).inspect(|count| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        hub.sessions.list().insert(session.session, Arc::clone(&session));
        RegistryGuard { hub: Arc::clone(hub), session }
    }

    /// Everybody at this moment.
    pub(crate) fn all(&self) -> Vec<Arc<LiveSession>> {
        self.list().values().cloned().collect()
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.list().len()
    }

    /// How many there are of each dialect. Does not wait for anybody.
    pub(crate) fn by_dialect(&self) -> Vec<(Dialect, u64)> {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let counts = self.by_dialect.iter().map(load);
        Dialect::ALL.into_iter().zip(counts).collect()
    }

    fn of(&self, dialect: Dialect) -> Option<&AtomicU64> {
        self.by_dialect.get(dialect.index())
    }

    fn list(&self) -> MutexGuard<'_, BTreeMap<SessionId, Arc<LiveSession>>> {
        // No critical section can leave the map half changed.
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session's place in the list.
#[derive(Debug)]
pub(crate) struct RegistryGuard {
    hub: Arc<Hub>,
    pub(crate) session: Arc<LiveSession>,
}

impl Drop for RegistryGuard {
    fn drop(&mut self) {
        self.hub.sessions.list().remove(&self.session.session);
        self.hub.sessions.of(self.session.arrival.dialect).inspect(|count| {
            count.fetch_sub(1, Ordering::Relaxed);
        });
    }
}
