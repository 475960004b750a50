//! Tokens: who somebody is and what they may do. HS256 for now; the type that holds verified
//! claims does not know how they were verified.

mod claims;
mod error;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use thiserror::Error;

pub use self::claims::{Claims, Grant};
pub use self::error::TokenError;

/// RFC 7518 §3.2: an HS256 key has at least the size of the hash.
pub const SECRET_BYTES_MIN: usize = 32;

/// How far clocks may differ.
pub const LEEWAY: Duration = Duration::from_secs(30);

/// Bytes of a token. One that names 100 documents takes about 8 KiB.
pub const TOKEN_BYTES_MAX: usize = 12 * 1024;

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
            return Err(SecretError { bytes: bytes.len() });
        }
        Ok(Self(bytes.into()))
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A secret is too short to be safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the JWT secret is {bytes} bytes, at least {SECRET_BYTES_MIN} are needed")]
pub struct SecretError {
    /// Its length.
    pub bytes: usize,
}

/// Checks tokens against one key. The algorithm is the key's, never the token's.
pub struct Verifier {
    key: DecodingKey,
    validation: Validation,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Verifier(HS256)")
    }
}

impl Verifier {
    /// A verifier of HS256 tokens.
    #[must_use]
    pub fn hs256(secret: &Secret) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = LEEWAY.as_secs();
        validation.validate_nbf = true;
        // A token may carry an audience for others; ours is checked once one is configured.
        validation.validate_aud = false;
        validation.set_required_spec_claims(&["exp"]);
        Self { key: DecodingKey::from_secret(&secret.0), validation }
    }

    /// The claims of a token, if every check passes.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn verify(&self, token: &str) -> Result<Claims, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Invalid { reason: "the token is longer than 12 KiB" });
        }
        match jsonwebtoken::decode::<Claims>(token, &self.key, &self.validation) {
            Ok(data) => Ok(data.claims),
            Err(error) => Err(self.explain(token, error.kind())),
        }
    }

    fn explain(&self, token: &str, kind: &ErrorKind) -> TokenError {
        if *kind == ErrorKind::ExpiredSignature {
            let exp = self.read_anyway(token).map_or(0, |claims| claims.exp);
            TokenError::Expired { seconds: unix_now().saturating_sub(exp) }
        } else if *kind == ErrorKind::ImmatureSignature {
            let nbf = self.read_anyway(token).and_then(|claims| claims.nbf).unwrap_or(0);
            TokenError::NotYetValid { seconds: nbf.saturating_sub(unix_now()) }
        } else {
            TokenError::Invalid { reason: reason(kind) }
        }
    }

    /// The claims of a token whose signature is good but whose time is not, for the error text.
    fn read_anyway(&self, token: &str) -> Option<Claims> {
        let mut validation = self.validation.clone();
        validation.validate_exp = false;
        validation.validate_nbf = false;
        jsonwebtoken::decode(token, &self.key, &validation).ok().map(|data| data.claims)
    }
}

fn reason(kind: &ErrorKind) -> &'static str {
    #[expect(clippy::wildcard_enum_match_arm, reason = "foreign, and every other kind reads alike")]
    match kind {
        ErrorKind::InvalidSignature => "the signature does not match; signed with another secret?",
        ErrorKind::InvalidAlgorithm => "the token is not signed with HS256, which the key is for",
        ErrorKind::MissingAlgorithm | ErrorKind::InvalidAlgorithmName => {
            "the token names no known algorithm"
        }
        ErrorKind::MissingRequiredClaim(_) => "the token has no exp claim",
        ErrorKind::InvalidClaimFormat(_) | ErrorKind::Json(_) => {
            "a claim has the wrong form; see the token section of the README"
        }
        _ => "this is not a JWT",
    }
}

/// Signs claims with HS256.
///
/// # Errors
/// If the crypto backend fails.
pub fn sign(secret: &Secret, claims: &Claims) -> Result<String, jsonwebtoken::errors::Error> {
    jsonwebtoken::encode(&Header::default(), claims, &EncodingKey::from_secret(&secret.0))
}

/// Installs the crypto backend. Without this the first verification would panic if a dependency
/// ever switched a second backend on.
pub fn install_crypto() {
    // Fails only when it is installed already.
    _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
}

/// Seconds since the Unix epoch.
#[must_use]
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs())
}
