//! The dialect `syncline.v1`: y-websocket's messages, and the types from 64 up.

use bytes::{Bytes, BytesMut};

use crate::access::Access;
use crate::durability::Durability;
use crate::id::Epoch;
use crate::wire::varint::{Reader, write_buffer, write_var_uint};
use crate::wire::{ClientFrame, Codec, Features, FrameError, ServerMessage, Welcome, y_websocket};

const WELCOME: u64 = 64;
const SAVED: u64 = 65;
const REFUSED: u64 = 66;
const TOKEN_WANTED: u64 = 67;
const TOKEN: u64 = 68;

const FLAG_QUARANTINED: u64 = 1;

/// The WebSocket subprotocol by which a client asks for this dialect.
pub const SUBPROTOCOL: &str = "syncline.v1";

pub(super) const CODEC: Codec = Codec {
    name: SUBPROTOCOL,
    subprotocol: Some(SUBPROTOCOL),
    features: Features {
        welcomes: true,
        acknowledges: true,
        refuses_each_frame: true,
        renews_tokens: true,
    },
    decode,
    encode,
};

/// Reads the one message that `frame` holds.
///
/// # Errors
/// If the frame is cut short, holds more than one message, or one that clients do not send.
pub fn decode(frame: &Bytes) -> Result<ClientFrame, FrameError> {
    let mut reader = Reader::new(frame);
    let Ok(TOKEN) = reader.var_uint() else {
        return y_websocket::decode(frame).map(ClientFrame::Message);
    };
    let token = reader.string()?;
    match reader.remaining() {
        0 => Ok(ClientFrame::Token(token.to_owned())),
        bytes => Err(FrameError::Trailing { bytes }),
    }
}

/// The frame that carries a message.
#[must_use]
pub fn encode(message: &ServerMessage) -> Option<Bytes> {
    let mut frame = BytesMut::new();
    match *message {
        ServerMessage::Sync(_) | ServerMessage::Presence(_) => return y_websocket::encode(message),
        ServerMessage::Welcome(welcome) => encode_welcome(&welcome, &mut frame),
        ServerMessage::Saved { frames } => {
            write_var_uint(&mut frame, SAVED);
            write_var_uint(&mut frame, frames);
        }
        ServerMessage::Refused { frame: number, reason, text } => {
            write_var_uint(&mut frame, REFUSED);
            write_var_uint(&mut frame, number);
            write_buffer(&mut frame, reason.as_bytes());
            write_buffer(&mut frame, text.as_bytes());
        }
        ServerMessage::TokenWanted { seconds_left } => {
            write_var_uint(&mut frame, TOKEN_WANTED);
            write_var_uint(&mut frame, seconds_left);
        }
    }
    Some(frame.freeze())
}

fn encode_welcome(welcome: &Welcome, frame: &mut BytesMut) {
    write_var_uint(frame, WELCOME);
    write_var_uint(frame, welcome.session.get());
    let epoch =
        if welcome.epoch == Epoch::NONE { String::new() } else { welcome.epoch.to_string() };
    write_buffer(frame, epoch.as_bytes());
    let access = match welcome.access {
        Access::Read => 0,
        Access::Write => 1,
        Access::Admin => 2,
    };
    let durability = match welcome.durability {
        Durability::Memory => 0,
        Durability::Os => 1,
        Durability::Fsync => 2,
    };
    let flags = if welcome.quarantined { FLAG_QUARANTINED } else { 0 };
    let limits = [welcome.message_bytes_max, welcome.update_bytes_max, welcome.presence_bytes_max];
    for number in [access, durability, flags].into_iter().chain(limits) {
        write_var_uint(frame, number);
    }
    write_var_uint(frame, welcome.time.as_unix_ms());
}
