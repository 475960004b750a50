//! What the server does about documents that are a danger to it: notes what is under way, finds
//! what ended the process before, and keeps a document in quarantine.
//!
//! Why it is done this way: `docs/decisions/0008-quarantine-and-recovery.md`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use syncline_protocol::DocumentName;
use tokio::process::Command;
use tokio::time::timeout;
use tracing::{error, warn};

use crate::clock;
use crate::metrics::METRICS;
use crate::quarantine::crash_marker::{CrashMarker, CrashMarkers};
use crate::quarantine::{CrashSite, Entry, Quarantine, QuarantineState};

/// For a child process to read one document. The largest take seconds.
const CHILD_PATIENCE: Duration = Duration::from_secs(60);

/// Documents whose trouble cannot be written down that are remembered.
const UNWRITTEN_MAX: usize = 10_000;

/// How a document may be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OpenPolicy {
    /// As any other.
    Open,
    /// As any other, with an eye on this: it ended the process before.
    Watched(CrashSite),
    /// To be shown as far as it is good, for this cause.
    ReadOnly(String),
    /// Not at all, for this cause.
    Closed(String),
}

/// Documents in trouble, as the server sees them.
#[derive(Debug)]
pub struct Recovery {
    quarantine: Quarantine,
    in_flight: CrashMarkers,
    /// What could not be written down, on a full disk say.
    unwritten: Mutex<BTreeMap<DocumentName, Entry>>,
    /// Where a child process finds the documents. None: they are in this one's memory.
    folder: Option<Place>,
}

#[derive(Debug)]
struct Place {
    data: PathBuf,
    config: Option<PathBuf>,
}

impl Recovery {
    /// Takes over what the process before this one left in the data folder. A disk that refuses
    /// costs the notes, not the start. `config` is the configuration file, if there is one.
    #[must_use]
    pub fn open(data: &Path, config: Option<&Path>) -> Self {
        let quarantine = Quarantine::in_folder(data);
        let left = CrashMarkers::left(data).unwrap_or_else(|error| {
            error!(%error, "What the process before this one was at cannot be read.");
            Vec::new()
        });
        for (document, step) in left {
            warn!(%document, ?step, "The process before this one ended while it was at this.");
            if let Err(error) = quarantine.interrupted(document, step, clock::now()) {
                let error = &error as &dyn std::error::Error;
                error!(error, "A suspect cannot be written down.");
            }
        }
        let in_flight = CrashMarkers::open(data).unwrap_or_else(|error| {
            error!(%error, "What is under way cannot be noted.");
            CrashMarkers::none()
        });
        let place = Place { data: data.to_owned(), config: config.map(Path::to_owned) };
        Self { quarantine, in_flight, unwritten: Mutex::default(), folder: Some(place) }
    }

    /// For a server that keeps nothing on disk.
    #[must_use]
    pub fn in_memory() -> Self {
        Self {
            quarantine: Quarantine::in_memory(),
            in_flight: CrashMarkers::none(),
            unwritten: Mutex::default(),
            folder: None,
        }
    }

    /// How `document` may be opened.
    pub(crate) fn admit(&self, document: &DocumentName) -> OpenPolicy {
        let unwritten = self.unwritten().get(document).cloned();
        let entry = match unwritten.map_or_else(|| self.quarantine.find(document), |e| Ok(Some(e)))
        {
            Ok(Some(entry)) => entry,
            Ok(None) => return OpenPolicy::Open,
            Err(error) => {
                let cause = format!("what is held against it cannot be read: {error}");
                return OpenPolicy::Closed(cause);
            }
        };
        match entry.standing {
            QuarantineState::ReadOnly => OpenPolicy::ReadOnly(entry.cause),
            QuarantineState::Closed => OpenPolicy::Closed(entry.cause),
            QuarantineState::Suspect(step) => OpenPolicy::Watched(step),
        }
    }

    /// Notes that `step` is under way, for as long as the mark lives.
    pub(crate) fn mark(
        &self,
        document: &DocumentName,
        step: &CrashSite,
    ) -> Option<CrashMarker<'_>> {
        self.in_flight.mark(document, step)
    }

    /// Puts a document in quarantine: it is shown as far as it is good, from its next opening on.
    pub(crate) fn quarantine(&self, document: &DocumentName, cause: &str) {
        self.put(document, QuarantineState::ReadOnly, cause);
    }

    /// Lets nobody into a document.
    pub(crate) fn close(&self, document: &DocumentName, cause: &str) {
        self.put(document, QuarantineState::Closed, cause);
    }

    /// No longer suspects `document` of what `step` has turned out not to do.
    pub(crate) fn clear(&self, document: &DocumentName, step: &CrashSite) {
        let suspected = match self.quarantine.find(document) {
            Ok(Some(entry)) => entry.standing == QuarantineState::Suspect(step.clone()),
            Ok(None) | Err(_) => false,
        };
        if suspected && let Err(error) = self.quarantine.release(document) {
            let error = &error as &dyn std::error::Error;
            error!(%document, error, "A document that did no harm stays a suspect.");
        }
    }

    /// Whether an operator has released `document`. What could not be written down is tried again.
    pub(crate) fn is_released(&self, document: &DocumentName) -> bool {
        let unwritten = self.unwritten().get(document).cloned();
        match unwritten {
            None => matches!(self.quarantine.find(document), Ok(None)),
            Some(entry) => {
                if self.quarantine.put(&entry).is_ok() {
                    self.unwritten().remove(document);
                }
                false
            }
        }
    }

    fn put(&self, document: &DocumentName, standing: QuarantineState, cause: &str) {
        error!(%document, ?standing, cause, "A document is in quarantine; see syncline quarantine list.");
        METRICS.quarantined.add(1);
        let cause = cause.to_owned();
        let entry = Entry { document: document.clone(), standing, since: clock::now(), cause };
        if let Err(error) = self.quarantine.put(&entry) {
            let error = &error as &dyn std::error::Error;
            error!(%document, error, "A document in trouble cannot be written down.");
            let mut unwritten = self.unwritten();
            if unwritten.len() < UNWRITTEN_MAX {
                unwritten.insert(document.clone(), entry);
            }
        }
    }

    /// Changed in steps that cannot fail, so a panic elsewhere leaves it whole.
    fn unwritten(&self) -> MutexGuard<'_, BTreeMap<DocumentName, Entry>> {
        self.unwritten.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a child process read a document, and tells whether that killed it. A child that says
    /// nothing in time, or cannot be started, proves nothing.
    pub(crate) async fn kills_its_reader(&self, document: &DocumentName) -> bool {
        let Some(Place { data, config }) = &self.folder else { return false };
        let child = std::env::current_exe().and_then(|program| {
            let mut command = Command::new(program);
            command.arg("verify").arg(format!("--doc={document}")).arg("--data").arg(data);
            if let Some(config) = config {
                command.arg("--config").arg(config);
            }
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command.kill_on_drop(true).spawn()
        });
        let mut child = match child {
            Ok(child) => child,
            Err(error) => {
                warn!(%document, %error, "A suspect cannot be read by a process of its own.");
                return false;
            }
        };
        match timeout(CHILD_PATIENCE, child.wait()).await {
            // Ended by a signal, there is no code.
            Ok(Ok(status)) => status.code().is_none(),
            Ok(Err(_)) | Err(_) => false,
        }
    }
}
