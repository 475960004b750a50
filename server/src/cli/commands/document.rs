//! `syncline export`, `import` and `delete`: one document.

use std::fs;
use std::io::{self, Write};
use std::sync::Arc;

use bytes::Bytes;
use syncline_protocol::document::LoadedDocument;
use syncline_protocol::document::merge::Merged;
use syncline_protocol::{DocumentName, Sequence};

use crate::cli::args::{DeleteArgs, ExportArgs, ImportArgs};
use crate::cli::commands::quarantine::is_held;
use crate::cli::commands::{ToolError, file_error, read, with_store};
use crate::clock;
use crate::config::{self, Folder};
use crate::quarantine::Quarantine;
use crate::store::atomic_file::replace;
use crate::store::embedded::Embedded;
use crate::store::{Generation, Record, Store, random_epoch};

/// A Yjs update that changes nothing: what a deleted document is.
const EMPTY: &[u8] = &[0, 0];

/// Who wrote an imported update, as the log says it.
const AUTHOR: &str = "syncline import";

/// Writes the whole document as one Yjs v1 update.
///
/// # Errors
/// If there is no such document, or it is damaged.
pub fn export(args: &ExportArgs) -> Result<(), ToolError> {
    let folder = config::folder(&args.folder)?;
    let document = &args.doc;
    let mut reader = read(&folder.data)?;
    let load_error = |source| ToolError::Load { document: document.clone(), source };
    let stored = reader.load(document, Generation::Newest).map_err(load_error)?;
    if stored.last() == Sequence::ZERO {
        return Err(no_document(document, &folder));
    }
    let replay_error = |source| ToolError::Replay { document: document.clone(), source };
    let limits = folder.limits.for_document();
    let mut loaded = LoadedDocument::decode(&stored, &limits).map_err(replay_error)?;
    let encode_error = |source| ToolError::Encode { document: document.clone(), source };
    let state = loaded.state().map_err(encode_error)?;
    match &args.out {
        Some(path) => replace(path, &state).map_err(file_error(path)),
        None => io::stdout().lock().write_all(&state).map_err(ToolError::Output),
    }
}

/// Adds an update to a document as a client would, or makes it the document.
///
/// # Errors
/// If the folder is in use, the document is damaged or in quarantine, or the update breaks a rule.
/// Nothing is changed then.
pub fn import(args: &ImportArgs) -> Result<(), ToolError> {
    let folder = config::folder(&args.folder)?;
    let (document, file) = (&args.doc, &args.file);
    let input_error = |source| ToolError::Input { path: file.clone(), source };
    let update = fs::read(file).map_err(input_error)?;
    let text = with_store(&folder.data, Embedded::open, |store| {
        if args.replace {
            replace_by(store, &folder, args, &update)
        } else {
            add(store, &folder, args, &update)
        }
    })?;
    writeln!(io::stdout(), "{document} {text}").map_err(ToolError::Output)
}

fn replace_by(
    store: &Embedded,
    folder: &Folder,
    ImportArgs { doc: document, file, .. }: &ImportArgs,
    update: &[u8],
) -> Result<&'static str, ToolError> {
    let limits = folder.limits.for_document();
    let mut fresh = LoadedDocument::empty(&limits);
    let import_error =
        |source| ToolError::Import { file: file.clone(), document: document.clone(), source };
    fresh.merge(update, &limits).map_err(import_error)?;
    let encode_error = |source| ToolError::Encode { document: document.clone(), source };
    let state = fresh.state().map_err(encode_error)?;
    rewrite(store, folder, document, state.into())?;
    Ok("has been replaced; clients that hold the old one start afresh")
}

fn add(
    store: &Embedded,
    folder: &Folder,
    ImportArgs { doc: document, file, .. }: &ImportArgs,
    update: &[u8],
) -> Result<&'static str, ToolError> {
    if is_held(&Quarantine::in_folder(&folder.data), document)? {
        return Err(ToolError::InQuarantine { document: document.clone() });
    }
    let limits = folder.limits.for_document();
    let load_error = |source| ToolError::Load { document: document.clone(), source };
    let stored = store.load(document, Generation::Newest).map_err(load_error)?;
    let replay_error = |source| ToolError::Replay { document: document.clone(), source };
    let mut loaded = LoadedDocument::decode(&stored, &limits).map_err(replay_error)?;
    let import_error =
        |source| ToolError::Import { file: file.clone(), document: document.clone(), source };
    match loaded.merge(update, &limits).map_err(import_error)? {
        Merged::Known => Ok("holds all of that already"),
        Merged::Changed(update) => {
            let record = Record {
                document: document.clone(),
                sequence: stored.last().next(),
                time: clock::now(),
                author: Arc::from(AUTHOR),
                update,
            };
            let write_error = |source| ToolError::Append { document: document.clone(), source };
            store.append(&[record]).map_err(write_error)?;
            Ok("has been added to")
        }
    }
}

/// Makes a document empty under a new epoch: a client that comes back with the old one is told,
/// and does not bring it to life again.
///
/// # Errors
/// If the folder is in use or there is no such document.
pub fn delete(args: &DeleteArgs) -> Result<(), ToolError> {
    let folder = config::folder(&args.folder)?;
    let document = &args.doc;
    with_store(&folder.data, Embedded::open, |store| {
        if !store.documents().iter().any(|info| info.name == *document) {
            return Err(no_document(document, &folder));
        }
        rewrite(store, &folder, document, Bytes::from_static(EMPTY))
    })?;
    writeln!(io::stdout(), "{document} has been deleted").map_err(ToolError::Output)
}

/// Begins another history. Whatever was held against the old one goes with it.
fn rewrite(
    store: &Embedded,
    folder: &Folder,
    document: &DocumentName,
    state: Bytes,
) -> Result<(), ToolError> {
    let epoch = random_epoch().map_err(ToolError::Randomness)?;
    let write_error = |source| ToolError::Snapshot { document: document.clone(), source };
    store.rewrite(document, epoch, state).map_err(write_error)?;
    Quarantine::in_folder(&folder.data).release(document)?;
    Ok(())
}

fn no_document(document: &DocumentName, folder: &Folder) -> ToolError {
    ToolError::NoDocument { document: document.clone(), data: folder.data.clone() }
}
