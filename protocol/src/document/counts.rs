//! Counts of the updates that a document received, by outcome.

/// The outcome of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateOutcome {
    /// It is in the log and was relayed.
    Accepted,
    /// It adds nothing.
    Known,
    /// It refers to missing updates; the client was asked for them.
    Incomplete,
    /// Its sender may only read.
    ForbiddenWrite,
    /// The store takes no updates.
    StoreUnavailable,
    /// The document is damaged and read-only.
    DocumentQuarantined,
    /// It is invalid.
    BadFrame,
    /// It is larger than an update may be.
    MessageTooLarge,
    /// The document would be larger than it may be.
    DocumentTooLarge,
    /// The CRDT failed.
    Internal,
}

impl UpdateOutcome {
    /// Every one, in the order of the documentation.
    pub const ALL: [Self; 10] = [
        Self::Accepted,
        Self::Known,
        Self::Incomplete,
        Self::ForbiddenWrite,
        Self::StoreUnavailable,
        Self::DocumentQuarantined,
        Self::BadFrame,
        Self::MessageTooLarge,
        Self::DocumentTooLarge,
        Self::Internal,
    ];

    /// Its name; for a rejected update, the name of the close or refusal.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Known => "known",
            Self::Incomplete => "incomplete",
            Self::ForbiddenWrite => "forbidden_write",
            Self::StoreUnavailable => "store_unavailable",
            Self::DocumentQuarantined => "document_quarantined",
            Self::BadFrame => "bad_frame",
            Self::MessageTooLarge => "message_too_large",
            Self::DocumentTooLarge => "document_too_large",
            Self::Internal => "internal",
        }
    }
}

/// Counts since the last [`Document::take_counts`](super::Document::take_counts).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UpdateCounts {
    updates: [u64; UpdateOutcome::ALL.len()],
    /// Presence states that were ignored because their session owns as many as it may.
    pub presence_ignored: u64,
}

impl UpdateCounts {
    pub(super) fn count(&mut self, outcome: UpdateOutcome) {
        if let Some(count) = self.updates.get_mut(outcome as usize) {
            *count += 1;
        }
    }

    /// How many updates had this outcome.
    #[must_use]
    pub fn updates(&self, outcome: UpdateOutcome) -> u64 {
        self.updates.get(outcome as usize).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metric_3_each_outcome_is_counted_under_its_name() {
        for (index, outcome) in UpdateOutcome::ALL.into_iter().enumerate() {
            let mut counts = UpdateCounts::default();
            counts.count(outcome);
            assert_eq!(outcome as usize, index);
            assert!(
                UpdateOutcome::ALL
                    .iter()
                    .all(|&other| counts.updates(other) == u64::from(other == outcome))
            );
        }
    }
}
