//! Documents in trouble: which ones, since when, and why.
//!
//! One small file for each in `quarantine/` of the data folder. It is read whenever its document
//! is opened and nothing is remembered, so `syncline quarantine release` needs neither a running
//! server nor a stopped one.

pub(crate) mod crash_marker;
pub mod recovery;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use syncline_protocol::{DocumentName, Millis, Timestamp};
use thiserror::Error;

use crate::store::atomic_file::{remove, replace};

const FOLDER: &str = "quarantine";
const SUFFIX: &str = ".json";

/// Bytes of a name that its file shows; the rest is in the file.
const NAME_BYTES_SHOWN: usize = 100;

/// A second end of the process within this time of the first is no accident.
const SUSPICION: Millis = Millis::from_secs(600);

/// How a document in trouble is treated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuarantineState {
    /// The process ended while it did this, once. The document is served like any other.
    Suspect(CrashSite),
    /// It is shown as it was when all was well, and takes no changes.
    ReadOnly,
    /// Even reading it ended the process. Nobody is let in.
    Closed,
}

/// A step that the process did not survive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum CrashSite {
    /// Its log was read and replayed.
    Load,
    /// A session's first SyncStep2 was applied.
    FirstSync {
        /// The beginning of the identity that sent it; empty when it had none, or several had sent
        /// something.
        author: String,
        /// CRC-32C of what was sent.
        crc: u32,
    },
}

impl CrashSite {
    /// Whether both may have the same cause. A client that goes on typing sends the same poison in
    /// other bytes.
    fn resembles(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Load, Self::Load) => true,
            (Self::FirstSync { author: one, .. }, Self::FirstSync { author: other, .. }) => {
                one == other
            }
            (Self::Load, Self::FirstSync { .. }) | (Self::FirstSync { .. }, Self::Load) => false,
        }
    }
}

/// A document in trouble.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The document.
    pub document: DocumentName,
    /// How it is treated.
    pub standing: QuarantineState,
    /// Since when.
    pub since: Timestamp,
    /// Why, in a sentence for its operator.
    pub cause: String,
}

/// Why the list of documents in trouble cannot be read or changed.
#[derive(Debug, Error)]
#[error("cannot use {}", .path.display())]
pub struct QuarantineError {
    /// The file or folder.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// The documents in trouble.
#[derive(Debug)]
pub struct Quarantine(Place);

#[derive(Debug)]
enum Place {
    Folder(PathBuf),
    /// Of a server that keeps nothing on disk.
    Memory(Mutex<BTreeMap<DocumentName, Entry>>),
}

impl Quarantine {
    /// The list in a data folder. Nothing is created before there is something to write.
    #[must_use]
    pub fn in_folder(data: &Path) -> Self {
        Self(Place::Folder(data.join(FOLDER)))
    }

    /// A list that ends with the process.
    #[must_use]
    pub fn in_memory() -> Self {
        Self(Place::Memory(Mutex::default()))
    }

    /// What is held against `document`, if anything.
    ///
    /// # Errors
    /// If its file is there and cannot be read.
    pub fn find(&self, document: &DocumentName) -> Result<Option<Entry>, QuarantineError> {
        match &self.0 {
            // Two long names could share a file.
            Place::Folder(folder) => {
                Ok(read(&file(folder, document))?.filter(|entry| entry.document == *document))
            }
            Place::Memory(entries) => Ok(lock(entries).get(document).cloned()),
        }
    }

    /// Puts a document on the list, or changes how it stands.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn put(&self, entry: &Entry) -> Result<(), QuarantineError> {
        match &self.0 {
            Place::Folder(folder) => {
                let path = file(folder, &entry.document);
                let written = fs::create_dir_all(folder)
                    .and_then(|()| {
                        serde_json::to_vec_pretty(&Stored::of(entry)).map_err(From::from)
                    })
                    .and_then(|text| replace(&path, &text));
                written.map_err(|source| QuarantineError { path, source })
            }
            Place::Memory(entries) => {
                lock(entries).insert(entry.document.clone(), entry.clone());
                Ok(())
            }
        }
    }

    /// Takes a document off the list; what was held against it, if anything was.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn release(&self, document: &DocumentName) -> Result<Option<Entry>, QuarantineError> {
        match &self.0 {
            Place::Folder(folder) => {
                let path = file(folder, document);
                let entry = read(&path)?;
                remove(&path).map_err(|source| QuarantineError { path, source })?;
                Ok(entry)
            }
            Place::Memory(entries) => Ok(lock(entries).remove(document)),
        }
    }

    /// Takes note that the process before this one ended in the middle of something.
    ///
    /// Once may be chance: the machine stopped, or somebody killed the process. Twice with the same
    /// author is a poisoned update that its client sends again and again, so the document takes no
    /// changes until somebody has looked. A document that even a reading ended the process for is
    /// closed.
    ///
    /// # Errors
    /// If the list cannot be read or changed.
    pub fn interrupted(
        &self,
        document: DocumentName,
        step: CrashSite,
        now: Timestamp,
    ) -> Result<(), QuarantineError> {
        let before = self.find(&document)?;
        let (standing, cause) = match (before.map(|entry| (entry.standing, entry.since)), step) {
            (Some((QuarantineState::Closed, _)), _) => return Ok(()),
            (Some((QuarantineState::ReadOnly, _)), CrashSite::Load) => {
                (QuarantineState::Closed, "the process ended while it was read".to_owned())
            }
            (Some((QuarantineState::ReadOnly, _)), CrashSite::FirstSync { .. }) => return Ok(()),
            (Some((QuarantineState::Suspect(earlier), since)), step)
                if earlier.resembles(&step) && now - since < SUSPICION =>
            {
                match step {
                    CrashSite::Load => (
                        QuarantineState::Closed,
                        "the process ended twice while it was read".to_owned(),
                    ),
                    CrashSite::FirstSync { author, .. } => {
                        let cause = format!(
                            "the process ended twice while it took over what {author:?} had written"
                        );
                        (QuarantineState::ReadOnly, cause)
                    }
                }
            }
            (_, step) => {
                (QuarantineState::Suspect(step), "the process ended while it was in use".to_owned())
            }
        };
        self.put(&Entry { document, standing, since: now, cause })
    }

    /// Every document in trouble, ordered by name.
    ///
    /// # Errors
    /// If the list cannot be read.
    pub fn list(&self) -> Result<Vec<Entry>, QuarantineError> {
        let folder = match &self.0 {
            Place::Folder(folder) => folder,
            Place::Memory(entries) => return Ok(lock(entries).values().cloned().collect()),
        };
        let io_error = |source| QuarantineError { path: folder.clone(), source };
        let files = match fs::read_dir(folder) {
            Ok(files) => files,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(io_error(error)),
        };
        let mut entries = Vec::new();
        for file in files {
            let path = file.map_err(io_error)?.path();
            if path.to_str().is_some_and(|path| path.ends_with(SUFFIX)) {
                entries.extend(read(&path)?);
            }
        }
        entries.sort_by(|a, b| a.document.cmp(&b.document));
        Ok(entries)
    }
}

/// An entry as it is written.
#[derive(Serialize, Deserialize)]
struct Stored {
    document: String,
    standing: QuarantineState,
    since_unix_ms: u64,
    cause: String,
}

impl Stored {
    fn of(entry: &Entry) -> Self {
        Self {
            document: entry.document.as_str().to_owned(),
            standing: entry.standing.clone(),
            since_unix_ms: entry.since.as_unix_ms(),
            cause: entry.cause.clone(),
        }
    }
}

fn read(path: &Path) -> Result<Option<Entry>, QuarantineError> {
    let error = |source| QuarantineError { path: path.to_owned(), source };
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(error(source)),
    };
    let stored: Stored = serde_json::from_slice(&text).map_err(|bad| error(bad.into()))?;
    let document = stored.document.parse();
    Ok(Some(Entry {
        document: document.map_err(|bad| error(io::Error::new(io::ErrorKind::InvalidData, bad)))?,
        standing: stored.standing,
        since: Timestamp::from_unix_ms(stored.since_unix_ms),
        cause: stored.cause,
    }))
}

/// Named by the bytes of the document's name, so that no name can leave the folder. A checksum
/// tells long ones apart.
fn file(folder: &Path, document: &DocumentName) -> PathBuf {
    let name = document.as_str().as_bytes();
    let mut text: String =
        name.iter().take(NAME_BYTES_SHOWN).map(|byte| format!("{byte:02x}")).collect();
    if name.len() > NAME_BYTES_SHOWN {
        text.push_str(&format!("-{:08x}", crc32c::crc32c(name)));
    }
    text.push_str(SUFFIX);
    folder.join(text)
}

/// Every change is made as a whole, so a panic elsewhere leaves the map usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> DocumentName {
        text.parse().unwrap()
    }

    fn entry(document: &str) -> Entry {
        Entry {
            document: name(document),
            standing: QuarantineState::ReadOnly,
            since: Timestamp::from_unix_ms(1_700_000_000_000),
            cause: "a \"cause\"\nof two lines".to_owned(),
        }
    }

    fn both(test: impl Fn(&Quarantine)) {
        let data = tempfile::tempdir().unwrap();
        test(&Quarantine::in_folder(data.path()));
        test(&Quarantine::in_memory());
    }

    #[test]
    fn trouble_2_what_is_put_is_found_listed_and_released() {
        both(|quarantine| {
            let long = "x".repeat(200);
            let names = ["b", "notes/today", "ünï", &long];
            assert_eq!(quarantine.list().unwrap(), []);
            for name in &names {
                quarantine.put(&entry(name)).unwrap();
            }
            assert_eq!(quarantine.find(&name("b")).unwrap(), Some(entry("b")));
            assert_eq!(quarantine.find(&name(&"x".repeat(199))).unwrap(), None);
            assert_eq!(quarantine.list().unwrap().len(), names.len());
            assert_eq!(quarantine.release(&name("b")).unwrap(), Some(entry("b")));
            assert_eq!(quarantine.release(&name("b")).unwrap(), None);
            assert_eq!(quarantine.find(&name("b")).unwrap(), None);
        });
    }

    #[test]
    fn trouble_3_once_is_chance_and_twice_is_not() {
        let at = |seconds: u64| Timestamp::from_unix_ms(1_700_000_000_000 + seconds * 1000);
        let sync = |author: &str| CrashSite::FirstSync { author: author.to_owned(), crc: 7 };
        both(|quarantine| {
            let (a, b) = (name("a"), name("b"));
            let standing = |name: &DocumentName| quarantine.find(name).unwrap().unwrap().standing;
            quarantine.interrupted(a.clone(), sync("ada"), at(0)).unwrap();
            assert_eq!(standing(&a), QuarantineState::Suspect(sync("ada")));
            quarantine.interrupted(a.clone(), sync("bob"), at(5)).unwrap();
            assert_eq!(standing(&a), QuarantineState::Suspect(sync("bob")), "somebody else");
            quarantine.interrupted(a.clone(), sync("bob"), at(700)).unwrap();
            assert_eq!(standing(&a), QuarantineState::Suspect(sync("bob")), "long ago");
            quarantine.interrupted(a.clone(), sync("bob"), at(710)).unwrap();
            assert_eq!(standing(&a), QuarantineState::ReadOnly);
            quarantine.interrupted(a.clone(), sync("bob"), at(711)).unwrap();
            assert_eq!(standing(&a), QuarantineState::ReadOnly);
            quarantine.interrupted(a.clone(), CrashSite::Load, at(712)).unwrap();
            assert_eq!(standing(&a), QuarantineState::Closed);
            quarantine.interrupted(b.clone(), CrashSite::Load, at(0)).unwrap();
            quarantine.interrupted(b.clone(), CrashSite::Load, at(1)).unwrap();
            assert_eq!(standing(&b), QuarantineState::Closed);
        });
    }

    #[test]
    fn trouble_2_a_damaged_file_is_an_error_that_names_it() {
        let data = tempfile::tempdir().unwrap();
        let quarantine = Quarantine::in_folder(data.path());
        quarantine.put(&entry("b")).unwrap();
        let path = file(&data.path().join(FOLDER), &name("b"));
        fs::write(&path, "{").unwrap();
        let error = quarantine.find(&name("b")).unwrap_err();
        assert_eq!(error.path, path);
    }
}
