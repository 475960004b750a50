//! The claims of a token, and the grant for a document that follows from them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use syncline_protocol::access::IDENTITY_BYTES_MAX;
use syncline_protocol::{Access, DocumentName, Grant, Identity, PresenceRight, Timestamp};

use crate::auth::TokenError;

/// The claims of a verified token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Expiry, in seconds since the Unix epoch.
    pub exp: u64,
    /// Start of validity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<u64>,
    /// When it was issued. A revocation applies to tokens issued before a given second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iat: Option<u64>,
    /// The user. Presence and history show it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub: Option<String>,
    /// The user's display name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Rights by document name, by prefix (`team/*`), or for every document (`*`).
    #[serde(default)]
    pub access: BTreeMap<String, Access>,
    /// The right on presence.
    #[serde(default, skip_serializing_if = "PresenceClaim::is_default")]
    pub presence: PresenceClaim,
}

/// A right on presence: one for every document, or by pattern as in [`Claims::access`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PresenceClaim {
    /// The same everywhere.
    Everywhere(PresenceRight),
    /// By pattern; visible where none matches.
    ByDocument(BTreeMap<String, PresenceRight>),
}

impl Default for PresenceClaim {
    fn default() -> Self {
        Self::Everywhere(PresenceRight::default())
    }
}

impl PresenceClaim {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The right in `document`.
    #[must_use]
    pub fn in_document(&self, document: &DocumentName) -> PresenceRight {
        match self {
            Self::Everywhere(right) => *right,
            Self::ByDocument(rights) => best_match(rights, document).unwrap_or_default(),
        }
    }
}

impl Claims {
    /// The right on `document`: the exact name beats the longest prefix, which beats `*`.
    #[must_use]
    pub fn access_to(&self, document: &DocumentName) -> Option<Access> {
        best_match(&self.access, document)
    }

    /// The grant for `document`.
    ///
    /// # Errors
    /// If no pattern of the token matches, or its identity is too long.
    pub fn grant(&self, document: &DocumentName) -> Result<Grant, TokenError> {
        let access = self.access_to(document).ok_or_else(|| TokenError::Forbidden {
            asked: document.clone(),
            granted: self.access.keys().cloned().collect(),
        })?;
        Ok(Grant {
            access,
            presence: self.presence.in_document(document),
            identity: Arc::new(Identity {
                sub: bounded(self.sub.as_deref(), "the sub claim is longer than 255 bytes")?,
                name: bounded(self.name.as_deref(), "the name claim is longer than 255 bytes")?,
            }),
            expires_at: Timestamp::from_unix_ms(self.exp.saturating_mul(1_000)),
        })
    }
}

fn bounded(text: Option<&str>, reason: &'static str) -> Result<Arc<str>, TokenError> {
    let text = text.unwrap_or_default();
    if text.len() > IDENTITY_BYTES_MAX {
        Err(TokenError::Invalid { reason })
    } else {
        Ok(text.into())
    }
}

/// Whether a pattern covers a document: its name, `prefix/*`, or `*`.
pub(crate) fn covers(pattern: &str, document: &DocumentName) -> bool {
    let name = document.as_str();
    pattern == name
        || pattern.strip_suffix('*').is_some_and(|prefix| {
            prefix.is_empty() || (prefix.ends_with('/') && name.starts_with(prefix))
        })
}

fn best_match<T: Copy>(rights: &BTreeMap<String, T>, document: &DocumentName) -> Option<T> {
    if let Some(&right) = rights.get(document.as_str()) {
        return Some(right);
    }
    let matching = rights.iter().filter(|(pattern, _)| covers(pattern, document));
    matching.max_by_key(|(pattern, _)| pattern.len()).map(|(_, &right)| right)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(json: &str) -> Claims {
        serde_json::from_str(json).unwrap()
    }

    fn presence_in(claims: &Claims, document: &str) -> PresenceRight {
        claims.grant(&document.parse().unwrap()).unwrap().presence
    }

    #[test]
    fn auth_6_presence_is_visible_unless_the_token_limits_it() {
        let silent = claims(r#"{"exp": 1, "access": {"*": "read"}}"#);
        assert_eq!(presence_in(&silent, "a"), PresenceRight::Visible);
        let everywhere = claims(r#"{"exp": 1, "access": {"*": "write"}, "presence": "hidden"}"#);
        assert_eq!(presence_in(&everywhere, "a"), PresenceRight::Hidden);
        let by_document = claims(
            r#"{"exp": 1, "access": {"*": "read"},
                "presence": {"team/*": "none", "team/a/*": "hidden", "team/a/b": "visible"}}"#,
        );
        let expected = [
            ("team", PresenceRight::Visible),
            ("team/x", PresenceRight::None),
            ("team/a/x", PresenceRight::Hidden),
            ("team/a/b", PresenceRight::Visible),
            ("other", PresenceRight::Visible),
        ];
        for (document, right) in expected {
            assert_eq!(presence_in(&by_document, document), right, "{document}");
        }
        let words = ["\"invisible\"", "true", "[\"hidden\"]", "{\"a\": \"Hidden\"}", "null"];
        for word in words {
            let text = format!(r#"{{"exp": 1, "presence": {word}}}"#);
            assert!(serde_json::from_str::<Claims>(&text).is_err(), "{text}");
        }
    }

    #[test]
    fn auth_7_an_identity_is_short() {
        let document = "a".parse().unwrap();
        let long = "x".repeat(IDENTITY_BYTES_MAX + 1);
        let good =
            Claims { access: BTreeMap::from([("a".into(), Access::Read)]), ..Claims::default() };
        assert!(good.grant(&document).is_ok());
        for claims in [
            Claims { sub: Some(long.clone()), ..good.clone() },
            Claims { name: Some(long), ..good },
        ] {
            assert!(matches!(claims.grant(&document), Err(TokenError::Invalid { .. })));
        }
    }
}
