//! What the process is doing to which document, in a file that outlives it.
//!
//! A panic stays inside its document. What ends the process at once does not: a stack that
//! overflows, memory that runs out, an abort. The next process reads here what was under way, so
//! that a document which ends the process again and again is told from one that was busy when the
//! machine stopped.
//!
//! Only steps that a crash loop must pass are noted: the loading of a document, and the first sync
//! of each session, which is where a client brings back what it could not save. Typing costs
//! nothing. The file is written without a sync: it need not survive a power cut, which no document
//! causes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use syncline_protocol::DocumentName;

use crate::quarantine::CrashSite;

const FILE: &str = "in-flight";

/// One note fits: the longest name, escaped, and the beginning of an author.
const SLOT_BYTES: usize = 2048;

/// Steps that are noted at a time. More than threads that could be inside one.
const SLOTS: u16 = 128;

/// Characters of an author that are noted.
const AUTHOR_CHARS: usize = 64;

/// The notes.
#[derive(Debug)]
pub(crate) struct CrashMarkers {
    /// None: nothing is kept on disk, so nothing would be found.
    file: Option<File>,
    free: Mutex<Vec<u16>>,
}

/// A noted step; the note is wiped out when this is dropped.
#[derive(Debug)]
#[must_use = "the note lasts as long as this"]
pub(crate) struct CrashMarker<'a> {
    notes: &'a CrashMarkers,
    slot: u16,
}

#[derive(Serialize, Deserialize)]
struct Note {
    document: String,
    #[serde(flatten)]
    step: CrashSite,
}

impl CrashMarkers {
    /// What the process before this one left in the data folder.
    pub(crate) fn left(data: &Path) -> io::Result<Vec<(DocumentName, CrashSite)>> {
        match std::fs::read(data.join(FILE)) {
            Ok(notes) => Ok(notes.chunks(SLOT_BYTES).filter_map(interrupted).collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Empty notes in the data folder. Overwritten in place and reserved in full, so that a full
    /// disk keeps no note from being written.
    pub(crate) fn open(data: &Path) -> io::Result<Self> {
        let path = data.join(FILE);
        let file = File::options().write(true).create(true).truncate(false).open(path)?;
        file.write_all_at(&vec![0; SLOT_BYTES * usize::from(SLOTS)], 0)?;
        Ok(Self { file: Some(file), free: Mutex::new((0..SLOTS).collect()) })
    }

    /// For a server that keeps nothing on disk.
    pub(crate) fn none() -> Self {
        Self { file: None, free: Mutex::default() }
    }

    /// Notes that `step` begins. None if there is nowhere to note it, which changes nothing else.
    pub(crate) fn mark(
        &self,
        document: &DocumentName,
        step: &CrashSite,
    ) -> Option<CrashMarker<'_>> {
        let file = self.file.as_ref()?;
        let note = Note { document: document.as_str().to_owned(), step: step.clone() };
        let note = serde_json::to_vec(&note).ok().filter(|note| note.len() < SLOT_BYTES)?;
        let slot = self.free().pop()?;
        let mark = CrashMarker { notes: self, slot };
        file.write_all_at(&note, offset(slot)).ok()?;
        Some(mark)
    }

    fn free(&self) -> std::sync::MutexGuard<'_, Vec<u16>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for CrashMarker<'_> {
    fn drop(&mut self) {
        let wiped = self.notes.file.as_ref().map(|file| file.write_all_at(&[0], offset(self.slot)));
        // A slot that cannot be wiped is not used again.
        if matches!(wiped, Some(Ok(()))) {
            self.notes.free().push(self.slot);
        }
    }
}

/// The step of applying `update`, which `author` sent first.
pub(crate) fn first_sync(author: &str, update: &[u8]) -> CrashSite {
    let author = author.chars().take(AUTHOR_CHARS).collect();
    CrashSite::FirstSync { author, crc: crc32c::crc32c(update) }
}

fn offset(slot: u16) -> u64 {
    u64::from(slot) * SLOT_BYTES as u64
}

/// A note ends where another one that was longer goes on, or in zeros.
fn interrupted(slot: &[u8]) -> Option<(DocumentName, CrashSite)> {
    let note = serde_json::Deserializer::from_slice(slot).into_iter::<Note>().next()?.ok()?;
    Some((note.document.parse().ok()?, note.step))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> DocumentName {
        text.parse().unwrap()
    }

    #[test]
    fn trouble_1_what_was_under_way_is_found_after_the_process() {
        let data = tempfile::tempdir().unwrap();
        assert_eq!(CrashMarkers::left(data.path()).unwrap(), []);
        let notes = CrashMarkers::open(data.path()).unwrap();
        let long = notes.mark(&name("a/long name of a document"), &CrashSite::Load);
        drop(long);
        let ended = notes.mark(&name("done"), &first_sync("ada", b"update"));
        let bob = first_sync("bob", b"update");
        let open = notes.mark(&name("b"), &bob);
        drop(ended);
        // What a killed process leaves: nothing is wiped.
        std::mem::forget(open);
        assert_eq!(CrashMarkers::left(data.path()).unwrap(), [(name("b"), bob)]);
        CrashMarkers::open(data.path()).unwrap();
        assert_eq!(CrashMarkers::left(data.path()).unwrap(), [], "told once");
    }

    #[test]
    fn trouble_1_notes_are_bounded_and_running_out_changes_nothing() {
        let data = tempfile::tempdir().unwrap();
        let notes = CrashMarkers::open(data.path()).unwrap();
        let name = name("a");
        let marks: Vec<_> =
            (0..SLOTS).map(|_| notes.mark(&name, &CrashSite::Load).unwrap()).collect();
        assert!(notes.mark(&name, &CrashSite::Load).is_none());
        drop(marks);
        assert!(notes.mark(&name, &CrashSite::Load).is_some());
        let bytes = std::fs::metadata(data.path().join(FILE)).unwrap().len();
        assert_eq!(bytes, u64::from(SLOTS) * SLOT_BYTES as u64);
    }

    #[test]
    fn trouble_1_names_and_authors_of_every_kind_fit() {
        let data = tempfile::tempdir().unwrap();
        let notes = CrashMarkers::open(data.path()).unwrap();
        let longest = name(&"\"\\".repeat(127));
        let step = first_sync(&"\u{1}\u{10ffff}".repeat(1000), b"update");
        std::mem::forget(notes.mark(&longest, &step).unwrap());
        assert_eq!(CrashMarkers::left(data.path()).unwrap(), [(longest, step)]);
    }
}
