//! The work on stored documents that takes its time: opening one, writing and comparing its
//! states. All of it blocks and runs on threads of its own.

use std::sync::Arc;

use syncline_protocol::document::replay::DecodeError;
use syncline_protocol::document::verify::CompareError;
use syncline_protocol::document::{
    CheckOutcome, Input, LoadedDocument, SnapshotOutcome, compare, verify_snapshot,
};
use syncline_protocol::validate::StateVector;
use syncline_protocol::{DocumentName, Snapshot};
use thiserror::Error;
use tracing::{error, info, warn};

use crate::log::chain;
use crate::quarantine::CrashSite;
use crate::quarantine::recovery::OpenPolicy;
use crate::services::Services;
use crate::store::embedded::disk::is_lasting;
use crate::store::{Generation, LoadError, SnapshotError};

/// What opening a document came to.
#[derive(Debug)]
pub(crate) struct JobOutcome {
    pub(crate) input: Input,
    pub(crate) watch: RecoveryWatch,
}

impl JobOutcome {
    /// The end of other work than a load.
    pub(crate) fn nothing(input: Input) -> Self {
        Self { input, watch: RecoveryWatch::Nothing }
    }
}

/// What is to be looked out for while a document is live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RecoveryWatch {
    Nothing,
    /// For this author's first sync, which a process before this one did not survive.
    Suspect(CrashSite),
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

/// How a document may be opened. One that ended the process while it was read is read by a process
/// of its own first: one such document at a time, and nobody else waits for it.
pub(crate) async fn admit(services: &Arc<Services>, name: &DocumentName) -> OpenPolicy {
    let admittance = {
        let (services, name) = (Arc::clone(services), name.clone());
        tokio::task::spawn_blocking(move || services.recovery.admit(&name)).await
    };
    let admittance = admittance.unwrap_or_else(|failure| OpenPolicy::Closed(failure.to_string()));
    if admittance != OpenPolicy::Watched(CrashSite::Load) {
        return admittance;
    }
    // Never closed, so this only ever waits.
    let _one = services.suspects.acquire().await;
    if !services.recovery.kills_its_reader(name).await {
        return admittance;
    }
    let cause = "reading it ends the process that does";
    let (services, name) = (Arc::clone(services), name.clone());
    let close = move || services.recovery.close(&name, cause);
    drop(tokio::task::spawn_blocking(close).await);
    OpenPolicy::Closed(cause.to_owned())
}

/// Reads and replays a document, or as much of it as is good.
pub(crate) fn open(services: &Services, name: &DocumentName, admittance: OpenPolicy) -> JobOutcome {
    match try_open(services, name, admittance) {
        Ok((loaded, watch)) => JobOutcome { input: Input::Loaded(Box::new(loaded)), watch },
        Err(error) => {
            error!(document = %name, error = chain(&error), "A document could not be loaded.");
            JobOutcome::nothing(Input::LoadFailed)
        }
    }
}

fn try_open(
    services: &Services,
    name: &DocumentName,
    admittance: OpenPolicy,
) -> Result<(LoadedDocument, RecoveryWatch), OpenError> {
    let suspicion = match admittance {
        OpenPolicy::Open => None,
        OpenPolicy::Watched(step) => Some(step),
        OpenPolicy::ReadOnly(cause) => {
            return Ok((salvage(services, name, &cause)?, RecoveryWatch::Release));
        }
        OpenPolicy::Closed(cause) => return Err(OpenError::Closed { cause }),
    };
    let mark = services.recovery.mark(name, &CrashSite::Load);
    let loaded = load(services, name);
    drop(mark);
    match loaded {
        Ok(loaded) => {
            let watch = match suspicion {
                Some(CrashSite::Load) => {
                    services.recovery.clear(name, &CrashSite::Load);
                    RecoveryWatch::Nothing
                }
                Some(step @ CrashSite::FirstSync { .. }) => RecoveryWatch::Suspect(step),
                None => RecoveryWatch::Nothing,
            };
            Ok((loaded, watch))
        }
        Err(error) if error.is_lasting() => {
            let cause = match std::error::Error::source(&error) {
                Some(source) => format!("{error}: {source}"),
                None => error.to_string(),
            };
            services.recovery.quarantine(name, &cause);
            Ok((salvage(services, name, &cause)?, RecoveryWatch::Release))
        }
        // A system that refuses now may answer later.
        Err(error) => Err(error),
    }
}

fn load(services: &Services, name: &DocumentName) -> Result<LoadedDocument, OpenError> {
    let limits = services.limits.for_document();
    let read = |generation| services.store.load(name, generation).map_err(OpenError::Read);
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
fn salvage(
    services: &Services,
    name: &DocumentName,
    cause: &str,
) -> Result<LoadedDocument, OpenError> {
    let _mark = services.recovery.mark(name, &CrashSite::Load);
    let limits = services.limits.for_document();
    let salvaged = services.store.salvage(name).map_err(OpenError::Read)?;
    let stored = |generation| services.store.load(name, generation).ok();
    // A state that can be read and not decoded hides the one before it from a salvage.
    let logs = [Some(salvaged.log), stored(Generation::Newest), stored(Generation::Previous)];
    let replayed = logs.iter().flatten().map(|log| LoadedDocument::salvage(log, &limits).0);
    let best = replayed.max_by_key(LoadedDocument::last);
    let mut loaded = best.unwrap_or_else(|| LoadedDocument::empty(&limits));
    loaded.quarantine(cause);
    let (shown, last, reason) = (loaded.last(), salvaged.last, salvaged.reason);
    warn!(document = %name, %shown, %last, reason, "A document is shown as far as it is good.");
    Ok(loaded)
}

impl OpenError {
    /// Whether the document itself is at fault, and trying again will not help.
    fn is_lasting(&self) -> bool {
        match self {
            Self::Replay(_) => true,
            Self::Read(error) => is_damage(error),
            Self::Closed { .. } => false,
        }
    }
}

/// Whether a document's bytes are lost. A disk that has gone bad says so by an I/O error.
fn is_damage(error: &LoadError) -> bool {
    match error {
        LoadError::Damaged { .. } => true,
        LoadError::Io { source } => is_lasting(source),
        LoadError::NoPrevious { .. } => false,
    }
}

/// Reads a snapshot back, compares it, and stores it.
pub(crate) fn write_snapshot(
    services: &Services,
    name: &DocumentName,
    snapshot: &Snapshot,
    known: &StateVector,
) -> SnapshotOutcome {
    let write = || services.store.write_snapshot(name, snapshot);
    write_verified(services, name, (snapshot, known), write)
}

fn write_verified(
    services: &Services,
    name: &DocumentName,
    (snapshot, known): (&Snapshot, &StateVector),
    write: impl FnOnce() -> Result<(), SnapshotError>,
) -> SnapshotOutcome {
    if let Err(error) = verify_snapshot(snapshot, known, &services.limits.for_document()) {
        error!(document = %name, %error, "A snapshot failed its check and was not kept.");
        return SnapshotOutcome::Failed;
    }
    match write() {
        Ok(()) => SnapshotOutcome::Written,
        Err(error) => {
            warn!(document = %name, error = chain(&error), "A snapshot could not be written.");
            SnapshotOutcome::Failed
        }
    }
}

/// Rebuilds the document from its log and compares it with the live one.
///
/// A log that has become unreadable under a live document is made whole: what is in memory is what
/// everybody sees, and a snapshot of it stands for all that cannot be read.
pub(crate) fn check(
    services: &Services,
    name: &DocumentName,
    live: &Snapshot,
    known: &StateVector,
) -> CheckOutcome {
    let limits = services.limits.for_document();
    let newest = match services.store.load(name, Generation::Newest) {
        Ok(stored) => compare(live, known, &stored, &limits),
        Err(error) if is_damage(&error) => {
            error!(document = %name, error = chain(&error), "The log of a live document cannot be read.");
            return heal(services, name, live, known);
        }
        Err(error) => {
            warn!(document = %name, error = chain(&error), "A live document was not compared with its log.");
            return CheckOutcome::Unknown;
        }
    };
    match newest {
        Ok(()) => CheckOutcome::Same,
        Err(CompareError::Unreadable(error)) if previous_agrees(services, name, live, known) => {
            error!(document = %name, %error, "The newest snapshot of a live document is unusable.");
            heal(services, name, live, known)
        }
        Err(error) => {
            services
                .recovery
                .quarantine(name, &format!("its live copy and its log differ: {error}"));
            CheckOutcome::Different
        }
    }
}

fn previous_agrees(
    services: &Services,
    name: &DocumentName,
    live: &Snapshot,
    known: &StateVector,
) -> bool {
    let previous = services.store.load(name, Generation::Previous);
    previous.is_ok_and(|log| compare(live, known, &log, &services.limits.for_document()).is_ok())
}

/// Writes the live state in the place of a log that cannot be read.
fn heal(
    services: &Services,
    name: &DocumentName,
    live: &Snapshot,
    known: &StateVector,
) -> CheckOutcome {
    let write = || services.store.replace_log(name, live);
    match write_verified(services, name, (live, known), write) {
        SnapshotOutcome::Written => {
            info!(document = %name, "A snapshot of the live document made its log whole.");
            CheckOutcome::Same
        }
        SnapshotOutcome::Failed => CheckOutcome::Unknown,
    }
}
