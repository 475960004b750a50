//! The live documents. A document is registered before it is loaded and until its task has agreed to
//! end, so none is ever loaded twice.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use syncline_protocol::DocumentName;
use tokio::sync::mpsc;

use crate::config::limits::UNUSED_SHARE;
use crate::document::mailbox::{DocumentCommand, Mailbox};
use crate::document::registry::Registry;
use crate::document::task::DocumentTask;
use crate::services::Services;
use crate::sync::lock;

/// Finds and starts the tasks of live documents.
#[derive(Debug)]
pub(crate) struct Hub {
    services: Arc<Services>,
    registry: Mutex<Registry>,
}

/// Why a document cannot be joined at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JoinError {
    /// As many documents as `limits.documents` have sessions.
    TooManyDocuments {
        /// The limit.
        max: usize,
    },
    /// The server is stopping.
    Draining,
}

impl Hub {
    pub(crate) fn new(services: Arc<Services>) -> Self {
        Self { services, registry: Mutex::default() }
    }

    /// The mailbox of a document, whose task is started if it is not live. The document stays live
    /// while the caller holds the mailbox.
    pub(crate) fn open(self: &Arc<Self>, name: &DocumentName) -> Result<Mailbox, JoinError> {
        let max = self.services.limits.documents;
        let mut registry = lock(&self.registry);
        // Asked under the lock: once the registry is drained, nothing is added to it.
        if self.services.draining.is_cancelled() {
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
        let (mailbox, commands) = Mailbox::new(2 * self.services.limits.message_bytes);
        registry.insert(name.clone(), mailbox.clone());
        drop(registry);
        let (services, hub) = (Arc::clone(&self.services), Arc::clone(self));
        // Boxed here: a future reserves room twice for a value that it takes over.
        let task = Box::new(DocumentTask::new(services, hub, name.clone(), commands));
        self.services.tasks.spawn(task.run());
        Ok(mailbox)
    }

    /// The mailbox of a document, if it is live.
    pub(crate) fn find(&self, name: &DocumentName) -> Option<Mailbox> {
        lock(&self.registry).get(name).cloned()
    }

    /// Notes that a document has a session.
    pub(crate) fn joined(&self, name: &DocumentName) {
        lock(&self.registry).joined(name);
    }

    /// Notes that a document's last session has left. The document stays live for the next one, within
    /// the bound on idle documents.
    pub(crate) fn left(&self, name: &DocumentName) {
        let mut registry = lock(&self.registry);
        registry.left(name);
        registry.make_room((self.services.limits.documents / UNUSED_SHARE).max(1));
    }

    /// Removes a document that has no session and no pending command. Returns whether it did.
    pub(crate) fn release(
        &self,
        name: &DocumentName,
        commands: &mpsc::Receiver<DocumentCommand>,
    ) -> bool {
        let mut registry = lock(&self.registry);
        let unused = registry.get(name).is_none_or(Mailbox::is_only_the_hubs);
        let released = unused && commands.is_empty();
        if released {
            registry.remove(name);
        } else {
            // A session that holds the mailbox and has not joined may give up before it does.
            registry.left(name);
        }
        released
    }

    /// Removes a document, with or without sessions: its task failed, or the server stops.
    pub(crate) fn forget(&self, name: &DocumentName) {
        lock(&self.registry).remove(name);
    }

    /// The live document whose name follows `last`, or the first one, with its mailbox.
    pub(crate) fn live_after(
        &self,
        last: Option<&DocumentName>,
    ) -> Option<(DocumentName, Mailbox)> {
        let registry = lock(&self.registry);
        let names = registry.names().filter(|name| last.is_none_or(|last| *name > last));
        let next = names.min()?;
        registry.get(next).map(|mailbox| (next.clone(), mailbox.clone()))
    }

    /// The names of the live documents.
    pub(crate) fn live(&self) -> BTreeSet<DocumentName> {
        lock(&self.registry).names().cloned().collect()
    }

    /// The number of live documents.
    pub(crate) fn document_count(&self) -> usize {
        lock(&self.registry).len()
    }

    /// The number of live documents without a session.
    pub(crate) fn idle_count(&self) -> usize {
        lock(&self.registry).idle()
    }
}
