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

    /// Whether something that `before` allowed is not allowed any more.
    #[must_use]
    pub fn is_narrower_than(&self, before: &Self) -> bool {
        self.access < before.access
            || (before.may_see() && !self.may_see())
            || (before.may_be_seen() && !self.may_be_seen())
    }

    /// When nothing may be done any more.
    #[must_use]
    pub fn ends_at(&self) -> Timestamp {
        self.expires_at + LEEWAY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(access: Access, presence: PresenceRight) -> Grant {
        let expires_at = Timestamp::from_unix_ms(0);
        Grant { access, presence, identity: Arc::default(), expires_at }
    }

    #[test]
    fn audit_1_less_of_either_right_is_less() {
        use PresenceRight::{Hidden, None, Visible};
        let before = grant(Access::Write, Hidden);
        for (access, presence, is_narrower) in [
            (Access::Write, Hidden, false),
            (Access::Admin, Visible, false),
            (Access::Read, Visible, true),
            (Access::Admin, None, true),
        ] {
            let after = grant(access, presence);
            assert_eq!(after.is_narrower_than(&before), is_narrower, "{after:?}");
        }
        assert!(before.is_narrower_than(&grant(Access::Write, Visible)), "it is not seen any more");
    }
}
