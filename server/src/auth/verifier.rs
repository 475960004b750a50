//! Token verification: form, then signature, then claims. Each runs once per token; only a token that
//! names an unknown key has its signature checked again, after the key set was fetched.

use std::sync::Arc;

use jsonwebtoken::AlgorithmFamily;
use serde_json::{Map, Value};

use crate::auth::token::{Token, invalid};
use crate::auth::{Claims, Jwks, Key, LEEWAY, Secret, TokenError, unix_now};

/// The end of the year 9999. A time beyond it counts milliseconds, and would never come.
const LAST_SECOND: u64 = 253_402_300_799;

/// Claims that a token must have besides unexpired times. An empty list requires nothing.
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

/// The result of a signature check against the keys at hand.
enum Signature {
    Good,
    Bad(TokenError),
    /// The token names a key that is not among them; the key set may have it by now.
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

    /// The claims of a token. If the token names an unknown key, the key set is fetched first.
    ///
    /// # Errors
    /// The first check that fails.
    pub async fn verify(&self, token: &str) -> Result<Claims, TokenError> {
        let token = Token::parse(token)?;
        let mut signature = self.check_signature(&token);
        if let (Signature::UnknownKey, Some(jwks)) = (&signature, &self.jwks) {
            jwks.demand().await;
            signature = self.check_signature(&token);
        }
        self.claims(&token, signature)
    }

    /// The claims of a token, by the keys at hand.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn verify_offline(&self, token: &str) -> Result<Claims, TokenError> {
        let token = Token::parse(token)?;
        self.claims(&token, self.check_signature(&token))
    }

    /// The key set. [`Jwks::keep_fresh`] has to run for it.
    pub(crate) fn jwks(&self) -> Option<&Jwks> {
        self.jwks.as_ref()
    }

    /// Whether there is a key at all.
    pub(crate) fn has_keys(&self) -> bool {
        !self.keys.is_empty() || self.jwks.as_ref().is_some_and(|jwks| !jwks.keys().is_empty())
    }

    fn claims(&self, token: &Token<'_>, signature: Signature) -> Result<Claims, TokenError> {
        match signature {
            Signature::Good => self.check_claims(token.payload()?, unix_now()),
            Signature::Bad(error) => Err(error),
            // The key may exist, and the set that has it not be reachable.
            Signature::UnknownKey if self.jwks.as_ref().is_some_and(Jwks::is_failing) => {
                Err(TokenError::KeysUnavailable)
            }
            Signature::UnknownKey => Err(invalid("kid names a key that is not in the JWKS")),
        }
    }

    fn check_signature(&self, token: &Token<'_>) -> Signature {
        let set: Arc<[Key]> = self.jwks.as_ref().map(Jwks::keys).unwrap_or_default();
        let named = |key: &&Key| key.kid.is_some() && key.kid == token.kid;
        let is_known = set.iter().any(|key| named(&key));
        let fits = |key: &&Key| key.algorithm == token.algorithm;
        let has_signed = |key: &Key| key.has_signed(token.message, token.signature);

        // A kid selects its keys and no others. Keys outside the set have no kid.
        let outside: &[Key] = if is_known { &[] } else { &self.keys };
        let mut of_set: Vec<&Key> = set.iter().filter(fits).collect();
        if token.kid.is_some() {
            of_set.retain(named);
        } else if of_set.len() > 1 {
            // A kid has to say which. Trying them all would let one token cost many checks.
            return Signature::Bad(invalid("the token has no kid, and the JWKS several keys"));
        }
        let mut fitting = outside.iter().filter(fits).chain(of_set).peekable();
        let any_fits = fitting.peek().is_some();
        if fitting.any(has_signed) {
            return Signature::Good;
        }
        let may_be_new =
            self.jwks.is_some() && (set.is_empty() || token.kid.is_some() && !is_known);
        if may_be_new && token.algorithm.family() != AlgorithmFamily::Hmac {
            return Signature::UnknownKey;
        }
        Signature::Bad(invalid(if any_fits {
            "the signature does not match; signed with another secret or key?"
        } else {
            "no key of the server is for the token's algorithm"
        }))
    }

    /// The claims of a token whose signature is good.
    fn check_claims(&self, payload: Map<String, Value>, now: u64) -> Result<Claims, TokenError> {
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

/// Claims that were verified earlier, unless they have expired since.
///
/// # Errors
/// If they have.
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
