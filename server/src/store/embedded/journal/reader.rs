//! Reads a journal without holding it: nothing is locked, mended or written, and a server may be
//! running on it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use syncline_protocol::{DocumentName, Epoch, StoredLog};

use crate::store::embedded::journal::damage::{Damage, TornTail};
use crate::store::embedded::journal::end::End;
use crate::store::embedded::journal::files::Files;
use crate::store::embedded::journal::index::Index;
use crate::store::embedded::journal::recover::{
    check_epoch, index_segment, is_room, list, may_be_unborn, missing, recorded_end, tail,
};
use crate::store::embedded::journal::segment::{self, Segment};
use crate::store::{DocumentInfo, Generation, LoadError, OpenError, Salvaged};

/// How often reading begins anew because a file was deleted meanwhile.
const TRIES: usize = 10;

/// A journal as it was at one moment, and what is wrong with it.
#[derive(Debug)]
pub struct JournalReader {
    folder: PathBuf,
    seen: Seen,
}

#[derive(Debug)]
struct Seen {
    index: Index,
    damage: Vec<Damage>,
    torn_tail: Option<TornTail>,
}

impl JournalReader {
    /// Reads the journal in the folder `data` once, in full.
    pub(crate) fn open(data: &Path) -> Result<Self, OpenError> {
        let folder = data.join("journal");
        let seen = look(&folder)?;
        Ok(Self { folder, seen })
    }

    /// The identity of every history here that was never replaced.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.seen.index.epoch()
    }

    /// Every name of which anything is stored, deleted documents included, in order.
    #[must_use]
    pub fn names(&self) -> Vec<DocumentName> {
        self.seen.index.names()
    }

    /// Every document, ordered by name.
    #[must_use]
    pub fn documents(&self) -> Vec<DocumentInfo> {
        self.seen.index.infos()
    }

    /// Everything that is not as it was written.
    #[must_use]
    pub fn damage(&self) -> &[Damage] {
        &self.seen.damage
    }

    /// What is no record yet, or was never acknowledged.
    #[must_use]
    pub fn torn_tail(&self) -> Option<TornTail> {
        self.seen.torn_tail
    }

    /// Reads a document like [`crate::store::Store::load`]. The journal is looked at anew if a
    /// server has deleted a file meanwhile.
    ///
    /// # Errors
    /// If what is stored cannot be read or is damaged.
    pub fn load(
        &mut self,
        document: &DocumentName,
        generation: Generation,
    ) -> Result<StoredLog, LoadError> {
        self.read(|index| index.plan(document, generation)?.read(|_, _| None))
    }

    /// Reads what can be read of a document, like [`crate::store::Store::salvage`].
    ///
    /// # Errors
    /// If the system refuses for a reason that says nothing about the document.
    pub fn salvage(&mut self, document: &DocumentName) -> Result<Salvaged, LoadError> {
        self.read(|index| index.remains(document).read(|_, _| None))
    }

    fn read<T>(&mut self, read: impl Fn(&Index) -> Result<T, LoadError>) -> Result<T, LoadError> {
        for _ in 1..TRIES {
            match read(&self.seen.index) {
                Err(LoadError::Io { source }) if source.kind() == io::ErrorKind::NotFound => {
                    self.seen = look(&self.folder)
                        .map_err(|error| LoadError::Io { source: io::Error::other(error) })?;
                }
                outcome => return outcome,
            }
        }
        read(&self.seen.index)
    }
}

fn look(folder: &Path) -> Result<Seen, OpenError> {
    for _ in 1..TRIES {
        match look_once(folder) {
            Err(OpenError::Io { path, source })
                if source.kind() == io::ErrorKind::NotFound && path != folder => {}
            outcome => return outcome,
        }
    }
    look_once(folder)
}

/// The segments there are at one moment. Listing a folder that changes may miss both a new file and
/// the old one whose records it has taken over; listing it twice the same cannot.
fn list_settled(folder: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = list(folder)?;
    for _ in 1..TRIES {
        let again = list(folder)?;
        if again == numbers {
            break;
        }
        numbers = again;
    }
    Ok(numbers)
}

fn look_once(folder: &Path) -> Result<Seen, OpenError> {
    let io_error = |path: &Path, source| OpenError::Io { path: path.to_owned(), source };
    // The end first: a server that stops meanwhile records a later one.
    let end = recorded_end(folder).map_err(|source| io_error(folder, source))?;
    let numbers = list_settled(folder).map_err(|source| io_error(folder, source))?;
    let last = numbers.last().copied();
    let mut damage = Vec::new();
    let mut proven = 0;
    if let Some(end) = end {
        let missing = missing(end, folder, &numbers);
        let missing = missing.map_err(|source| io_error(&folder.join("end"), source))?;
        let End { segment, len: closed_at } = end;
        if missing > 0 {
            damage.push(Damage::Shortened { segment, closed_at, missing });
        }
        proven = if last == Some(segment) { closed_at } else { 0 };
    }
    let files = Arc::new(Files::default());
    let mut index: Option<Index> = None;
    let mut torn_tail = None;
    for number in numbers {
        let path = segment::path(folder, number);
        let mut bytes = fs::read(&path).map_err(|source| io_error(&path, source))?;
        let Some(header) = segment::read_header(&bytes, &path)? else {
            if !may_be_unborn(bytes.len(), Some(number) == last) {
                damage.push(Damage::Headers { segment: number, bytes: bytes.len() as u64 });
            }
            continue;
        };
        let index = index.get_or_insert_with(|| Index::new(header.epoch));
        check_epoch(index.epoch(), header, &path)?;
        if Some(number) == last {
            let (_, intact) = tail(&bytes, header.salt, proven);
            if intact < bytes.len() && !is_room(&bytes, intact) {
                let (offset, bytes) = (intact as u64, (bytes.len() - intact) as u64);
                torn_tail = Some(TornTail { segment: number, offset, bytes });
            }
            bytes.truncate(intact);
        }
        let files = Arc::clone(&files);
        let segment = Arc::new(Segment { number, path, salt: header.salt, files });
        damage.extend(index_segment(&segment, &bytes, index));
    }
    let index = index.unwrap_or_else(|| Index::new(Epoch::NONE));
    let incomplete = index.incomplete();
    damage.extend(
        incomplete.into_iter().map(|(document, reason)| Damage::Document { document, reason }),
    );
    Ok(Seen { index, damage, torn_tail })
}
