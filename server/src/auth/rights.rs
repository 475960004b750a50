//! The rights that a verified token gives in one document.

use syncline_protocol::Grant;

/// A grant, and the age of the token behind it, by which revocations select.
#[derive(Clone, Debug)]
pub(crate) struct Rights {
    pub(crate) grant: Grant,
    /// Seconds since the Unix epoch; 0 if the token has no `iat`.
    pub(crate) issued_at: u64,
}
