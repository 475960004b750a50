//! A WebSocket whose reading half is the library's and whose writing half is an [`SendQueue`], so that
//! a document can write to it without waking the connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::{Parts, Upgraded};
use hyper_util::rt::TokioIo;
use syncline_protocol::Close;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode as WsCloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

use crate::config::limits::{LINGER, Limits, READ_BUFFER_BYTES};
use crate::net::send_queue::SendQueue;

/// The first byte of a pong.
const PONG: u8 = 0x8a;

/// The header of a control frame from a client: two bytes and its mask.
const CONTROL_HEADER_BYTES: usize = 6;

/// A WebSocket over an upgraded HTTP connection.
pub(crate) type Socket = WebSocketStream<Halves>;

/// Takes over an upgraded connection. None if it is no TCP connection of this server's.
/// What is longer than `message_bytes` is not taken in.
pub(crate) async fn accept(
    upgraded: Upgraded,
    limits: &Limits,
    message_bytes: usize,
) -> Option<(Socket, Arc<SendQueue>)> {
    let Parts { io, read_buf, .. } = upgraded.downcast::<TokioIo<TcpStream>>().ok()?;
    let (reading, writing) = io.into_inner().into_split();
    let send_queue = Arc::new(SendQueue::new(writing, limits.outbox_bytes));
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_message_size(Some(message_bytes))
        .max_frame_size(Some(message_bytes));
    let unheard_max = 2 * message_bytes + READ_BUFFER_BYTES;
    let halves = Halves { reading, send_queue: Arc::clone(&send_queue), unheard: 0, unheard_max };
    // Whenever its buffer is used up, the library makes one as large as this is at the beginning. From
    // an empty one it would read a keystroke and a caret in two calls.
    let mut already_read = Vec::with_capacity(READ_BUFFER_BYTES.max(read_buf.len()));
    already_read.extend_from_slice(&read_buf);
    let socket =
        WebSocketStream::from_partially_read(halves, already_read, Role::Server, Some(config));
    Some((socket.await, send_queue))
}

/// Closes a socket so that its client learns why: a browser cannot read a refused handshake.
pub(crate) fn refuse(socket: Socket, close: Close) -> impl Future<Output = ()> {
    // Boxed, so that the task of a connection has no room for it all its life.
    Box::pin(say_goodbye(socket, close))
}

async fn say_goodbye(mut socket: Socket, close: Close) {
    let frame =
        CloseFrame { code: WsCloseCode::from(close.code.number()), reason: close.reason().into() };
    socket.get_ref().send_queue.end();
    let goodbye = async {
        if socket.send(Message::Close(Some(frame))).await.is_err() {
            return;
        }
        // With unread input in the kernel, dropping the socket would send a reset, and that can
        // overtake the close frame. So read until the peer has closed too.
        while let Some(Ok(_)) = socket.next().await {}
        // After a message that was too large the WebSocket reads no more, and the rest of it is
        // still arriving.
        let io = socket.get_mut();
        drop(io.shutdown().await);
        let mut rest = [0; 1_024];
        while matches!(io.reading.read(&mut rest).await, Ok(1..)) {}
    };
    // At the bound the peer is slow or hostile, and the socket is dropped either way.
    drop(timeout(LINGER, goodbye).await);
}

/// A message came in so many fragments that their headers are longer than it may be. The library
/// counts what is in them, which may be nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "a message came in fragments of more than {max} bytes, headers included; send it as a whole"
)]
pub(crate) struct TooFragmented {
    max: usize,
}

/// What the WebSocket library reads from and writes its control frames to.
#[derive(Debug)]
pub(crate) struct Halves {
    reading: OwnedReadHalf,
    send_queue: Arc<SendQueue>,
    /// Bytes that came since a message was complete.
    unheard: usize,
    unheard_max: usize,
}

impl Halves {
    /// A message is complete. One that came between the fragments of another ends nothing.
    pub(crate) fn heard(&mut self, message: &Message) {
        self.unheard = match message {
            Message::Ping(payload) | Message::Pong(payload) => {
                self.unheard.saturating_sub(CONTROL_HEADER_BYTES + payload.len())
            }
            Message::Binary(_) | Message::Text(_) | Message::Close(_) | Message::Frame(_) => 0,
        };
    }
}

impl AsyncRead for Halves {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.unheard > self.unheard_max {
            let scattered = TooFragmented { max: self.unheard_max };
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, scattered)));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.reading).poll_read(context, buffer);
        self.unheard += buffer.filled().len() - before;
        read
    }
}

impl AsyncWrite for Halves {
    /// The library sends nothing but whole control frames, one at a time.
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        frame: &[u8],
    ) -> Poll<io::Result<usize>> {
        // Pongs that find no room would pile up in the library for as long as their peer does not read.
        // A later one stands for them (RFC 6455 §5.5.3).
        if frame.first() == Some(&PONG) {
            self.send_queue.try_control(frame);
            return Poll::Ready(Ok(frame.len()));
        }
        self.send_queue.poll_control(context, frame).map(|()| Ok(frame.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.send_queue.poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.send_queue.shutdown())
    }
}
