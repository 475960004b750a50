//! `syncline backup` and `syncline restore`.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::progress::bar;
use super::{ToolError, file_error};
use crate::args::{BackupArgs, RestoreArgs};
use crate::backup::{Archived, BackupError, BackupReader, BackupWriter, Count};
use crate::clock;
use crate::config;
use crate::replace::sync_parent;
use crate::store::JournalReader;
use crate::store::embedded::Embedded;
use crate::store::restore::Restore;
use crate::store::{Generation, random_epoch};

/// Buffer of the file.
const BUFFER_BYTES: usize = 1 << 20;

/// Writes every document into one file. Whatever was acknowledged before this began is in it.
///
/// # Errors
/// If a document cannot be read, or the file cannot be written. There is no file then.
pub fn backup(args: &BackupArgs) -> Result<(), ToolError> {
    let folder = config::folder(&args.folder)?;
    let mut reader = Embedded::read(&folder.data)?;
    if args.file.as_os_str() == "-" {
        let out = io::stdout().lock();
        let (_, count) =
            write(&mut reader, BufWriter::with_capacity(BUFFER_BYTES, out), &args.file)?;
        return said(count, &args.file);
    }
    if args.file.exists() {
        let taken = io::Error::from(io::ErrorKind::AlreadyExists);
        return Err(file_error(&args.file)(taken));
    }
    let mut partial = args.file.clone().into_os_string();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let result = write_file(&mut reader, &partial, &args.file);
    if result.is_err() {
        // It may not have come into being.
        drop(fs::remove_file(&partial));
    }
    said(result?, &args.file)
}

fn write_file(reader: &mut JournalReader, partial: &Path, path: &Path) -> Result<Count, ToolError> {
    let file = File::create(partial).map_err(file_error(partial))?;
    let out = BufWriter::with_capacity(BUFFER_BYTES, file);
    let (out, count) = write(reader, out, path)?;
    let file = out.into_inner().map_err(|error| file_error(partial)(error.into_error()))?;
    file.sync_all()
        .and_then(|()| fs::rename(partial, path))
        .and_then(|()| sync_parent(path))
        .map_err(file_error(path))?;
    Ok(count)
}

fn write<W: Write>(
    reader: &mut JournalReader,
    out: W,
    path: &Path,
) -> Result<(W, Count), ToolError> {
    let mut writer =
        BackupWriter::new(out, reader.epoch(), clock::now()).map_err(file_error(path))?;
    let documents = reader.names();
    let bar = bar(documents.len(), "Backing up");
    for document in documents {
        let log = match reader.load(&document, Generation::Newest) {
            Ok(log) => log,
            Err(source) => return Err(ToolError::Load { document, source }),
        };
        writer.document(&Archived { document, log }).map_err(file_error(path))?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    writer.finish().map_err(file_error(path))
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
