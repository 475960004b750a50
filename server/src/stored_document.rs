//! The work on stored documents that takes its time: opening one, writing and comparing its
//! states. All of it blocks and runs on threads of its own.

use syncline_protocol::document::replay::DecodeError;
use syncline_protocol::document::{
    CheckOutcome, Input, LoadedDocument, SnapshotOutcome, compare, verify_snapshot,
};
use syncline_protocol::gate::StateVector;
use syncline_protocol::{DocumentName, Snapshot};
use thiserror::Error;
use tracing::{error, info, warn};

use crate::hub::Hub;
use crate::quarantine::Interrupted;
use crate::store::{Generation, LoadError, SnapshotError};
use crate::trouble::Admittance;

/// What opening a document came to.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) input: Input,
    pub(crate) watch: Watch,
}

impl Opened {
    /// The end of other work than a load.
    pub(crate) fn nothing(input: Input) -> Self {
        Self { input, watch: Watch::Nothing }
    }
}

/// What is to be looked out for while a document is live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Watch {
    Nothing,
    /// For this author's first sync, which a process before this one did not survive.
    Suspect(Interrupted),
    /// For its release from quarantine.
    Release,
}

/// Why a stored document could not be opened.
#[derive(Debug, Error)]
enum OpenError {
    #[error("nobody is let in: {cause}")]
    Closed { cause: String },
    #[error("it cannot be read")]
    Read(#[source] LoadError),
    #[error("neither its newest snapshot nor the one before can be replayed")]
    Replay(#[source] DecodeError),
}

/// Reads and replays a document, or as much of it as is good.
pub(crate) fn open(hub: &Hub, name: &DocumentName) -> Opened {
    match try_open(hub, name) {
        Ok((loaded, watch)) => Opened { input: Input::Loaded(Box::new(loaded)), watch },
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            error!(document = %name, error, "A document could not be loaded.");
            Opened::nothing(Input::LoadFailed)
        }
    }
}

fn try_open(hub: &Hub, name: &DocumentName) -> Result<(LoadedDocument, Watch), OpenError> {
    let watch = match hub.trouble.admit(name) {
        Admittance::Open => Watch::Nothing,
        Admittance::Watched(step) => Watch::Suspect(step),
        Admittance::ReadOnly(cause) => return Ok((salvage(hub, name, &cause)?, Watch::Release)),
        Admittance::Closed(cause) => return Err(OpenError::Closed { cause }),
    };
    let _mark = hub.trouble.mark_load(name);
    match load(hub, name) {
        Ok(loaded) => Ok((loaded, watch)),
        Err(error @ (OpenError::Replay(_) | OpenError::Read(LoadError::Damaged { .. }))) => {
            let cause = match std::error::Error::source(&error) {
                Some(source) => format!("{error}: {source}"),
                None => error.to_string(),
            };
            hub.trouble.quarantine(name, &cause);
            Ok((salvage(hub, name, &cause)?, Watch::Release))
        }
        // A disk that refuses now may answer later.
        Err(error @ (OpenError::Read(_) | OpenError::Closed { .. })) => Err(error),
    }
}

fn load(hub: &Hub, name: &DocumentName) -> Result<LoadedDocument, OpenError> {
    let limits = hub.limits.for_document();
    let read = |generation| hub.store.load(name, generation).map_err(OpenError::Read);
    let stored = read(Generation::Newest)?;
    LoadedDocument::decode(&stored, &limits).or_else(|error| {
        warn!(document = %name, %error, "The newest snapshot is unusable; trying the one before.");
        match read(Generation::Previous) {
            Ok(stored) => LoadedDocument::decode(&stored, &limits).map_err(OpenError::Replay),
            Err(_) => Err(OpenError::Replay(error)),
        }
    })
}

/// The last good state, to be read and not changed.
fn salvage(hub: &Hub, name: &DocumentName, cause: &str) -> Result<LoadedDocument, OpenError> {
    let _mark = hub.trouble.mark_load(name);
    let salvaged = hub.store.salvage(name).map_err(OpenError::Read)?;
    let (mut loaded, error) = LoadedDocument::salvage(&salvaged.log, &hub.limits.for_document());
    loaded.quarantine(cause);
    let stopped = error.map(|error| error.to_string()).or(salvaged.reason);
    warn!(
        document = %name, shown = %loaded.last(), last = %salvaged.last, stopped,
        "A document in quarantine is shown as far as it is good."
    );
    Ok(loaded)
}

/// Reads a snapshot back, compares it, and stores it.
pub(crate) fn write_snapshot(
    hub: &Hub,
    name: &DocumentName,
    snapshot: &Snapshot,
    known: &StateVector,
) -> SnapshotOutcome {
    let write = || hub.store.write_snapshot(name, snapshot);
    write_verified(hub, name, (snapshot, known), write)
}

fn write_verified(
    hub: &Hub,
    name: &DocumentName,
    (snapshot, known): (&Snapshot, &StateVector),
    write: impl FnOnce() -> Result<(), SnapshotError>,
) -> SnapshotOutcome {
    if let Err(error) = verify_snapshot(snapshot, known, &hub.limits.for_document()) {
        error!(document = %name, %error, "A snapshot failed its check and was not kept.");
        return SnapshotOutcome::Failed;
    }
    match write() {
        Ok(()) => SnapshotOutcome::Written,
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            warn!(document = %name, error, "A snapshot could not be written.");
            SnapshotOutcome::Failed
        }
    }
}

/// Rebuilds the document from its log and compares it with the live one.
///
/// A log that has become unreadable under a live document is made whole: what is in memory is what
/// everybody sees, and a snapshot of it stands for all that cannot be read.
pub(crate) fn check(
    hub: &Hub,
    name: &DocumentName,
    live: &Snapshot,
    known: &StateVector,
) -> CheckOutcome {
    let stored = match hub.store.load(name, Generation::Newest) {
        Ok(stored) => stored,
        Err(error) => {
            let damaged = matches!(error, LoadError::Damaged { .. });
            let error = &error as &dyn std::error::Error;
            error!(document = %name, error, "The log of a live document cannot be read.");
            let heal = || hub.store.replace_log(name, live);
            if damaged && write_verified(hub, name, (live, known), heal) == SnapshotOutcome::Written
            {
                info!(document = %name, "A snapshot of the live document made its log whole.");
                return CheckOutcome::Same;
            }
            return CheckOutcome::Unknown;
        }
    };
    match compare(live, known, &stored, &hub.limits.for_document()) {
        Ok(()) => CheckOutcome::Same,
        Err(error) => {
            hub.trouble.quarantine(name, &format!("its live copy and its log differ: {error}"));
            CheckOutcome::Different
        }
    }
}
