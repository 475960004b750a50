//! The route table, and how a refusal looks to somebody who is not a WebSocket client.

mod api;
mod credentials;
mod metrics;
pub(crate) mod pages;
pub(crate) mod upgrade;

use std::sync::Arc;

use syncline_protocol::{Close, CloseCode, DocumentName, DocumentNameError};
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::http::{Response, StatusCode};
use warp::hyper::body::Bytes;
use warp::path::{FullPath, Tail};

use self::upgrade::UpgradeRequest;
use crate::app::App;
use crate::metrics::METRICS;

type Reply = Response<Bytes>;

/// Every path that the server answers.
pub(crate) fn routes(app: Arc<App>) -> BoxedFilter<(Reply,)> {
    let with_context = {
        let app = Arc::clone(&app);
        warp::any().map(move || Arc::clone(&app))
    };
    let websocket =
        warp::path("ws").and(upgrade::request()).and(with_context.clone()).then(upgrade::answer);
    let api = warp::path("api")
        .and(warp::path("v1"))
        .and(warp::method())
        .and(warp::path::tail().map(|tail: Tail| tail.as_str().to_owned()))
        .and(warp::header::headers_cloned())
        .and(warp::body::stream())
        .and(with_context.clone())
        .then(api::answer);
    let page = |path: &'static str, page: fn(&App) -> Reply| {
        warp::path(path)
            .and(warp::path::end())
            .and(warp::get())
            .and(with_context.clone())
            .map(move |app: Arc<App>| page(&app))
    };
    let asset = warp::path!("assets" / String)
        .and(warp::get())
        .map(|name: String| pages::embedded::asset(&name));
    let index = warp::path::end()
        .and(warp::get())
        .and(with_context.clone())
        .map(|app: Arc<App>| pages::index(&app));
    // Boxed one by one: rustc needs minutes to report an error near a deeply nested filter type.
    let nothing =
        warp::path::full().and(upgrade::request()).and(with_context.clone()).map(not_found);
    [
        api::inspect::routes(Arc::clone(&app)).boxed(),
        api.boxed(),
        page("healthz", pages::healthz).boxed(),
        page("readyz", pages::readyz).boxed(),
        metrics::route(Arc::clone(&app)).boxed(),
        page("demo", pages::embedded::demo).boxed(),
        asset.boxed(),
        page("inspector", pages::embedded::inspector).boxed(),
        pages::demo::routes(app).boxed(),
        index.boxed(),
        nothing.boxed(),
    ]
    .into_iter()
    .fold(websocket.boxed(), |routes, route| routes.or(route).unify().boxed())
}

#[expect(clippy::needless_pass_by_value, reason = "warp hands its extracts over by value")]
fn not_found(path: FullPath, request: UpgradeRequest, app: Arc<App>) -> Reply {
    let path = path.as_str();
    let shown =
        if credentials::holds_one(path) { "this path".to_owned() } else { format!("{path:?}") };
    let text = format!("there is nothing at {shown}; editors connect to /ws/<document>");
    let close = Close::new(CloseCode::BadRequest, text);
    if request.is_websocket() {
        // A stock client that cannot read why it was refused tries again for ever.
        let refusal = request.refusal(close);
        return upgrade::switch(request.into_handshake(), Err(refusal), &app);
    }
    problem(StatusCode::NOT_FOUND, close.code.name(), &close.text)
}

/// The document that a request names. Names are shown and logged, so one with a token in it is none.
fn document_name(text: &str) -> Result<DocumentName, Close> {
    let bad = |text: String| Close::new(CloseCode::BadDocumentName, text);
    if credentials::holds_one(text) {
        return Err(bad("the document name has a token in it; is the ? before it escaped?".into()));
    }
    text.parse().map_err(|error: DocumentNameError| bad(error.to_string()))
}

/// A refusal as JSON, with the same word that a close would carry.
pub(crate) fn problem(status: StatusCode, code: &str, text: &str) -> Reply {
    let body = serde_json::json!({ "code": code, "text": text }).to_string();
    reply(status, "application/problem+json", body)
}

/// The HTTP status for a request that was no upgrade.
pub(crate) fn refusal(close: &Close) -> Reply {
    METRICS.request_refused(close);
    let status = match close.code.number() {
        4401 => StatusCode::UNAUTHORIZED,
        4403 => StatusCode::FORBIDDEN,
        4413 => StatusCode::PAYLOAD_TOO_LARGE,
        4503 | 1012 => StatusCode::SERVICE_UNAVAILABLE,
        1011 => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_REQUEST,
    };
    problem(status, close.code.name(), &close.text)
}

pub(crate) fn reply(status: StatusCode, content_type: &'static str, body: String) -> Reply {
    let mut reply = Response::new(Bytes::from(body));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert("content-type", warp::http::HeaderValue::from_static(content_type));
    headers.insert("cache-control", warp::http::HeaderValue::from_static("no-store"));
    reply
}
