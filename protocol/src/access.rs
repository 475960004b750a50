//! What a session may do, who is behind it, and for how long.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::time::{Millis, Timestamp};

/// How far clocks may differ.
pub const LEEWAY: Millis = Millis::from_secs(30);

/// Bytes of each text of an [`Identity`]. Both go out with every presence state.
pub const IDENTITY_BYTES_MAX: usize = 255;

/// A right on a document. Each contains the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Read the document and be present in it.
    Read,
    /// Change it.
    Write,
    /// Manage it.
    Admin,
}

impl Access {
    /// Whether updates of a session with this right are applied.
    #[must_use]
    pub fn may_write(self) -> bool {
        self >= Self::Write
    }
}

/// A right of its own beside [`Access`]: whoever only reads may well be seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PresenceRight {
    /// See others, and be seen.
    #[default]
    Visible,
    /// See others. What the session says of itself is dropped.
    Hidden,
    /// Neither see nor be seen.
    None,
}

/// Who somebody is, as the token says. Empty where it does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The id that the application knows them by.
    pub sub: Arc<str>,
    /// What they are called.
    pub name: Arc<str>,
}

/// Everything that a session may do in one document, derived from verified claims. Asked wherever
/// something is done, so a change of it holds for whatever comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// What may be done with the document.
    pub access: Access,
    /// What may be done with presence.
    pub presence: PresenceRight,
    /// Who does it.
    pub identity: Arc<Identity>,
    /// When the token ends.
    pub expires_at: Timestamp,
}

impl Grant {
    /// Whether updates are applied.
    #[must_use]
    pub fn may_write(&self) -> bool {
        self.access.may_write()
    }

    /// Whether others see who this is.
    #[must_use]
    pub fn may_be_seen(&self) -> bool {
        self.presence == PresenceRight::Visible
    }

    /// Whether this one sees who else is here.
    #[must_use]
    pub fn may_see(&self) -> bool {
        self.presence != PresenceRight::None
    }

    /// When nothing may be done any more.
    #[must_use]
    pub fn ends_at(&self) -> Timestamp {
        self.expires_at + LEEWAY
    }
}
