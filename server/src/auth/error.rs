//! Token errors, and the close for each.

use syncline_protocol::{Close, CloseCode, DocumentName};
use thiserror::Error;

/// Why a token gives no rights in a document.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TokenError {
    /// No token was presented.
    #[error("no token was presented; put one in ?token=, a bearer subprotocol, cookie or header")]
    Missing,
    /// The signature, form or claims are wrong.
    #[error("{reason}")]
    Invalid {
        /// What is wrong, and what to do.
        reason: &'static str,
    },
    /// `exp` has passed.
    #[error("expired {seconds} s ago; get a new one before each connect")]
    Expired {
        /// Seconds since then.
        seconds: u64,
    },
    /// `nbf` is in the future.
    #[error("starts in {seconds} s by this server's clock; check the clocks")]
    NotYetValid {
        /// Seconds until then.
        seconds: u64,
    },
    /// The token may be valid; the key set that has its key cannot be fetched.
    #[error("the keys that tokens are verified with cannot be fetched at the moment; try again")]
    KeysUnavailable,
    /// The token is for other documents.
    #[error("the token is for {}, you asked for {:?}", Patterns(.granted), .asked.as_str())]
    Forbidden {
        /// The document asked for.
        asked: DocumentName,
        /// The patterns in the token.
        granted: Vec<String>,
    },
}

struct Patterns<'a>(&'a [String]);

impl std::fmt::Display for Patterns<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            [] => f.write_str("no document"),
            [only] => write!(f, "{only:?}"),
            [first, rest @ ..] => write!(f, "{first:?} and {} more", rest.len()),
        }
    }
}

impl TokenError {
    /// The close for this error.
    #[must_use]
    pub fn close(&self) -> Close {
        let code = match self {
            Self::Missing => CloseCode::TokenMissing,
            Self::Invalid { .. } => CloseCode::TokenInvalid,
            Self::Expired { .. } => CloseCode::TokenExpired,
            Self::NotYetValid { .. } => CloseCode::TokenNotYetValid,
            Self::KeysUnavailable => CloseCode::KeysUnavailable,
            Self::Forbidden { .. } => CloseCode::ForbiddenDocument,
        };
        Close::new(code, self)
    }
}
