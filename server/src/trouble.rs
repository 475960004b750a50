//! What the server does about documents that are a danger to it: notes what is under way, finds
//! what ended the process before, and keeps a document in quarantine.
//!
//! Why it is done this way: `docs/decisions/0008-documents-in-trouble.md`.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use syncline_protocol::{DocumentName, Timestamp};
use thiserror::Error;
use tokio::process::Command;
use tokio::runtime::Handle;
use tokio::time::timeout;
use tracing::{error, warn};

use crate::clock;
use crate::in_flight::{InFlight, Mark, first_sync};
use crate::quarantine::{Entry, Interrupted, Quarantine, QuarantineError, Standing};

/// For a child process to read one document. The largest take seconds.
const CHILD_PATIENCE: Duration = Duration::from_secs(60);

/// Why what an earlier process left cannot be taken over.
#[derive(Debug, Error)]
pub enum TroubleError {
    /// The notes of what was under way.
    #[error("cannot use the notes of what was under way in {}", .data.display())]
    InFlight {
        /// The data folder.
        data: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The list of documents in trouble.
    #[error("the quarantine cannot be used")]
    Quarantine(#[from] QuarantineError),
}

/// How a document may be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Admittance {
    /// As any other.
    Open,
    /// As any other; it is a suspect until this author has synced.
    Watched(Interrupted),
    /// To be shown as far as it is good, for this cause.
    ReadOnly(String),
    /// Not at all, for this cause.
    Closed(String),
}

/// Documents in trouble, as the server sees them.
#[derive(Debug)]
pub struct Trouble {
    quarantine: Quarantine,
    in_flight: InFlight,
    /// Where a child process finds the documents. None: they are in this one's memory.
    data: Option<PathBuf>,
}

impl Trouble {
    /// Takes over what the process before this one left in the data folder.
    ///
    /// # Errors
    /// If the folder cannot be used.
    pub fn open(data: &Path) -> Result<Self, TroubleError> {
        let (in_flight, interrupted) = InFlight::open(data)
            .map_err(|source| TroubleError::InFlight { data: data.to_owned(), source })?;
        let quarantine = Quarantine::in_folder(data);
        for (document, step) in interrupted {
            warn!(%document, ?step, "The process before this one ended while it was at this.");
            quarantine.interrupted(document, step, clock::now())?;
        }
        Ok(Self { quarantine, in_flight, data: Some(data.to_owned()) })
    }

    /// For a server that keeps nothing on disk.
    #[must_use]
    pub fn in_memory() -> Self {
        Self { quarantine: Quarantine::in_memory(), in_flight: InFlight::none(), data: None }
    }

    /// How `document` may be opened. A suspect that ended the process while it was read is read by
    /// a child process first, so this may take as long as that.
    pub(crate) fn admit(&self, document: &DocumentName) -> Admittance {
        let entry = match self.quarantine.find(document) {
            Ok(Some(entry)) => entry,
            Ok(None) => return Admittance::Open,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                error!(%document, error, "Cannot read what is held against a document.");
                return Admittance::Open;
            }
        };
        match entry.standing {
            Standing::ReadOnly => Admittance::ReadOnly(entry.cause),
            Standing::Closed => Admittance::Closed(entry.cause),
            Standing::Suspect(step @ Interrupted::FirstSync { .. }) => Admittance::Watched(step),
            Standing::Suspect(Interrupted::Load) if self.child_survives(document) => {
                self.clear(document);
                Admittance::Open
            }
            Standing::Suspect(Interrupted::Load) => {
                let cause = "reading it ends the process that does".to_owned();
                self.put(document, Standing::Closed, cause.clone());
                Admittance::Closed(cause)
            }
        }
    }

    /// Notes that a document is being loaded, for as long as the mark lives.
    pub(crate) fn mark_load(&self, document: &DocumentName) -> Option<Mark<'_>> {
        self.in_flight.mark(document, Interrupted::Load)
    }

    /// Notes that what `author` sent first is being applied, for as long as the mark lives.
    pub(crate) fn mark_first_sync(
        &self,
        document: &DocumentName,
        author: &str,
    ) -> Option<Mark<'_>> {
        self.in_flight.mark(document, first_sync(author))
    }

    /// Puts a document in quarantine: it is shown as far as it is good, from its next opening on.
    pub(crate) fn quarantine(&self, document: &DocumentName, cause: &str) {
        error!(%document, cause, "A document is in quarantine; see syncline quarantine list.");
        self.put(document, Standing::ReadOnly, cause.to_owned());
    }

    /// Holds nothing against `document` any more.
    pub(crate) fn clear(&self, document: &DocumentName) {
        if let Err(error) = self.quarantine.release(document) {
            let error = &error as &dyn std::error::Error;
            error!(%document, error, "A document that did no harm stays a suspect.");
        }
    }

    /// Whether an operator has released `document`.
    pub(crate) fn is_released(&self, document: &DocumentName) -> bool {
        matches!(self.quarantine.find(document), Ok(None))
    }

    fn put(&self, document: &DocumentName, standing: Standing, cause: String) {
        let since: Timestamp = clock::now();
        let entry = Entry { document: document.clone(), standing, since, cause };
        if let Err(error) = self.quarantine.put(&entry) {
            let error = &error as &dyn std::error::Error;
            error!(%document, error, "A document in trouble cannot be written down.");
        }
    }

    /// Has a child process read a document. What it finds does not matter, only that it ends by
    /// itself. Called on a thread that may block.
    fn child_survives(&self, document: &DocumentName) -> bool {
        let Some(data) = &self.data else { return true };
        Handle::current().block_on(async {
            let child = std::env::current_exe().and_then(|program| {
                Command::new(program)
                    .args(["verify", "--doc", document.as_str(), "--data"])
                    .arg(data)
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .kill_on_drop(true)
                    .spawn()
            });
            match child {
                Ok(mut child) => match timeout(CHILD_PATIENCE, child.wait()).await {
                    // Ended by a signal: there is no code.
                    Ok(Ok(status)) => status.code().is_some(),
                    Ok(Err(_)) | Err(_) => false,
                },
                Err(error) => {
                    warn!(%document, %error, "A suspect cannot be read by a process of its own.");
                    true
                }
            }
        })
    }
}
