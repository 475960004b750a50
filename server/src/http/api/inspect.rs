//! `GET /api/v1/documents`, `GET /api/v1/sessions`, `DELETE /api/v1/sessions/{id}`: what is live and
//! what is stored, for the inspector and for scripts.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use syncline_protocol::{Access, Close, CloseCode, DocumentName, Durability, Epoch};
use tracing::info;
use warp::Filter;
use warp::http::{HeaderMap, Response, StatusCode};
use warp::hyper::body::Bytes;

use crate::app::App;
use crate::audit::Event;
use crate::http::api::admitted;
use crate::http::{Reply, problem, refusal, reply};
use crate::session::live::LiveSession;

/// Entries of one answer. More are found by the beginning of their name.
const ENTRIES_MAX: usize = 500;

/// Which documents.
#[derive(Debug, Deserialize)]
struct Documents {
    /// How their names begin.
    #[serde(default)]
    prefix: String,
}

/// Whose sessions.
#[derive(Debug, Deserialize)]
struct Of {
    /// Everybody's if it is missing.
    document: Option<String>,
}

#[derive(Debug, Serialize)]
struct Overview {
    version: &'static str,
    durability: Durability,
    live: usize,
    stored: usize,
    sessions: usize,
    documents: Vec<DocumentFacts>,
    /// There are more than were listed.
    more: bool,
}

#[derive(Debug, Default, Serialize)]
struct DocumentFacts {
    name: String,
    /// Whether it is in memory.
    live: bool,
    sessions: usize,
    /// Bytes of its newest snapshot and the updates after it.
    bytes: u64,
    /// The last stored position.
    updates: u64,
    /// The identity of its history; empty if none is kept.
    epoch: String,
}

#[derive(Debug, Serialize)]
struct SessionFacts {
    id: u64,
    document: String,
    /// The verified identity; empty if the token has none.
    sub: String,
    access: Access,
    dialect: &'static str,
    peer: String,
    /// In milliseconds since 1970.
    since: u64,
    /// When its token ends, in seconds since 1970.
    expires_at: u64,
}

/// The three routes.
pub(crate) fn routes(
    app: Arc<App>,
) -> impl Filter<Extract = (Reply,), Error = warp::Rejection> + Clone {
    let with = warp::any().map(move || Arc::clone(&app)).and(warp::header::headers_cloned());
    let documents = warp::path!("api" / "v1" / "documents")
        .and(warp::get())
        .and(warp::query())
        .and(with.clone())
        .then(documents);
    let sessions = warp::path!("api" / "v1" / "sessions")
        .and(warp::get())
        .and(warp::query())
        .and(with.clone())
        .then(sessions);
    let disconnect =
        warp::path!("api" / "v1" / "sessions" / u64).and(warp::delete()).and(with).then(disconnect);
    documents.or(sessions).unify().or(disconnect).unify()
}

async fn documents(wanted: Documents, app: Arc<App>, headers: HeaderMap) -> Reply {
    if let Err(close) = admitted(headers, &app).await {
        return refusal(&close);
    }
    // A store's calls block.
    match tokio::task::spawn_blocking(move || overview(&app, &wanted.prefix)).await {
        Ok(overview) => json(&overview),
        Err(_) => refusal(&Close::new(CloseCode::Internal, "the store could not be asked")),
    }
}

async fn sessions(of: Of, app: Arc<App>, headers: HeaderMap) -> Reply {
    match admitted(headers, &app).await {
        Ok(_) => json(&people(&app, of.document.as_deref())),
        Err(close) => refusal(&close),
    }
}

/// Ends one connection. Its token stays good: whoever connects anew is let in.
async fn disconnect(id: u64, app: Arc<App>, headers: HeaderMap) -> Reply {
    let by = match admitted(headers, &app).await {
        Ok(claims) => claims.sub,
        Err(close) => return refusal(&close),
    };
    let all = app.sessions.all();
    let Some(session) = all.iter().find(|session| session.id.get() == id) else {
        return problem(StatusCode::NOT_FOUND, "not_found", "there is no such session any more");
    };
    info!(document = %session.client.document, session = %session.id, by, "Disconnecting a session.");
    let entry = || session.entry(Event::SessionDisconnected).by(by.as_deref());
    app.audit.record(entry);
    let text = "an operator ended this connection";
    session.send_queue.close(Close::new(CloseCode::Disconnected, text));
    let mut gone = Response::new(Bytes::new());
    *gone.status_mut() = StatusCode::NO_CONTENT;
    gone
}

fn json<T: Serialize>(facts: &T) -> Reply {
    match serde_json::to_string(facts) {
        Ok(json) => reply(StatusCode::OK, "application/json", json),
        Err(error) => refusal(&Close::new(CloseCode::Internal, error)),
    }
}

fn overview(app: &App, prefix: &str) -> Overview {
    let stored = app.services.store.documents();
    let live = app.hub.live();
    let mut found: BTreeMap<DocumentName, DocumentFacts> = BTreeMap::new();
    for info in stored.iter().filter(|info| info.name.as_str().starts_with(prefix)) {
        let facts = found.entry(info.name.clone()).or_default();
        facts.bytes = info.bytes;
        facts.updates = info.last.get();
        facts.epoch = epoch(info.epoch);
    }
    for name in live.iter().filter(|name| name.as_str().starts_with(prefix)) {
        found.entry(name.clone()).or_default().live = true;
    }
    let sessions = app.sessions.all();
    for session in &sessions {
        if let Some(facts) = found.get_mut(&session.client.document) {
            facts.sessions += 1;
        }
    }
    let more = found.len() > ENTRIES_MAX;
    let documents = found
        .into_iter()
        .take(ENTRIES_MAX)
        .map(|(name, facts)| DocumentFacts { name: name.as_str().to_owned(), ..facts });
    Overview {
        version: env!("CARGO_PKG_VERSION"),
        durability: app.services.store.durability(),
        live: live.len(),
        stored: stored.len(),
        sessions: sessions.len(),
        documents: documents.collect(),
        more,
    }
}

fn epoch(epoch: Epoch) -> String {
    if epoch == Epoch::NONE { String::new() } else { epoch.to_string() }
}

fn people(app: &App, document: Option<&str>) -> serde_json::Value {
    let all = app.sessions.all();
    let mut found = all.iter().filter(|session| {
        document.is_none_or(|document| session.client.document.as_str() == document)
    });
    let listed: Vec<SessionFacts> =
        found.by_ref().take(ENTRIES_MAX).map(|session| facts(session)).collect();
    serde_json::json!({ "sessions": listed, "more": found.next().is_some() })
}

fn facts(session: &LiveSession) -> SessionFacts {
    let (client, grant) = (&session.client, session.grant());
    SessionFacts {
        id: session.id.get(),
        document: client.document.as_str().to_owned(),
        sub: grant.identity.sub.to_string(),
        access: grant.access,
        dialect: client.dialect.name(),
        peer: client.peer.to_string(),
        since: client.since.as_unix_ms(),
        expires_at: grant.expires_at.as_unix_ms() / 1_000,
    }
}
