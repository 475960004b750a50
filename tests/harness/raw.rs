//! A WebSocket client that sends whatever bytes a test likes, when it likes.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::PATIENCE;

/// The first byte of a frame.
pub mod head {
    /// A whole binary message.
    pub const BINARY: u8 = 0x82;
    /// The beginning of one.
    pub const BEGINNING: u8 = 0x02;
    /// More of it.
    pub const MORE: u8 = 0x00;
    /// The end of it.
    pub const END: u8 = 0x80;
    /// The end of the connection.
    pub const CLOSE: u8 = 0x88;
    /// A ping.
    pub const PING: u8 = 0x89;
    /// A pong.
    pub const PONG: u8 = 0x8a;
}

/// A connection, and what came in and was not asked for yet.
#[derive(Debug)]
pub struct Raw {
    stream: TcpStream,
    unread: Vec<u8>,
}

/// A request for an upgrade. `protocol` is empty for the dialect of y-websocket.
#[must_use]
pub fn request(document: &str, token: &str, protocol: &str) -> Vec<u8> {
    let mut request = format!(
        "GET /ws/{document}?token={token} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\n\
         upgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    );
    if !protocol.is_empty() {
        request += &format!("sec-websocket-protocol: {protocol}\r\n");
    }
    (request + "\r\n").into_bytes()
}

/// A masked frame.
#[must_use]
pub fn frame(head: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x11, 0x22, 0x33, 0x44];
    let mut frame = header(head, payload.len() as u64);
    frame.truncate(frame.len() - MASK.len());
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// The header of a frame whose mask changes nothing.
#[must_use]
pub fn header(head: u8, length: u64) -> Vec<u8> {
    const MASKED: u8 = 0x80;
    let mut header = vec![head];
    match length {
        0..=125 => header.push(MASKED | length as u8),
        126..=0xffff => {
            header.push(MASKED | 126);
            header.extend((length as u16).to_be_bytes());
        }
        _ => {
            header.push(MASKED | 127);
            header.extend(length.to_be_bytes());
        }
    }
    header.extend([0; 4]);
    header
}

impl Raw {
    /// A connection over which nothing was said.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("it listens");
        stream.set_nodelay(true).expect("a socket");
        Self { stream, unread: Vec::new() }
    }

    /// A WebSocket, by this request.
    pub async fn open(address: SocketAddr, request: &[u8]) -> Self {
        let mut raw = Self::connect(address).await;
        raw.send(request).await;
        let head = raw.answer().await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        raw
    }

    /// The head of the answer to a request.
    pub async fn answer(&mut self) -> String {
        loop {
            if let Some(end) = self.unread.windows(4).position(|end| end == b"\r\n\r\n") {
                let head = self.unread.drain(..end + 4).collect();
                return String::from_utf8(head).expect("text");
            }
            assert!(self.read().await, "the server ended the connection");
        }
    }

    /// Sends bytes.
    pub async fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).await.expect("it is open");
    }

    /// Sends bytes to a server that may have hung up.
    ///
    /// # Errors
    /// If it has.
    pub async fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// The first byte and the payload of the next frame; none if the server ended the connection.
    pub async fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some((whole, start)) = whole_frame(&self.unread) {
                let head = self.unread[0];
                let payload = self.unread[start..whole].to_vec();
                self.unread.drain(..whole);
                return Some((head, payload));
            }
            if !self.read().await {
                return None;
            }
        }
    }

    /// The code with which the server closes; 1006 if it just ends the connection.
    pub async fn close_code(&mut self) -> u16 {
        while let Some((head, payload)) = self.next().await {
            if head == head::CLOSE {
                return payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
            }
        }
        1006
    }

    /// Everything that still comes, until the server ends the connection.
    pub async fn rest(mut self) -> Vec<u8> {
        while self.read().await {}
        self.unread
    }

    /// Says that nothing more comes, and takes in what the server still says.
    pub async fn finish(mut self) -> Vec<u8> {
        // The server may have hung up before.
        drop(self.stream.shutdown().await);
        self.rest().await
    }

    /// Ends the connection by a reset, with whatever is under way.
    pub fn reset(self) {
        self.stream.set_zero_linger().expect("a socket");
    }

    async fn read(&mut self) -> bool {
        let read = timeout(PATIENCE, self.stream.read_buf(&mut self.unread)).await;
        matches!(read.expect("the server says something"), Ok(1..))
    }
}

/// Where the frame at the beginning ends, and where its payload begins. Servers mask nothing.
fn whole_frame(bytes: &[u8]) -> Option<(usize, usize)> {
    let (start, length) = match bytes.get(1)? {
        126 => (4, usize::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?))),
        127 => (10, u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?) as usize),
        length => (2, usize::from(*length)),
    };
    (bytes.len() >= start + length).then_some((start + length, start))
}
