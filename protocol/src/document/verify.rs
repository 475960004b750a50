//! Comparison of a snapshot, or a live document, with its log.

use thiserror::Error;

use crate::document::limits::Limits;
use crate::document::replay::{DecodeError, LoadedDocument};
use crate::document::replica::{ApplyError, deletions};
use crate::document::stored::{Snapshot, StoredLog};
use crate::id::Sequence;
use crate::validate::{self, StateVector};

/// Why a snapshot must not replace the log it was made from.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum VerifyError {
    /// It cannot be read back.
    #[error("the snapshot cannot be read back: {0}")]
    Unreadable(#[from] DecodeError),
    /// It cannot be written out again.
    #[error("the snapshot cannot be encoded again: {0}")]
    Unwritable(#[from] ApplyError),
    /// Its clocks differ from the document's.
    #[error("the snapshot holds other clocks than the document")]
    StateVector,
    /// Its deletions change when it is read back.
    #[error("the snapshot reads back with other deletions")]
    Deletions,
    /// Read back and written again, it differs.
    #[error("the snapshot of {bytes} bytes reads back as another state")]
    Content {
        /// Its size.
        bytes: usize,
    },
}

/// Reads a snapshot back into a fresh document and compares: the same clocks as the document it
/// was taken from (`state_vector`), the same deletions, and the same blocks when it is read back twice.
///
/// The blocks of the snapshot itself may differ from those: a live document keeps neighbours apart
/// that yrs joins when it reads them.
///
/// # Errors
/// If anything differs. The log that the snapshot would cover must then stay.
pub fn verify_snapshot(
    snapshot: &Snapshot,
    state_vector: &StateVector,
    limits: &Limits,
) -> Result<(), VerifyError> {
    let joined = read_back(snapshot.clone(), state_vector, limits)?;
    if deletions(&joined.state) != deletions(&snapshot.state) {
        return Err(VerifyError::Deletions);
    }
    let invalid = |error| DecodeError::Invalid { sequence: snapshot.through, error };
    let expected = validate::canonical(&joined.state).map_err(invalid)?;
    let again = read_back(joined, state_vector, limits)?;
    if validate::canonical(&again.state).map_err(invalid)? != expected {
        return Err(VerifyError::Content { bytes: snapshot.state.len() });
    }
    Ok(())
}

/// Why a live document differs from its log.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CompareError {
    /// The log cannot be replayed.
    #[error("the log cannot be replayed: {0}")]
    Unreadable(#[from] DecodeError),
    /// The log begins or ends elsewhere.
    #[error("the log ends at {last}, the document is at {through}")]
    Elsewhere {
        /// Where the log ends, cut at the document's position.
        last: Sequence,
        /// The document's position.
        through: Sequence,
    },
    /// The replayed log differs from the document.
    #[error(transparent)]
    Differs(#[from] VerifyError),
}

/// Rebuilds a document from its log up to `live.through` and compares it with the live one: the
/// same clocks, the same deletions, and the same blocks once both have been read back.
///
/// # Errors
/// If anything differs, or the log cannot be replayed.
pub fn compare(
    live: &Snapshot,
    state_vector: &StateVector,
    stored: &StoredLog,
    limits: &Limits,
) -> Result<(), CompareError> {
    let through = live.through;
    let updates = stored.updates.iter().filter(|logged| logged.sequence <= through).cloned();
    let stored = StoredLog { updates: updates.collect(), ..stored.clone() };
    if stored.last() != through {
        return Err(CompareError::Elsewhere { last: stored.last(), through });
    }
    let mut logged = LoadedDocument::decode(&stored, limits)?;
    if logged.state_vector() != state_vector {
        return Err(VerifyError::StateVector.into());
    }
    let state = logged.state().map_err(VerifyError::Unwritable)?;
    if deletions(&state) != deletions(&live.state) {
        return Err(VerifyError::Deletions.into());
    }
    let logged = read_back(Snapshot { through, state: state.into() }, state_vector, limits)?;
    let joined = read_back(live.clone(), state_vector, limits)?;
    let invalid = |error| DecodeError::Invalid { sequence: through, error };
    let canonical = |state: &[u8]| validate::canonical(state).map_err(invalid);
    if canonical(&logged.state)? != canonical(&joined.state)? {
        return Err(VerifyError::Content { bytes: live.state.len() }.into());
    }
    Ok(())
}

/// The snapshot, written again by a document that was loaded from it alone.
fn read_back(
    snapshot: Snapshot,
    state_vector: &StateVector,
    limits: &Limits,
) -> Result<Snapshot, VerifyError> {
    let through = snapshot.through;
    let stored = StoredLog { snapshot: Some(snapshot), ..StoredLog::default() };
    let mut document = LoadedDocument::decode(&stored, limits)?;
    if document.state_vector() != state_vector {
        return Err(VerifyError::StateVector);
    }
    Ok(Snapshot { through, state: document.state()?.into() })
}
