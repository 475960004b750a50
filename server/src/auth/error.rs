//! Why a token is refused, and the close that says so.

use syncline_protocol::{Close, CloseCode, DocumentName};
use thiserror::Error;

/// Why a token opens nothing, or not this.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TokenError {
    /// None was presented.
    #[error("no token was presented; put one in ?token=, a bearer subprotocol, cookie or header")]
    Missing,
    /// Signature, form or claims are wrong.
    #[error("{reason}")]
    Invalid {
        /// Which of them.
        reason: &'static str,
    },
    /// Its time is over.
    #[error("expired {seconds} s ago; get a new one before each connect")]
    Expired {
        /// Since when.
        seconds: u64,
    },
    /// Its time has not come.
    #[error("starts in {seconds} s by this server's clock; check the clocks")]
    NotYetValid {
        /// How long to wait.
        seconds: u64,
    },
    /// It may be good, but its key could not be fetched.
    #[error("the keys that tokens are verified with cannot be fetched at the moment; try again")]
    KeysUnavailable,
    /// It is for other documents.
    #[error("the token is for {}, you asked for {:?}", Patterns(.granted), .asked.as_str())]
    Forbidden {
        /// The document asked for.
        asked: DocumentName,
        /// What the token itself says.
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
    /// The close that tells a client.
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
