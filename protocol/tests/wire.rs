//! The wire codec against the vectors in `tests/vectors`, and against arbitrary bytes.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use bytes::Bytes;
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::Value;
use syncline_protocol::validate::{PresenceEntry, StateVector};
use syncline_protocol::wire::{
    ClientFrame, ClientMessage, Dialect, EncodeOnce, ServerMessage, SyncMessage, Welcome,
    y_websocket,
};
use syncline_protocol::{Access, ClientId, Durability, Epoch, SessionId, Timestamp};

const Y_WEBSOCKET: &str = include_str!("../../tests/vectors/y-websocket.json");
const SYNCLINE_V1: &str = include_str!("../../tests/vectors/syncline-v1.json");

fn vectors(file: &str, group: &str) -> Vec<Value> {
    let file: Value = serde_json::from_str(file).unwrap();
    file[group].as_array().unwrap().clone()
}

fn bytes(vector: &Value, key: &str) -> Bytes {
    let hex = vector[key].as_str().unwrap();
    let byte = |at| u8::from_str_radix(hex.get(at..at + 2).unwrap(), 16).unwrap();
    (0..hex.len()).step_by(2).map(byte).collect::<Vec<_>>().into()
}

fn text<'a>(vector: &'a Value, key: &str) -> &'a str {
    vector[key].as_str().unwrap()
}

fn client(number: &Value) -> ClientId {
    ClientId::new(number.as_u64().unwrap()).unwrap()
}

#[test]
fn frame_1_client_vectors_decode() {
    for vector in vectors(Y_WEBSOCKET, "client") {
        let message = y_websocket::decode(&bytes(&vector, "hex")).unwrap();
        let payload = bytes(&vector, "payload");
        let expected = match text(&vector, "kind") {
            "syncStep1" => ClientMessage::SyncStep1 { state_vector: payload },
            "syncStep2" => ClientMessage::SyncStep2 { update: payload },
            "update" => ClientMessage::Update { update: payload },
            "awareness" => ClientMessage::Presence { entries: payload },
            "queryAwareness" => ClientMessage::QueryPresence,
            kind => panic!("{kind}"),
        };
        assert_eq!(message, expected, "{vector}");
    }
}

#[test]
fn frame_1_broken_frames_are_refused() {
    for vector in vectors(Y_WEBSOCKET, "refused") {
        let decoded = y_websocket::decode(&bytes(&vector, "hex"));
        assert!(decoded.is_err(), "{vector}: {decoded:?}");
    }
}

#[test]
fn frame_1_only_syncline_v1_has_tokens() {
    for vector in vectors(SYNCLINE_V1, "client") {
        let frame = bytes(&vector, "hex");
        let token = ClientFrame::Token(text(&vector, "token").to_owned());
        assert_eq!(Dialect::SynclineV1.decode(&frame), Ok(token), "{vector}");
        assert!(Dialect::YWebsocket.decode(&frame).is_err(), "no document sees one");
    }
    for vector in vectors(SYNCLINE_V1, "refused") {
        assert!(Dialect::SynclineV1.decode(&bytes(&vector, "hex")).is_err(), "{vector}");
    }
    for vector in vectors(Y_WEBSOCKET, "client") {
        let frame = bytes(&vector, "hex");
        let decoded = Dialect::SynclineV1.decode(&frame);
        assert_eq!(decoded, Dialect::YWebsocket.decode(&frame), "{vector}");
        assert!(matches!(decoded, Ok(ClientFrame::Message(_))), "{vector}");
    }
    assert!(Dialect::SynclineV1.decode(&Bytes::new()).is_err());
}

#[test]
fn frame_1_a_dialect_encodes_only_its_own_messages() {
    let stock = |message: &ServerMessage| Dialect::YWebsocket.encode(message);
    assert_eq!(stock(&ServerMessage::Saved { frames: 1 }), None);
    assert_eq!(stock(&ServerMessage::TokenWanted { seconds_left: 1 }), None);
    let refused = ServerMessage::Refused { frame: 1, reason: "reason", text: "text" };
    assert_eq!(stock(&refused), Some(y_websocket::permission_denied("reason: text")));
    for vector in vectors(SYNCLINE_V1, "server") {
        if text(&vector, "kind") == "welcome" {
            assert_eq!(stock(&ServerMessage::Welcome(welcome(&vector))), None);
        }
    }
}

#[test]
fn frame_1_the_subprotocol_selects_the_dialect() {
    let select = |offers: &[&'static str]| Dialect::select(offers.iter().copied());
    assert_eq!(select(&[]), Dialect::YWebsocket);
    assert_eq!(select(&["other"]), Dialect::YWebsocket);
    assert_eq!(select(&["other", "syncline.v1"]), Dialect::SynclineV1);
    for (index, dialect) in Dialect::ALL.into_iter().enumerate() {
        assert_eq!(dialect.index(), index);
    }
}

#[test]
fn frame_1_a_fan_out_encodes_each_message_once() {
    let update = ServerMessage::Sync(SyncMessage::update(b"update"));
    let entry = PresenceEntry { client: ClientId::new(1).unwrap(), clock: 1, state: None };
    let shared: std::sync::Arc<[PresenceEntry]> = [entry].into();
    let presence = ServerMessage::Presence(std::sync::Arc::clone(&shared));
    let mut frames = EncodeOnce::default();
    for message in [update, presence] {
        let mut addresses = std::collections::BTreeSet::new();
        for _ in 0..3 {
            for dialect in Dialect::ALL {
                let frame = frames.encode(dialect, &message).unwrap();
                assert_eq!(Some(&frame), dialect.encode(&message).as_ref());
                addresses.insert(frame.as_ptr());
            }
        }
        assert!(addresses.len() <= Dialect::ALL.len(), "one encoding for each dialect");
    }
    // Another message with the same content is another message.
    let other = ServerMessage::Sync(SyncMessage::update(b"other"));
    assert_eq!(frames.encode(Dialect::YWebsocket, &other), Dialect::YWebsocket.encode(&other));
}

#[test]
fn frame_1_server_vectors_encode() {
    let all = [vectors(Y_WEBSOCKET, "server"), vectors(SYNCLINE_V1, "server")].concat();
    for vector in all {
        let clock = |number: &Value| u32::try_from(number.as_u64().unwrap()).unwrap();
        let list = |key: &str| vector[key].as_array().cloned().unwrap_or_default();
        let known: StateVector =
            list("known").iter().map(|pair| (client(&pair[0]), clock(&pair[1]))).collect();
        let state = |state: &Value| state.as_str().map(|json| Bytes::from(json.to_owned()));
        let entries: Vec<_> = list("entries")
            .iter()
            .map(|entry| PresenceEntry {
                client: client(&entry[0]),
                clock: clock(&entry[1]),
                state: state(&entry[2]),
            })
            .collect();
        let payload =
            if vector["payload"].is_null() { Bytes::new() } else { bytes(&vector, "payload") };
        let message = match text(&vector, "kind") {
            "syncStep1" => ServerMessage::Sync(SyncMessage::step_1(&known)),
            "syncStep2" => ServerMessage::Sync(SyncMessage::step_2(&payload)),
            "update" => ServerMessage::Sync(SyncMessage::update(&payload)),
            "awareness" => ServerMessage::Presence(entries.into()),
            "denied" => {
                let frame = y_websocket::permission_denied(text(&vector, "reason"));
                assert_eq!(frame, bytes(&vector, "hex"), "{vector}");
                continue;
            }
            "welcome" => ServerMessage::Welcome(welcome(&vector)),
            "saved" => ServerMessage::Saved { frames: vector["frames"].as_u64().unwrap() },
            "refused" => ServerMessage::Refused {
                frame: vector["frame"].as_u64().unwrap(),
                reason: text(&vector, "word").to_owned().leak(),
                text: text(&vector, "text").to_owned().leak(),
            },
            "tokenWanted" => {
                ServerMessage::TokenWanted { seconds_left: vector["secondsLeft"].as_u64().unwrap() }
            }
            kind => panic!("{kind}"),
        };
        assert_eq!(Dialect::SynclineV1.encode(&message), Some(bytes(&vector, "hex")), "{vector}");
    }
}

fn welcome(vector: &Value) -> Welcome {
    let number = |key: &str| vector[key].as_u64().unwrap();
    let epoch = text(vector, "epoch");
    Welcome {
        session: SessionId::new(number("session")),
        epoch: if epoch.is_empty() { Epoch::NONE } else { epoch.parse().unwrap() },
        access: Access::deserialize(&vector["access"]).unwrap(),
        durability: Durability::deserialize(&vector["durability"]).unwrap(),
        quarantined: vector["quarantined"].as_bool().unwrap(),
        message_bytes_max: number("messageBytes"),
        update_bytes_max: number("updateBytes"),
        presence_bytes_max: number("presenceBytes"),
        time: Timestamp::from_unix_ms(number("time")),
    }
}

proptest! {
    #[test]
    fn frame_2_arbitrary_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let frame = Bytes::from(bytes);
        // What decodes accounts for every byte: type, sync type and length take the rest.
        if let Ok(message) = y_websocket::decode(&frame) {
            prop_assert!(message.payload_len() < frame.len());
        }
    }

    #[test]
    fn name_1_arbitrary_text_is_parsed_or_refused(text in any::<String>()) {
        if let Ok(name) = text.parse::<syncline_protocol::DocumentName>() {
            prop_assert_eq!(name.as_str(), text);
        }
    }
}
