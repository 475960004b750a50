//! Authentication: token verification, the rights that follow from a token, revocations and tickets.
//! [`Verifier`] checks tokens against secrets, public keys or a key set; [`Claims`] holds what a token
//! says, whatever verified it.

mod claims;
pub mod demo_login;
mod error;
mod jwks;
mod keys;
pub mod revocation;
mod rights;
mod secret;
mod selftest;
pub(crate) mod tickets;
mod token;
mod verifier;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header};
use syncline_protocol::access;

pub(crate) use self::claims::covers;
pub use self::claims::{Claims, PresenceClaim};
pub use self::error::TokenError;
pub use self::jwks::{AddressError, Jwks, JwksError, LeftOut, SetError};
pub use self::keys::{Key, KeyError, KeyFileError};
pub(crate) use self::rights::Rights;
pub(crate) use self::secret::random_hex;
pub use self::secret::{RandomError, SECRET_BYTES_MIN, Secret, SecretError};
pub use self::selftest::{BackendError, test_backend};
pub(crate) use self::verifier::still_current;
pub use self::verifier::{Expected, Verifier};

/// How far clocks may differ.
pub const LEEWAY: Duration = Duration::from_millis(access::LEEWAY.0);

/// A proof of the right to open a document.
pub(crate) enum Credential {
    /// A JWT.
    Token(String),
    /// A ticket, which opens one document once: [`tickets`].
    Ticket(String),
}

/// Signs claims with HS256.
///
/// # Errors
/// If the crypto backend fails.
pub fn sign(secret: &Secret, claims: &Claims) -> Result<String, jsonwebtoken::errors::Error> {
    jsonwebtoken::encode(&Header::default(), claims, &EncodingKey::from_secret(secret.bytes()))
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
