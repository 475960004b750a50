//! Composition root: [`run`] builds the server from its parts and serves until it is stopped.

mod listener;

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
use crate::net::origin::OriginPolicy;
use crate::net::proxy::TrustedProxies;
use crate::net::quota::Quotas;
use crate::quarantine::recovery::Recovery;
use crate::services::Services;
use crate::store::writer::{StoreState, StoreWriter, Unstored, WriterLimits};
use crate::store::{AppendError, Store};

/// Everything that a server is made of.
#[derive(Debug)]
pub struct Parts {
    /// A bound listener.
    pub listener: TcpListener,
    /// An open store.
    pub store: Arc<dyn Store>,
    /// Quarantine and crash markers.
    pub recovery: Recovery,
    /// Verifies tokens.
    pub verifier: Verifier,
    /// Web pages that may connect.
    pub origins: OriginPolicy,
    /// Revoked tokens.
    pub revocations: Revocations,
    /// Bounds on everything that a client can make the server hold.
    pub limits: Limits,
    /// `serve` or `dev`.
    pub mode: Mode,
    /// Whether presence states are stamped with the verified identity.
    pub stamping: Stamping,
    /// The login of the embedded pages; `None` if those are not served.
    pub demo: Option<Demo>,
    /// Trusted proxies.
    pub proxies: TrustedProxies,
    /// The clients that may read the metrics.
    pub metrics: MetricsFor,
    /// The audit log.
    pub audit: Audit,
}

/// Why a stop was not clean.
#[derive(Debug, Error)]
pub enum StopError {
    /// Documents did not finish in time.
    #[error(
        "{tasks} tasks were still at work after {} s; what was acknowledged is on disk",
        .waited.as_secs()
    )]
    Unfinished {
        /// Unfinished tasks.
        tasks: usize,
        /// Time that they were given.
        waited: Duration,
    },
    /// The store rejected updates. None of those was acknowledged, so their authors still hold them.
    #[error("not everything is on disk; nothing of that was acknowledged")]
    Unstored(#[from] Unstored),
    /// The store failed to close.
    #[error("the store could not be closed; what was acknowledged is on disk")]
    Close(#[source] AppendError),
}

/// Serves until `stop` completes, then drains: accepts no connection, closes every session with
/// `draining`, and writes every accepted update to disk.
///
/// # Errors
/// If documents do not finish in time, or the store does not take what was accepted.
pub async fn run(parts: Parts, stop: impl Future<Output = ()>) -> Result<(), StopError> {
    let (listener, store) = (parts.listener, parts.store);
    let (writer, writer_thread) = StoreWriter::start(Arc::clone(&store), WriterLimits::DEFAULT);
    let mut store_state = writer.state();
    let quotas = Quotas::new(&parts.limits);
    let check_every = Duration::from_secs(parts.limits.check_seconds);
    let services = Arc::new(Services::new(
        Arc::clone(&store),
        writer,
        parts.recovery,
        parts.limits,
        parts.stamping,
    ));
    let app = Arc::new(App {
        services: Arc::clone(&services),
        hub: Arc::new(Hub::new(Arc::clone(&services))),
        sessions: Arc::default(),
        verifier: parts.verifier,
        origins: parts.origins,
        tickets: Tickets::default(),
        revocations: parts.revocations,
        mode: parts.mode,
        demo: parts.demo,
        proxies: parts.proxies,
        quotas,
        metrics: Exposition::default(),
        metrics_for: parts.metrics,
        audit: parts.audit,
    });
    let (hub, sessions) = (Arc::clone(&app.hub), Arc::clone(&app.sessions));
    start_tasks(listener, app, hub, check_every);

    stop.await;
    info!(sessions = sessions.count(), "Stopping.");
    drop(sessions);
    // Documents wait for the store to take what is not on disk yet. A store that has failed never
    // takes it, so they are given less time.
    let stores = *store_state.borrow_and_update() == StoreState::Writable;
    let patience = if stores { DRAIN } else { DRAIN_STALLED };
    services.draining.cancel();
    services.tasks.close();
    let drained = timeout(patience, services.tasks.wait()).await;
    // Everything in the queue was accepted before the stop; a hanging disk must not keep the process.
    let unfinished = |_| StopError::Unfinished { tasks: services.tasks.len(), waited: patience };
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

/// The tasks that live as long as the server. All of them end when it drains.
fn start_tasks(listener: TcpListener, app: Arc<App>, hub: Arc<Hub>, check_every: Duration) {
    let services = Arc::clone(&app.services);
    let draining = services.draining.clone();
    if let Some(jwks) = app.verifier.jwks().cloned() {
        let draining = draining.clone();
        services
            .tasks
            .spawn(async move { draining.run_until_cancelled_owned(jwks.keep_fresh()).await });
    }
    services.tasks.spawn(listener::accept(listener, app));
    if !check_every.is_zero() {
        services.tasks.spawn(scrubber::run(hub, draining, check_every));
    }
}
