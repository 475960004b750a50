//! The registry of live sessions: what holds for each at the moment, and how it is taken away.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use syncline_protocol::wire::{ClientMessage, Dialect};
use syncline_protocol::{Close, DocumentName, Grant, SessionId, Timestamp};

use crate::handling::{Busy, Handling};
use crate::hub::{Gone, Hub, Mailbox};
use crate::metrics::Label;
use crate::outbox::Outbox;

/// What somebody may do, and the age of the token that says so.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) grant: Grant,
    /// Seconds since the Unix epoch; 0 if the token does not say.
    pub(crate) issued_at: u64,
}

/// Who came where, how, from where and when.
#[derive(Debug)]
pub(crate) struct Arrival {
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
    pub(crate) arrival: Arrival,
    pub(crate) mailbox: Mailbox,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) handling: Handling,
    /// Read at the moment that counts and never carried along, so that an older one cannot come
    /// after a newer one.
    held: Mutex<Held>,
}

impl LiveSession {
    pub(crate) fn new(
        session: SessionId,
        arrival: Arrival,
        mailbox: Mailbox,
        outbox: Arc<Outbox>,
        held: Held,
    ) -> Self {
        let handling = Handling::default();
        Self { session, arrival, mailbox, outbox, handling, held: Mutex::new(held) }
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
        change: impl FnOnce(&Held) -> Result<Held, Close>,
    ) -> Result<Grant, Close> {
        let mut held = self.held();
        *held = change(&held)?;
        Ok(held.grant.clone())
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // Replaced as a whole.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Everybody who is connected.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    list: Mutex<BTreeMap<SessionId, Arc<LiveSession>>>,
    y_websocket: AtomicU64,
    syncline_v1: AtomicU64,
}

impl Sessions {
    /// Lists a session for as long as the answer lives.
    pub(crate) fn enter(hub: &Arc<Hub>, session: LiveSession) -> Entered {
        let session = Arc::new(session);
        hub.sessions.of(session.arrival.dialect).fetch_add(1, Ordering::Relaxed);
        hub.sessions.list().insert(session.session, Arc::clone(&session));
        Entered { hub: Arc::clone(hub), session }
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
        let count = |dialect| (dialect, self.of(dialect).load(Ordering::Relaxed));
        Dialect::ALL.iter().copied().map(count).collect()
    }

    fn of(&self, dialect: Dialect) -> &AtomicU64 {
        match dialect {
            Dialect::YWebsocket => &self.y_websocket,
            Dialect::SynclineV1 => &self.syncline_v1,
        }
    }

    fn list(&self) -> MutexGuard<'_, BTreeMap<SessionId, Arc<LiveSession>>> {
        // No critical section can leave the map half changed.
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session's place in the list.
#[derive(Debug)]
pub(crate) struct Entered {
    hub: Arc<Hub>,
    pub(crate) session: Arc<LiveSession>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.hub.sessions.list().remove(&self.session.session);
        self.hub.sessions.of(self.session.arrival.dialect).fetch_sub(1, Ordering::Relaxed);
    }
}
