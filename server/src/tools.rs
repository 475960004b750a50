//! The subcommands that work on stored documents, beside a server or instead of it.
//!
//! What only reads takes no lock and works while a server runs. What writes needs the folder to
//! itself and says who has it.

mod archive;
mod document;
mod folder;
mod progress;
mod trouble;
mod verify;

use std::io;
use std::path::{Path, PathBuf};

use syncline_protocol::DocumentName;
use syncline_protocol::document::merge::MergeError;
use syncline_protocol::document::replay::DecodeError;
use syncline_protocol::document::replica::ApplyError;
use syncline_protocol::document::verify::VerifyError;
use thiserror::Error;

pub use archive::{backup, restore};
pub use document::{delete, export, import};
pub use folder::{compact, rebuild};
pub use trouble::{list, release};
pub use verify::verify;

use crate::backup::BackupError;
use crate::config::ConfigError;
use crate::quarantine::QuarantineError;
use crate::store::restore::RestoreError;
use crate::store::{AppendError, LoadError, OpenError, SnapshotError};

/// Why a subcommand on stored documents failed.
#[derive(Debug, Error)]
pub enum ToolError {
    /// The configuration file cannot be used.
    #[error("the configuration cannot be used")]
    Config(#[from] ConfigError),
    /// The folder cannot be opened.
    #[error("the documents cannot be opened")]
    Open(#[from] OpenError),
    /// A stored document cannot be read.
    #[error("{document} cannot be read; syncline verify says more")]
    Load {
        /// The document.
        document: DocumentName,
        /// What is wrong.
        #[source]
        source: LoadError,
    },
    /// A stored document cannot be replayed.
    #[error("{document} cannot be replayed; syncline verify says more")]
    Replay {
        /// The document.
        document: DocumentName,
        /// What is wrong.
        #[source]
        source: DecodeError,
    },
    /// A document cannot be encoded.
    #[error("{document} cannot be encoded")]
    Encode {
        /// The document.
        document: DocumentName,
        /// What is wrong.
        #[source]
        source: ApplyError,
    },
    /// A compacted state is not what it was made of. Nothing was changed.
    #[error("{document} reads back differently when it is compacted, and was left as it is")]
    Compact {
        /// The document.
        document: DocumentName,
        /// What differs.
        #[source]
        source: VerifyError,
    },
    /// No such document.
    #[error("there is no document {document:?} in {}", .data.display())]
    NoDocument {
        /// The name.
        document: DocumentName,
        /// Where it was looked for.
        data: PathBuf,
    },
    /// What is to be imported is not an update that a client could have sent.
    #[error("{} cannot be imported into {document}", .file.display())]
    Import {
        /// The file.
        file: PathBuf,
        /// The document.
        document: DocumentName,
        /// What is wrong.
        #[source]
        source: MergeError,
    },
    /// Updates cannot be written.
    #[error("{document} cannot be written")]
    Append {
        /// The document.
        document: DocumentName,
        /// What is wrong.
        #[source]
        source: AppendError,
    },
    /// Room cannot be given back.
    #[error("the journal cannot be cleaned; every document is there")]
    Clean(#[source] AppendError),
    /// The store cannot be brought to rest.
    #[error("the journal cannot be closed; what was written is there")]
    Close(#[source] AppendError),
    /// A restored folder could not be made ready.
    #[error("{} is not ready; empty it and restore again", .data.display())]
    Restore {
        /// The folder.
        data: PathBuf,
        /// What is wrong.
        #[source]
        source: RestoreError,
    },
    /// A snapshot cannot be written.
    #[error("{document} cannot be written")]
    Snapshot {
        /// The document.
        document: DocumentName,
        /// What is wrong.
        #[source]
        source: SnapshotError,
    },
    /// A file cannot be read or written.
    #[error("cannot use {}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A backup cannot be used.
    #[error("{} cannot be restored", .path.display())]
    Backup {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: BackupError,
    },
    /// A backup is restored into a folder of its own.
    #[error(
        "{} is not empty; restore into a new folder, try it, and then put it in place of the old",
        .data.display()
    )]
    NotEmpty {
        /// The folder.
        data: PathBuf,
    },
    /// The list of documents in trouble cannot be used.
    #[error("the quarantine cannot be used")]
    Quarantine(#[from] QuarantineError),
    /// The document is not on that list.
    #[error("{document:?} is not in quarantine; syncline quarantine list shows what is")]
    NotQuarantined {
        /// The name.
        document: DocumentName,
    },
    /// Something stored is damaged. What it is has been printed.
    #[error("{problems} problems were found in {}", .data.display())]
    Damaged {
        /// How many.
        problems: usize,
        /// Where.
        data: PathBuf,
    },
    /// The system gives no randomness.
    #[error("the system gives no random bytes for an epoch")]
    Randomness(#[source] io::Error),
    /// Nobody reads what is printed.
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
}

impl ToolError {
    /// The exit code that says so; those of sysexits.h.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) => 78,
            Self::Open(OpenError::InUse { .. }) => 75,
            Self::Damaged { .. }
            | Self::Load { .. }
            | Self::Replay { .. }
            | Self::Encode { .. }
            | Self::Import { .. }
            | Self::Backup { .. } => 65,
            Self::NoDocument { .. } | Self::NotQuarantined { .. } => 66,
            Self::Open(_) | Self::NotEmpty { .. } => 73,
            Self::Append { .. }
            | Self::Clean(_)
            | Self::Close(_)
            | Self::Restore { .. }
            | Self::Snapshot { .. }
            | Self::File { .. }
            | Self::Quarantine(_)
            | Self::Output(_) => 74,
            Self::Compact { .. } | Self::Randomness(_) => 70,
        }
    }
}

fn file_error(path: &Path) -> impl Fn(io::Error) -> ToolError {
    |source| ToolError::File { path: path.to_owned(), source }
}
