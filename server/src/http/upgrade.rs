//! From an HTTP request on `/ws/{document…}` to a served or refused WebSocket.
//!
//! warp routes the request; the upgrade itself is hyper's. warp's own WebSocket filter gives every
//! connection a read buffer of 128 KiB and no way to ask for less.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::upgrade::OnUpgrade;
use percent_encoding::percent_decode_str;
use syncline_protocol::wire::Dialect;
use syncline_protocol::wire::syncline::SUBPROTOCOL;
use syncline_protocol::{Close, CloseCode, DocumentName, Epoch, EpochError};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use warp::Filter;
use warp::http::header::{self, HeaderName};
use warp::http::{HeaderMap, HeaderValue, Method, StatusCode};
use warp::path::Tail;

use crate::app::App;
use crate::auth::{Credential, TokenError};
use crate::config::limits::REFUSED_MESSAGE_BYTES;
use crate::connection::{self, Admitted, Client, Refusal};
use crate::http::credentials::{self, BEARER_PROTOCOL, credential, offered_protocols, parameter};
use crate::http::{Reply, document_name, problem, refusal, reply};
use crate::net::peer::Peer;
use crate::net::transport::Transport;

/// The version of the WebSocket protocol.
const VERSION: &str = "13";

/// What a handshake key holds, in base64.
const NONCE_BYTES: usize = 16;

/// Everything of a request that matters here.
pub(crate) struct UpgradeRequest {
    /// The path below `/ws/`, still escaped.
    document: String,
    query: String,
    headers: HeaderMap,
    /// The answer to the handshake key, if it asks for a WebSocket.
    accept: Option<HeaderValue>,
    on_upgrade: Option<OnUpgrade>,
    peer: Option<Peer>,
}

impl UpgradeRequest {
    /// Counts the client that a proxy speaks for.
    fn count_client(&mut self, app: &App) -> Result<(), Close> {
        let Some(peer) = &mut self.peer else { return Ok(()) };
        if let Some(client) = app.proxies.client(peer.ip(), &self.headers)? {
            peer.set_client(client, app.quotas.for_address(client)?);
        }
        Ok(())
    }

    /// Whether it asks for a WebSocket.
    pub(crate) fn is_websocket(&self) -> bool {
        self.accept.is_some()
    }

    /// Parses the request, up to the credential.
    fn parse(&self, app: &App) -> Result<Unverified, Refusal> {
        let address = self.peer.as_ref().map(Peer::address).unwrap_or_default();
        let document = unescaped_name(&self.document);
        let document = document.map_err(|close| Refusal::new(close, &address))?;
        let at = |close| Refusal::at(&document, close, &address);
        let credential = credential(&self.headers, &self.query);
        let (credential, carrier) = credential.ok_or_else(|| at(TokenError::Missing.close()))?;
        app.origins.check(&self.headers, carrier).map_err(at)?;
        let epoch = epoch(&self.query).map_err(at)?;
        let dialect = Dialect::select(offered_protocols(&self.headers));
        Ok(Unverified { document, credential, client: Client { dialect, epoch, address } })
    }

    /// A refusal before the document is known.
    pub(crate) fn refusal(&self, close: Close) -> Refusal {
        let address = self.peer.as_ref().map(Peer::address).unwrap_or_default();
        Refusal::new(close, &address)
    }

    /// What is needed to answer it.
    pub(crate) fn into_handshake(self) -> Handshake {
        Handshake {
            accept: self.accept,
            protocol: chosen_protocol(&self.headers),
            on_upgrade: self.on_upgrade,
            peer: self.peer,
        }
    }
}

/// All that is kept of a request while its token is verified, which may take as long as fetching a key:
/// [`LOGIN_BYTES`](crate::config::limits::LOGIN_BYTES).
struct Unverified {
    document: DocumentName,
    credential: Credential,
    client: Client,
}

/// An upgrade that waits for its answer.
pub(crate) struct Handshake {
    accept: Option<HeaderValue>,
    protocol: Option<HeaderValue>,
    on_upgrade: Option<OnUpgrade>,
    peer: Option<Peer>,
}

/// Matches whatever is left of the path.
pub(crate) fn request()
-> impl Filter<Extract = (UpgradeRequest,), Error = std::convert::Infallible> + Copy {
    warp::path::tail()
        .and(warp::query::raw().or(warp::any().map(String::new)).unify())
        .and(warp::method())
        .and(warp::header::headers_cloned())
        .and(warp::ext::optional::<OnUpgrade>())
        .and(warp::ext::optional::<Peer>())
        .map(|tail: Tail, query, method, headers, on_upgrade, peer| {
            let document = tail.as_str().to_owned();
            let key = websocket_key(&method, &headers);
            let accept = key.map(|key| derive_accept_key(key.as_bytes()));
            let accept = accept.and_then(|accept| HeaderValue::from_str(&accept).ok());
            UpgradeRequest { document, query, headers, accept, on_upgrade, peer }
        })
}

/// Checks the request before the upgrade and keeps the verdict for after it.
pub(crate) async fn answer(mut request: UpgradeRequest, app: Arc<App>) -> Reply {
    // What only looks at a link must not use up the ticket in it.
    if !request.is_websocket() && credentials::ticket(&request.query).is_some() {
        return upgrade_required();
    }
    // Before the token is verified: a flood of bad ones must cost little.
    let parsed = match request.count_client(&app) {
        Ok(()) => request.parse(&app),
        Err(close) => Err(request.refusal(close)),
    };
    let is_websocket = request.is_websocket();
    let handshake = request.into_handshake();
    let verdict = match parsed {
        Ok(Unverified { document, credential, client }) => {
            connection::admit(&app, credential, document, client).await
        }
        Err(refusal) => Err(refusal),
    };
    if is_websocket {
        return switch(handshake, verdict, &app);
    }
    match verdict {
        Err(refused) => refusal(&refused.close),
        Ok(_) => upgrade_required(),
    }
}

fn upgrade_required() -> Reply {
    let text = "this address speaks WebSocket; point an editor's provider at it";
    let mut required = problem(StatusCode::UPGRADE_REQUIRED, CloseCode::BadRequest.name(), text);
    let headers = required.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    // It may have been meant as an upgrade: what follows is then no request.
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static(VERSION));
    required
}

/// Answers 101 and has the verdict carried out on the socket.
pub(crate) fn switch(
    handshake: Handshake,
    verdict: Result<Admitted, Refusal>,
    app: &Arc<App>,
) -> Reply {
    let Handshake { accept, protocol, on_upgrade, peer } = handshake;
    let (Some(on_upgrade), Some(accept)) = (on_upgrade, accept) else {
        let text = "this connection cannot be upgraded; use HTTP/1.1";
        return problem(StatusCode::BAD_REQUEST, CloseCode::BadRequest.name(), text);
    };
    let serve = serve(on_upgrade, verdict, peer, Arc::clone(app));
    app.services.tasks.spawn(serve);

    let mut switching = reply(StatusCode::SWITCHING_PROTOCOLS, "text/plain", String::new());
    let headers = switching.headers_mut();
    headers.clear();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    if let Some(protocol) = protocol {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    switching
}

async fn serve(
    on_upgrade: OnUpgrade,
    verdict: Result<Admitted, Refusal>,
    // Held to the end: it has the quota permits of the connection.
    peer: Option<Peer>,
    app: Arc<App>,
) {
    let Ok(upgraded) = on_upgrade.await else { return };
    let limits = &app.services.limits;
    let message_bytes = if verdict.is_ok() { limits.message_bytes } else { REFUSED_MESSAGE_BYTES };
    let Some(transport) = Transport::accept(upgraded, limits, message_bytes).await else { return };
    match verdict {
        Ok(admitted) => connection::serve(app, transport, admitted, peer).await,
        Err(refusal) => {
            refusal.report(&app);
            transport.close_gracefully(refusal.close).await;
        }
    }
}

/// The name in a path, after exactly one percent-decoding. y-websocket sends names unescaped.
fn unescaped_name(escaped: &str) -> Result<DocumentName, Close> {
    let name = percent_decode_str(escaped).decode_utf8().map_err(|_| {
        Close::new(CloseCode::BadDocumentName, "the document name in the path is not UTF-8")
    })?;
    document_name(&name)
}

/// The history that the client says it holds.
fn epoch(query: &str) -> Result<Option<Epoch>, Close> {
    let Some(given) = parameter(query, "epoch") else { return Ok(None) };
    given.parse().map(Some).map_err(|error: EpochError| {
        // Unverified input: quoted, escaped, and short enough for the rest to fit a close frame.
        let quoted: String = given.chars().flat_map(char::escape_default).take(20).collect();
        let text = format!("epoch=\"{quoted}\": {error}; omit it to start empty");
        Close::new(CloseCode::BadRequest, text)
    })
}

/// The subprotocol to answer with: ours if it was offered, else the first that is not a token. A
/// browser gives up if none of its offers is answered, and a token must not be sent back.
fn chosen_protocol(headers: &HeaderMap) -> Option<HeaderValue> {
    let ours = offered_protocols(headers).find(|offer| *offer == SUBPROTOCOL);
    let is_plain = |offer: &&str| !offer.is_empty() && !offer.starts_with(BEARER_PROTOCOL);
    let first = offered_protocols(headers).find(is_plain);
    HeaderValue::from_str(ours.or(first)?).ok()
}

/// The handshake key, if the request is a WebSocket upgrade as RFC 6455 §4.2.1 asks for it. It must
/// have no body: about where that ends a proxy may think otherwise.
fn websocket_key<'a>(method: &Method, headers: &'a HeaderMap) -> Option<&'a HeaderValue> {
    let has = |name: HeaderName, token: &str| {
        let mut values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        values.any(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(token)))
    };
    let only = |name: HeaderName| {
        let mut values = headers.get_all(name).into_iter();
        values.next().filter(|_| values.next().is_none())
    };
    let has_body = headers.contains_key(header::TRANSFER_ENCODING)
        || headers.get_all(header::CONTENT_LENGTH).into_iter().any(|length| length != "0");
    let asks = method == Method::GET
        && only(header::HOST).is_some()
        && has(header::CONNECTION, "upgrade")
        && has(header::UPGRADE, "websocket")
        && has(header::SEC_WEBSOCKET_VERSION, VERSION)
        && !has_body;
    let is_nonce = |key: &&HeaderValue| {
        STANDARD.decode(key.as_bytes()).is_ok_and(|nonce| nonce.len() == NONCE_BYTES)
    };
    only(header::SEC_WEBSOCKET_KEY).filter(is_nonce).filter(|_| asks)
}
