//! Causes for which a connection ends. Each has one name, in close reasons, logs and docs alike.

use std::fmt;

use crate::limit::Limit;

/// The cause of a close. Its number decides whether a client tries again.
///
/// y-websocket 3.1 stops for good on 4400-4499 and reconnects on everything else, so a cause that
/// time can cure must stay out of that band.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CloseCode {
    /// The server has no such path or request.
    BadRequest,
    /// A frame breaks the protocol, or its payload is invalid.
    BadFrame,
    /// The path does not hold a valid document name.
    BadDocumentName,
    /// No token was presented.
    TokenMissing,
    /// The token's signature, form or claims are wrong.
    TokenInvalid,
    /// The token's `exp` has passed.
    TokenExpired,
    /// The token's `nbf` is still ahead.
    TokenNotYetValid,
    /// The token does not cover this document.
    ForbiddenDocument,
    /// The token may read the document but not change it.
    ForbiddenWrite,
    /// The web page's origin is not allowed.
    OriginBlocked,
    /// The rights were revoked.
    Revoked,
    /// The client holds a history that the document no longer has.
    EpochMismatch,
    /// A frame or update is larger than the limit.
    MessageTooLarge,
    /// The document would grow past its limit.
    DocumentTooLarge,
    /// A limit on concurrent work is reached.
    Overloaded,
    /// The client asks for more than it may in a time.
    RateLimited,
    /// The client reads slower than others write.
    SlowReader,
    /// The store cannot be read or written at the moment.
    StoreUnavailable,
    /// The document is damaged and read-only until it is repaired. No connection is closed for it.
    DocumentQuarantined,
    /// The keys that tokens are verified with cannot be fetched.
    KeysUnavailable,
    /// An operator ended the connection.
    Disconnected,
    /// The server is stopping.
    Draining,
    /// A fault in the server.
    Internal,
}

impl CloseCode {
    /// Every cause, in the order of the documentation.
    pub const ALL: [Self; 23] = [
        Self::BadRequest,
        Self::BadFrame,
        Self::BadDocumentName,
        Self::TokenMissing,
        Self::TokenInvalid,
        Self::TokenExpired,
        Self::TokenNotYetValid,
        Self::ForbiddenDocument,
        Self::ForbiddenWrite,
        Self::OriginBlocked,
        Self::Revoked,
        Self::EpochMismatch,
        Self::MessageTooLarge,
        Self::DocumentTooLarge,
        Self::Overloaded,
        Self::RateLimited,
        Self::SlowReader,
        Self::StoreUnavailable,
        Self::DocumentQuarantined,
        Self::KeysUnavailable,
        Self::Disconnected,
        Self::Draining,
        Self::Internal,
    ];

    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::BadRequest | Self::BadFrame | Self::BadDocumentName => 4400,
            Self::TokenMissing
            | Self::TokenInvalid
            | Self::TokenExpired
            | Self::TokenNotYetValid => 4401,
            Self::ForbiddenDocument
            | Self::ForbiddenWrite
            | Self::OriginBlocked
            | Self::Revoked => 4403,
            Self::EpochMismatch => 4409,
            Self::MessageTooLarge | Self::DocumentTooLarge => 4413,
            Self::Overloaded
            | Self::RateLimited
            | Self::SlowReader
            | Self::StoreUnavailable
            | Self::DocumentQuarantined
            | Self::KeysUnavailable => 4503,
            Self::Disconnected => 4403,
            Self::Draining => 1012,
            Self::Internal => 1011,
        }
    }

    /// The name of this cause everywhere.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::BadFrame => "bad_frame",
            Self::BadDocumentName => "bad_document_name",
            Self::TokenMissing => "token_missing",
            Self::TokenInvalid => "token_invalid",
            Self::TokenExpired => "token_expired",
            Self::TokenNotYetValid => "token_not_yet_valid",
            Self::ForbiddenDocument => "forbidden_document",
            Self::ForbiddenWrite => "forbidden_write",
            Self::OriginBlocked => "origin_blocked",
            Self::Revoked => "revoked",
            Self::EpochMismatch => "epoch_mismatch",
            Self::MessageTooLarge => "message_too_large",
            Self::DocumentTooLarge => "document_too_large",
            Self::Overloaded => "overloaded",
            Self::RateLimited => "rate_limited",
            Self::SlowReader => "slow_reader",
            Self::StoreUnavailable => "store_unavailable",
            Self::DocumentQuarantined => "document_quarantined",
            Self::KeysUnavailable => "keys_unavailable",
            Self::Disconnected => "disconnected",
            Self::Draining => "draining",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A cause, and a sentence for the person who reads the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// The cause.
    pub code: CloseCode,
    /// What happened, the value that was wrong, and what to do next. Never a secret.
    pub text: String,
    /// The limit that was hit, if one was.
    pub limit: Option<Limit>,
}

impl Close {
    /// RFC 6455 §5.5: a control frame holds 125 bytes, two of them the code.
    pub const REASON_BYTES_MAX: usize = 123;

    /// A close for `code`, explained by `text`.
    #[must_use]
    pub fn new(code: CloseCode, text: impl fmt::Display) -> Self {
        Self { code, text: text.to_string(), limit: None }
    }

    /// The same, because a limit was hit.
    #[must_use]
    pub fn at_limit(limit: Limit, code: CloseCode, text: impl fmt::Display) -> Self {
        Self { limit: Some(limit), ..Self::new(code, text) }
    }

    /// `name: text`, cut at a character boundary so that it fits a close frame.
    #[must_use]
    pub fn reason(&self) -> String {
        let mut reason = format!("{}: {}", self.code.name(), self.text);
        if reason.len() > Self::REASON_BYTES_MAX {
            let end = (0..=Self::REASON_BYTES_MAX).rev().find(|&end| reason.is_char_boundary(end));
            reason.truncate(end.unwrap_or(0));
        }
        reason
    }
}
