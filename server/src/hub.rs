//! The registry of live documents. A document's entry exists before it is loaded and until its
//! task has agreed to end, so no document is ever loaded twice.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use syncline_protocol::document::Stamping;
use syncline_protocol::{DocumentName, SessionId};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::document_task::DocumentTask;
use crate::limits::{BLOCKING_DOCUMENTS, Limits};
use crate::mailbox::{Mail, Mailbox};
use crate::sessions::Sessions;
use crate::store::Store;
use crate::store::writer::StoreWriter;
use crate::trouble::Trouble;

/// The live documents and what they share.
#[derive(Debug)]
pub(crate) struct Hub {
    documents: Mutex<HashMap<DocumentName, Mailbox>>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) writer: StoreWriter,
    pub(crate) trouble: Trouble,
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
    /// As many documents are open as may be.
    TooManyDocuments,
    /// The server is stopping.
    Draining,
}

impl Hub {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        writer: StoreWriter,
        trouble: Trouble,
        limits: Limits,
        stamping: Stamping,
    ) -> Self {
        Self {
            documents: Mutex::default(),
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
        let mut documents = self.documents();
        // Asked under the lock: once the registry is drained, nothing is added to it.
        if self.draining.is_cancelled() {
            return Err(JoinError::Draining);
        }
        if let Some(mailbox) = documents.get(name) {
            return Ok(mailbox.clone());
        }
        if documents.len() >= self.limits.documents {
            return Err(JoinError::TooManyDocuments);
        }
        let (mailbox, mail) = Mailbox::new(2 * self.limits.message_bytes);
        documents.insert(name.clone(), mailbox.clone());
        drop(documents);
        let task = DocumentTask::new(Arc::clone(self), name.clone(), mail);
        self.tasks.spawn(task.run());
        Ok(mailbox)
    }

    /// Takes a document out of the registry if nobody is in it or on the way in.
    pub(crate) fn release(&self, name: &DocumentName, mail: &mpsc::Receiver<Mail>) -> bool {
        let mut documents = self.documents();
        let unused = documents.get(name).is_none_or(|mailbox| mailbox.is_only_the_hubs());
        let released = unused && mail.is_empty();
        if released {
            documents.remove(name);
        }
        released
    }

    /// Takes a document out of the registry whoever is in it: its task failed, or the server stops.
    pub(crate) fn forget(&self, name: &DocumentName) {
        self.documents().remove(name);
    }

    /// The live document whose name follows `last`, or the first, with its mailbox.
    pub(crate) fn live_after(
        &self,
        last: Option<&DocumentName>,
    ) -> Option<(DocumentName, Mailbox)> {
        let documents = self.documents();
        let names = documents.keys().filter(|name| last.is_none_or(|last| *name > last));
        let next = names.min()?;
        documents.get(next).map(|mailbox| (next.clone(), mailbox.clone()))
    }

    /// The documents that are live.
    pub(crate) fn live(&self) -> BTreeSet<DocumentName> {
        self.documents().keys().cloned().collect()
    }

    /// How many sessions are connected.
    pub(crate) fn session_count(&self) -> usize {
        self.sessions.count()
    }

    /// How many documents are live.
    pub(crate) fn document_count(&self) -> usize {
        self.documents().len()
    }

    fn documents(&self) -> MutexGuard<'_, HashMap<DocumentName, Mailbox>> {
        // No critical section can leave the map half changed.
        self.documents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
