//! The list of live sessions: counted for the metrics, walked by the admin API.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use syncline_protocol::SessionId;
use syncline_protocol::wire::Dialect;

use crate::session::live::LiveSession;
use crate::sync::lock;

/// Every live session of the process.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    list: Mutex<BTreeMap<SessionId, Arc<LiveSession>>>,
    /// Sessions numbered so far.
    numbered: AtomicU64,
    /// The number of sessions of each dialect.
    by_dialect: [AtomicU64; Dialect::ALL.len()],
}

impl Sessions {
    /// A number that no session of this process has had.
    pub(crate) fn next_id(&self) -> SessionId {
        SessionId::new(self.numbered.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Lists a session until the guard is dropped.
    pub(crate) fn register(self: &Arc<Self>, session: LiveSession) -> RegistryGuard {
        let session = Arc::new(session);
        self.of(session.client.dialect).inspect(|count| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        lock(&self.list).insert(session.id, Arc::clone(&session));
        RegistryGuard { sessions: Arc::clone(self), session }
    }

    /// The sessions listed at this moment, ordered by id.
    pub(crate) fn all(&self) -> Vec<Arc<LiveSession>> {
        lock(&self.list).values().cloned().collect()
    }

    /// The number of sessions.
    pub(crate) fn count(&self) -> usize {
        lock(&self.list).len()
    }

    /// The number of sessions by dialect. Takes no lock.
    pub(crate) fn by_dialect(&self) -> Vec<(Dialect, u64)> {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let counts = self.by_dialect.iter().map(load);
        Dialect::ALL.into_iter().zip(counts).collect()
    }

    fn of(&self, dialect: Dialect) -> Option<&AtomicU64> {
        self.by_dialect.get(dialect.index())
    }
}

/// Keeps a session listed.
#[derive(Debug)]
pub(crate) struct RegistryGuard {
    sessions: Arc<Sessions>,
    pub(crate) session: Arc<LiveSession>,
}

impl Drop for RegistryGuard {
    fn drop(&mut self) {
        lock(&self.sessions.list).remove(&self.session.id);
        self.sessions.of(self.session.client.dialect).inspect(|count| {
            count.fetch_sub(1, Ordering::Relaxed);
        });
    }
}
