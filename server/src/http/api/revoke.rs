//! `POST /api/v1/revoke`: takes rights from a user, those who are connected included.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde::Deserialize;
use syncline_protocol::{Access, Close, CloseCode, DocumentName, Limit};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::{error, info};
use warp::http::StatusCode;

use crate::app::App;
use crate::audit::{Entry, Event};
use crate::auth::revocation::Revocation;
use crate::auth::unix_now;
use crate::document::mailbox::DocumentCommand;
use crate::http::{Reply, problem, refusal, reply};
use crate::metrics::METRICS;
use crate::session::live::LiveSession;

/// For documents to confirm. They do so with the next of their mail.
const PATIENCE: Duration = Duration::from_secs(5);

/// Seconds that `issued_before` may be ahead: somebody else's clock, not a mistaken unit.
const AHEAD_MAX: u64 = 3_600;

/// What is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Order {
    /// From whom.
    sub: String,
    /// Where; everywhere if it is missing.
    document: Option<String>,
    /// With which tokens; all that there are if it is missing. Seconds since the Unix epoch.
    issued_before: Option<u64>,
    /// What is left; nothing if it is missing.
    access: Option<Access>,
    /// When those tokens have ended.
    until: Option<u64>,
}

impl Order {
    fn check(self, now: u64) -> Result<Revocation, Close> {
        let bad = |text: &str| Close::new(CloseCode::BadRequest, text);
        if self.sub.is_empty() {
            return Err(bad("sub is empty; name the user as tokens do"));
        }
        let document = self.document.unwrap_or_else(|| "*".to_owned());
        let name = document.strip_suffix("/*").unwrap_or(&document);
        // A name may hold a star. That one is more likely meant as a pattern.
        let is_name = !name.contains('*') && name.parse::<DocumentName>().is_ok();
        if document != "*" && !is_name {
            return Err(bad("document is neither a name, nor prefix/*, nor *"));
        }
        if self.access == Some(Access::Admin) {
            return Err(bad("access is what is left: read or write, or leave it out"));
        }
        // Tokens of this second may be from before this moment.
        let issued_before = self.issued_before.unwrap_or(now + 1);
        if issued_before > now + AHEAD_MAX {
            return Err(bad("issued_before is more than an hour ahead; it counts seconds"));
        }
        if self.until.is_some_and(|until| until <= now) {
            return Err(bad("until is over; it counts seconds"));
        }
        let (access, until) = (self.access, self.until);
        Ok(Revocation { sub: self.sub, document, issued_before, access, until })
    }
}

/// How many sessions lost what.
#[derive(Debug, Default)]
struct Lost {
    closed: usize,
    narrowed: usize,
    /// Documents that have not said that it holds for them.
    unconfirmed: usize,
}

/// What a revocation left of a session.
enum Loss {
    Narrowed,
    Closed,
}

/// Carries an order out and answers.
pub(crate) async fn answer(
    order: Result<Order, Close>,
    by: Option<String>,
    app: Arc<App>,
) -> Reply {
    let now = unix_now();
    let revocation = match order.and_then(|order| order.check(now)) {
        Ok(revocation) => revocation,
        Err(close) => return refusal(&close),
    };
    // First the list, then those who are connected: whoever comes in between is found in the list.
    let listed = app.revocations.put(revocation.clone(), now);
    METRICS.revocations.add(1);
    app.audit.record(|| {
        let Revocation { sub, document, access, .. } = &revocation;
        let entry = Entry::new(Event::RightsRevoked).by(by.as_deref()).sub(Some(sub));
        entry.pattern(document).access(*access)
    });
    let lost = take_away(&app, &revocation).await;
    info!(
        by, sub = revocation.sub, document = revocation.document, access = ?revocation.access,
        closed = lost.closed, narrowed = lost.narrowed, "Rights were revoked."
    );
    let unavailable = |word, text: &str| problem(StatusCode::SERVICE_UNAVAILABLE, word, text);
    if listed.is_err() {
        METRICS.hit(Limit::Revocations);
        let text = "sessions were ended, but no more revocations can be remembered and the tokens \
                    are still good; give until with each, or change the key";
        return unavailable(CloseCode::Overloaded.name(), text);
    }
    let written = {
        let app = Arc::clone(&app);
        tokio::task::spawn_blocking(move || app.revocations.write()).await
    };
    if !matches!(written, Ok(Ok(()))) {
        error!(?written, "A revocation cannot be written down.");
        let text = "it holds, but only until this process ends: the list cannot be written";
        return unavailable(CloseCode::StoreUnavailable.name(), text);
    }
    if lost.unconfirmed > 0 {
        let text = format!("it holds for all that comes; {} documents are busy", lost.unconfirmed);
        return unavailable(CloseCode::Overloaded.name(), &text);
    }
    let body = serde_json::json!({ "closed": lost.closed, "narrowed": lost.narrowed });
    reply(StatusCode::OK, "application/json", body.to_string())
}

/// Takes the rights from those who are connected. When this returns, nothing that they sent is on
/// its way into a document.
async fn take_away(app: &App, revocation: &Revocation) -> Lost {
    let mut lost = Lost::default();
    let mut confirmations = Vec::new();
    for session in app.sessions.all() {
        let mut hit = false;
        let limited = session.change(|held| {
            hit = revocation.hits(&session.client.document, held);
            if hit { revocation.limit(held) } else { Ok(held.clone()) }
        });
        match limited {
            Ok(_) if !hit => continue,
            Ok(_) => {
                lost.narrowed += 1;
                app.audit.record(|| session.entry(Event::RightsNarrowed));
                confirmations.push(confirmed(app, session, Loss::Narrowed));
            }
            Err(close) => {
                lost.closed += 1;
                session.send_queue.close(close);
                confirmations.push(confirmed(app, session, Loss::Closed));
            }
        }
    }
    let confirmed = join_all(confirmations).await;
    lost.unconfirmed = confirmed.into_iter().filter(|confirmed| !confirmed).count();
    lost
}

/// Whether the document has applied the change. One that is not live has nothing to apply.
async fn confirmed(app: &App, session: Arc<LiveSession>, loss: Loss) -> bool {
    let Some(mailbox) = app.hub.find(&session.client.document) else { return true };
    let (done, applied) = oneshot::channel();
    let session = session.id;
    let command = match loss {
        Loss::Narrowed => DocumentCommand::Regranted { session, done: Some(done) },
        Loss::Closed => DocumentCommand::Revoked { session, done },
    };
    let confirmation = async {
        if mailbox.send(command).await.is_ok() {
            drop(applied.await);
        }
    };
    timeout(PATIENCE, confirmation).await.is_ok()
}
