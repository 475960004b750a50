//! Presence messages (Yjs: awareness updates): the states of clients.

use bytes::Bytes;

use crate::validate::any::check_json;
use crate::validate::{Budget, PresenceEntry, ValidationError, read_client};
use crate::wire::varint::Reader;

/// The bytes of the shortest entry: client, clock, the length of the JSON and one digit of it.
const ENTRY_BYTES_MIN: usize = 4;

/// Walks a presence message. The states share the memory of `bytes`.
///
/// [`Budget::clients_max`] does not apply: a y-websocket client echoes the states of others
/// to the server, so a message may name every client of the document. The bytes bound it.
pub fn walk_presence(
    bytes: &Bytes,
    budget: &Budget,
) -> Result<Vec<PresenceEntry>, ValidationError> {
    let mut reader = Reader::new(bytes);
    let mut entries = Vec::new();
    for _ in 0..reader.count(ENTRY_BYTES_MIN)? {
        let client = read_client(&mut reader)?;
        // Far below u32::MAX, so that a server that raises clocks never wraps one.
        let clock = reader.var_uint_max(u32::MAX)?;
        let offset = reader.position();
        let text = reader.string()?;
        let max = budget.presence_state_bytes_max;
        if text.len() > max {
            return Err(ValidationError::PresenceStateOverBudget {
                client,
                bytes: text.len(),
                max,
            });
        }
        check_json(text).map_err(|reason| ValidationError::BadJson { offset, reason })?;
        let state = match text.trim_ascii() {
            "null" => None,
            _ => Some(bytes.slice(reader.position() - text.len()..reader.position())),
        };
        entries.push(PresenceEntry { client, clock, state });
    }
    match reader.remaining() {
        0 => Ok(entries),
        left => Err(ValidationError::TrailingBytes { offset: reader.position(), left }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ClientId;
    use crate::wire::varint::{ReadError, write_buffer, write_var_uint};

    fn message(states: &[&str]) -> Bytes {
        let mut bytes = Vec::new();
        write_var_uint(&mut bytes, states.len() as u64);
        for (client, state) in (1..).zip(states) {
            write_var_uint(&mut bytes, client);
            write_var_uint(&mut bytes, 7);
            write_buffer(&mut bytes, state.as_bytes());
        }
        bytes.into()
    }

    fn walk(states: &[&str]) -> Result<Vec<PresenceEntry>, ValidationError> {
        walk_presence(&message(states), &Budget::LIVE)
    }

    #[test]
    fn valid_24_presence_states_share_the_message_and_null_is_gone() {
        let bytes = message(&[r#"{"user":"\ud83d"}"#, "null", " null "]);
        let entries = walk_presence(&bytes, &Budget::LIVE).unwrap();
        let states: Vec<_> = entries.iter().map(|entry| entry.state.as_deref()).collect();
        assert_eq!(states, [Some(&br#"{"user":"\ud83d"}"#[..]), None, None]);
        assert_eq!((entries[1].client, entries[1].clock), (ClientId::new(2).unwrap(), 7));
        let state = entries[0].state.as_ref().unwrap();
        assert!(bytes.as_ptr_range().contains(&state.as_ptr()), "the state was copied");
    }

    #[test]
    fn valid_25_a_presence_state_is_json_of_bounded_size_and_depth() {
        let long = format!("{:?}", "x".repeat(Budget::LIVE.presence_state_bytes_max));
        let error = walk(&[&long]).unwrap_err();
        assert!(matches!(
            error,
            ValidationError::PresenceStateOverBudget { bytes: 8194, max: 8192, .. }
        ));
        assert!(error.is_budget());
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(walk(&[&nested(64)]).is_ok());
        assert!(walk(&[r#""\"[[[[""#, &format!("{:?}", nested(100))]).is_ok());
        for json in ["undefined", "{", "  ", "1 2", &nested(65), &nested(4000)] {
            assert!(matches!(walk(&[json]), Err(ValidationError::BadJson { .. })), "{json}");
        }
    }

    #[test]
    fn valid_26_a_presence_message_names_no_more_than_it_holds() {
        let everyone = vec!["{}"; 10_000];
        assert_eq!(walk(&everyone).unwrap().len(), 10_000);
        for bytes in [&[128, 132, 175, 95][..], &[2, 1, 1, 1, b'1', 0]] {
            assert!(matches!(
                walk_presence(&Bytes::copy_from_slice(bytes), &Budget::LIVE),
                Err(ValidationError::Unreadable(ReadError::CountTooLarge { .. }))
            ));
        }
        let mut trailing = message(&["1"]).to_vec();
        trailing.push(0);
        assert!(matches!(
            walk_presence(&trailing.into(), &Budget::LIVE),
            Err(ValidationError::TrailingBytes { left: 1, .. })
        ));
        let frozen = Bytes::from_static(&[1, 1, 0xff, 0xff, 0xff, 0xff, 0x1f, 1, b'1']);
        assert!(matches!(
            walk_presence(&frozen, &Budget::LIVE),
            Err(ValidationError::Unreadable(ReadError::TooLarge { .. }))
        ));
    }
}
