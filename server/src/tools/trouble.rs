//! `syncline quarantine`.

use std::io::{self, Write};
use std::time::{Duration, UNIX_EPOCH};

use syncline_protocol::document::LoadedDocument;

use super::ToolError;
use crate::args::{DataArgs, ReleaseArgs};
use crate::config;
use crate::quarantine::{Quarantine, Standing};
use crate::store::Store;
use crate::store::embedded::{Embedded, EmbeddedOptions};

/// Prints a line for each document in trouble.
///
/// # Errors
/// If the list cannot be read.
pub fn list(args: &DataArgs) -> Result<(), ToolError> {
    let folder = config::folder(args)?;
    let entries = Quarantine::in_folder(&folder.data).list()?;
    let mut out = io::stdout().lock();
    for entry in &entries {
        let standing = match entry.standing {
            Standing::Suspect(_) => "suspect",
            Standing::ReadOnly => "read-only",
            Standing::Closed => "closed",
        };
        let since = UNIX_EPOCH + Duration::from_millis(entry.since.as_unix_ms());
        let since = humantime::format_rfc3339_seconds(since);
        let (document, cause) = (&entry.document, &entry.cause);
        writeln!(out, "{standing:<9} {since} {document}: {cause}").map_err(ToolError::Output)?;
    }
    if entries.is_empty() {
        writeln!(out, "no document is in quarantine").map_err(ToolError::Output)?;
    }
    Ok(())
}

/// Takes a document off the list. A server that runs serves it as before within seconds.
///
/// # Errors
/// If it is not on the list; with `--accept-loss` also if the folder is in use or nothing of the
/// document can be read.
pub fn release(args: &ReleaseArgs) -> Result<(), ToolError> {
    let folder = config::folder(&args.folder)?;
    let document = &args.doc;
    let quarantine = Quarantine::in_folder(&folder.data);
    if quarantine.find(document)?.is_none() {
        return Err(ToolError::NotQuarantined { document: document.clone() });
    }
    let mut out = io::stdout().lock();
    if args.accept_loss {
        let store = Embedded::open(EmbeddedOptions::new(&folder.data))?;
        let load_error = |source| ToolError::Load { document: document.clone(), source };
        let salvaged = store.salvage(document).map_err(load_error)?;
        let (mut good, _) = LoadedDocument::salvage(&salvaged.log, &folder.limits.for_document());
        let (kept, last) = (good.last(), salvaged.last);
        let encode_error = |source| ToolError::Encode { document: document.clone(), source };
        let state = good.state().map_err(encode_error)?;
        let write_error = |source| ToolError::Snapshot { document: document.clone(), source };
        // The same epoch: a client that still holds what was lost brings it back.
        store.rewrite(document, salvaged.log.epoch, state.into()).map_err(write_error)?;
        writeln!(out, "{document} is now what it was at update {kept} of {last}")
            .map_err(ToolError::Output)?;
    }
    quarantine.release(document)?;
    writeln!(out, "{document} is served as before").map_err(ToolError::Output)
}
