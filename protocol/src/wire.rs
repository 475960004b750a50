//! The y-websocket dialect and its `syncline.v1` extensions: one message per WebSocket frame, every
//! byte accounted for. Grammar and vectors: `docs/protocol.md`, `tests/vectors/`.
//!
//! The CRDT payloads stay opaque here; [`gate`](crate::validate) walks them.

pub mod varint;

use bytes::{Bytes, BytesMut};
use thiserror::Error;

use crate::access::Access;
use crate::durability::Durability;
use crate::id::{Epoch, SessionId};
use crate::time::Timestamp;
use crate::validate::{PresenceEntry, StateVector};
use crate::wire::varint::{ReadError, Reader, write_buffer, write_var_uint};

const SYNC: u64 = 0;
const AWARENESS: u64 = 1;
const AUTH: u64 = 2;
const QUERY_AWARENESS: u64 = 3;
const WELCOME: u64 = 64;
const SAVED: u64 = 65;
const REFUSED: u64 = 66;
const TOKEN_WANTED: u64 = 67;
const TOKEN: u64 = 68;

const SYNC_STEP_1: u64 = 0;
const SYNC_STEP_2: u64 = 1;
const SYNC_UPDATE: u64 = 2;

const PERMISSION_DENIED: u64 = 0;

const FLAG_QUARANTINED: u64 = 1;

/// The WebSocket subprotocol by which a client asks for the extensions.
pub const SUBPROTOCOL: &str = "syncline.v1";

/// Which messages a session understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Types 0 to 3, as y-websocket speaks them. It complains loudly about any other.
    YWebsocket,
    /// Those, and the types from 64 up.
    SynclineV1,
}

/// What a client may send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientMessage {
    /// The state the client has; asks for what it lacks.
    SyncStep1 {
        /// An encoded state vector.
        state_vector: Bytes,
    },
    /// What the server lacked when it sent its own SyncStep1.
    SyncStep2 {
        /// A Yjs v1 update.
        update: Bytes,
    },
    /// A change as it happens.
    Update {
        /// A Yjs v1 update.
        update: Bytes,
    },
    /// Presence states, the client's own and those it has heard of.
    Presence {
        /// An encoded awareness update.
        entries: Bytes,
    },
    /// Asks for everybody's presence.
    QueryPresence,
}

/// Why a frame is not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// A number or length is broken.
    #[error("{0}")]
    Read(#[from] ReadError),
    /// A message type that clients do not send.
    #[error("message type {kind} is not one that a client sends")]
    Kind {
        /// The type found.
        kind: u64,
    },
    /// A sync message that is neither step 1, step 2 nor update.
    #[error("sync message {kind} does not exist; 0, 1 and 2 do")]
    SyncKind {
        /// The sync type found.
        kind: u64,
    },
    /// Bytes are left over: two messages in one frame, or garbage.
    #[error("{bytes} bytes follow the message; send one message per frame")]
    Trailing {
        /// How many.
        bytes: usize,
    },
}

impl ClientMessage {
    /// Reads the one message that `frame` holds. Payloads are slices of it.
    ///
    /// # Errors
    /// If the frame is cut short, holds more than one message, or one that clients do not send.
    pub fn decode(frame: &Bytes) -> Result<Self, FrameError> {
        let mut reader = Reader::new(frame);
        let message = match reader.var_uint()? {
            SYNC => {
                let kind = reader.var_uint()?;
                if kind > SYNC_UPDATE {
                    return Err(FrameError::SyncKind { kind });
                }
                let payload = frame.slice_ref(reader.buffer()?);
                match kind {
                    SYNC_STEP_1 => Self::SyncStep1 { state_vector: payload },
                    SYNC_STEP_2 => Self::SyncStep2 { update: payload },
                    _ => Self::Update { update: payload },
                }
            }
            AWARENESS => Self::Presence { entries: frame.slice_ref(reader.buffer()?) },
            QUERY_AWARENESS => Self::QueryPresence,
            kind => return Err(FrameError::Kind { kind }),
        };
        match reader.remaining() {
            0 => Ok(message),
            bytes => Err(FrameError::Trailing { bytes }),
        }
    }
}

/// `syncline.v1`: the fresh token that a frame brings, if that is what it holds. It is meant for the
/// connection: no document ever sees one.
///
/// # Errors
/// If the frame is cut short, or something follows the token.
pub fn decode_token(frame: &[u8]) -> Result<Option<&str>, FrameError> {
    let mut reader = Reader::new(frame);
    let Ok(TOKEN) = reader.var_uint() else { return Ok(None) };
    let token = reader.string()?;
    match reader.remaining() {
        0 => Ok(Some(token)),
        bytes => Err(FrameError::Trailing { bytes }),
    }
}

impl ClientMessage {
    /// Bytes of its payload.
    #[must_use]
    pub fn payload_len(&self) -> usize {
        match self {
            Self::SyncStep1 { state_vector: payload }
            | Self::SyncStep2 { update: payload }
            | Self::Update { update: payload }
            | Self::Presence { entries: payload } => payload.len(),
            Self::QueryPresence => 0,
        }
    }

    /// The same message with a payload of its own: a slice would keep the socket's whole read
    /// buffer alive.
    #[must_use]
    pub fn detach(self) -> Self {
        let copy = |payload: Bytes| Bytes::copy_from_slice(&payload);
        match self {
            Self::SyncStep1 { state_vector } => {
                Self::SyncStep1 { state_vector: copy(state_vector) }
            }
            Self::SyncStep2 { update } => Self::SyncStep2 { update: copy(update) },
            Self::Update { update } => Self::Update { update: copy(update) },
            Self::Presence { entries } => Self::Presence { entries: copy(entries) },
            Self::QueryPresence => Self::QueryPresence,
        }
    }
}

/// What the server sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerMessage<'a> {
    /// The state the server has; asks the client for what the server lacks.
    SyncStep1 {
        /// The server's state.
        known: &'a StateVector,
    },
    /// What the client lacked at its SyncStep1.
    SyncStep2 {
        /// A Yjs v1 update.
        update: &'a [u8],
    },
    /// Somebody else's change.
    Update {
        /// The bytes that somebody sent.
        update: &'a [u8],
    },
    /// Presence states.
    Presence {
        /// One entry for each client that changed.
        entries: &'a [PresenceEntry],
    },
    /// A change was refused for lack of rights; stock clients print the reason.
    Denied {
        /// `word: text`.
        reason: &'a str,
    },
    /// `syncline.v1`: what the client has joined. The first message of a session.
    Welcome(Welcome),
    /// `syncline.v1`: the first `frames` update frames of this connection are on disk.
    Saved {
        /// SyncStep2 and Update frames, counted from 1 in the order they were sent.
        frames: u64,
    },
    /// `syncline.v1`: an update frame was not taken.
    Refused {
        /// Its number, counted as for `Saved`.
        frame: u64,
        /// The close word that names the cause.
        word: &'a str,
        /// What happened and what to do.
        text: &'a str,
    },
    /// `syncline.v1`: the token ends soon, and another one would let the session go on.
    TokenWanted {
        /// Until the connection is closed.
        seconds_left: u64,
    },
}

/// What a session is told of the document it has joined, and of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// Its number.
    pub session: SessionId,
    /// The history that the document has; a client that comes back names it.
    pub epoch: Epoch,
    /// What the session may do.
    pub access: Access,
    /// What `Saved` stands for.
    pub durability: Durability,
    /// Whether nobody may change the document until it is repaired.
    pub quarantined: bool,
    /// Bytes of one message.
    pub message_bytes_max: u64,
    /// Bytes of one live update.
    pub update_bytes_max: u64,
    /// Bytes of one presence state.
    pub presence_bytes_max: u64,
    /// The server's clock.
    pub time: Timestamp,
}

impl Welcome {
    fn encode(&self, frame: &mut BytesMut) {
        write_var_uint(frame, WELCOME);
        write_var_uint(frame, self.session.get());
        let epoch = if self.epoch == Epoch::NONE { String::new() } else { self.epoch.to_string() };
        write_buffer(frame, epoch.as_bytes());
        let access = match self.access {
            Access::Read => 0,
            Access::Write => 1,
            Access::Admin => 2,
        };
        let durability = match self.durability {
            Durability::Memory => 0,
            Durability::Os => 1,
            Durability::Fsync => 2,
        };
        let flags = if self.quarantined { FLAG_QUARANTINED } else { 0 };
        let limits = [self.message_bytes_max, self.update_bytes_max, self.presence_bytes_max];
        for number in [access, durability, flags].into_iter().chain(limits) {
            write_var_uint(frame, number);
        }
        write_var_uint(frame, self.time.as_unix_ms());
    }
}

impl ServerMessage<'_> {
    /// The frame that carries this message.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut frame = BytesMut::new();
        match *self {
            Self::SyncStep1 { known } => {
                let payload = encode_state_vector(known);
                put_sync(&mut frame, SYNC_STEP_1, &payload);
            }
            Self::SyncStep2 { update } => put_sync(&mut frame, SYNC_STEP_2, update),
            Self::Update { update } => put_sync(&mut frame, SYNC_UPDATE, update),
            Self::Presence { entries } => {
                let payload = encode_presence(entries);
                frame.reserve(payload.len() + 12);
                write_var_uint(&mut frame, AWARENESS);
                write_buffer(&mut frame, &payload);
            }
            Self::Denied { reason } => {
                write_var_uint(&mut frame, AUTH);
                write_var_uint(&mut frame, PERMISSION_DENIED);
                write_buffer(&mut frame, reason.as_bytes());
            }
            Self::Welcome(welcome) => welcome.encode(&mut frame),
            Self::Saved { frames } => {
                write_var_uint(&mut frame, SAVED);
                write_var_uint(&mut frame, frames);
            }
            Self::Refused { frame: number, word, text } => {
                write_var_uint(&mut frame, REFUSED);
                write_var_uint(&mut frame, number);
                write_buffer(&mut frame, word.as_bytes());
                write_buffer(&mut frame, text.as_bytes());
            }
            Self::TokenWanted { seconds_left } => {
                write_var_uint(&mut frame, TOKEN_WANTED);
                write_var_uint(&mut frame, seconds_left);
            }
        }
        frame.freeze()
    }
}

/// An update framed for every receiver, and the same bytes for the log: one copy out of the read
/// buffer, which a kept slice would pin.
#[must_use]
pub fn frame_update(update: &[u8]) -> (Bytes, Bytes) {
    let frame = ServerMessage::Update { update }.encode();
    let payload = frame.slice(frame.len() - update.len()..);
    (frame, payload)
}

/// An awareness update without entries. It changes nothing, and it is the cheapest frame that a
/// stock client accepts: y-websocket drops a socket that brings no message for 30 s.
#[must_use]
pub fn keep_alive() -> Bytes {
    ServerMessage::Presence { entries: &[] }.encode()
}

/// Encodes a state vector as Yjs does.
#[must_use]
pub fn encode_state_vector(known: &StateVector) -> Vec<u8> {
    let mut payload = Vec::with_capacity(2 + known.len() * 8);
    write_var_uint(&mut payload, known.len() as u64);
    for (client, &clock) in known {
        write_var_uint(&mut payload, client.get());
        write_var_uint(&mut payload, u64::from(clock));
    }
    payload
}

fn encode_presence(entries: &[PresenceEntry]) -> Vec<u8> {
    let state_len = |entry: &PresenceEntry| entry.state.as_ref().map_or(4, Bytes::len);
    // Beside its state an entry has a client, a clock and a length: 8, 5 and 2 bytes.
    let bytes: usize = entries.iter().map(|entry| state_len(entry) + 15).sum();
    let mut payload = Vec::with_capacity(bytes + 8);
    write_var_uint(&mut payload, entries.len() as u64);
    for entry in entries {
        write_var_uint(&mut payload, entry.client.get());
        write_var_uint(&mut payload, u64::from(entry.clock));
        write_buffer(&mut payload, entry.state.as_deref().unwrap_or(b"null"));
    }
    payload
}

fn put_sync(frame: &mut BytesMut, kind: u64, payload: &[u8]) {
    frame.reserve(payload.len() + 12);
    write_var_uint(frame, SYNC);
    write_var_uint(frame, kind);
    write_buffer(frame, payload);
}
