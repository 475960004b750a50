//! `syncline compact` and `syncline rebuild`: the whole folder.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use syncline_protocol::document::{LoadedDocument, verify_snapshot};
use syncline_protocol::{DocumentName, Snapshot};

use super::progress::bar;
use super::{ToolError, file_error};
use crate::args::DataArgs;
use crate::config;
use crate::limits::Limits;
use crate::store::embedded::{Embedded, EmbeddedOptions};
use crate::store::{Generation, Store};

/// Writes every document as one state and drops everything before it, then what is dead.
///
/// # Errors
/// If the folder is in use, or it cannot be written. A document that cannot be read or reads back
/// differently is left as it is, and the first of them is the error.
pub fn compact(args: &DataArgs) -> Result<(), ToolError> {
    let folder = config::folder(args)?;
    let store = Embedded::open(EmbeddedOptions::new(&folder.data))?;
    let before = journal_bytes(&folder.data)?;
    let documents = store.documents();
    let documents_bar = bar(documents.len(), "Compacting");
    let mut left = None;
    for info in documents {
        if let Err(error) = compact_document(&store, &info.name, &folder.limits) {
            drop(writeln!(io::stderr(), "left as it is: {error}"));
            left.get_or_insert(error);
        }
        documents_bar.inc(1);
    }
    documents_bar.finish_and_clear();
    let rest = bar(0, "Giving back room");
    let cleaned = store.clean_fully(|done, of| {
        rest.set_length(of as u64);
        rest.set_position(done as u64);
    });
    cleaned.map_err(ToolError::Clean)?;
    rest.finish_and_clear();
    store.close().map_err(ToolError::Close)?;
    let after = journal_bytes(&folder.data)?;
    writeln!(io::stdout(), "{before} bytes are now {after}").map_err(ToolError::Output)?;
    left.map_or(Ok(()), Err)
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
    verify_snapshot(&snapshot, loaded.known(), &limits).map_err(compact_error)?;
    let write_error = |source| ToolError::Snapshot { document: document.clone(), source };
    store.replace_log(document, &snapshot).map_err(write_error)
}

/// Removes the snapshot cache and fills it from the journal.
///
/// # Errors
/// If the folder is in use or cannot be written.
pub fn rebuild(args: &DataArgs) -> Result<(), ToolError> {
    let folder = config::folder(args)?;
    let options = EmbeddedOptions::new(&folder.data);
    let store = Embedded::rebuild(options)?;
    let filled = store.documents().len();
    store.close().map_err(ToolError::Close)?;
    writeln!(io::stdout(), "the cache has been filled afresh; {filled} documents are stored")
        .map_err(ToolError::Output)
}
