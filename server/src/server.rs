//! Puts the parts together: one function that serves until it is told to stop.

use std::sync::Arc;
use std::time::Duration;

use syncline_protocol::document::Stamping;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tracing::{error, info};

use crate::app::App;
use crate::audit::Audit;
use crate::auth::Verifier;
use crate::auth::demo_login::Demo;
use crate::auth::revocation::Revocations;
use crate::auth::tickets::Tickets;
use crate::config::limits::{DRAIN, DRAIN_STALLED, Limits};
use crate::config::{MetricsFor, Mode};
use crate::document::hub::Hub;
use crate::document::scrubber;
use crate::metrics::expose::Exposition;
use crate::net::listener;
use crate::net::origin::Origins;
use crate::net::proxy::Proxies;
use crate::quarantine::recovery::Recovery;
use crate::session::quota::Quotas;
use crate::store::writer::{StoreState, StoreWriter, Unstored, WriterLimits};
use crate::store::{AppendError, Store};

/// Everything a server needs that its caller owns.
#[derive(Debug)]
pub struct Parts {
    /// Where it listens, already bound.
    pub listener: TcpListener,
    /// Where documents rest, already open.
    pub store: Arc<dyn Store>,
    /// What is known of documents in trouble.
    pub trouble: Recovery,
    /// Who checks tokens.
    pub verifier: Verifier,
    /// Which web pages may connect.
    pub origins: Origins,
    /// Whose tokens are not taken.
    pub revoked: Revocations,
    /// Its bounds.
    pub limits: Limits,
    /// How it presents itself.
    pub mode: Mode,
    /// What presence states are given.
    pub stamping: Stamping,
    /// The embedded pages, if they are served.
    pub demo: Option<Demo>,
    /// The proxies that are believed.
    pub proxies: Proxies,
    /// Who may read the metrics.
    pub metrics: MetricsFor,
    /// Where it is recorded who does what.
    pub audit: Audit,
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
    /// The store took no more, and what was accepted since is not on disk. Nobody was told that it
    /// is, and whoever wrote it still holds it.
    #[error("not everything is on disk; nothing of that was acknowledged")]
    Unstored(#[from] Unstored),
    /// The store could not be brought to rest.
    #[error("the store could not be closed; what was acknowledged is on disk")]
    Close(#[source] AppendError),
}

/// Serves until `stop` completes, then drains: no new connections, every session told to come
/// back, every accepted update on disk.
///
/// # Errors
/// If documents do not finish in time, or the store does not take what was accepted.
pub async fn run(parts: Parts, stop: impl Future<Output = ()>) -> Result<(), StopError> {
    let Parts {
        listener,
        store,
        trouble,
        verifier,
        origins,
        revoked,
        limits,
        mode,
        stamping,
        demo,
        proxies,
        metrics,
        audit,
    } = parts;
    let (writer, writer_thread) = StoreWriter::start(Arc::clone(&store), WriterLimits::DEFAULT);
    let mut store_state = writer.state();
    let check_every = Duration::from_secs(limits.check_seconds);
    let places = Quotas::new(&limits);
    let hub = Arc::new(Hub::new(Arc::clone(&store), writer, trouble, limits, stamping));
    let app = Arc::new(App {
        hub: Arc::clone(&hub),
        verifier,
        origins,
        tickets: Tickets::default(),
        revoked,
        mode,
        demo,
        proxies,
        places,
        metrics: Exposition::default(),
        metrics_for: metrics,
        audit,
    });
    if let Some(jwks) = app.verifier.jwks().cloned() {
        let draining = hub.draining.clone();
        hub.tasks.spawn(async move { draining.run_until_cancelled_owned(jwks.keep()).await });
    }
    hub.tasks.spawn(listener::accept(listener, app));
    if !check_every.is_zero() {
        hub.tasks.spawn(scrubber::run(Arc::clone(&hub), check_every));
    }

    stop.await;
    info!(sessions = hub.session_count(), "Stopping.");
    // Documents wait for what is not on disk yet, in vain if nothing is stored any more.
    let stores = *store_state.borrow_and_update() == StoreState::Writable;
    let patience = if stores { DRAIN } else { DRAIN_STALLED };
    hub.draining.cancel();
    hub.tasks.close();
    let drained = timeout(patience, hub.tasks.wait()).await;
    // What is queued by now was accepted before; a disk that hangs must not keep the process.
    let unfinished = |_| StopError::Unfinished { tasks: hub.tasks.len(), waited: patience };
    timeout(DRAIN, writer_thread.stop()).await.map_err(unfinished)??;
    drained.map_err(unfinished)?;
    let close = timeout(DRAIN, tokio::task::spawn_blocking(move || store.close()));
    match close.await.map_err(unfinished)? {
        Ok(closed) => closed.map_err(StopError::Close)?,
        Err(panicked) => error!(%panicked, "Closing the store panicked."),
    }
    info!("Stopped; everything accepted is on disk.");
    Ok(())
}
