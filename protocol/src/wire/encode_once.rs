//! One encoding of a message for all its recipients.

use std::sync::Arc;

use bytes::Bytes;

use crate::wire::{Dialect, ServerMessage};

/// Encodes the messages of one document, each shared message once for each dialect.
///
/// A fan-out lists its recipients one after the other, so the latest shared message of each dialect
/// is enough to remember. To be dropped with the effects that it serves: it keeps what it remembers
/// alive. It belongs to one document, so a dialect whose frames name the document can be given the
/// name here.
#[derive(Debug, Default)]
pub struct EncodeOnce {
    latest: [Option<(ServerMessage, Option<Bytes>)>; Dialect::ALL.len()],
}

impl EncodeOnce {
    /// The frame that carries a message, or None if the dialect has no such message.
    pub fn encode(&mut self, dialect: Dialect, message: &ServerMessage) -> Option<Bytes> {
        if !is_shared(message) {
            return dialect.encode(message);
        }
        let Some(latest) = self.latest.get_mut(dialect.index()) else {
            return dialect.encode(message);
        };
        match latest {
            Some((encoded, frame)) if is_same(encoded, message) => frame.clone(),
            _ => {
                let frame = dialect.encode(message);
                *latest = Some((message.clone(), frame.clone()));
                frame
            }
        }
    }
}

/// Whether the same message may have several recipients.
fn is_shared(message: &ServerMessage) -> bool {
    match message {
        ServerMessage::Sync(_) => true,
        // What was made for one session has one owner.
        ServerMessage::Presence(entries) => Arc::strong_count(entries) > 1,
        ServerMessage::Welcome(_)
        | ServerMessage::Saved { .. }
        | ServerMessage::Refused { .. }
        | ServerMessage::TokenWanted { .. } => false,
    }
}

/// Whether both are clones of one message. Compares addresses, not content.
fn is_same(a: &ServerMessage, b: &ServerMessage) -> bool {
    match (a, b) {
        (ServerMessage::Sync(a), ServerMessage::Sync(b)) => {
            a.encoded().as_ptr() == b.encoded().as_ptr()
        }
        (ServerMessage::Presence(a), ServerMessage::Presence(b)) => Arc::ptr_eq(a, b),
        _ => false,
    }
}
