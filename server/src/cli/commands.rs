//! The subcommands that work on stored documents, beside a server or instead of it.
//!
//! What only reads takes no lock and works while a server runs. What writes needs the folder to
//! itself and says who has it.

mod backup;
mod document;
mod folder;
mod progress;
mod quarantine;
mod verify;

use std::io;
use std::path::{Path, PathBuf};

use syncline_protocol::DocumentName;
use syncline_protocol::document::merge::MergeError;
use syncline_protocol::document::replay::DecodeError;
use syncline_protocol::document::replica::ApplyError;
use syncline_protocol::document::verify::VerifyError;
use thiserror::Error;

pub use backup::{backup, restore};
pub use document::{delete, export, import};
pub use folder::{compact, rebuild};
pub use quarantine::{list, release};
pub use verify::verify;

use crate::config::ConfigError;
use crate::quarantine::QuarantineError;
use crate::store::backup::BackupError;
use crate::store::embedded::restore::{RestoreError, check_finished};
use crate::store::embedded::{Embedded, EmbeddedOptions};
use crate::store::{AppendError, JournalReader, LoadError, OpenError, SnapshotError, Store};

/// Why a subcommand on stored documents failed.
#[derive(Debug, Error)]
pub enum ToolError {
    /// The configuration file cannot be used.
    #[error("the configuration cannot be used")]
    Config(#[from] ConfigError),
    /// The folder cannot be opened.
    #[error("the documents cannot be opened")]
    Open(#[from] OpenError),
    /// Nothing was ever stored there.
    #[error("there are no documents in {}; is --data right?", .data.display())]
    NoDocuments {
        /// Where they were looked for.
        data: PathBuf,
    },
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
    /// A file that was given cannot be read.
    #[error("cannot read {}", .path.display())]
    Input {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A backup overwrites nothing.
    #[error("{} exists; give the backup a name of its own", .path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A backup lacks what cannot be read. What that is has been printed.
    #[error(
        "the backup is not complete: it holds everything that can be read, and {problems} problems \
         were found"
    )]
    Incomplete {
        /// How many.
        problems: usize,
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
    /// A document in quarantine takes no changes.
    #[error("{document} is in quarantine; put it right and syncline quarantine release it first")]
    InQuarantine {
        /// The document.
        document: DocumentName,
    },
    /// A suspect has lost nothing.
    #[error("{document} is only a suspect and is served; release it without --accept-loss")]
    OnlySuspect {
        /// The document.
        document: DocumentName,
    },
    /// What is stored may be whole under other limits.
    #[error(
        "{document} is refused by a limit, not damaged; pass the server's --config. Nothing was \
         changed"
    )]
    Limit {
        /// The document.
        document: DocumentName,
        /// The limit.
        #[source]
        source: DecodeError,
    },
    /// There is no good state to go on from.
    #[error(
        "no state of {document} can be read, so there is nothing to release; restore a backup, or \
         import a copy with --replace. Nothing was changed"
    )]
    NothingLeft {
        /// The document.
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
            Self::Input { source, .. } | Self::Backup { source: BackupError::Io(source), .. }
                if source.kind() == io::ErrorKind::NotFound =>
            {
                66
            }
            Self::NoDocument { .. } | Self::NoDocuments { .. } | Self::NotQuarantined { .. } => 66,
            Self::Open(_) | Self::NotEmpty { .. } | Self::Exists { .. } => 73,
            Self::Append { .. }
            | Self::Clean(_)
            | Self::Close(_)
            | Self::Restore { .. }
            | Self::Snapshot { .. }
            | Self::File { .. }
            | Self::Input { .. }
            | Self::Backup { source: BackupError::Io(_), .. }
            | Self::Load { source: LoadError::Io { .. }, .. }
            | Self::Quarantine(_)
            | Self::Output(_) => 74,
            Self::Damaged { .. }
            | Self::Load { .. }
            | Self::Replay { .. }
            | Self::Encode { .. }
            | Self::Import { .. }
            | Self::Incomplete { .. }
            | Self::InQuarantine { .. }
            | Self::OnlySuspect { .. }
            | Self::Limit { .. }
            | Self::NothingLeft { .. }
            | Self::Backup { .. } => 65,
            Self::Compact { .. } | Self::Randomness(_) => 70,
        }
    }
}

fn file_error(path: &Path) -> impl Fn(io::Error) -> ToolError {
    |source| ToolError::File { path: path.to_owned(), source }
}

/// Refuses a folder that nothing was ever stored in: a mistyped one is not to look like an empty
/// one, or become one.
fn check_documents(data: &Path) -> Result<(), ToolError> {
    if data.join("journal").is_dir() {
        Ok(())
    } else {
        Err(ToolError::NoDocuments { data: data.to_owned() })
    }
}

/// Looks at a folder that a server may be running on.
fn read(data: &Path) -> Result<JournalReader, ToolError> {
    check_documents(data)?;
    check_finished(data)?;
    Ok(Embedded::read(data)?)
}

/// Does work that needs the folder to itself. However the work ends, the journal's end is recorded.
fn with_store<T>(
    data: &Path,
    open: impl FnOnce(EmbeddedOptions) -> Result<Embedded, OpenError>,
    work: impl FnOnce(&Embedded) -> Result<T, ToolError>,
) -> Result<T, ToolError> {
    check_documents(data)?;
    let store = open(EmbeddedOptions::new(data))?;
    let done = work(&store);
    let closed = store.close().map_err(ToolError::Close);
    // What went wrong first says more.
    let value = done?;
    closed.map(|()| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tool_11_a_disk_that_refuses_is_told_from_a_damaged_document() {
        let code = |source| {
            let document = "a".parse().unwrap();
            ToolError::Load { document, source }.exit_code()
        };
        assert_eq!(code(LoadError::Io { source: io::Error::other("a test") }), 74);
        assert_eq!(code(LoadError::Damaged { reason: "a test".to_owned() }), 65);
    }
}
