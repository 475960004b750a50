//! Application state and the verbs of the server, independent of HTTP and WebSocket.

use std::sync::Arc;

use syncline_protocol::{Close, CloseCode, DocumentName, Limit};
use tokio::time::timeout;

use crate::audit::Audit;
use crate::auth::demo_login::Demo;
use crate::auth::revocation::Revocations;
use crate::auth::tickets::Tickets;
use crate::auth::{Claims, Verifier};
use crate::config::limits::LOGIN;
use crate::config::{MetricsFor, Mode};
use crate::document::hub::Hub;
use crate::metrics::expose::Exposition;
use crate::net::origin::Origins;
use crate::net::proxy::Proxies;
use crate::session::quota::Quotas;
use crate::session::registry::Rights;

/// State shared by every request and connection.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) hub: Arc<Hub>,
    pub(crate) verifier: Verifier,
    pub(crate) origins: Origins,
    pub(crate) tickets: Tickets,
    pub(crate) revoked: Revocations,
    pub(crate) mode: Mode,
    /// Whether the embedded pages are served, and to whom.
    pub(crate) demo: Option<Demo>,
    pub(crate) proxies: Proxies,
    pub(crate) places: Quotas,
    pub(crate) metrics: Exposition,
    pub(crate) metrics_for: MetricsFor,
    pub(crate) audit: Audit,
}

impl App {
    /// What a token allows in a document.
    pub(crate) async fn admit(
        &self,
        token: &str,
        document: &DocumentName,
    ) -> Result<Rights, Close> {
        self.held(&self.verified(token).await?, document)
    }

    /// What a token says, if it is good.
    pub(crate) async fn verified(&self, token: &str) -> Result<Claims, Close> {
        let claims = timeout(LOGIN, self.verifier.verify_with_latest(token)).await;
        let claims = claims.map_err(|_| {
            let text = "the keys for this token did not come in time; try again";
            Close::at_limit(Limit::LoginTime, CloseCode::KeysUnavailable, text)
        })?;
        claims.map_err(|error| error.close())
    }

    /// What verified claims allow in a document.
    pub(crate) fn held(&self, claims: &Claims, document: &DocumentName) -> Result<Rights, Close> {
        let grant = claims.grant(document).map_err(|error| error.close())?;
        self.revoked.limit(document, Rights { grant, issued_at: claims.iat.unwrap_or(0) })
    }
}
