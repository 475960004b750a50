//! Application state and the verbs of the server, independent of HTTP and WebSocket.

use std::sync::Arc;

use syncline_protocol::{Close, CloseCode, DocumentName, Limit};
use tokio::time::timeout;

use crate::audit::Audit;
use crate::auth::demo_login::Demo;
use crate::auth::revocation::Revocations;
use crate::auth::tickets::Tickets;
use crate::auth::{Claims, Rights, Verifier};
use crate::config::limits::LOGIN;
use crate::config::{MetricsFor, Mode};
use crate::document::hub::Hub;
use crate::metrics::expose::Exposition;
use crate::net::origin::OriginPolicy;
use crate::net::proxy::TrustedProxies;
use crate::net::quota::Quotas;
use crate::services::Services;
use crate::session::registry::Sessions;

/// State shared by every request and connection.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) services: Arc<Services>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) verifier: Verifier,
    pub(crate) origins: OriginPolicy,
    pub(crate) tickets: Tickets,
    pub(crate) revocations: Revocations,
    pub(crate) mode: Mode,
    /// The login of the embedded pages, if those are served.
    pub(crate) demo: Option<Demo>,
    pub(crate) proxies: TrustedProxies,
    pub(crate) quotas: Quotas,
    pub(crate) metrics: Exposition,
    pub(crate) metrics_for: MetricsFor,
    pub(crate) audit: Audit,
}

impl App {
    /// The claims of a token.
    ///
    /// # Errors
    /// The first check of the token that fails, or a key set that is not fetched within [`LOGIN`].
    pub(crate) async fn verify(&self, token: &str) -> Result<Claims, Close> {
        let claims = timeout(LOGIN, self.verifier.verify(token)).await;
        let claims = claims.map_err(|_| {
            let text = "the keys for this token did not come in time; try again";
            Close::at_limit(Limit::LoginTime, CloseCode::KeysUnavailable, text)
        })?;
        claims.map_err(|error| error.close())
    }

    /// The rights of verified claims in a document: the grant of the claims, less what was revoked.
    pub(crate) fn rights(&self, claims: &Claims, document: &DocumentName) -> Result<Rights, Close> {
        let grant = claims.grant(document).map_err(|error| error.close())?;
        self.revocations.limit(document, Rights { grant, issued_at: claims.iat.unwrap_or(0) })
    }
}
