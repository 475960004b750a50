//! Parsing of a key set (RFC 7517). Keys that cannot verify a signature here are left out: a set may
//! hold keys for other purposes.

use std::fmt;

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, AlgorithmFamily};
use serde::Deserialize;
use thiserror::Error;

use crate::auth::keys::{Key, KeyError};
use crate::auth::token::KID_BYTES_MAX;

/// Keys of a set. The largest providers have a dozen.
const KEYS_MAX: usize = 32;

#[derive(Deserialize)]
struct Set {
    keys: Vec<serde_json::Value>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Jwk {
    kty: String,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    crv: String,
    x: String,
    y: String,
    n: String,
    e: String,
    d: Option<serde::de::IgnoredAny>,
}

/// Why a set cannot be used.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum SetError {
    /// It is not a JSON object with a list `keys`.
    #[error("it is not JSON with a list \"keys\"")]
    Form,
    /// It has too many keys.
    #[error("it has {count} keys, at most {KEYS_MAX} are taken")]
    Many {
        /// Its keys.
        count: usize,
    },
    /// No key in it can verify a token.
    #[error("none of its {count} keys can verify tokens{}", first(.left_out))]
    Useless {
        /// Its keys.
        count: usize,
        /// Why each was left out.
        left_out: Vec<LeftOut>,
    },
}

fn first(left_out: &[LeftOut]) -> String {
    left_out.first().map(|first| format!(": {first}")).unwrap_or_default()
}

/// Why a key of a set is not used.
#[derive(Debug, PartialEq, Eq)]
pub enum LeftOut {
    /// It does not have the form of a key.
    Form,
    /// It is a secret, and every reader of the set could sign with it.
    Symmetric,
    /// It includes the private half.
    Private,
    /// It is for another purpose, such as encryption.
    Purpose,
    /// Its `kid` is too long.
    Name,
    /// Its `alg` does not fit it, or is unknown.
    Algorithm,
    /// It is of an unknown kind, or invalid.
    Key(KeyError),
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Form => "an entry does not have the form of a key",
            Self::Symmetric => "a symmetric key, with which every reader of the set could sign",
            Self::Private => "a private key, which every reader of the set has by now",
            Self::Purpose => "a key is not for signatures",
            Self::Name => "a kid is longer than 256 bytes",
            Self::Algorithm => "an alg is unknown, or does not fit its key",
            Self::Key(error) => return write!(f, "a key cannot be used: {error}"),
        })
    }
}

impl LeftOut {
    /// Whether the set itself is at fault, and its owner should correct it.
    pub(super) fn is_mistake(&self) -> bool {
        !matches!(self, Self::Purpose | Self::Algorithm)
    }
}

/// The keys of a set, and what was left out.
pub(super) fn parse(json: &[u8]) -> Result<(Vec<Key>, Vec<LeftOut>), SetError> {
    let Set { keys: all } = serde_json::from_slice(json).map_err(|_| SetError::Form)?;
    let count = all.len();
    if count > KEYS_MAX {
        return Err(SetError::Many { count });
    }
    let (mut keys, mut left_out) = (Vec::new(), Vec::new());
    for value in all {
        match serde_json::from_value(value).map_err(|_| LeftOut::Form).and_then(key) {
            Ok(key) => keys.push(key),
            Err(reason) => left_out.push(reason),
        }
    }
    if keys.is_empty() {
        return Err(SetError::Useless { count, left_out });
    }
    Ok((keys, left_out))
}

fn key(jwk: Jwk) -> Result<Key, LeftOut> {
    if jwk.kty == "oct" {
        return Err(LeftOut::Symmetric);
    }
    if jwk.d.is_some() {
        return Err(LeftOut::Private);
    }
    let verifies = |operations: Vec<String>| operations.iter().any(|name| name == "verify");
    if jwk.purpose.is_some_and(|purpose| purpose != "sig") || !jwk.key_ops.is_none_or(verifies) {
        return Err(LeftOut::Purpose);
    }
    if jwk.kid.as_ref().is_some_and(|kid| kid.len() > KID_BYTES_MAX) {
        return Err(LeftOut::Name);
    }
    // What the kind of the key is for; an RSA key may name another of its family.
    let native = match (&*jwk.kty, &*jwk.crv) {
        ("RSA", _) => Algorithm::RS256,
        ("EC", "P-256") => Algorithm::ES256,
        ("EC", "P-384") => Algorithm::ES384,
        ("OKP", "Ed25519") => Algorithm::EdDSA,
        _ => return Err(LeftOut::Key(KeyError::Unsupported)),
    };
    let named = jwk.alg.map(|alg| alg.parse().map_err(|_| LeftOut::Algorithm)).transpose()?;
    let algorithm: Algorithm = named.unwrap_or(native);
    let is_family = algorithm.family() == AlgorithmFamily::Rsa && native == Algorithm::RS256;
    if algorithm != native && !is_family {
        return Err(LeftOut::Algorithm);
    }
    let bytes =
        |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| LeftOut::Key(KeyError::Unsupported));
    let key = match algorithm.family() {
        AlgorithmFamily::Hmac => return Err(LeftOut::Symmetric),
        AlgorithmFamily::Ed => bytes(&jwk.x)?,
        // RFC 7518 §6.2.1: coordinates of full length. A point is 4 and both (SEC 1 §2.3.3).
        AlgorithmFamily::Ec => [vec![4], bytes(&jwk.x)?, bytes(&jwk.y)?].concat(),
        AlgorithmFamily::Rsa => {
            let components = RsaPublicKeyComponents { n: bytes(&jwk.n)?, e: bytes(&jwk.e)? };
            let parsed = components.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256);
            parsed.map_err(|_| LeftOut::Key(KeyError::Unsupported))?.as_ref().to_vec()
        }
    };
    let key = Key::public(algorithm, &key).map_err(LeftOut::Key)?;
    Ok(key.named(jwk.kid))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// RFC 7517 A.1 and RFC 8037 A.2.
    const X: &str = "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4";
    const Y: &str = "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM";
    const ED: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    fn p256() -> Value {
        json!({ "kty": "EC", "crv": "P-256", "x": X, "y": Y, "kid": "one" })
    }

    fn with(name: &str, value: impl Into<Value>) -> Value {
        let mut key = p256();
        key[name] = value.into();
        key
    }

    fn set(keys: &[Value]) -> Result<(Vec<Key>, Vec<LeftOut>), SetError> {
        parse(json!({ "keys": keys }).to_string().as_bytes())
    }

    #[test]
    fn key_4_each_key_of_a_set_is_for_one_algorithm() {
        let n = URL_SAFE_NO_PAD.encode([0xfd; 256]);
        let keys = [
            p256(),
            with("use", "sig"),
            with("alg", "ES256"),
            with("x5t", "an unknown member"),
            json!({ "kty": "OKP", "crv": "Ed25519", "x": ED }),
            json!({ "kty": "RSA", "n": n, "e": "AQAB" }),
            json!({ "kty": "RSA", "n": n, "e": "AQAB", "alg": "PS512", "key_ops": ["verify"] }),
        ];
        let (keys, left_out) = set(&keys).unwrap();
        let algorithms: Vec<_> = keys.iter().map(|key| format!("{:?}", key.algorithm)).collect();
        let known = ["ES256", "ES256", "ES256", "ES256", "EdDSA", "RS256", "PS512"];
        assert_eq!((algorithms, left_out), (known.map(str::to_owned).to_vec(), vec![]));
        assert_eq!(keys[0].kid.as_deref(), Some("one"));
    }

    #[test]
    fn key_4_unsafe_keys_are_left_out() {
        let unsupported = || LeftOut::Key(KeyError::Unsupported);
        let short_n = URL_SAFE_NO_PAD.encode([0xfd; 128]);
        let cases = [
            (json!({ "kty": "oct", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0" }), LeftOut::Symmetric),
            (with("d", "the private half"), LeftOut::Private),
            (with("use", "enc"), LeftOut::Purpose),
            (with("key_ops", json!(["sign"])), LeftOut::Purpose),
            (with("kid", "k".repeat(257)), LeftOut::Name),
            (with("kid", 7), LeftOut::Form),
            (with("alg", "HS256"), LeftOut::Algorithm),
            (with("alg", "RS256"), LeftOut::Algorithm),
            (with("alg", "ES384"), LeftOut::Algorithm),
            (with("alg", "none"), LeftOut::Algorithm),
            (with("crv", "P-384"), unsupported()),
            (with("crv", "secp256k1"), unsupported()),
            (with("x", Y), unsupported()),
            (with("x", ""), unsupported()),
            (with("x", format!("{X}=")), unsupported()),
            (with("kty", "RSA"), unsupported()),
            (with("kty", "dilithium"), unsupported()),
            (json!({ "kty": "RSA", "n": short_n, "e": "AQAB" }), unsupported()),
            (json!({ "kty": "OKP", "crv": "Ed25519", "x": "AAAA" }), unsupported()),
            (json!({ "kty": "OKP", "crv": "X25519", "x": ED }), unsupported()),
            (json!("a text"), LeftOut::Form),
        ];
        for (key, reason) in cases {
            let (_, left_out) = set(&[p256(), key.clone()]).unwrap();
            let found = left_out.into_iter().next();
            let is_rsa_size = matches!(found, Some(LeftOut::Key(KeyError::RsaBits { .. })));
            assert!(found == Some(reason) || is_rsa_size && key["kty"] == "RSA", "{key}");
            assert!(matches!(set(&[key]), Err(SetError::Useless { count: 1, .. })));
        }
    }

    #[test]
    fn key_4_an_invalid_set_is_refused() {
        for text in ["", "<html>", "[]", "{}", "{\"keys\":{}}"] {
            assert_eq!(parse(text.as_bytes()).unwrap_err(), SetError::Form, "{text}");
        }
        assert_eq!(set(&vec![p256(); 33]).unwrap_err(), SetError::Many { count: 33 });
        let empty = set(&[]).unwrap_err();
        assert_eq!(empty, SetError::Useless { count: 0, left_out: vec![] });
    }
}
