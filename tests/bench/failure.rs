//! Why there is no figure.

use std::io;

use thiserror::Error;

/// What kept a run from its end.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// The server does not do what is measured.
    #[error("{0}")]
    NotApplicable(&'static str),
    /// The server is not on this machine.
    #[error("not installed: {0}")]
    NotInstalled(String),
    /// The server ended, or does not listen.
    #[error("{0} does not start; its output is in {1}")]
    NoStart(&'static str, String),
    /// Clients were turned away or hung up on while they joined.
    #[error("{ended} of {all} connections were refused or cut while they joined")]
    Cut {
        /// How many.
        ended: usize,
        /// Of how many.
        all: usize,
    },
    /// Something did not happen in time.
    #[error("{what} did not happen within {seconds} s: {state}")]
    Timeout {
        /// What was waited for.
        what: &'static str,
        /// How long.
        seconds: u64,
        /// How far it came.
        state: String,
    },
    /// A step of the installation failed.
    #[error("{0} failed")]
    Install(String),
    /// Measurements of the smoke test that failed.
    #[error("broken:\n{0}")]
    Broken(String),
    /// The results cannot be written or read.
    #[error("results: {0}")]
    Results(#[from] serde_json::Error),
    /// The operating system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
}
