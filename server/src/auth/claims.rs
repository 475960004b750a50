//! What a verified token says, and the right on one document that follows from it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use syncline_protocol::{Access, DocumentName};

use super::TokenError;

/// What a token says, once it is verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// When it ends, in seconds since the Unix epoch.
    pub exp: u64,
    /// When it begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<u64>,
    /// Who it was given to; presence and history use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub: Option<String>,
    /// What they are called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Rights by document name, by prefix (`team/*`), or for everything (`*`).
    #[serde(default)]
    pub access: BTreeMap<String, Access>,
}

/// A right on one document, derived from verified claims.
#[derive(Clone, Debug)]
pub struct Grant {
    /// What may be done.
    pub access: Access,
    /// The token's `sub`; empty if it has none.
    pub identity: Arc<str>,
    /// When the token ends, seconds since the Unix epoch.
    pub expires_at: u64,
}

impl Claims {
    /// The right on `document`: the exact name beats the longest prefix, which beats `*`.
    #[must_use]
    pub fn access_to(&self, document: &DocumentName) -> Option<Access> {
        let name = document.as_str();
        if let Some(&access) = self.access.get(name) {
            return Some(access);
        }
        let prefixes = self.access.iter().filter_map(|(pattern, &access)| {
            let prefix = pattern.strip_suffix('*')?;
            let matches = prefix.is_empty() || (prefix.ends_with('/') && name.starts_with(prefix));
            matches.then_some((prefix.len(), access))
        });
        prefixes.max_by_key(|&(len, _)| len).map(|(_, access)| access)
    }

    /// The grant for `document`.
    ///
    /// # Errors
    /// If no pattern of the token matches.
    pub fn grant(&self, document: &DocumentName) -> Result<Grant, TokenError> {
        let access = self.access_to(document).ok_or_else(|| TokenError::Forbidden {
            asked: document.clone(),
            granted: self.access.keys().cloned().collect(),
        })?;
        let identity = self.sub.as_deref().unwrap_or_default().into();
        Ok(Grant { access, identity, expires_at: self.exp })
    }
}
