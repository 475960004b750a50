//! What documents, sessions and the HTTP API share: the store and its writer, quarantine, limits, the
//! clock, and the life of the process.

use std::sync::Arc;

use syncline_protocol::document::Stamping;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::config::limits::{BLOCKING_DOCUMENTS, Limits};
use crate::quarantine::recovery::Recovery;
use crate::store::Store;
use crate::store::writer::StoreWriter;

/// The layer below the live documents. It refers to none of them.
#[derive(Debug)]
pub(crate) struct Services {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) writer: StoreWriter,
    pub(crate) recovery: Recovery,
    pub(crate) limits: Limits,
    pub(crate) stamping: Stamping,
    pub(crate) clock: Clock,
    /// Permits for loads and snapshots, each of which holds a second copy of a document.
    pub(crate) blocking: Semaphore,
    /// One permit: a suspect document is read by a child process, one at a time.
    pub(crate) suspects: Semaphore,
    /// Cancelled when the server stops.
    pub(crate) draining: CancellationToken,
    /// Every task that a stop waits for.
    pub(crate) tasks: TaskTracker,
}

impl Services {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        writer: StoreWriter,
        recovery: Recovery,
        limits: Limits,
        stamping: Stamping,
    ) -> Self {
        Self {
            store,
            writer,
            recovery,
            limits,
            stamping,
            clock: Clock::start(),
            blocking: Semaphore::new(BLOCKING_DOCUMENTS),
            suspects: Semaphore::new(1),
            draining: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }
    }
}
