//! Adds an update to a document that is not live.

use bytes::Bytes;
use thiserror::Error;

use crate::document::limits::Limits;
use crate::document::replay::LoadedDocument;
use crate::document::replica::{Applied, ApplyError};
use crate::document::stored::StoredLog;
use crate::validate::{self, Fit, ValidationError};

/// The effect of a merge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Merged {
    /// Nothing: the document held all of it.
    Known,
    /// The document changed by this update, which belongs at the end of its log.
    Changed(Bytes),
}

/// Why an update cannot be merged. The document must not be used any more.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MergeError {
    /// It breaks a rule of the format.
    #[error("the update is invalid: {0}")]
    Invalid(#[from] ValidationError),
    /// It was made against another document, or a later state of this one.
    #[error("it refers to updates that the document does not hold")]
    Incomplete,
    /// The CRDT refuses it.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The document would be too large.
    #[error("the document would be {bytes} bytes, at most {max} are allowed")]
    TooLarge {
        /// Its size with the update.
        bytes: usize,
        /// The limit.
        max: usize,
    },
}

impl LoadedDocument {
    /// A document that holds nothing.
    #[must_use]
    pub fn empty(limits: &Limits) -> Self {
        let (empty, _) = Self::salvage(&StoredLog::default(), limits);
        empty
    }

    /// Applies an update like a client's first sync: validated, and whole or not at all.
    ///
    /// # Errors
    /// If it breaks a rule, does not fit, or makes the document too large.
    pub fn merge(&mut self, update: &[u8], limits: &Limits) -> Result<Merged, MergeError> {
        let facts = validate::walk_update(update, &limits.sync)?;
        match facts.fit(self.replica.state_vector()) {
            Fit::Incomplete => return Err(MergeError::Incomplete),
            Fit::Known => return Ok(Merged::Known),
            Fit::Ready => {}
        }
        let update = self.replica.admit(&facts, update)?;
        if self.replica.apply(&facts, &update)? == Applied::Known {
            return Ok(Merged::Known);
        }
        let (bytes, max) = (self.state()?.len(), limits.document_bytes_max);
        if bytes > max {
            return Err(MergeError::TooLarge { bytes, max });
        }
        Ok(Merged::Changed(Bytes::copy_from_slice(&update)))
    }
}
