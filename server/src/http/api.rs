//! The REST face below `/api/v1/`. Every request carries a token in `Authorization`: a cookie would
//! be sent along for any page that asks.

pub(crate) mod tickets;

use std::pin::pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt};
use syncline_protocol::{Close, CloseCode};
use tokio::time::timeout;
use warp::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use warp::hyper::body::Buf;

use super::{Reply, credentials, problem, refusal, reply};
use crate::auth::{Claims, TokenError};
use crate::limits::{BODY_TIMEOUT, REQUEST_BYTES};
use crate::origins::Carrier;
use crate::server::Context;

/// Answers a request for `path`, below `/api/v1/`.
pub(crate) async fn answer(
    method: Method,
    path: String,
    headers: HeaderMap,
    body: impl Stream<Item = Result<impl Buf, warp::Error>> + Send,
    context: Arc<Context>,
) -> Reply {
    let answered = if method == Method::OPTIONS {
        Ok(preflight())
    } else {
        match context.origins.check(&headers, Carrier::Own) {
            Ok(()) => route(&method, &path, &headers, body, &context).await,
            Err(close) => Err(close),
        }
    };
    let mut reply = answered.unwrap_or_else(|close| refusal(&close));
    let allowed = context.origins.allowed(&headers);
    if let Some(origin) = allowed.and_then(|origin| HeaderValue::from_str(&origin).ok()) {
        reply.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }
    reply.headers_mut().insert(header::VARY, HeaderValue::from_static("origin"));
    reply
}

async fn route(
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    body: impl Stream<Item = Result<impl Buf, warp::Error>> + Send,
    context: &Context,
) -> Result<Reply, Close> {
    match (path, method) {
        ("tickets", &Method::POST) => tickets::issue(headers, body, context).await,
        ("tickets", _) => {
            let text = "this address takes POST";
            Ok(problem(StatusCode::METHOD_NOT_ALLOWED, CloseCode::BadRequest.word(), text))
        }
        _ => {
            let text = "there is nothing at this address below /api/v1/";
            Ok(problem(StatusCode::NOT_FOUND, CloseCode::BadRequest.word(), text))
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

/// The claims of the token in `Authorization`, and the token itself.
async fn claims(headers: &HeaderMap, context: &Context) -> Result<(Claims, String), Close> {
    let token = credentials::bearer(headers).filter(|token| !token.is_empty());
    let token = token.ok_or_else(|| {
        let text = "no token was presented; put one in the header Authorization: Bearer";
        Close::new(TokenError::Missing.close().code, text)
    })?;
    let claims = context.verifier.verify_with_latest(&token).await;
    Ok((claims.map_err(|error| error.close())?, token))
}

/// The whole body of a request, if it is small and comes soon.
async fn body(
    stream: impl Stream<Item = Result<impl Buf, warp::Error>> + Send,
) -> Result<Vec<u8>, Close> {
    let read = async {
        let mut stream = pin!(stream);
        let mut bytes = Vec::new();
        while let Some(chunk) = stream.next().await {
            let mut chunk = chunk.map_err(|_| bad_request("the request ended early"))?;
            if bytes.len() + chunk.remaining() > REQUEST_BYTES {
                let text = format!("the request is larger than {REQUEST_BYTES} bytes");
                return Err(Close::new(CloseCode::MessageTooLarge, text));
            }
            while chunk.has_remaining() {
                let part = chunk.chunk();
                bytes.extend_from_slice(part);
                let length = part.len();
                chunk.advance(length);
            }
        }
        Ok(bytes)
    };
    let late = |_| bad_request("the request did not arrive in time");
    timeout(BODY_TIMEOUT, read).await.map_err(late)?
}

fn bad_request(text: &str) -> Close {
    Close::new(CloseCode::BadRequest, text)
}
