//! The pages in the binary. What they are made of is committed, so that nobody needs Node to build
//! the server: `client-js/demo` makes it, and says so in `table.rs`.

use warp::http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use warp::http::{HeaderValue, Response, StatusCode};
use warp::hyper::body::Bytes;

use crate::app::App;
use crate::auth;
use crate::http::{Reply, problem, reply};

/// A file whose name changes with what is in it.
struct Asset {
    name: &'static str,
    content_type: &'static str,
    /// Compressed; everything that shows a page can read it.
    gzip: &'static [u8],
}

const ASSETS: &[Asset] = &include!("../../../assets/table.rs");

const DEMO: &str = include_str!("../../../assets/demo.html");
const INSPECTOR: &str = include_str!("../../../assets/inspector.html");

/// What a page has in the place of the number that this answer alone knows.
const NONCE: &str = "{nonce}";

/// `GET /demo`: two editors.
pub(crate) fn demo(app: &App) -> Reply {
    page(app, DEMO)
}

/// `GET /inspector`: what is live and what is stored.
pub(crate) fn inspector(app: &App) -> Reply {
    page(app, INSPECTOR)
}

/// `GET /assets/{name}`.
pub(crate) fn asset(name: &str) -> Reply {
    let Some(asset) = ASSETS.iter().find(|asset| asset.name == name) else {
        return problem(StatusCode::NOT_FOUND, "not_found", "there is no such file");
    };
    let mut reply = Response::new(Bytes::from_static(asset.gzip));
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(asset.content_type));
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    let forever = "public, max-age=31536000, immutable";
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(forever));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    reply
}

fn page(app: &App, html: &str) -> Reply {
    if app.demo.is_none() {
        let text = "this page is off; syncline dev has it, and so has serve with --demo";
        return problem(StatusCode::NOT_FOUND, "not_found", text);
    }
    let policy_and_nonce = auth::random_hex().ok().and_then(|nonce| {
        let policy = HeaderValue::try_from(policy(&nonce)).ok()?;
        Some((policy, nonce))
    });
    let Some((policy, nonce)) = policy_and_nonce else {
        let text = "the system gives no random bytes";
        return problem(StatusCode::INTERNAL_SERVER_ERROR, "internal", text);
    };
    let html = html.replace(NONCE, &nonce);
    let mut reply = reply(StatusCode::OK, "text/html; charset=utf-8", html);
    let headers = reply.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, policy);
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    reply
}

/// Nothing from anywhere else, no script but ours. Editors add style sheets, which carry the nonce,
/// and colour carets by attributes, which cannot.
fn policy(nonce: &str) -> String {
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self' 'nonce-{nonce}'; \
         style-src-attr 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}
