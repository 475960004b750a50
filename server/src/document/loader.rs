//! Blocking work on stored documents: loading one, writing its snapshots, comparing it with its log.
//! Runs on threads that may block.

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

/// The result of a job.
#[derive(Debug)]
pub(crate) struct JobOutcome {
    /// For the document.
    pub(crate) input: Input,
    pub(crate) watch: RecoveryWatch,
}

impl JobOutcome {
    /// The result of a job other than a load, or of a failed one.
    pub(crate) fn nothing(input: Input) -> Self {
        Self { input, watch: RecoveryWatch::Nothing }
    }
}

/// What the document's task watches for, for quarantine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RecoveryWatch {
    Nothing,
    /// This author's first sync, which an earlier process did not survive.
    Suspect(CrashSite),
    /// The document's release from quarantine.
    Release,
}

/// Why a stored document could not be opened.
#[derive(Debug, Error)]
enum OpenError {
    #[error("the document is closed: {cause}")]
    Closed { cause: String },
    #[error("it cannot be read")]
    Read(#[source] LoadError),
    #[error("neither its newest snapshot nor the one before can be replayed")]
    Replay(#[source] DecodeError),
}

/// How a document may be opened. If reading it ended an earlier process, a child process reads it
/// first, one such document at a time; other documents do not wait.
pub(crate) async fn open_policy(services: &Arc<Services>, name: &DocumentName) -> OpenPolicy {
    let policy = {
        let (services, name) = (Arc::clone(services), name.clone());
        tokio::task::spawn_blocking(move || services.recovery.admit(&name)).await
    };
    let policy = policy.unwrap_or_else(|failure| OpenPolicy::Closed(failure.to_string()));
    if policy != OpenPolicy::Watched(CrashSite::Load) {
        return policy;
    }
    // Never closed, so this only ever waits.
    let _one = services.suspects.acquire().await;
    if !services.recovery.kills_its_reader(name).await {
        return policy;
    }
    let cause = "reading it ends the process";
    let (services, name) = (Arc::clone(services), name.clone());
    let close = move || services.recovery.close(&name, cause);
    drop(tokio::task::spawn_blocking(close).await);
    OpenPolicy::Closed(cause.to_owned())
}

/// Reads and replays a document, or its undamaged part.
pub(crate) fn open(services: &Services, name: &DocumentName, policy: OpenPolicy) -> JobOutcome {
    match try_open(services, name, policy) {
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
    policy: OpenPolicy,
) -> Result<(LoadedDocument, RecoveryWatch), OpenError> {
    let suspicion = match policy {
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
        // A failing system call may succeed later.
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

/// The last readable state, as a read-only document.
fn salvage(
    services: &Services,
    name: &DocumentName,
    cause: &str,
) -> Result<LoadedDocument, OpenError> {
    let _mark = services.recovery.mark(name, &CrashSite::Load);
    let limits = services.limits.for_document();
    let salvaged = services.store.salvage(name).map_err(OpenError::Read)?;
    let stored = |generation| services.store.load(name, generation).ok();
    // A snapshot that can be read but not decoded hides the one before it from a salvage.
    let logs = [Some(salvaged.log), stored(Generation::Newest), stored(Generation::Previous)];
    let replayed = logs.iter().flatten().map(|log| LoadedDocument::salvage(log, &limits).0);
    let best = replayed.max_by_key(LoadedDocument::last);
    let mut loaded = best.unwrap_or_else(|| LoadedDocument::empty(&limits));
    loaded.quarantine(cause);
    let (shown, last, reason) = (loaded.last(), salvaged.last, salvaged.reason);
    warn!(document = %name, %shown, %last, reason, "A damaged document is served read-only, up to its last readable state.");
    Ok(loaded)
}

impl OpenError {
    /// Whether the document itself is damaged, so that a retry cannot help.
    fn is_lasting(&self) -> bool {
        match self {
            Self::Replay(_) => true,
            Self::Read(error) => is_damage(error),
            Self::Closed { .. } => false,
        }
    }
}

/// Whether a document's bytes are lost. A failing disk reports that as an I/O error.
fn is_damage(error: &LoadError) -> bool {
    match error {
        LoadError::Damaged { .. } => true,
        LoadError::Io { source } => is_lasting(source),
        LoadError::NoPrevious { .. } => false,
    }
}

/// Verifies a snapshot against the document's state vector and stores it.
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
/// If the log of a live document became unreadable, a snapshot of the live state replaces it: that is
/// the state that every client has.
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
            return replace_log(services, name, live, known);
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
            replace_log(services, name, live, known)
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

/// Replaces an unreadable log by a snapshot of the live state.
fn replace_log(
    services: &Services,
    name: &DocumentName,
    live: &Snapshot,
    known: &StateVector,
) -> CheckOutcome {
    let write = || services.store.replace_log(name, live);
    match write_verified(services, name, (live, known), write) {
        SnapshotOutcome::Written => {
            info!(document = %name, "A snapshot of the live document replaced its unreadable log.");
            CheckOutcome::Same
        }
        SnapshotOutcome::Failed => CheckOutcome::Unknown,
    }
}
