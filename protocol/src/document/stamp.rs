//! The verified identity in a presence state: one member of its object, which only the server
//! writes. The other members stay as they were sent, byte for byte.
//!
//! The state was validated, so it is JSON. A state that is not an object stays unchanged.

use bytes::Bytes;

use crate::access::{IDENTITY_BYTES_MAX, Identity};

/// The member's name.
const MEMBER: &str = "syncline";

/// What the member can add to a state: JSON spells a control character with six bytes.
pub(crate) const STAMP_BYTES_MAX: usize = 2 * 6 * IDENTITY_BYTES_MAX + 64;

/// The state without a client's own member of that name. A copy: a slice would keep the socket's
/// whole read buffer alive.
pub(crate) fn strip(state: &[u8]) -> Bytes {
    let mut is_claimed = false;
    if may_hold_member(state) {
        each_member(state, |key, _| is_claimed |= is_reserved(key));
    }
    if !is_claimed {
        return Bytes::copy_from_slice(state);
    }
    let mut kept = vec![b'{'];
    each_member(state, |key, member| {
        if !is_reserved(key) {
            if kept.len() > 1 {
                kept.push(b',');
            }
            kept.extend_from_slice(member);
        }
    });
    kept.push(b'}');
    kept.into()
}

/// Whether the member may be present: spelt out, or with an escape. Nearly always it is not, and this
/// costs a tenth of a look at each member.
fn may_hold_member(state: &[u8]) -> bool {
    std::str::from_utf8(state).is_ok_and(|text| text.contains(MEMBER) || text.contains('\\'))
}

/// The member as it is written into every state of one session.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stamp(Box<[u8]>);

impl Stamp {
    /// Empty if the identity is.
    pub(crate) fn new(identity: &Identity) -> Self {
        let facts = [("sub", &identity.sub), ("name", &identity.name)];
        let facts = facts.into_iter().filter(|(_, text)| !text.is_empty());
        // A JSON string quotes itself.
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let facts = facts.map(|(key, text)| format!("\"{key}\":{}", quoted(text)));
        let facts = facts.collect::<Vec<_>>().join(",");
        match facts.as_str() {
            "" => Self::default(),
            facts => Self(format!("\"{MEMBER}\":{{{facts}}}}}").into_bytes().into()),
        }
    }

    /// A stripped state with the identity as its last member. Without an identity, or if it is no
    /// object, the state itself.
    pub(crate) fn put_on(&self, state: &Bytes) -> Bytes {
        // Valid JSON, so its first and last bytes decide.
        let is_object = !self.0.is_empty() && state.trim_ascii_start().starts_with(b"{");
        let Some(body) = state.trim_ascii_end().strip_suffix(b"}").filter(|_| is_object) else {
            return state.clone();
        };
        let comma: &[u8] = if body.trim_ascii() == b"{" { b"" } else { b"," };
        [body, comma, &self.0].concat().into()
    }
}

/// Whether a key, in its quotes, is the server's, however it is spelt.
fn is_reserved(key: &[u8]) -> bool {
    let raw = key.get(1..key.len().saturating_sub(1)).unwrap_or_default();
    raw == MEMBER.as_bytes()
        || (raw.contains(&b'\\')
            && serde_json::from_slice::<String>(key).is_ok_and(|key| key == MEMBER))
}

/// Visits the members of an object: the key in its quotes, and the whole member. False if it is no
/// object.
fn each_member<'a>(json: &'a [u8], mut visit: impl FnMut(&'a [u8], &'a [u8])) -> bool {
    let mut scan = Scan { json, at: 0 };
    scan.skip_blank();
    if scan.peek() != Some(b'{') {
        return false;
    }
    scan.at += 1;
    loop {
        scan.skip_blank();
        if scan.peek() != Some(b'"') {
            return true;
        }
        let start = scan.at;
        scan.skip_string();
        let key = json.get(start..scan.at).unwrap_or_default();
        scan.skip_value();
        visit(key, json.get(start..scan.at).unwrap_or_default());
        if scan.peek() == Some(b',') {
            scan.at += 1;
        }
    }
}

/// A position in valid JSON.
struct Scan<'a> {
    json: &'a [u8],
    at: usize,
}

impl Scan<'_> {
    fn peek(&self) -> Option<u8> {
        self.json.get(self.at).copied()
    }

    fn skip_blank(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    /// From a quote to behind the one that ends the string.
    fn skip_string(&mut self) {
        self.at += 1;
        while let Some(rest) = self.json.get(self.at..) {
            let stop = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'));
            let Some(stop) = stop else { break };
            self.at += stop + 1;
            if rest.get(stop) == Some(&b'"') {
                return;
            }
            // The escaped character.
            self.at += 1;
        }
        self.at = self.json.len();
    }

    /// To the comma or brace behind a value.
    fn skip_value(&mut self) {
        let mut depth = 0_u32;
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => {
                    self.skip_string();
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b',' | b'}' if depth == 0 => return,
                b'}' | b']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    use super::*;

    fn identity(sub: &str, name: &str) -> Identity {
        Identity { sub: sub.into(), name: name.into() }
    }

    fn stamped(state: &str, sub: &str, name: &str) -> String {
        let stamped = Stamp::new(&identity(sub, name)).put_on(&strip(state.as_bytes()));
        String::from_utf8(stamped.to_vec()).unwrap()
    }

    #[test]
    fn presence_15_the_identity_is_the_last_member() {
        let cases = [
            ("{}", r#"{"syncline":{"sub":"ada","name":"Ada"}}"#),
            (" { } \n", r#" { "syncline":{"sub":"ada","name":"Ada"}}"#),
            (
                r#"{"z":1.0,"a":1e400,"name":"Lexical's","user":{"name":"B","syncline":1},"l":[{},"}"]}"#,
                r#"{"z":1.0,"a":1e400,"name":"Lexical's","user":{"name":"B","syncline":1},"l":[{},"}"],"syncline":{"sub":"ada","name":"Ada"}}"#,
            ),
            // Other values have no members.
            ("1", "1"),
            ("[\"syncline\"]", "[\"syncline\"]"),
            ("\"{}\"", "\"{}\""),
        ];
        for (state, expected) in cases {
            assert_eq!(stamped(state, "ada", "Ada"), expected);
        }
        assert_eq!(stamped("{}", "ada", ""), r#"{"syncline":{"sub":"ada"}}"#);
        assert_eq!(
            stamped("{}", "", "A\"\u{1}\u{2028}"),
            "{\"syncline\":{\"name\":\"A\\\"\\u0001\u{2028}\"}}"
        );
        assert_eq!(stamped(r#"{"a":1}"#, "", ""), r#"{"a":1}"#);
    }

    #[test]
    fn presence_16_only_the_server_writes_the_member() {
        let cases = [
            (r#"{"syncline":{"sub":"root"}}"#, "{}"),
            (r#"{"\u0073yncline":{"sub":"root"},"a":1}"#, r#"{"a":1}"#),
            (r#"{"a": 1 , "sync\u006cine" : [ "}" , "\"" ] , "b":2 }"#, r#"{"a": 1 ,"b":2 }"#),
            (r#"{"syncline":1,"syncline":2,"s\u0079ncline":3}"#, "{}"),
            (r#"{"\ud800":1,"Syncline":2,"syncline ":3,"syncline\\":4}"#, ""),
        ];
        for (state, expected) in cases {
            let expected = if expected.is_empty() { state } else { expected };
            assert_eq!(stamped(state, "", ""), expected, "{state}");
        }
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[ -~\"\\\\{}\\[\\],:é]{0,8}".prop_map(Value::from),
        ];
        let key = prop_oneof![Just("syncline".to_owned()), "[\"\\\\{},a-c]{0,4}"];
        leaf.prop_recursive(3, 24, 5, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map(key.clone(), inner, 0..4)
                    .prop_map(|map| Value::Object(Map::from_iter(map))),
            ]
        })
    }

    proptest! {
        #[test]
        fn presence_15_a_parser_reads_all_members(state in json(), pretty: bool) {
            let text = if pretty {
                serde_json::to_string_pretty(&state).unwrap()
            } else {
                state.to_string()
            };
            let read: Value = serde_json::from_str(&stamped(&text, "ada", "A \"b\"")).unwrap();
            let mut expected = state;
            if let Value::Object(members) = &mut expected {
                members.insert("syncline".into(), serde_json::json!({"sub": "ada", "name": "A \"b\""}));
            }
            prop_assert_eq!(read, expected);
        }

        #[test]
        fn presence_16_arbitrary_bytes_are_safe(bytes: Vec<u8>) {
            let state = strip(&bytes);
            drop(Stamp::new(&identity("ada", "Ada")).put_on(&state));
        }
    }
}
