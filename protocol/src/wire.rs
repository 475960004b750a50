//! Messages, and their encodings. Grammar and vectors: `docs/protocol.md`, `tests/vectors/`.
//!
//! A document handles [`ClientMessage`]s and sends [`ServerMessage`]s. Each [`Dialect`] has one codec,
//! in a file of its own, that turns frames into the former and the latter into frames; every byte
//! of a frame is accounted for. Payloads stay opaque here; [`validate`](crate::validate) walks them.
//!
//! To add a dialect: write its codec, and list it in [`Dialect`].

mod encode_once;
mod message;
mod sync;
pub mod syncline;
pub mod varint;
pub mod y_websocket;

use bytes::Bytes;

pub use encode_once::EncodeOnce;
pub use message::{ClientFrame, ClientMessage, FrameError, ServerMessage, Welcome};
pub use sync::{SyncMessage, SyncStep, encode_state_vector};

/// The encoding of a session's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// [`y_websocket`].
    YWebsocket,
    /// [`syncline`].
    SynclineV1,
}

/// The messages that a dialect has beyond the exchange of updates and presence. Rules depend on
/// these, never on the dialect itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not a state")]
pub struct Features {
    /// [`ServerMessage::Welcome`].
    pub welcomes: bool,
    /// [`ServerMessage::Saved`].
    pub acknowledges: bool,
    /// [`ServerMessage::Refused`] names the frame, so each refused frame gets one. Without it a
    /// refusal is sent once, until its cause changes: a stock client tries again with every key,
    /// and one warning in its console is enough.
    pub refuses_each_frame: bool,
    /// [`ServerMessage::TokenWanted`], and the client's answer to it.
    pub renews_tokens: bool,
}

/// One dialect's entry.
struct Codec {
    name: &'static str,
    /// The WebSocket subprotocol that selects it.
    subprotocol: Option<&'static str>,
    features: Features,
    decode: fn(&Bytes) -> Result<ClientFrame, FrameError>,
    encode: fn(&ServerMessage) -> Option<Bytes>,
}

impl Dialect {
    /// Every dialect, each at its [`index`](Self::index).
    pub const ALL: [Self; 2] = [Self::YWebsocket, Self::SynclineV1];

    const fn codec(self) -> &'static Codec {
        match self {
            Self::YWebsocket => &y_websocket::CODEC,
            Self::SynclineV1 => &syncline::CODEC,
        }
    }

    /// The dialect that a client selects by the subprotocols it offers.
    pub fn select<'a>(mut offers: impl Iterator<Item = &'a str>) -> Self {
        let is_offered =
            |offer| Self::ALL.into_iter().find(|it| it.codec().subprotocol == Some(offer));
        offers.find_map(is_offered).unwrap_or(Self::YWebsocket)
    }

    /// Its position in [`ALL`](Self::ALL).
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Its name in logs, metrics and the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.codec().name
    }

    /// The messages that it has.
    #[must_use]
    pub const fn features(self) -> Features {
        self.codec().features
    }

    /// Decodes a client's frame. Payloads are slices of it.
    ///
    /// # Errors
    /// If the frame is cut short, holds more than one message, or one that clients do not send.
    pub fn decode(self, frame: &Bytes) -> Result<ClientFrame, FrameError> {
        (self.codec().decode)(frame)
    }

    /// The frame that carries a message, or None if the dialect has no such message.
    #[must_use]
    pub fn encode(self, message: &ServerMessage) -> Option<Bytes> {
        (self.codec().encode)(message)
    }
}
