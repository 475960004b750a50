//! `syncline quarantine`.

use std::io::{self, Write};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use syncline_protocol::document::LoadedDocument;
use syncline_protocol::document::limits::Limits;
use syncline_protocol::document::replay::DecodeError;
use syncline_protocol::validate::ValidationError;
use syncline_protocol::{DocumentName, Sequence, Snapshot, StoredLog};

use crate::cli::args::{DataArgs, ReleaseArgs};
use crate::cli::commands::{ToolError, check_documents, with_store};
use crate::config::{self, Folder};
use crate::quarantine::{Quarantine, QuarantineState};
use crate::store::embedded::Embedded;
use crate::store::{Generation, LoadError, Store};

/// Prints a line for each document in trouble.
///
/// # Errors
/// If the list cannot be read.
pub fn list(args: &DataArgs) -> Result<(), ToolError> {
    let folder = config::folder(args)?;
    check_documents(&folder.data)?;
    let entries = Quarantine::in_folder(&folder.data).list()?;
    let mut out = io::stdout().lock();
    for entry in &entries {
        let standing = match entry.standing {
            QuarantineState::Suspect(_) => "suspect",
            QuarantineState::ReadOnly => "read-only",
            QuarantineState::Closed => "closed",
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
/// If it is not on the list; with `--accept-loss` also if the folder is in use, the document is a
/// mere suspect, a limit is what refuses it, or nothing of it can be read.
pub fn release(args: &ReleaseArgs) -> Result<(), ToolError> {
    let folder = config::folder(&args.folder)?;
    check_documents(&folder.data)?;
    let document = &args.doc;
    let quarantine = Quarantine::in_folder(&folder.data);
    let Some(entry) = quarantine.find(document)? else {
        return Err(ToolError::NotQuarantined { document: document.clone() });
    };
    let mut out = io::stdout().lock();
    if args.accept_loss {
        if matches!(entry.standing, QuarantineState::Suspect(_)) {
            return Err(ToolError::OnlySuspect { document: document.clone() });
        }
        let (kept, last) =
            with_store(&folder.data, Embedded::open, |store| accept(store, &folder, document))?;
        writeln!(out, "{document} is now what it was at update {kept} of {last}")
            .map_err(ToolError::Output)?;
    }
    quarantine.release(document)?;
    writeln!(out, "{document} is served as before").map_err(ToolError::Output)
}

/// Makes the best state that can be read the document; its position, and the last there was.
fn accept(
    store: &Embedded,
    folder: &Folder,
    document: &DocumentName,
) -> Result<(Sequence, Sequence), ToolError> {
    let limits = folder.limits.for_document();
    let Some(mut best) = best_state(store, document, &limits)? else {
        return Err(ToolError::NothingLeft { document: document.clone() });
    };
    let load_error = |source| ToolError::Load { document: document.clone(), source };
    let last = store.salvage(document).map_err(load_error)?.last;
    let encode_error = |source| ToolError::Encode { document: document.clone(), source };
    let state: Bytes = best.state().map_err(encode_error)?.into();
    // It takes the place of everything, so it has to be one that can be read.
    let kept = Snapshot { through: best.last(), state: state.clone() };
    let alone = StoredLog { snapshot: Some(kept), ..StoredLog::default() };
    let replay_error = |source| ToolError::Replay { document: document.clone(), source };
    LoadedDocument::decode(&alone, &limits).map_err(replay_error)?;
    let write_error = |source| ToolError::Snapshot { document: document.clone(), source };
    // The same epoch: a client that still holds what was lost brings it back.
    store.rewrite(document, best.epoch(), state).map_err(write_error)?;
    Ok((best.last(), last))
}

/// The state that reaches furthest: the newest snapshot and what follows, or the one before it,
/// each of them whole, or what can be salvaged. None: there is not even a beginning.
fn best_state(
    store: &Embedded,
    document: &DocumentName,
    limits: &Limits,
) -> Result<Option<LoadedDocument>, ToolError> {
    let load_error = |source| ToolError::Load { document: document.clone(), source };
    let salvaged = store.salvage(document).map_err(load_error)?;
    let mut best: Option<LoadedDocument> = None;
    let mut refused = None;
    let mut offer = |loaded: LoadedDocument| {
        let furthest = best.as_ref().map_or(Sequence::ZERO, LoadedDocument::last);
        if loaded.last() > furthest {
            best = Some(loaded);
        }
    };
    for generation in [Generation::Newest, Generation::Previous] {
        match store.load(document, generation) {
            Ok(stored) => match LoadedDocument::decode(&stored, limits) {
                Ok(loaded) if loaded.last() >= salvaged.last => return Ok(Some(loaded)),
                Ok(loaded) => offer(loaded),
                Err(error) => refused = refused.or(limit(error)),
            },
            Err(LoadError::Damaged { .. } | LoadError::NoPrevious { .. }) => {}
            Err(source @ LoadError::Io { .. }) => return Err(load_error(source)),
        }
    }
    let (loaded, error) = LoadedDocument::salvage(&salvaged.log, limits);
    offer(loaded);
    // Under the server's own limits more of it may be good, or all.
    match refused.or(error.and_then(limit)) {
        Some(source) => Err(ToolError::Limit { document: document.clone(), source }),
        None => Ok(best),
    }
}

/// The error, if it says more of the limits than of what is stored.
fn limit(error: DecodeError) -> Option<DecodeError> {
    let limited = match &error {
        DecodeError::Invalid { error, .. } => {
            error.is_budget() || matches!(error, ValidationError::SubdocumentRefused { .. })
        }
        DecodeError::Incomplete { .. }
        | DecodeError::OutOfOrder { .. }
        | DecodeError::Apply { .. } => false,
    };
    limited.then_some(error)
}

/// Whether a document may not be changed.
pub(super) fn is_held(quarantine: &Quarantine, document: &DocumentName) -> Result<bool, ToolError> {
    Ok(match quarantine.find(document)?.map(|entry| entry.standing) {
        Some(QuarantineState::ReadOnly | QuarantineState::Closed) => true,
        Some(QuarantineState::Suspect(_)) | None => false,
    })
}
