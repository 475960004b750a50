//! The byte stream under the WebSocket library, which reads from the socket and writes through the
//! [`SocketWriter`], so that a document can write without waking the connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::tcp::OwnedReadHalf;
use tokio_tungstenite::tungstenite::Message;

use crate::net::socket_writer::SocketWriter;

/// The first byte of a pong.
const PONG: u8 = 0x8a;

/// The header of a control frame from a client: two bytes and its mask.
const CONTROL_HEADER_BYTES: usize = 6;

/// A message came in so many fragments that their headers exceed its size bound. The library counts
/// only the payloads, which may be empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "a message came in fragments of more than {max} bytes, headers included; send it as a whole"
)]
pub(crate) struct TooFragmented {
    max: usize,
}

/// The library's side of a socket.
#[derive(Debug)]
pub(super) struct WsTransport {
    reading: OwnedReadHalf,
    writer: Arc<SocketWriter>,
    /// Bytes read since the last complete message.
    unconsumed: usize,
    unconsumed_max: usize,
}

impl WsTransport {
    pub(super) fn new(
        reading: OwnedReadHalf,
        writer: Arc<SocketWriter>,
        unconsumed_max: usize,
    ) -> Self {
        Self { reading, writer, unconsumed: 0, unconsumed_max }
    }

    /// Notes a complete message. A control frame between the fragments of a message does not complete
    /// that message.
    pub(super) fn consumed(&mut self, message: &Message) {
        self.unconsumed = match message {
            Message::Ping(payload) | Message::Pong(payload) => {
                self.unconsumed.saturating_sub(CONTROL_HEADER_BYTES + payload.len())
            }
            Message::Binary(_) | Message::Text(_) | Message::Close(_) | Message::Frame(_) => 0,
        };
    }

    /// Reads and drops bytes until the peer closes its half.
    pub(super) async fn drain(&mut self) {
        let mut rest = [0; 1_024];
        while matches!(self.reading.read(&mut rest).await, Ok(1..)) {}
    }
}

impl AsyncRead for WsTransport {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.unconsumed > self.unconsumed_max {
            let error = TooFragmented { max: self.unconsumed_max };
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.reading).poll_read(context, buffer);
        self.unconsumed += buffer.filled().len() - before;
        read
    }
}

impl AsyncWrite for WsTransport {
    /// The library writes only whole control frames, one at a time.
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        frame: &[u8],
    ) -> Poll<io::Result<usize>> {
        // Pongs without room would pile up in the library while their peer does not read. A later
        // pong answers for them (RFC 6455 §5.5.3).
        if frame.first() == Some(&PONG) {
            self.writer.try_control(frame);
            return Poll::Ready(Ok(frame.len()));
        }
        self.writer.poll_control(context, frame).map(|()| Ok(frame.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer.poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.writer.shutdown())
    }
}
