//! How a client becomes a session: its places under the limits, its document, and its rights as they
//! are by now.

use std::sync::Arc;

use syncline_protocol::wire::Dialect;
use syncline_protocol::{Close, CloseCode, DocumentName, Epoch, Limit};
use tokio::time::Instant;
use tracing::{debug, info};

use crate::app::App;
use crate::audit::{Entry, Event as Audited};
use crate::document::hub::JoinError;
use crate::document::mailbox::{DocumentCommand, Mailbox};
use crate::metrics::METRICS;
use crate::net::listener::Peer;
use crate::net::send_queue::SendQueue;
use crate::net::transport::{Socket, refuse};
use crate::session::connection::Connection;
use crate::session::quota::SessionPermits;
use crate::session::rate_limit::RateLimit;
use crate::session::registry::{ClientInfo, LiveSession, Rights, Sessions};
use crate::session::token_refresh::TokenRefresh;

/// What a verified client asked for.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) document: DocumentName,
    pub(crate) held: Rights,
    pub(crate) dialect: Dialect,
    /// The history that the client says it holds.
    pub(crate) epoch: Option<Epoch>,
    /// The address at the other end.
    pub(crate) peer: String,
}

/// Lets a client into its document, and has it served until either side ends that: by a task of its
/// own, because the one that took the upgrade has room for much that is over by now. Holds the
/// connection's `place` to the end.
pub(crate) async fn serve(
    app: Arc<App>,
    socket: Socket,
    send_queue: Arc<SendQueue>,
    admission: Admission,
    place: Option<Peer>,
) {
    let hub = Arc::clone(&app.hub);
    let (document, peer) = (admission.document.clone(), admission.peer.clone());
    let (dialect, epoch) = (admission.dialect, admission.epoch);
    let opened = match open(&app, &admission) {
        Ok(opened) => opened,
        Err(close) => return refuse(socket, close).await,
    };
    let (mailbox, places) = opened;
    let (session, opened_at) = (hub.session_id(), send_queue.written_at());
    let peer = Arc::<str>::from(peer);
    let since = hub.clock.now();
    let arrival =
        ClientInfo { document: document.clone(), dialect, peer: Arc::clone(&peer), since };
    let live = LiveSession::new(session, arrival, mailbox, send_queue, admission.held);
    let entered = Sessions::enter(&hub, live);
    let live = Arc::clone(&entered.session);
    // Revoked since the token was checked: nobody found this session among those who are connected.
    let admitted = live.change(|held| app.revoked.limit(&document, held.clone()));
    let grant = match admitted {
        Ok(grant) => grant,
        Err(close) => {
            METRICS.refused(&close);
            app.audit.record(|| live.entry(Audited::SessionRefused).close(&close));
            drop((entered, live));
            return refuse(socket, close).await;
        }
    };
    METRICS.sessions.add(dialect, 1);
    live.opened(&app.audit);
    debug!(
        %document, %session, peer = &*peer, user = &*grant.identity.sub, access = ?grant.access,
        "A session begins."
    );
    let now = Instant::now();
    let connection = Connection {
        app,
        socket,
        live: Arc::clone(&live),
        entered,
        dialect,
        heard_at: now,
        pinged_at: now,
        kept_alive_at: now,
        opened_at,
        allowance: RateLimit::new(&hub.limits, now),
        paused_until: None,
        renewal: TokenRefresh::new(session, &grant, &hub.clock, dialect.features().renews_tokens),
        _places: places,
        _place: place,
    };
    // A document that is gone by now is noticed by the connection, which tells its client.
    drop(
        live.mailbox
            .send(DocumentCommand::Join { session: Arc::clone(&live), dialect, epoch })
            .await,
    );
    drop(live);
    hub.tasks.spawn(connection.serve());
}

/// The way to a document, and the places of one more session there. A refusal is told of.
fn open(app: &App, admission: &Admission) -> Result<(Mailbox, SessionPermits), Close> {
    let Admission { document, held, dialect, peer, .. } = admission;
    try_open(app, document, held).inspect_err(|close| {
        info!(%document, peer, code = close.code.name(), text = close.text, "Refused a session.");
        METRICS.refused(close);
        app.audit.record(|| {
            let entry = Entry::new(Audited::SessionRefused).of(&held.grant.identity);
            entry.document(document).peer(peer).dialect(*dialect).close(close)
        });
    })
}

fn try_open(
    app: &App,
    document: &DocumentName,
    held: &Rights,
) -> Result<(Mailbox, SessionPermits), Close> {
    let places = app.places.for_session(&held.grant.identity.sub, document)?;
    let mailbox = app.hub.open(document).map_err(|error| match error {
        JoinError::TooManyDocuments { max } => {
            let text = format!("{max} documents are in use (limits.documents); try again later");
            Close::at_limit(Limit::Documents, CloseCode::Overloaded, text)
        }
        JoinError::Draining => Close::new(CloseCode::Draining, "the server restarts; reconnect"),
    })?;
    Ok((mailbox, places))
}
