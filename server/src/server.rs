//! Puts the parts together: one function that serves until it is told to stop.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tracing::info;

use crate::auth::Verifier;
use crate::config::Mode;
use crate::hub::Hub;
use crate::limits::{DRAIN, Limits};
use crate::listener;
use crate::store::Store;
use crate::store::writer::{StoreWriter, Unstored, WriterLimits};

/// What every request can reach.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) hub: Arc<Hub>,
    pub(crate) verifier: Verifier,
    pub(crate) mode: Mode,
}

/// Everything a server needs that its caller owns.
#[derive(Debug)]
pub struct Parts {
    /// Where it listens, already bound.
    pub listener: TcpListener,
    /// Where documents rest, already open.
    pub store: Arc<dyn Store>,
    /// Who checks tokens.
    pub verifier: Verifier,
    /// Its bounds.
    pub limits: Limits,
    /// How it presents itself.
    pub mode: Mode,
}

/// How a stop went wrong.
#[derive(Debug, Error)]
pub enum StopError {
    /// Documents did not finish in time.
    #[error(
        "{tasks} tasks were still at work after {} s; what was acknowledged is on disk",
        .waited.as_secs()
    )]
    Unfinished {
        /// How many.
        tasks: usize,
        /// How long they were given.
        waited: Duration,
    },
    /// Updates were accepted, never acknowledged, and are lost with this process.
    #[error("not everything accepted is on disk; what was acknowledged is")]
    Unstored(#[from] Unstored),
}

/// Serves until `stop` completes, then drains: no new connections, every session told to come
/// back, every accepted update on disk.
///
/// # Errors
/// If documents do not finish in time, or there is no room for what they accepted.
pub async fn run(parts: Parts, stop: impl Future<Output = ()>) -> Result<(), StopError> {
    let Parts { listener, store, verifier, limits, mode } = parts;
    let (writer, writer_thread) = StoreWriter::start(Arc::clone(&store), WriterLimits::DEFAULT);
    let hub = Arc::new(Hub::new(store, writer, limits));
    let context = Arc::new(Context { hub: Arc::clone(&hub), verifier, mode });
    hub.tasks.spawn(listener::accept(listener, context));

    stop.await;
    info!(sessions = hub.session_count(), "Stopping.");
    hub.draining.cancel();
    hub.tasks.close();
    let drained = timeout(DRAIN, hub.tasks.wait()).await;
    // What is queued by now was accepted before; a disk that hangs must not keep the process.
    let stored = timeout(DRAIN, writer_thread.stop()).await;
    match drained.and(stored) {
        Ok(stored) => {
            stored?;
            info!("Stopped; everything accepted is on disk.");
            Ok(())
        }
        Err(_) => Err(StopError::Unfinished { tasks: hub.tasks.len(), waited: DRAIN }),
    }
}
