//! Parsing of a token, before its signature is checked: three parts of canonical base64url, the first
//! two of them JSON objects without duplicate names. Headers that bring a key of their own, or change
//! how the rest is read, are rejected here.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::auth::TokenError;
use crate::config::limits::TOKEN_BYTES_MAX;

/// Bytes of its first part. Parsed, JSON takes up to 30 times its length, and this part is parsed before
/// the sender is authenticated.
const HEADER_BYTES_MAX: usize = 2 * 1024;

/// Bytes of a `kid`.
pub(super) const KID_BYTES_MAX: usize = 256;

/// Headers that bring a key, or change how a token is read. Only the server's keys count.
const REFUSED_HEADERS: [&str; 9] = ["b64", "crit", "cty", "enc", "jku", "jwk", "x5c", "x5u", "zip"];

/// A well-formed token. Nothing in it is verified.
pub(super) struct Token<'a> {
    pub(super) algorithm: Algorithm,
    pub(super) kid: Option<String>,
    /// The signed part.
    pub(super) message: &'a str,
    pub(super) signature: &'a str,
    payload: &'a str,
}

pub(super) fn invalid(reason: &'static str) -> TokenError {
    TokenError::Invalid { reason }
}

impl<'a> Token<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, TokenError> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err(invalid("the token is longer than 12 KiB"));
        }
        let (message, signature) = text.rsplit_once('.').ok_or(NO_JWT)?;
        let (header, payload) = message.split_once('.').ok_or(NO_JWT)?;
        // A fourth part, as in an encrypted token, would leave a dot in the second.
        if payload.contains('.') {
            return Err(NO_JWT);
        }
        if header.len() > HEADER_BYTES_MAX {
            return Err(invalid("the header of the token is longer than 2 KiB"));
        }
        let header = object(header)?;
        if REFUSED_HEADERS.iter().any(|name| header.contains_key(*name)) {
            return Err(invalid("the header brings a key, or changes how the token is read"));
        }
        match header.get("typ") {
            None => {}
            Some(Value::String(kind)) if is_our_type(kind) => {}
            Some(_) => return Err(invalid("typ says that this token is for something else")),
        }
        let algorithm = header.get("alg").and_then(Value::as_str).and_then(|alg| alg.parse().ok());
        let algorithm = algorithm.ok_or(invalid("the token names no algorithm that is known"))?;
        let kid = match header.get("kid") {
            None => None,
            Some(Value::String(kid)) if kid.len() <= KID_BYTES_MAX => Some(kid.clone()),
            Some(_) => return Err(invalid("kid is not a string of at most 256 bytes")),
        };
        Ok(Self { algorithm, kid, message, signature, payload })
    }

    /// The claims, of any form. For a token whose signature is good.
    pub(super) fn payload(&self) -> Result<Map<String, Value>, TokenError> {
        object(self.payload)
    }
}

const NO_JWT: TokenError = TokenError::Invalid { reason: "this is not a JWT" };

/// The `typ` of a token for this purpose: RFC 7519 §5.1 and RFC 9068 §2.1.
fn is_our_type(kind: &str) -> bool {
    ["jwt", "at+jwt", "application/at+jwt"].iter().any(|ours| kind.eq_ignore_ascii_case(ours))
}

fn object(part: &str) -> Result<Map<String, Value>, TokenError> {
    let json = URL_SAFE_NO_PAD.decode(part).map_err(|_| NO_JWT)?;
    match serde_json::from_slice(&json) {
        Ok(Strict(Value::Object(object))) => Ok(object),
        Ok(_) => Err(NO_JWT),
        Err(error) if error.is_data() => {
            Err(invalid("the token has a duplicate name in a JSON object"))
        }
        Err(_) => Err(NO_JWT),
    }
}

/// JSON in which no object has two members of one name. Parsers differ in which of the two counts.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((name, Strict(value))) = members.next_entry::<String, Strict>()? {
            if object.insert(name, value).is_some() {
                return Err(de::Error::custom("a name twice"));
            }
        }
        Ok(Value::Object(object))
    }
}
