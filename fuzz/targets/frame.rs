//! A frame as a socket receives it, and every walk over what it carries.

use bytes::Bytes;
use syncline_protocol::validate::{Budget, walk_presence, walk_state_vector, walk_update};
use syncline_protocol::wire::{ClientMessage, ServerMessage, SyncMessage, y_websocket};

pub(crate) fn run(data: &[u8]) {
    let frame = Bytes::copy_from_slice(data);
    let Ok(message) = y_websocket::decode(&frame) else { return };
    assert!(message.payload_len() <= frame.len());
    assert_eq!(message.clone().detach(), message);
    match &message {
        ClientMessage::SyncStep1 { state_vector } => {
            if let Ok(known) = walk_state_vector(state_vector) {
                let again = y_websocket::decode(SyncMessage::step_1(&known).encoded());
                let Ok(ClientMessage::SyncStep1 { state_vector }) = again else {
                    panic!("{again:?}");
                };
                assert_eq!(walk_state_vector(&state_vector), Ok(known));
            }
        }
        ClientMessage::SyncStep2 { update } | ClientMessage::Update { update } => {
            drop(walk_update(update, &Budget::SYNC));
        }
        ClientMessage::Presence { entries } => {
            if let Ok(entries) = walk_presence(entries, &Budget::LIVE) {
                let message = ServerMessage::Presence(entries.clone().into());
                let again = y_websocket::encode(&message).expect("every dialect has presence");
                let Ok(ClientMessage::Presence { entries: bytes }) = y_websocket::decode(&again)
                else {
                    panic!("{again:?}");
                };
                assert_eq!(walk_presence(&bytes, &Budget::LIVE), Ok(entries));
            }
        }
        ClientMessage::QueryPresence => {}
    }
}
