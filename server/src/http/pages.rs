//! What a browser, an orchestrator or a person with curl sees.

pub(crate) mod demo;
pub(crate) mod embedded;

use warp::http::StatusCode;

use crate::app::App;
use crate::config::Mode;
use crate::http::{Reply, problem, reply};
use crate::store::Health;

/// `GET /`: links with live counts in `dev`, a plain name in `serve`.
pub(crate) fn index(app: &App) -> Reply {
    if app.mode == Mode::Serve {
        return reply(StatusCode::OK, "text/plain; charset=utf-8", "syncline\n".to_owned());
    }
    let body = format!(
        "<!doctype html><meta charset=utf-8><meta name=color-scheme content=\"light dark\">\
         <title>Syncline</title>\
         <style>body{{font:16px/1.6 system-ui;max-width:40rem;margin:4rem auto;padding:0 1rem}}</style>\
         <h1>Syncline {version}</h1>\
         <p>{documents} documents open, {sessions} sessions, {stored} documents stored.</p>\
         <ul><li>Editors connect to <code>/ws/&lt;document&gt;</code>\
         <li><a href=/demo>/demo</a> two editors<li><a href=/inspector>/inspector</a> what is live and stored\
         <li><a href=/healthz>/healthz</a> alive<li><a href=/readyz>/readyz</a> ready</ul>",
        version = env!("CARGO_PKG_VERSION"),
        documents = app.hub.document_count(),
        sessions = app.sessions.count(),
        stored = app.services.store.documents().len(),
    );
    reply(StatusCode::OK, "text/html; charset=utf-8", body)
}

/// `GET /healthz`: the process answers.
pub(crate) fn healthz(_: &App) -> Reply {
    reply(StatusCode::OK, "text/plain; charset=utf-8", "ok\n".to_owned())
}

/// `GET /readyz`: the store takes updates, tokens can be checked, and the server is not stopping.
pub(crate) fn readyz(app: &App) -> Reply {
    if app.services.draining.is_cancelled() {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "draining", "the server is stopping");
    }
    if !app.verifier.has_keys() {
        let text = "the keys that tokens are verified with could not be fetched yet";
        return problem(StatusCode::SERVICE_UNAVAILABLE, "keys_unavailable", text);
    }
    match app.services.store.health() {
        Health::Writable => {
            reply(StatusCode::OK, "text/plain; charset=utf-8", "ready\n".to_owned())
        }
        Health::Stalled { reason, .. } | Health::Failed { reason } => {
            problem(StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", &reason)
        }
    }
}
