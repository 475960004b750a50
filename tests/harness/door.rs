//! What a server answers to a request for an upgrade, byte by byte: also to what no client library
//! would send.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::PATIENCE;
use crate::server::Server;

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The document's first frame came.
    Admitted,
    /// The WebSocket was accepted and closed.
    Closed {
        /// The code.
        code: u16,
        /// The reason.
        reason: String,
    },
    /// There was no WebSocket.
    Http {
        /// The status.
        status: u16,
        /// Head and body.
        text: String,
    },
}

impl Outcome {
    /// What the server said, in whichever way.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Admitted => "",
            Self::Closed { reason, .. } => reason,
            Self::Http { text, .. } => text,
        }
    }

    /// The close code or the status.
    #[must_use]
    pub fn number(&self) -> u16 {
        match self {
            Self::Admitted => 101,
            Self::Closed { code, .. } => *code,
            Self::Http { status, .. } => *status,
        }
    }
}

/// Asks for an upgrade to `syncline.v1` at `path`, with more headers. In `protocols` a comma ends
/// each.
pub async fn knock(
    server: &Server,
    path: &[u8],
    protocols: &[u8],
    headers: &[(&str, &[u8])],
) -> Outcome {
    let mut request = [b"GET ", path, b" HTTP/1.1\r\nhost: localhost\r\n"].concat();
    request.extend_from_slice(
        b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
          sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\nsec-websocket-protocol: ",
    );
    request.extend_from_slice(protocols);
    request.extend_from_slice(b"syncline.v1\r\n");
    for (name, value) in headers {
        request.extend_from_slice(&[name.as_bytes(), b": ", value, b"\r\n"].concat());
    }
    request.extend_from_slice(b"\r\n");
    send(server, &request).await
}

/// Posts `body` to a REST address.
pub async fn post(server: &Server, path: &str, headers: &[(&str, &[u8])], body: &[u8]) -> Outcome {
    let length = body.len();
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n"
    )
    .into_bytes();
    for (name, value) in headers {
        request.extend_from_slice(&[name.as_bytes(), b": ", value, b"\r\n"].concat());
    }
    request.extend_from_slice(b"\r\n");
    request.extend_from_slice(body);
    send(server, &request).await
}

/// Sends a request and tells how it ends.
pub async fn send(server: &Server, request: &[u8]) -> Outcome {
    let attempt = async {
        let mut stream = TcpStream::connect(server.address()).await.expect("it listens");
        // It may refuse before it has read all of it.
        drop(stream.write_all(request).await);
        let mut answer = Vec::new();
        loop {
            if let Some(outcome) = understand(&answer) {
                return outcome;
            }
            if !matches!(stream.read_buf(&mut answer).await, Ok(1..)) {
                break;
            }
        }
        let text = String::from_utf8_lossy(&answer).into_owned();
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Outcome::Http { status, text }
    };
    timeout(PATIENCE, attempt).await.expect("an answer in time")
}

/// A whole answer, or the first frame after a 101.
fn understand(answer: &[u8]) -> Option<Outcome> {
    let head = answer.windows(4).position(|end| end == b"\r\n\r\n")? + 4;
    if !answer.starts_with(b"HTTP/1.1 101") {
        let text = String::from_utf8_lossy(answer).into_owned();
        let length = text.split("content-length: ").nth(1)?.split('\r').next()?;
        let status = text.split(' ').nth(1)?.parse().ok()?;
        let is_whole = length.parse().is_ok_and(|length: usize| answer.len() >= head + length);
        return is_whole.then_some(Outcome::Http { status, text });
    }
    let frame = &answer[head..];
    let (&kind, &length) = (frame.first()?, frame.get(1)?);
    if kind & 0x0f != 8 {
        return Some(Outcome::Admitted);
    }
    let payload = frame.get(2..2 + usize::from(length))?;
    let code = u16::from_be_bytes([*payload.first()?, *payload.get(1)?]);
    Some(Outcome::Closed { code, reason: String::from_utf8_lossy(&payload[2..]).into_owned() })
}
