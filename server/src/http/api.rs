//! REST, below `/api/v1/`: for the application's own backend, its pages and its operators. Every
//! request carries a token in `Authorization`: a cookie would be sent along for any page that asks.

pub(crate) mod inspect;
pub(crate) mod revoke;
pub(crate) mod tickets;

use std::pin::pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt};
use serde::de::DeserializeOwned;
use syncline_protocol::{Access, Close, CloseCode, Limit};
use tokio::time::timeout;
use warp::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use warp::hyper::body::Buf;

use crate::app::App;
use crate::auth::Claims;
use crate::config::limits::{BODY_BYTES, BODY_TIMEOUT};
use crate::http::{Reply, credentials, problem, refusal, reply};
use crate::net::origin::Carrier;

/// Answers a request for `path`, below `/api/v1/`.
pub(crate) async fn answer(
    method: Method,
    path: String,
    headers: HeaderMap,
    body: impl Stream<Item = Result<impl Buf, warp::Error>> + Send,
    app: Arc<App>,
) -> Reply {
    let origin = app.origins.check(&headers, Carrier::Own);
    let allowed = app.origins.allowed(&headers);
    // Nothing else is kept while the token is checked, which may last as long as a key is fetched; and
    // this is no copy of it.
    let authorization = headers.get(header::AUTHORIZATION).cloned();
    drop(headers);
    let answered = if method == Method::OPTIONS {
        Ok(preflight())
    } else {
        match origin {
            Ok(()) => route(&method, &path, authorization, body, &app).await,
            Err(close) => Err(close),
        }
    };
    let mut reply = answered.unwrap_or_else(|close| refusal(&close));
    if let Some(origin) = allowed.and_then(|origin| HeaderValue::from_str(&origin).ok()) {
        reply.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }
    reply.headers_mut().insert(header::VARY, HeaderValue::from_static("origin"));
    reply
}

async fn route(
    method: &Method,
    path: &str,
    authorization: Option<HeaderValue>,
    stream: impl Stream<Item = Result<impl Buf, warp::Error>> + Send,
    app: &Arc<App>,
) -> Result<Reply, Close> {
    // The token first: a stranger's body is not read.
    match (path, method) {
        ("revoke", &Method::POST) => {
            let claims = admin(authorization, app).await?;
            let order = body(stream).await;
            Ok(revoke::answer(order, claims.sub, Arc::clone(app)).await)
        }
        ("tickets", &Method::POST) => {
            let (claims, token) = claims(authorization, app).await?;
            tickets::issue(body(stream).await?, claims, &token, app)
        }
        ("revoke" | "tickets", _) => {
            let text = "this address takes POST";
            Ok(problem(StatusCode::METHOD_NOT_ALLOWED, CloseCode::BadRequest.name(), text))
        }
        _ => {
            let text = "there is nothing at this address below /api/v1/";
            Ok(problem(StatusCode::NOT_FOUND, CloseCode::BadRequest.name(), text))
        }
    }
}

/// What a browser asks before it lets a page of another origin ask. Who may is said by
/// `Access-Control-Allow-Origin`, or by its absence.
fn preflight() -> Reply {
    let mut reply = reply(StatusCode::NO_CONTENT, "text/plain", String::new());
    let headers = reply.headers_mut();
    headers.remove(header::CONTENT_TYPE);
    let mut allow = |name, value| headers.insert(name, HeaderValue::from_static(value));
    allow(header::ACCESS_CONTROL_ALLOW_METHODS, "POST");
    allow(header::ACCESS_CONTROL_ALLOW_HEADERS, "authorization, content-type");
    allow(header::ACCESS_CONTROL_MAX_AGE, "600");
    reply
}

/// The claims of the token in the header `Authorization`, and the token itself.
async fn claims(authorization: Option<HeaderValue>, app: &App) -> Result<(Claims, String), Close> {
    let token = authorization.as_ref().and_then(credentials::bearer_in);
    let token = token.filter(|token| !token.is_empty()).ok_or_else(|| {
        let text = "no token was presented; put one in the header Authorization: Bearer";
        Close::new(CloseCode::TokenMissing, text)
    })?;
    Ok((app.verify(token).await?, token.to_owned()))
}

/// The claims of whoever asks by GET or DELETE, if they may manage every document. Pages of other
/// origins are not told: they would need to be allowed to read the answer.
pub(crate) async fn admitted(headers: HeaderMap, app: &App) -> Result<Claims, Close> {
    app.origins.check(&headers, Carrier::Own)?;
    let authorization = headers.get(header::AUTHORIZATION).cloned();
    drop(headers);
    admin(authorization, app).await
}

/// The claims of whoever asks, if they may manage every document.
async fn admin(authorization: Option<HeaderValue>, app: &App) -> Result<Claims, Close> {
    let (claims, _) = claims(authorization, app).await?;
    if claims.access.get("*") != Some(&Access::Admin) {
        let text = "this takes a token whose access for \"*\" is admin";
        return Err(Close::new(CloseCode::ForbiddenDocument, text));
    }
    if app.revocations.concerns(&claims) {
        return Err(Close::new(CloseCode::Revoked, "the rights of this token were taken back"));
    }
    Ok(claims)
}

/// The JSON of a body, if it is small and comes soon.
async fn body<T: DeserializeOwned>(
    stream: impl Stream<Item = Result<impl Buf, warp::Error>> + Send,
) -> Result<T, Close> {
    let bad = |text: &str| Close::new(CloseCode::BadRequest, text);
    let read = async {
        let mut stream = pin!(stream);
        let mut bytes = Vec::new();
        while let Some(chunk) = stream.next().await {
            let mut chunk = chunk.map_err(|_| bad("the body ended before it was complete"))?;
            if bytes.len() + chunk.remaining() > BODY_BYTES {
                let text = format!("the body is more than {BODY_BYTES} bytes");
                let code = CloseCode::MessageTooLarge;
                return Err(Close::at_limit(Limit::BodyBytes, code, text));
            }
            while chunk.has_remaining() {
                let length = chunk.chunk().len();
                bytes.extend_from_slice(chunk.chunk());
                chunk.advance(length);
            }
        }
        Ok(bytes)
    };
    let late = |_| {
        let text = "the body did not arrive in time";
        Close::at_limit(Limit::BodyTime, CloseCode::BadRequest, text)
    };
    let bytes = timeout(BODY_TIMEOUT, read).await.map_err(late)??;
    serde_json::from_slice(&bytes).map_err(|error| {
        // Without the words of the parser, which quote what was sent.
        let (line, column) = (error.line(), error.column());
        let text = format!("the body is not the JSON that this takes: line {line} column {column}");
        Close::new(CloseCode::BadRequest, text)
    })
}
