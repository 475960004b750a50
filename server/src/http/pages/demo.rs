//! What the embedded pages ask for: a session for a link's key, tokens, and links to pass on.

use std::sync::Arc;

use serde::Deserialize;
use syncline_protocol::Access;
use warp::Filter;
use warp::http::header::{COOKIE, HOST, SET_COOKIE};
use warp::http::{HeaderMap, HeaderValue, StatusCode};

use crate::app::App;
use crate::auth::Claims;
use crate::auth::demo_login::{Demo, DemoError, Minted, SESSION};
use crate::http::{Reply, problem, reply};

const BODY_BYTES: u64 = 2_048;

#[derive(Debug, Deserialize)]
struct Key {
    key: String,
}

#[derive(Debug, Deserialize)]
struct Wanted {
    /// All of them if it is left out.
    document: Option<String>,
    access: Access,
    /// What the person is called.
    name: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Shared {
    document: String,
    access: Access,
}

/// `POST /demo/session`, `/demo/token` and `/demo/link`.
pub(crate) fn routes(
    app: Arc<App>,
) -> impl Filter<Extract = (Reply,), Error = warp::Rejection> + Clone {
    let post = |path: &'static str| {
        let app = Arc::clone(&app);
        // A page of another origin cannot send this type without asking, and is not answered.
        let is_json = warp::header::exact_ignore_case("content-type", "application/json");
        warp::path!("demo" / ..)
            .and(warp::path(path))
            .and(warp::path::end())
            .and(warp::post())
            .and(is_json)
            .and(warp::body::content_length_limit(BODY_BYTES))
            .and(warp::any().map(move || Arc::clone(&app)))
            .and(warp::header::headers_cloned())
    };
    let session = post("session").and(warp::body::json()).map(
        |app: Arc<App>, headers: HeaderMap, Key { key }| {
            answer(&app, |demo| {
                let Minted { token, lasts } = demo.open(&key)?;
                let mut reply = json(&serde_json::json!({ "expires_in": lasts.as_secs() }));
                let cookie = HeaderValue::try_from(set_cookie(&headers, &token));
                reply.headers_mut().insert(SET_COOKIE, cookie.map_err(|_| DemoError::Sign)?);
                Ok(reply)
            })
        },
    );
    let token = post("token").and(warp::body::json()).map(
        |app: Arc<App>, headers: HeaderMap, wanted: Wanted| {
            answer(&app, |demo| {
                let session = held(demo, &app, &headers)?;
                let Wanted { document, access, name } = wanted;
                let Minted { token, lasts } =
                    demo.token(&session, document.as_deref(), access, name)?;
                Ok(json(&serde_json::json!({ "token": token, "expires_in": lasts.as_secs() })))
            })
        },
    );
    let link = post("link").and(warp::body::json()).map(
        |app: Arc<App>, headers: HeaderMap, Shared { document, access }| {
            answer(&app, |demo| {
                let session = held(demo, &app, &headers)?;
                let key = demo.share(&session, &document, access)?;
                Ok(json(&serde_json::json!({ "key": key })))
            })
        },
    );
    session.or(token).unify().or(link).unify()
}

fn answer(app: &App, run: impl FnOnce(&Demo) -> Result<Reply, DemoError>) -> Reply {
    let Some(demo) = &app.demo else {
        return problem(StatusCode::NOT_FOUND, "not_found", "the demo is off");
    };
    run(demo).unwrap_or_else(|error| {
        let (status, code) = match error {
            DemoError::NoSecret => (StatusCode::NOT_FOUND, "no_secret"),
            DemoError::LinkUsed => (StatusCode::GONE, "link_used"),
            DemoError::NoSession => (StatusCode::UNAUTHORIZED, "no_session"),
            DemoError::Forbidden => (StatusCode::FORBIDDEN, "forbidden_document"),
            DemoError::Sign => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        };
        problem(status, code, &error.to_string())
    })
}

fn held(demo: &Demo, app: &App, headers: &HeaderMap) -> Result<Claims, DemoError> {
    let name = cookie_name(headers);
    let cookies = headers.get_all(COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|value| value.split(';'));
    let cookie = pairs.find_map(|pair| pair.trim().strip_prefix(&name)?.strip_prefix('='));
    demo.session(&app.verifier, cookie)
}

/// Browsers do not tell the ports of one host apart, and two servers may run on it.
fn cookie_name(headers: &HeaderMap) -> String {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let port = host.rsplit_once(':').map_or("", |(_, port)| port);
    let digits: String = port.chars().filter(char::is_ascii_digit).take(5).collect();
    format!("syncline_demo_{digits}")
}

fn set_cookie(headers: &HeaderMap, session: &str) -> String {
    let name = cookie_name(headers);
    let seconds = SESSION.as_secs();
    format!("{name}={session}; Path=/demo; Max-Age={seconds}; HttpOnly; SameSite=Strict")
}

fn json(value: &serde_json::Value) -> Reply {
    reply(StatusCode::OK, "application/json", value.to_string())
}
