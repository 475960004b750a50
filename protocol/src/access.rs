//! What a session may do.

use serde::{Deserialize, Serialize};

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
