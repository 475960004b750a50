//! `syncline verify`.

use std::io::{self, Write};

use syncline_protocol::document::{LoadedDocument, compare};
use syncline_protocol::{DocumentName, StoredLog};

use crate::cli::args::VerifyArgs;
use crate::cli::commands::progress::bar;
use crate::cli::commands::{ToolError, read};
use crate::config;
use crate::config::limits::Limits;
use crate::quarantine::{Quarantine, QuarantineState};
use crate::store::{Generation, JournalReader, LoadError};

/// Reads everything, replays every document from each of its snapshots, and prints what is wrong.
///
/// # Errors
/// [`ToolError::Damaged`] if anything is; also if there is no such document.
pub fn verify(args: &VerifyArgs) -> Result<(), ToolError> {
    let folder = config::folder(&args.folder)?;
    let mut reader = read(&folder.data)?;
    let quarantine = Quarantine::in_folder(&folder.data);
    let mut problems: Vec<String> = Vec::new();
    let documents = match &args.doc {
        Some(document) => {
            if !reader.names().contains(document) && quarantine.find(document)?.is_none() {
                let (document, data) = (document.clone(), folder.data);
                return Err(ToolError::NoDocument { document, data });
            }
            vec![document.clone()]
        }
        None => {
            problems.extend(reader.damage().iter().map(ToString::to_string));
            reader.names()
        }
    };
    let bar = bar(documents.len(), "Verifying");
    for document in &documents {
        let found = problems_of(&mut reader, document, &folder.limits);
        problems.extend(found.into_iter().map(|problem| format!("{document}: {problem}")));
        bar.inc(1);
    }
    bar.finish_and_clear();
    for entry in quarantine.list()? {
        let named = args.doc.as_ref().is_none_or(|document| *document == entry.document);
        if named && !matches!(entry.standing, QuarantineState::Suspect(_)) {
            problems.push(format!("{} is in quarantine: {}", entry.document, entry.cause));
        }
    }
    let mut out = io::stdout().lock();
    for problem in &problems {
        writeln!(out, "{problem}").map_err(ToolError::Output)?;
    }
    let (count, problems) = (documents.len(), problems.len());
    writeln!(out, "{count} documents read, {problems} problems").map_err(ToolError::Output)?;
    if problems == 0 { Ok(()) } else { Err(ToolError::Damaged { problems, data: folder.data }) }
}

/// What keeps a document from being what was acknowledged.
fn problems_of(
    reader: &mut JournalReader,
    document: &DocumentName,
    limits: &Limits,
) -> Vec<String> {
    let limits = limits.for_document();
    let newest = match reader.load(document, Generation::Newest) {
        Ok(newest) => newest,
        Err(error) => return vec![error.to_string()],
    };
    let mut problems = Vec::new();
    if let Err(error) = LoadedDocument::decode(&newest, &limits) {
        problems.push(error.to_string());
    }
    let Some(snapshot) = newest.snapshot else { return problems };
    let alone = StoredLog { snapshot: Some(snapshot.clone()), ..StoredLog::default() };
    let known = match LoadedDocument::decode(&alone, &limits) {
        Ok(loaded) => loaded.state_vector().clone(),
        Err(error) => {
            problems.push(format!("its newest snapshot: {error}"));
            return problems;
        }
    };
    // The log that the snapshot covers is still there: it must say the same.
    match reader.load(document, Generation::Previous) {
        Ok(previous) => {
            if let Err(error) = compare(&snapshot, &known, &previous, &limits) {
                problems.push(format!("its newest snapshot and the log before it differ: {error}"));
            }
        }
        Err(LoadError::NoPrevious { .. }) => {}
        Err(error) => problems.push(format!("what its newest snapshot was made of: {error}")),
    }
    problems
}
