//! `syncline backup` and `syncline restore`.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use syncline_protocol::DocumentName;

use crate::cli::args::{BackupArgs, RestoreArgs};
use crate::cli::commands::progress::bar;
use crate::cli::commands::{ToolError, file_error, read};
use crate::clock;
use crate::config;
use crate::store::atomic_file::sync_parent;
use crate::store::backup::{Archived, BackupError, BackupReader, BackupWriter, Count};
use crate::store::embedded::restore::Restore;
use crate::store::{Damage, Generation, JournalReader, LoadError, random_epoch};

/// Buffer of the file.
const BUFFER_BYTES: usize = 1 << 20;

/// Writes every document into one file. Whatever was acknowledged before this began is in it, as far
/// as it can be read.
///
/// # Errors
/// If the file cannot be written: there is none then. If something cannot be read, the file holds
/// all the rest, and [`ToolError::Incomplete`] says so.
pub fn backup(args: &BackupArgs) -> Result<(), ToolError> {
    let folder = config::folder(&args.folder)?;
    let path = &args.file;
    let piped = path.as_os_str() == "-";
    if !piped && path.exists() {
        return Err(ToolError::Exists { path: path.clone() });
    }
    let mut reader = read(&folder.data)?;
    let (count, problems) = if piped {
        let out = BufWriter::with_capacity(BUFFER_BYTES, io::stdout().lock());
        let Written { count, problems, .. } = write(&mut reader, out, path)?;
        (count, problems)
    } else {
        let mut partial = path.clone().into_os_string();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let result = write_file(&mut reader, &partial, path);
        if result.is_err() {
            // It may not have come into being.
            drop(fs::remove_file(&partial));
        }
        result?
    };
    for problem in &problems {
        writeln!(io::stderr(), "not in the backup: {problem}").map_err(ToolError::Output)?;
    }
    said(count, path)?;
    let problems = problems.len();
    if problems == 0 { Ok(()) } else { Err(ToolError::Incomplete { problems }) }
}

/// A backup that has been written.
struct Written<W> {
    out: W,
    count: Count,
    /// What is not in it.
    problems: Vec<String>,
}

fn write_file(
    reader: &mut JournalReader,
    partial: &Path,
    path: &Path,
) -> Result<(Count, Vec<String>), ToolError> {
    let file = File::create(partial).map_err(file_error(partial))?;
    let out = BufWriter::with_capacity(BUFFER_BYTES, file);
    let Written { out, count, problems } = write(reader, out, path)?;
    let file = out.into_inner().map_err(|error| file_error(partial)(error.into_error()))?;
    file.sync_all()
        .and_then(|()| fs::rename(partial, path))
        .and_then(|()| sync_parent(path))
        .map_err(file_error(path))?;
    Ok((count, problems))
}

fn write<W: Write>(
    reader: &mut JournalReader,
    out: W,
    path: &Path,
) -> Result<Written<W>, ToolError> {
    let mut writer =
        BackupWriter::new(out, reader.epoch(), clock::now()).map_err(file_error(path))?;
    let documents = reader.names();
    let bar = bar(documents.len(), "Backing up");
    let mut problems = Vec::new();
    for document in documents {
        match reader.load(&document, Generation::Newest) {
            Ok(log) => writer.document(&Archived { document, log }).map_err(file_error(path))?,
            Err(error) => problems.push(unread(&document, &error)),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    problems.extend(reader.damage().iter().filter(|damage| is_loss(damage)).map(Damage::to_string));
    let (out, count) = writer.finish().map_err(file_error(path))?;
    Ok(Written { out, count, problems })
}

/// Why a document is left out, the system's words included.
fn unread(document: &DocumentName, error: &LoadError) -> String {
    match error {
        LoadError::Io { source } => format!("{document}: {error}: {source}"),
        LoadError::Damaged { .. } | LoadError::NoPrevious { .. } => format!("{document}: {error}"),
    }
}

/// Whether updates may be missing of which no document knows. A damaged record that says whose it
/// was is looked for when that document is read.
fn is_loss(damage: &Damage) -> bool {
    match damage {
        Damage::Headers { .. }
        | Damage::Shortened { .. }
        | Damage::Record { suspect: None, .. } => true,
        Damage::Record { suspect: Some(_), .. } | Damage::Document { .. } => false,
    }
}

/// On standard error: standard output may be the backup.
fn said(count: Count, path: &Path) -> Result<(), ToolError> {
    let Count { documents, updates } = count;
    let path = path.display();
    writeln!(io::stderr(), "{path}: {documents} documents, {updates} updates after their snapshots")
        .map_err(ToolError::Output)
}

/// Fills an empty folder from a backup.
///
/// # Errors
/// If the folder is not empty, or the backup is cut or damaged anywhere: it is read to its end
/// before anything is written.
pub fn restore(args: &RestoreArgs) -> Result<(), ToolError> {
    let folder = config::folder(&args.folder)?;
    let data = &folder.data;
    if fs::read_dir(data).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(ToolError::NotEmpty { data: data.clone() });
    }
    let backup_error = |source| ToolError::Backup { path: args.file.clone(), source };
    let count = check(&args.file).map_err(backup_error)?;
    let mut reader = open(&args.file).map_err(backup_error)?;
    let kept = reader.epoch();
    let fresh =
        if args.new_epoch { Some(random_epoch().map_err(ToolError::Randomness)?) } else { None };
    let restore = Restore::begin(data, fresh.unwrap_or(kept))?;
    let bar = bar(usize::try_from(count.documents).unwrap_or(usize::MAX), "Restoring");
    while let Some(mut archived) = reader.next_document().map_err(backup_error)? {
        archived.log.epoch = fresh.unwrap_or(archived.log.epoch);
        let Archived { document, log } = archived;
        restore.put(&document, &log).map_err(|source| ToolError::Append { document, source })?;
        bar.inc(1);
    }
    let restore_error = |source| ToolError::Restore { data: data.clone(), source };
    restore.finish().map_err(restore_error)?;
    bar.finish_and_clear();
    said(count, data)
}

fn open(path: &Path) -> Result<BackupReader<BufReader<File>>, BackupError> {
    BackupReader::new(BufReader::with_capacity(BUFFER_BYTES, File::open(path)?))
}

/// Reads a backup to its end.
fn check(path: &Path) -> Result<Count, BackupError> {
    let mut reader = open(path)?;
    while reader.next_document()?.is_some() {}
    Ok(reader.count())
}
