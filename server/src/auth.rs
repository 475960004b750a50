//! Tokens: who somebody is and what they may do. [`Verifier`] checks them against keys that may be
//! secrets, public keys, or a set that is fetched; the type that holds verified claims does not know
//! how they were verified.

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

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{AlgorithmFamily, EncodingKey, Header};
use serde_json::{Map, Value};
use syncline_protocol::access;

use self::token::{Token, invalid};

pub(crate) use self::claims::covers;
pub use self::claims::{Claims, PresenceClaim};
pub use self::error::TokenError;
pub use self::jwks::{AddressError, Jwks, JwksError, LeftOut, SetError};
pub use self::keys::{Key, KeyError, KeyFileError};
pub(crate) use self::rights::Rights;
pub(crate) use self::secret::random_hex;
pub use self::secret::{RandomError, SECRET_BYTES_MIN, Secret, SecretError};
pub use self::selftest::{BackendError, test_backend};

/// How far clocks may differ.
pub const LEEWAY: Duration = Duration::from_millis(access::LEEWAY.0);

/// The end of the year 9999. A time beyond it counts milliseconds, and would never come.
const LAST_SECOND: u64 = 253_402_300_799;

/// What claims must say, beside having time left. An empty list asks for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// One of these is the token's `iss`.
    pub issuers: Vec<String>,
    /// One of these is the token's `aud`, or in it.
    pub audiences: Vec<String>,
}

/// Checks tokens against keys. The algorithm is the key's, never the token's.
#[derive(Debug)]
pub struct Verifier {
    keys: Vec<Key>,
    jwks: Option<Jwks>,
    expected: Expected,
}

/// What the keys that are known say of a token.
enum Verdict {
    Good,
    Refused(TokenError),
    /// It names a key that is not among them.
    UnknownKey,
}

impl Verifier {
    /// A verifier with these keys, any of which may have signed a token, and those of a set.
    #[must_use]
    pub fn new(keys: Vec<Key>, jwks: Option<Jwks>, expected: Expected) -> Self {
        Self { keys, jwks, expected }
    }

    /// A verifier of HS256 tokens.
    #[must_use]
    pub fn hs256(secret: &Secret) -> Self {
        Self::new(vec![Key::secret(secret)], None, Expected::default())
    }

    /// The claims of a token, if every check passes with the keys that are known.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn verify(&self, token: &str) -> Result<Claims, TokenError> {
        let token = Token::parse(token)?;
        match self.judge(&token) {
            Verdict::Good => self.claims(token.payload()?, unix_now()),
            Verdict::Refused(error) => Err(error),
            Verdict::UnknownKey => Err(self.unknown_key()),
        }
    }

    /// The same, but a token that names an unknown key has the key set looked at before.
    ///
    /// # Errors
    /// The first check that fails.
    pub async fn verify_with_latest(&self, token: &str) -> Result<Claims, TokenError> {
        if let Some(jwks) = &self.jwks
            && let Verdict::UnknownKey = self.judge(&Token::parse(token)?)
        {
            jwks.demand().await;
        }
        self.verify(token)
    }

    /// The key set, which somebody has to [`keep_fresh`](Jwks::keep_fresh).
    pub(crate) fn jwks(&self) -> Option<&Jwks> {
        self.jwks.as_ref()
    }

    /// Whether there is a key at all.
    pub(crate) fn has_keys(&self) -> bool {
        !self.keys.is_empty() || self.jwks.as_ref().is_some_and(|jwks| !jwks.keys().is_empty())
    }

    fn unknown_key(&self) -> TokenError {
        // The key may be there and not be known.
        if self.jwks.as_ref().is_some_and(Jwks::is_failing) {
            return TokenError::KeysUnavailable;
        }
        invalid("kid names a key that is not in the JWKS")
    }

    fn judge(&self, token: &Token<'_>) -> Verdict {
        let set = self.jwks.as_ref().map(Jwks::keys).unwrap_or_default();
        let named = |key: &&Key| key.kid.is_some() && key.kid == token.kid;
        let is_known = set.iter().any(|key| named(&key));
        let fits = |key: &&Key| key.algorithm == token.algorithm;
        let has_signed = |key: &Key| key.has_signed(token.message, token.signature);

        // A name leads to its keys and no others; keys that came alone have no name.
        let alone: &[Key] = if is_known { &[] } else { &self.keys };
        let mut of_set: Vec<&Key> = set.iter().filter(fits).collect();
        if token.kid.is_some() {
            of_set.retain(named);
        } else if of_set.len() > 1 {
            // Which one, is what a name is for. Trying them all is what an attacker would like.
            return Verdict::Refused(invalid("the token has no kid, and the JWKS several keys"));
        }
        let mut fitting = alone.iter().filter(fits).chain(of_set).peekable();
        let any_fits = fitting.peek().is_some();
        if fitting.any(has_signed) {
            return Verdict::Good;
        }
        let may_be_new =
            self.jwks.is_some() && (set.is_empty() || token.kid.is_some() && !is_known);
        if may_be_new && token.algorithm.family() != AlgorithmFamily::Hmac {
            return Verdict::UnknownKey;
        }
        Verdict::Refused(invalid(if any_fits {
            "the signature does not match; signed with another secret or key?"
        } else {
            "no key of the server is for the token's algorithm"
        }))
    }

    /// The claims of a token whose signature is good.
    fn claims(&self, payload: Map<String, Value>, now: u64) -> Result<Claims, TokenError> {
        let Expected { issuers, audiences } = &self.expected;
        let text = |value: &Value, among: &[String]| {
            value.as_str().is_some_and(|text| among.iter().any(|known| known == text))
        };
        if !issuers.is_empty() && !payload.get("iss").is_some_and(|iss| text(iss, issuers)) {
            return Err(invalid("iss is missing or not one that this server trusts"));
        }
        let is_ours = |aud: &Value| match aud.as_array() {
            Some(list) => list.iter().any(|aud| text(aud, audiences)),
            None => text(aud, audiences),
        };
        if !audiences.is_empty() && !payload.get("aud").is_some_and(is_ours) {
            return Err(invalid("aud is missing or does not name this server"));
        }
        if !payload.contains_key("exp") {
            return Err(invalid("the token has no exp claim"));
        }
        let claims: Claims = serde_json::from_value(Value::Object(payload))
            .map_err(|_| invalid("a claim has the wrong form; see docs/tokens.md"))?;
        if claims.exp.max(claims.nbf.unwrap_or(0)) > LAST_SECOND {
            return Err(invalid("exp or nbf is beyond the year 9999; they count seconds"));
        }
        current(claims, now)
    }
}

/// Claims that were verified a while ago, unless their time is over by now.
///
/// # Errors
/// If it is.
pub(crate) fn still_current(claims: Claims) -> Result<Claims, TokenError> {
    current(claims, unix_now())
}

fn current(claims: Claims, now: u64) -> Result<Claims, TokenError> {
    let leeway = LEEWAY.as_secs();
    if claims.exp.saturating_add(leeway) < now {
        return Err(TokenError::Expired { seconds: now - claims.exp });
    }
    match claims.nbf {
        Some(nbf) if nbf > now.saturating_add(leeway) => {
            Err(TokenError::NotYetValid { seconds: nbf - now })
        }
        _ => Ok(claims),
    }
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
