//! The secret that signs HS256 tokens, and random values.

use std::sync::Arc;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use thiserror::Error;

/// RFC 7518 §3.2: an HS256 key has at least the size of the hash.
pub const SECRET_BYTES_MIN: usize = 32;

/// The system gave no random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the system gave no random bytes")]
pub struct RandomError;

/// [`SECRET_BYTES_MIN`] random bytes in hexadecimal.
pub(crate) fn random_hex() -> Result<String, RandomError> {
    let mut bytes = [0; SECRET_BYTES_MIN];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| RandomError)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The prefix of a secret in base64. Without it the text itself is the key, even if it looks like
/// base64: a signer that uses the text as its key has the same bytes.
const BASE64: &str = "base64:";

/// Padding may be there or not.
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);

/// A signing secret. Its `Debug` form does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<[u8]>);

impl Secret {
    /// A secret of at least [`SECRET_BYTES_MIN`] bytes.
    ///
    /// # Errors
    /// If it is shorter.
    pub fn new(bytes: &[u8]) -> Result<Self, SecretError> {
        if bytes.len() < SECRET_BYTES_MIN {
            return Err(SecretError::Short { bytes: bytes.len() });
        }
        Ok(Self(bytes.into()))
    }

    /// A secret as an operator writes it: text that stands for its own bytes, or `base64:` and the
    /// bytes in base64.
    ///
    /// # Errors
    /// If it is too short, no base64 after all, or a key that is no secret.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        // A public key is public, so anyone could sign with it.
        if text.trim_start().starts_with("-----BEGIN") {
            return Err(SecretError::Pem);
        }
        let Some(encoded) = text.strip_prefix(BASE64) else { return Self::new(text.as_bytes()) };
        let url_safe = encoded.contains(['-', '_']);
        let alphabet = if url_safe { alphabet::URL_SAFE } else { alphabet::STANDARD };
        let bytes = GeneralPurpose::new(&alphabet, LENIENT).decode(encoded);
        Self::new(&bytes.map_err(|_| SecretError::Base64)?)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Why a text is not a usable secret. The text is never shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SecretError {
    /// It is too short to be safe.
    #[error("the JWT secret is {bytes} bytes, at least {SECRET_BYTES_MIN} are needed")]
    Short {
        /// Its length in bytes.
        bytes: usize,
    },
    /// The text after `base64:` is not base64.
    #[error("the JWT secret begins with base64: and the rest is not base64")]
    Base64,
    /// It is a PEM file.
    #[error(
        "the JWT secret is a PEM file; anyone with that public key could sign tokens: \
         name the file in SYNCLINE_AUTH_PUBLIC_KEY (--auth-public-key) instead"
    )]
    Pem,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_1_a_secret_is_its_text_unless_it_says_base64() {
        let text = "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IHNlY3JldA==";
        assert_eq!(Secret::parse(text).unwrap().bytes(), text.as_bytes());
        let decoded = Secret::parse(&format!("base64:{text}")).unwrap();
        assert_eq!(decoded.bytes(), b"secret secret secret secret secret");
        let unpadded = Secret::parse(&format!("base64:{}", text.trim_end_matches('=')));
        assert_eq!(unpadded, Ok(decoded));
        let dashed = Secret::parse(&format!("base64:{}", "-_".repeat(24))).unwrap();
        assert_eq!(dashed.bytes()[..3], [0xfb, 0xff, 0xbf]);
        // Forty-eight characters, and only 31 bytes.
        let short = format!("base64:{}", &"AAAA".repeat(10)) + "AA==";
        assert_eq!(Secret::parse(&short), Err(SecretError::Short { bytes: 31 }));
        assert_eq!(Secret::parse("base64:not base64 at all"), Err(SecretError::Base64));
    }

    #[test]
    fn key_1_a_public_key_is_no_secret() {
        let pem = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS\n";
        assert_eq!(Secret::parse(pem), Err(SecretError::Pem));
        assert_eq!(Secret::parse(&format!("\n {pem}")), Err(SecretError::Pem));
    }
}
