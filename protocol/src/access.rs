//! The rights of a session, its identity, and its end.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::time::{Millis, Timestamp};

/// How far the clocks of servers may differ.
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

/// A right independent of [`Access`]: a reader may be visible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PresenceRight {
    /// See others, and be seen.
    #[default]
    Visible,
    /// See others. The session's own states are dropped.
    Hidden,
    /// Neither see nor be seen.
    None,
}

/// The user that a token names. Empty where it does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The application's id of the user.
    pub sub: Arc<str>,
    /// The display name.
    pub name: Arc<str>,
}

/// The rights of a session in one document, derived from verified claims. Checked at every action,
/// so a change holds from the next one on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The right on the document.
    pub access: Access,
    /// The right on presence.
    pub presence: PresenceRight,
    /// The user.
    pub identity: Arc<Identity>,
    /// The expiry of the token.
    pub expires_at: Timestamp,
}

impl Grant {
    /// Whether updates are applied.
    #[must_use]
    pub fn may_write(&self) -> bool {
        self.access.may_write()
    }

    /// Whether others see its states.
    #[must_use]
    pub fn may_be_seen(&self) -> bool {
        self.presence == PresenceRight::Visible
    }

    /// Whether it sees the states of others.
    #[must_use]
    pub fn may_see(&self) -> bool {
        self.presence != PresenceRight::None
    }

    /// Whether it allows less than `before` in any respect.
    #[must_use]
    pub fn is_narrower_than(&self, before: &Self) -> bool {
        self.access < before.access
            || (before.may_see() && !self.may_see())
            || (before.may_be_seen() && !self.may_be_seen())
    }

    /// When the grant ends: [`LEEWAY`] after the token.
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
    fn audit_1_a_grant_with_less_of_either_right_is_narrower() {
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
