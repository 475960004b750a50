//! Admission: from a credential to a lane.
//!
//! [`admit`] verifies the credential and derives the rights: claims, then the grant for the document,
//! then the limits of revocations. [`Admitted::open_lane`] takes the quota permits, opens the document,
//! registers the session, asks for revocations once more, and joins. An upgrade runs the second step
//! after its handshake, when the socket exists; a frame on an open socket can run both in a row.

use std::sync::Arc;

use syncline_protocol::wire::Dialect;
use syncline_protocol::{Close, CloseCode, DocumentName, Epoch, Limit};
use tokio::time::Instant;
use tracing::{debug, info};

use crate::app::App;
use crate::audit::{Entry, Event as Audited};
use crate::auth::{Claims, Credential, Rights, still_current};
use crate::connection::lane::Lane;
use crate::document::hub::JoinError;
use crate::document::mailbox::{DocumentCommand, Mailbox};
use crate::metrics::METRICS;
use crate::net::quota::SessionPermits;
use crate::net::socket_writer::SendQueue;
use crate::session::live::{ClientInfo, LiveSession};
use crate::session::rate_limit::RateLimit;
use crate::session::token_refresh::TokenRefresh;

/// A client, apart from its credential and document.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) dialect: Dialect,
    /// The epoch of the history that the client has.
    pub(crate) epoch: Option<Epoch>,
    /// The client's address.
    pub(crate) address: String,
}

/// A client whose credential gives it rights in a document. Holds no permit and no session yet.
#[derive(Debug)]
pub(crate) struct Admitted {
    document: DocumentName,
    rights: Rights,
    client: Client,
}

/// A rejected client: the close, and the identity as far as it was verified.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) close: Close,
    document: Option<DocumentName>,
    address: String,
    /// Boxed: it is large, and refusals are rare.
    entry: Box<Entry>,
}

impl Refusal {
    /// A refusal before the document is known.
    pub(crate) fn new(close: Close, address: &str) -> Self {
        let entry = Entry::new(Audited::SessionRefused).peer(address).close(&close);
        Self { close, document: None, address: address.to_owned(), entry: Box::new(entry) }
    }

    /// A refusal for a document.
    pub(crate) fn at(document: &DocumentName, close: Close, address: &str) -> Self {
        let refusal = Self { document: Some(document.clone()), ..Self::new(close, address) };
        refusal.describe(|entry| entry.document(document))
    }

    fn describe(self, describe: impl FnOnce(Entry) -> Entry) -> Self {
        Self { entry: Box::new(describe(*self.entry)), ..self }
    }

    /// Counts and logs the refusal. Call it once.
    pub(crate) fn report(&self, app: &App) {
        let Self { close, document, address, entry } = self;
        let document = document.as_ref().map(tracing::field::display);
        let (code, text) = (close.code.name(), &close.text);
        info!(document, peer = address, code, text, "Refused a connection.");
        METRICS.refused(close);
        app.audit.record(|| Entry::clone(entry));
    }
}

/// Verifies a credential for a document.
///
/// # Errors
/// The close for the first check that fails.
pub(crate) async fn admit(
    app: &App,
    credential: Credential,
    document: DocumentName,
    client: Client,
) -> Result<Admitted, Refusal> {
    match authorize(app, credential, &document).await {
        Ok(rights) => Ok(Admitted { document, rights, client }),
        Err(Unauthorized { close, sub }) => {
            let refusal = Refusal::at(&document, close, &client.address);
            Err(refusal.describe(|entry| entry.sub(sub.as_deref())))
        }
    }
}

/// A credential without rights in a document.
pub(super) struct Unauthorized {
    pub(super) close: Close,
    /// The user, if the credential was verified.
    sub: Option<String>,
}

/// The rights of a credential in a document: of an upgrade, of a frame, and of a token that renews a
/// session.
pub(super) async fn authorize(
    app: &App,
    credential: Credential,
    document: &DocumentName,
) -> Result<Rights, Unauthorized> {
    let claims: Result<Claims, Close> = match credential {
        Credential::Token(token) => app.verify(&token).await,
        Credential::Ticket(ticket) => {
            let redeemed = app.tickets.redeem(&ticket, document, Instant::now());
            redeemed.and_then(still_current).map_err(|error| error.close())
        }
    };
    let claims = claims.map_err(|close| Unauthorized { close, sub: None })?;
    app.rights(&claims, document).map_err(|close| Unauthorized { close, sub: claims.sub })
}

impl Admitted {
    /// Opens the client's lane: its session is registered and joins the document.
    pub(crate) async fn open_lane(self, app: &App, send_queue: SendQueue) -> Result<Lane, Refusal> {
        let Self { document, rights, client } = self;
        let Client { dialect, epoch, address } = client;
        let refused = |close: Close| {
            let refusal = Refusal::at(&document, close, &address);
            refusal.describe(|entry| entry.of(&rights.grant.identity).dialect(dialect))
        };
        let (permits, mailbox) = open(app, &document, &rights).map_err(refused)?;

        let (id, since) = (app.sessions.next_id(), app.services.clock.now());
        let peer = Arc::<str>::from(&*address);
        let info = ClientInfo { document: document.clone(), dialect, peer, since };
        let registered =
            app.sessions.register(LiveSession::new(id, info, send_queue, rights.clone()));
        let session = Arc::clone(&registered.session);
        // A revocation since the check in `authorize` did not find this session on the list.
        let limited = session.change(|rights| app.revocations.limit(&document, rights.clone()));
        let grant = limited.map_err(|close| {
            refused(close).describe(|entry| entry.session(id).access(Some(rights.grant.access)))
        })?;

        METRICS.sessions.add(dialect, 1);
        session.opened(&app.audit);
        debug!(
            %document, session = %id, peer = &*address, user = &*grant.identity.sub,
            access = ?grant.access, "A session begins."
        );
        let asks = dialect.features().renews_tokens;
        let token_refresh = TokenRefresh::new(id, &grant, &app.services.clock, asks);
        let rate_limit = RateLimit::new(&app.services.limits, Instant::now());
        // The connection notices a document that is gone by now, and closes with a reason.
        drop(mailbox.send(DocumentCommand::Join { session, dialect, epoch }).await);
        Ok(Lane { registered, mailbox, rate_limit, token_refresh, _permits: permits })
    }
}

/// The quota permits of one more session, and the mailbox of its document. Permits first: a client
/// over its quota must not have a document loaded.
fn open(
    app: &App,
    document: &DocumentName,
    rights: &Rights,
) -> Result<(SessionPermits, Mailbox), Close> {
    let permits = app.quotas.for_session(&rights.grant.identity.sub, document)?;
    let mailbox = app.hub.open(document).map_err(|error| match error {
        JoinError::TooManyDocuments { max } => {
            let text = format!("{max} documents are in use (limits.documents); try again later");
            Close::at_limit(Limit::Documents, CloseCode::Overloaded, text)
        }
        JoinError::Draining => Close::new(CloseCode::Draining, "the server restarts; reconnect"),
    })?;
    Ok((permits, mailbox))
}

#[cfg(test)]
mod tests;
