//! The messages that clients and the server exchange, whatever their encoding.

use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;

use crate::access::Access;
use crate::durability::Durability;
use crate::id::{Epoch, SessionId};
use crate::time::Timestamp;
use crate::validate::PresenceEntry;
use crate::wire::sync::SyncMessage;
use crate::wire::varint::ReadError;

/// A message for a document. Payloads stay opaque; [`validate`](crate::validate) walks them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientMessage {
    /// The client's state. The answer is a SyncStep2 with what it lacks.
    SyncStep1 {
        /// An encoded state vector.
        state_vector: Bytes,
    },
    /// The answer to the server's SyncStep1.
    SyncStep2 {
        /// A Yjs v1 update.
        update: Bytes,
    },
    /// A live change.
    Update {
        /// A Yjs v1 update.
        update: Bytes,
    },
    /// Presence states: the client's own, and echoes of others.
    Presence {
        /// An encoded awareness update.
        entries: Bytes,
    },
    /// Asks for all presence states.
    QueryPresence,
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

    /// The same message with a copy of its payload: a slice would keep the socket's whole read
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

/// A frame from a client, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientFrame {
    /// A message for the document.
    Message(ClientMessage),
    /// A new token for the session. Only the connection sees it, never a document.
    Token(String),
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

/// A message from the server. Cheap to clone: payloads are shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerMessage {
    /// SyncStep1, SyncStep2 or Update.
    Sync(SyncMessage),
    /// Presence states, one entry for each client that changed.
    Presence(Arc<[PresenceEntry]>),
    /// The document that a session has joined, and its rights. The first message of a session.
    Welcome(Welcome),
    /// The first `frames` update frames of the session are on disk.
    Saved {
        /// SyncStep2 and Update frames, counted from 1 in the order they were sent.
        frames: u64,
    },
    /// An update frame was not applied.
    Refused {
        /// Its number, counted as for `Saved`.
        frame: u64,
        /// The name of the cause, as in a close reason.
        reason: &'static str,
        /// What happened and what to do.
        text: &'static str,
    },
    /// The token expires soon. A new one continues the session.
    TokenWanted {
        /// Seconds until the connection is closed.
        seconds_left: u64,
    },
}

impl ServerMessage {
    /// A presence message without entries. It changes nothing, and it is the cheapest message that
    /// a stock client accepts: y-websocket drops a socket that brings no message for 30 s.
    #[must_use]
    pub fn keep_alive() -> Self {
        Self::Presence(Arc::default())
    }
}

/// Facts about a session and the document that it has joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The session.
    pub session: SessionId,
    /// The document's history. A returning client names it.
    pub epoch: Epoch,
    /// The session's right on the document.
    pub access: Access,
    /// What `Saved` stands for.
    pub durability: Durability,
    /// Whether the document is read-only until it is repaired.
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
