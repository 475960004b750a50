//! What a client is sent whose message is not applied: a refusal, or a close.

use crate::close::{Close, CloseCode};
use crate::document::availability::WriteHalt;
use crate::limit::Limit;
use crate::validate::ValidationError;

/// The cause of a refused write. The session stays.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refusal {
    pub(crate) code: CloseCode,
    pub(crate) text: &'static str,
}

impl Refusal {
    /// The grant does not allow writing.
    pub(crate) const READER: Self = Self {
        code: CloseCode::ForbiddenWrite,
        text: "this token may read the document but not change it",
    };

    /// Writes are halted.
    pub(crate) const fn halted(halt: WriteHalt) -> Self {
        match halt {
            WriteHalt::Stalled => Self {
                code: CloseCode::StoreUnavailable,
                text: "the store takes no edits for now; keep the page open, they will be sent",
            },
            WriteHalt::Quarantined => Self {
                code: CloseCode::DocumentQuarantined,
                text: "the document is damaged and read-only until it is repaired",
            },
        }
    }
}

/// The close for a payload that breaks a rule of validation.
pub(crate) fn invalid(error: &ValidationError) -> Close {
    if matches!(error, ValidationError::PresenceStateOverBudget { .. }) {
        Close::at_limit(Limit::PresenceStateBytes, CloseCode::MessageTooLarge, error)
    } else if error.is_budget() {
        Close::at_limit(Limit::UpdateContent, CloseCode::MessageTooLarge, error)
    } else {
        Close::new(CloseCode::BadFrame, error)
    }
}

/// Checks that a message other than an update is not larger than a live update may be.
///
/// # Errors
/// If it is.
pub(crate) fn check_size(bytes: usize, limit: usize) -> Result<(), Close> {
    if bytes <= limit {
        return Ok(());
    }
    let text = format!("the message is {bytes} bytes, at most {limit} are allowed");
    Err(Close::at_limit(Limit::UpdateBytes, CloseCode::MessageTooLarge, text))
}
