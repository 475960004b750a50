//! The live documents. One is registered before it is loaded and until its task has agreed to end,
//! so no document is ever loaded twice.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use syncline_protocol::document::Stamping;
use syncline_protocol::{DocumentName, SessionId};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::config::limits::{BLOCKING_DOCUMENTS, Limits, UNUSED_SHARE};
use crate::document::mailbox::{DocumentCommand, Mailbox};
use crate::document::registry::Registry;
use crate::document::task::DocumentTask;
use crate::quarantine::recovery::Recovery;
use crate::session::registry::Sessions;
use crate::store::Store;
use crate::store::writer::StoreWriter;

/// The live documents and what they share.
#[derive(Debug)]
pub(crate) struct Hub {
    registry: Mutex<Registry>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) writer: StoreWriter,
    pub(crate) trouble: Recovery,
    pub(crate) limits: Limits,
    pub(crate) stamping: Stamping,
    pub(crate) clock: Clock,
    /// Bounds loads and snapshots, which hold a second copy of a document.
    pub(crate) blocking: Semaphore,
    /// Lets one suspect at a time be read by a process of its own.
    pub(crate) suspects: Semaphore,
    /// Cancelled when the server stops.
    pub(crate) draining: CancellationToken,
    pub(crate) tasks: TaskTracker,
    next_session: AtomicU64,
    pub(crate) sessions: Sessions,
}

/// Why a document cannot be joined at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JoinError {
    /// Somebody is in each of as many documents as may be.
    TooManyDocuments {
        /// How many.
        max: usize,
    },
    /// The server is stopping.
    Draining,
}

impl Hub {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        writer: StoreWriter,
        trouble: Recovery,
        limits: Limits,
        stamping: Stamping,
    ) -> Self {
        Self {
            registry: Mutex::default(),
            store,
            writer,
            trouble,
            limits,
            stamping,
            clock: Clock::start(),
            blocking: Semaphore::new(BLOCKING_DOCUMENTS),
            suspects: Semaphore::new(1),
            draining: CancellationToken::new(),
            tasks: TaskTracker::new(),
            next_session: AtomicU64::new(1),
            sessions: Sessions::default(),
        }
    }

    /// A number for a new session.
    pub(crate) fn session_id(&self) -> SessionId {
        SessionId::new(self.next_session.fetch_add(1, Ordering::Relaxed))
    }

    /// The mailbox of a document, whose task is started if it is not live. As long as the caller
    /// holds the sender, the document stays.
    pub(crate) fn open(self: &Arc<Self>, name: &DocumentName) -> Result<Mailbox, JoinError> {
        let max = self.limits.documents;
        let mut registry = self.registry();
        // Asked under the lock: once the registry is drained, nothing is added to it.
        if self.draining.is_cancelled() {
            return Err(JoinError::Draining);
        }
        if let Some(mailbox) = registry.get(name) {
            return Ok(mailbox.clone());
        }
        let in_use = registry.in_use();
        if in_use >= max {
            return Err(JoinError::TooManyDocuments { max });
        }
        registry.make_room(max - in_use - 1);
        let (mailbox, mail) = Mailbox::new(2 * self.limits.message_bytes);
        registry.insert(name.clone(), mailbox.clone());
        drop(registry);
        // By itself: a future has room for what it is given twice.
        let task = Box::new(DocumentTask::new(Arc::clone(self), name.clone(), mail));
        self.tasks.spawn(task.run());
        Ok(mailbox)
    }

    /// Notes that somebody is in a document.
    pub(crate) fn joined(&self, name: &DocumentName) {
        self.registry().joined(name);
    }

    /// Notes that nobody is in a document any more. It stays for those who come back, if there are
    /// not too many like it.
    pub(crate) fn left(&self, name: &DocumentName) {
        let mut registry = self.registry();
        registry.left(name);
        registry.make_room((self.limits.documents / UNUSED_SHARE).max(1));
    }

    /// Takes a document out of the registry if nobody is in it or on the way in.
    pub(crate) fn release(
        &self,
        name: &DocumentName,
        mail: &mpsc::Receiver<DocumentCommand>,
    ) -> bool {
        let mut registry = self.registry();
        let unused = registry.get(name).is_none_or(Mailbox::is_only_the_hubs);
        let released = unused && mail.is_empty();
        if released {
            registry.remove(name);
        } else {
            // Whoever is on the way in may yet turn back.
            registry.left(name);
        }
        released
    }

    /// Takes a document out of the registry whoever is in it: its task failed, or the server stops.
    pub(crate) fn forget(&self, name: &DocumentName) {
        self.registry().remove(name);
    }

    /// The live document whose name follows `last`, or the first, with its mailbox.
    pub(crate) fn live_after(
        &self,
        last: Option<&DocumentName>,
    ) -> Option<(DocumentName, Mailbox)> {
        let registry = self.registry();
        let names = registry.names().filter(|name| last.is_none_or(|last| *name > last));
        let next = names.min()?;
        registry.get(next).map(|mailbox| (next.clone(), mailbox.clone()))
    }

    /// The documents that are live.
    pub(crate) fn live(&self) -> BTreeSet<DocumentName> {
        self.registry().names().cloned().collect()
    }

    /// How many sessions are connected.
    pub(crate) fn session_count(&self) -> usize {
        self.sessions.count()
    }

    /// How many documents are live.
    pub(crate) fn document_count(&self) -> usize {
        self.registry().len()
    }

    /// How many of them nobody is in.
    pub(crate) fn unused_count(&self) -> usize {
        self.registry().unused()
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        // No critical section can leave it half changed.
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
