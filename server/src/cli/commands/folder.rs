//! `syncline compact` and `syncline rebuild`: the whole folder.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use syncline_protocol::document::{LoadedDocument, verify_snapshot};
use syncline_protocol::{DocumentName, Snapshot};

use crate::cli::args::DataArgs;
use crate::cli::commands::progress::bar;
use crate::cli::commands::quarantine::is_held;
use crate::cli::commands::{ToolError, file_error, with_store};
use crate::config::limits::Limits;
use crate::config::{self, Folder};
use crate::quarantine::Quarantine;
use crate::store::embedded::Embedded;
use crate::store::{DocumentInfo, Generation, Store};

/// Writes every document as one state and drops everything before it, then what is dead. Documents
/// in quarantine are left alone: what is wrong with them is still to be looked at.
///
/// # Errors
/// If the folder is in use, or it cannot be written. A document that cannot be read or reads back
/// differently is left as it is, and the first of them is the error.
pub fn compact(args: &DataArgs) -> Result<(), ToolError> {
    let folder = config::folder(args)?;
    let data = &folder.data;
    let (before, left) = with_store(data, Embedded::open, |store| {
        let before = journal_bytes(data)?;
        let left = compact_documents(store, &folder)?;
        let rest = bar(0, "Giving back room");
        let cleaned = store.clean_fully(|done, of| {
            rest.set_length(of as u64);
            rest.set_position(done as u64);
        });
        cleaned.map_err(ToolError::Clean)?;
        rest.finish_and_clear();
        Ok((before, left))
    })?;
    let after = journal_bytes(data)?;
    writeln!(io::stdout(), "{before} bytes are now {after}").map_err(ToolError::Output)?;
    left.map_or(Ok(()), Err)
}

/// What keeps the first document from being compacted that should be.
fn compact_documents(store: &Embedded, folder: &Folder) -> Result<Option<ToolError>, ToolError> {
    let quarantine = Quarantine::in_folder(&folder.data);
    let documents = store.documents();
    let bar = bar(documents.len(), "Compacting");
    let mut left = None;
    for DocumentInfo { name: document, .. } in documents {
        if is_held(&quarantine, &document)? {
            drop(writeln!(io::stderr(), "left as it is: {document} is in quarantine"));
        } else if let Err(error) = compact_document(store, &document, &folder.limits) {
            drop(writeln!(io::stderr(), "left as it is: {error}"));
            left.get_or_insert(error);
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(left)
}

/// What the journal takes on disk.
fn journal_bytes(data: &Path) -> Result<u64, ToolError> {
    let journal = data.join("journal");
    let sum = || fs::read_dir(&journal)?.map(|file| Ok(file?.metadata()?.len())).sum();
    let bytes: io::Result<u64> = sum();
    bytes.map_err(file_error(&journal))
}

fn compact_document(
    store: &Embedded,
    document: &DocumentName,
    limits: &Limits,
) -> Result<(), ToolError> {
    let limits = limits.for_document();
    let load_error = |source| ToolError::Load { document: document.clone(), source };
    let stored = store.load(document, Generation::Newest).map_err(load_error)?;
    let replay_error = |source| ToolError::Replay { document: document.clone(), source };
    let mut loaded = LoadedDocument::decode(&stored, &limits).map_err(replay_error)?;
    let encode_error = |source| ToolError::Encode { document: document.clone(), source };
    let state = loaded.state().map_err(encode_error)?;
    let snapshot = Snapshot { through: stored.last(), state: state.into() };
    let compact_error = |source| ToolError::Compact { document: document.clone(), source };
    verify_snapshot(&snapshot, loaded.state_vector(), &limits).map_err(compact_error)?;
    let write_error = |source| ToolError::Snapshot { document: document.clone(), source };
    store.replace_log(document, &snapshot).map_err(write_error)
}

/// Removes the snapshot cache and fills it from the journal.
///
/// # Errors
/// If the folder is in use or cannot be written.
pub fn rebuild(args: &DataArgs) -> Result<(), ToolError> {
    let folder = config::folder(args)?;
    let filled = with_store(&folder.data, Embedded::rebuild, |store| Ok(store.documents().len()))?;
    writeln!(io::stdout(), "the cache has been filled afresh; {filled} documents are stored")
        .map_err(ToolError::Output)
}
