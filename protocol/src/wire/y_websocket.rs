//! The dialect of y-websocket: message types 0 to 3. A stock client complains about any other.

use bytes::{Bytes, BytesMut};

use crate::validate::PresenceEntry;
use crate::wire::sync::{SYNC, SyncStep};
use crate::wire::varint::{Reader, write_buffer, write_var_uint};
use crate::wire::{ClientFrame, ClientMessage, Codec, Features, FrameError, ServerMessage};

const AWARENESS: u64 = 1;
const AUTH: u64 = 2;
const QUERY_AWARENESS: u64 = 3;

const PERMISSION_DENIED: u64 = 0;

pub(super) const CODEC: Codec = Codec {
    name: "y-websocket",
    subprotocol: None,
    features: Features {
        welcomes: false,
        acknowledges: false,
        refuses_each_frame: false,
        renews_tokens: false,
    },
    decode: |frame| decode(frame).map(ClientFrame::Message),
    encode,
};

/// Reads the one message that `frame` holds. Payloads are slices of it.
///
/// # Errors
/// If the frame is cut short, holds more than one message, or one that clients do not send.
pub fn decode(frame: &Bytes) -> Result<ClientMessage, FrameError> {
    let mut reader = Reader::new(frame);
    let message = match reader.var_uint()? {
        SYNC => {
            let kind = reader.var_uint()?;
            let step = SyncStep::from_number(kind).ok_or(FrameError::SyncKind { kind })?;
            let payload = frame.slice_ref(reader.buffer()?);
            match step {
                SyncStep::Step1 => ClientMessage::SyncStep1 { state_vector: payload },
                SyncStep::Step2 => ClientMessage::SyncStep2 { update: payload },
                SyncStep::Update => ClientMessage::Update { update: payload },
            }
        }
        AWARENESS => ClientMessage::Presence { entries: frame.slice_ref(reader.buffer()?) },
        QUERY_AWARENESS => ClientMessage::QueryPresence,
        kind => return Err(FrameError::Kind { kind }),
    };
    match reader.remaining() {
        0 => Ok(message),
        bytes => Err(FrameError::Trailing { bytes }),
    }
}

/// The frame that carries a message, or None if the dialect has no such message.
#[must_use]
pub fn encode(message: &ServerMessage) -> Option<Bytes> {
    match message {
        ServerMessage::Sync(sync) => Some(sync.encoded().clone()),
        ServerMessage::Presence(entries) => Some(presence(entries)),
        ServerMessage::Refused { reason, text, .. } => {
            Some(permission_denied(&format!("{reason}: {text}")))
        }
        ServerMessage::Welcome(_)
        | ServerMessage::Saved { .. }
        | ServerMessage::TokenWanted { .. } => None,
    }
}

/// The frame by which y-protocols reports missing rights. Stock clients print the reason.
#[must_use]
pub fn permission_denied(reason: &str) -> Bytes {
    let mut frame = BytesMut::new();
    write_var_uint(&mut frame, AUTH);
    write_var_uint(&mut frame, PERMISSION_DENIED);
    write_buffer(&mut frame, reason.as_bytes());
    frame.freeze()
}

fn presence(entries: &[PresenceEntry]) -> Bytes {
    let state_len = |entry: &PresenceEntry| entry.state.as_ref().map_or(4, Bytes::len);
    // With its state an entry has a client, a clock and a length: 8, 5 and 2 bytes.
    let bytes: usize = entries.iter().map(|entry| state_len(entry) + 15).sum();
    let mut payload = Vec::with_capacity(bytes + 8);
    write_var_uint(&mut payload, entries.len() as u64);
    for entry in entries {
        write_var_uint(&mut payload, entry.client.get());
        write_var_uint(&mut payload, u64::from(entry.clock));
        write_buffer(&mut payload, entry.state.as_deref().unwrap_or(b"null"));
    }
    let mut frame = BytesMut::with_capacity(payload.len() + 12);
    write_var_uint(&mut frame, AWARENESS);
    write_buffer(&mut frame, &payload);
    frame.freeze()
}
