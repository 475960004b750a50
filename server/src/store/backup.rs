//! The file that `syncline backup` writes: every document in one stream that checks itself.
//!
//! ```text
//! file   := header frame* end
//! header := "SYNCBACK" | format u16 | reserved u16 | store epoch u64 | time u64
//!           | CRC-32C of the bytes before u32
//! frame  := length u32 | CRC-32C of the body u32 | body
//! body   := 1 | epoch u64 | through u64 | name length u8 | name | state      a document's beginning
//!         | 2 | sequence u64 | time u64 | author length u16 | author | update  the next update of it
//!         | 3 | documents u64 | updates u64                                    the end of the file
//! ```
//!
//! Integers are little-endian. A document without a snapshot has `through` 0 and no state. A file
//! without its end is refused as a whole: it was cut, or never finished.

use std::io::{self, Read, Write};

use bytes::Bytes;
use syncline_protocol::{
    DocumentName, Epoch, LoggedUpdate, Sequence, Snapshot, StoredLog, Timestamp,
};
use thiserror::Error;

use crate::store::fields::{take, text};

const MAGIC: [u8; 8] = *b"SYNCBACK";
const FORMAT: u16 = 1;
const HEADER_BYTES: usize = 8 + 2 + 2 + 8 + 8 + 4;

/// The longest frame that is believed: the longest record of the journal and some room.
const FRAME_BYTES_MAX: u32 = 129 << 20;

const DOCUMENT: u8 = 1;
const UPDATE: u8 = 2;
const END: u8 = 3;

/// One document as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archived {
    /// Its name.
    pub document: DocumentName,
    /// Its newest snapshot and every update after that.
    pub log: StoredLog,
}

/// What a backup holds, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Documents.
    pub documents: u64,
    /// Updates after their snapshots.
    pub updates: u64,
}

/// Why a backup cannot be read.
#[derive(Debug, Error)]
pub enum BackupError {
    /// The disk refuses.
    #[error("the backup cannot be read")]
    Io(#[from] io::Error),
    /// It does not begin like one.
    #[error("this is no backup of syncline")]
    NoBackup,
    /// Written by a later version.
    #[error(
        "the backup has format {found}, this program reads up to {FORMAT}; use a newer syncline"
    )]
    NewerFormat {
        /// Its format.
        found: u16,
    },
    /// The file ends early.
    #[error("the backup ends at byte {offset} without its end mark; it was cut or never finished")]
    Cut {
        /// Where.
        offset: u64,
    },
    /// Bytes have changed since it was written.
    #[error("the backup is damaged at byte {offset}: {reason}")]
    Damaged {
        /// Where.
        offset: u64,
        /// What is wrong.
        reason: &'static str,
    },
}

/// Writes a backup.
#[derive(Debug)]
pub struct BackupWriter<W> {
    out: W,
    count: Count,
}

impl<W: Write> BackupWriter<W> {
    /// Begins one of the store with this epoch.
    ///
    /// # Errors
    /// If `out` refuses.
    pub fn new(mut out: W, epoch: Epoch, time: Timestamp) -> io::Result<Self> {
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend_from_slice(&MAGIC);
        header.extend_from_slice(&FORMAT.to_le_bytes());
        header.extend_from_slice(&[0; 2]);
        header.extend_from_slice(&epoch.get().to_le_bytes());
        header.extend_from_slice(&time.as_unix_ms().to_le_bytes());
        header.extend_from_slice(&crc32c::crc32c(&header).to_le_bytes());
        out.write_all(&header)?;
        Ok(Self { out, count: Count::default() })
    }

    /// Adds a document.
    ///
    /// # Errors
    /// If `out` refuses.
    pub fn document(&mut self, archived: &Archived) -> io::Result<()> {
        let Archived { document, log: StoredLog { epoch, snapshot, updates } } = archived;
        let (through, state) = match snapshot {
            Some(snapshot) => (snapshot.through, &*snapshot.state),
            None => (Sequence::ZERO, [].as_slice()),
        };
        let name = document.as_str().as_bytes();
        let name_bytes = u8::try_from(name.len()).unwrap_or(u8::MAX);
        let numbers = [epoch.get().to_le_bytes(), through.get().to_le_bytes()].concat();
        self.frame(&[&[DOCUMENT], &numbers, &[name_bytes], name, state])?;
        for LoggedUpdate { sequence, time, author, update } in updates {
            let author = author.as_bytes();
            let author_bytes = u16::try_from(author.len()).map_err(io::Error::other)?;
            let numbers = [sequence.get().to_le_bytes(), time.as_unix_ms().to_le_bytes()];
            let author_bytes = author_bytes.to_le_bytes();
            self.frame(&[&[UPDATE], &numbers.concat(), &author_bytes, author, update])?;
        }
        self.count.documents += 1;
        self.count.updates += updates.len() as u64;
        Ok(())
    }

    /// Writes the end and gives the writer back, flushed.
    ///
    /// # Errors
    /// If it refuses.
    pub fn finish(mut self) -> io::Result<(W, Count)> {
        let Count { documents, updates } = self.count;
        self.frame(&[&[END], &documents.to_le_bytes(), &updates.to_le_bytes()])?;
        self.out.flush()?;
        Ok((self.out, self.count))
    }

    fn frame(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        let crc = parts.iter().fold(0, |crc, part| crc32c::crc32c_append(crc, part));
        let bytes = u32::try_from(bytes).map_err(io::Error::other)?;
        self.out.write_all(&bytes.to_le_bytes())?;
        self.out.write_all(&crc.to_le_bytes())?;
        parts.iter().try_for_each(|part| self.out.write_all(part))
    }
}

/// Reads a backup, one document at a time.
#[derive(Debug)]
pub struct BackupReader<R> {
    input: R,
    offset: u64,
    epoch: Epoch,
    /// A document whose beginning has been read while looking for the end of the one before.
    next: Option<Archived>,
    count: Count,
    ended: bool,
}

impl<R: Read> BackupReader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// If it is not one that this program can read.
    pub fn new(mut input: R) -> Result<Self, BackupError> {
        let mut header = [0; HEADER_BYTES];
        if read_up_to(&mut input, &mut header)? < HEADER_BYTES {
            return Err(BackupError::NoBackup);
        }
        let mut rest = header.as_slice();
        let body = header.get(..HEADER_BYTES - 4).unwrap_or_default();
        let magic: [u8; 8] = take(&mut rest).ok_or(BackupError::NoBackup)?;
        let found = take(&mut rest).map_or(0, u16::from_le_bytes);
        if magic != MAGIC {
            return Err(BackupError::NoBackup);
        }
        if found > FORMAT {
            return Err(BackupError::NewerFormat { found });
        }
        let _reserved: Option<[u8; 2]> = take(&mut rest);
        let epoch = Epoch::new(take(&mut rest).map_or(0, u64::from_le_bytes));
        // For a person who looks into the file.
        let _time: Option<[u8; 8]> = take(&mut rest);
        if take(&mut rest).map(u32::from_le_bytes) != Some(crc32c::crc32c(body)) {
            return Err(BackupError::Damaged { offset: 0, reason: "its header does not add up" });
        }
        let offset = HEADER_BYTES as u64;
        let count = Count::default();
        Ok(Self { input, offset, epoch, next: None, count, ended: false })
    }

    /// The epoch of the store that it was taken of.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// What has been read so far.
    #[must_use]
    pub fn count(&self) -> Count {
        self.count
    }

    /// The next document, or `None` behind the last one. Nothing read before that is worth
    /// anything until then: a cut file is known only at its end.
    ///
    /// # Errors
    /// If the file is cut or damaged.
    pub fn next_document(&mut self) -> Result<Option<Archived>, BackupError> {
        let mut current = self.next.take();
        while !self.ended {
            let at = self.offset;
            let damaged = |reason| BackupError::Damaged { offset: at, reason };
            let body = self.read_frame()?;
            match Frame::decode(&body).ok_or_else(|| damaged("a frame cannot be read"))? {
                Frame::Document(archived) => {
                    self.count.documents += 1;
                    if let Some(done) = current.replace(archived) {
                        self.next = current;
                        return Ok(Some(done));
                    }
                }
                Frame::Update { sequence, time, author, update } => {
                    let archived = current
                        .as_mut()
                        .ok_or_else(|| damaged("an update comes before any document"))?;
                    self.count.updates += 1;
                    let (author, update) = (author.into(), body.slice_ref(update));
                    let logged = LoggedUpdate { sequence, time, author, update };
                    archived.log.updates.push(logged);
                }
                Frame::End(count) => {
                    if count != self.count {
                        return Err(damaged("frames are missing before the end"));
                    }
                    if read_up_to(&mut self.input, &mut [0])? > 0 {
                        return Err(damaged("something follows the end"));
                    }
                    self.ended = true;
                }
            }
        }
        Ok(current)
    }

    fn read_frame(&mut self) -> Result<Bytes, BackupError> {
        let at = self.offset;
        let mut prefix = [0; 8];
        if read_up_to(&mut self.input, &mut prefix)? < prefix.len() {
            return Err(BackupError::Cut { offset: at });
        }
        let mut rest = prefix.as_slice();
        let length = take(&mut rest).map_or(0, u32::from_le_bytes);
        let crc = take(&mut rest).map_or(0, u32::from_le_bytes);
        if length > FRAME_BYTES_MAX {
            return Err(BackupError::Damaged { offset: at, reason: "a length is impossible" });
        }
        // Not reserved ahead: the length may be a lie.
        let mut body = Vec::new();
        let read = self.input.by_ref().take(u64::from(length)).read_to_end(&mut body)?;
        self.offset += (prefix.len() + read) as u64;
        if read < usize::try_from(length).unwrap_or(usize::MAX) {
            return Err(BackupError::Cut { offset: at });
        }
        if crc32c::crc32c(&body) != crc {
            return Err(BackupError::Damaged { offset: at, reason: "a checksum does not match" });
        }
        Ok(body.into())
    }
}

enum Frame<'a> {
    Document(Archived),
    Update { sequence: Sequence, time: Timestamp, author: &'a str, update: &'a [u8] },
    End(Count),
}

impl<'a> Frame<'a> {
    fn decode(body: &'a Bytes) -> Option<Self> {
        let mut rest = &**body;
        match take::<1>(&mut rest)? {
            [DOCUMENT] => {
                let epoch = Epoch::new(u64::from_le_bytes(take(&mut rest)?));
                let through = Sequence::new(u64::from_le_bytes(take(&mut rest)?));
                let [name_bytes] = take::<1>(&mut rest)?;
                let document = text(&mut rest, usize::from(name_bytes))?.parse().ok()?;
                let snapshot = (through > Sequence::ZERO)
                    .then(|| Snapshot { through, state: body.slice_ref(rest) });
                if snapshot.is_none() && !rest.is_empty() {
                    return None;
                }
                let log = StoredLog { epoch, snapshot, updates: Vec::new() };
                Some(Self::Document(Archived { document, log }))
            }
            [UPDATE] => {
                let sequence = Sequence::new(u64::from_le_bytes(take(&mut rest)?));
                let time = Timestamp::from_unix_ms(u64::from_le_bytes(take(&mut rest)?));
                let author_bytes = u16::from_le_bytes(take(&mut rest)?);
                let author = text(&mut rest, usize::from(author_bytes))?;
                Some(Self::Update { sequence, time, author, update: rest })
            }
            [END] => {
                let documents = u64::from_le_bytes(take(&mut rest)?);
                let updates = u64::from_le_bytes(take(&mut rest)?);
                rest.is_empty().then_some(Self::End(Count { documents, updates }))
            }
            _ => None,
        }
    }
}

/// Fills `into` as far as the input lasts.
fn read_up_to(input: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(room) = into.get_mut(filled..).filter(|room| !room.is_empty()) {
        match input.read(room) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archived(document: &str, snapshot: Option<u64>, updates: u64) -> Archived {
        let document = document.parse().unwrap();
        let through = snapshot.unwrap_or(0);
        let logged = |sequence| LoggedUpdate {
            sequence: Sequence::new(sequence),
            time: Timestamp::from_unix_ms(1_700_000_000_000 + sequence),
            author: if sequence % 2 == 0 { "ada".into() } else { "".into() },
            update: sequence.to_le_bytes().repeat(3).into(),
        };
        let snapshot = snapshot.map(|through| Snapshot {
            through: Sequence::new(through),
            state: vec![9; 1000].into(),
        });
        let updates = (through + 1..=through + updates).map(logged).collect();
        Archived { document, log: StoredLog { epoch: Epoch::new(7), snapshot, updates } }
    }

    fn sample() -> (Vec<Archived>, Vec<u8>) {
        let documents =
            vec![archived("a", None, 3), archived("b/ü", Some(5), 0), archived("c", Some(2), 4)];
        let mut writer =
            BackupWriter::new(Vec::new(), Epoch::new(7), Timestamp::from_unix_ms(1)).unwrap();
        for archived in &documents {
            writer.document(archived).unwrap();
        }
        let (bytes, count) = writer.finish().unwrap();
        assert_eq!(count, Count { documents: 3, updates: 7 });
        (documents, bytes)
    }

    fn read(bytes: &[u8]) -> Result<Vec<Archived>, BackupError> {
        let mut reader = BackupReader::new(bytes)?;
        let mut documents = Vec::new();
        while let Some(archived) = reader.next_document()? {
            documents.push(archived);
        }
        Ok(documents)
    }

    #[test]
    fn backup_1_what_is_written_is_read() {
        let (documents, bytes) = sample();
        assert_eq!(read(&bytes).unwrap(), documents);
        let reader = BackupReader::new(&*bytes).unwrap();
        assert_eq!(reader.epoch(), Epoch::new(7));
        let (empty, _) = BackupWriter::new(Vec::new(), Epoch::new(7), Timestamp::from_unix_ms(1))
            .unwrap()
            .finish()
            .unwrap();
        assert_eq!(read(&empty).unwrap(), []);
    }

    #[test]
    fn backup_2_a_cut_file_is_refused_wherever_it_was_cut() {
        let (_, bytes) = sample();
        for end in 0..bytes.len() {
            let error = read(&bytes[..end]).unwrap_err();
            let expected = if end < HEADER_BYTES {
                matches!(error, BackupError::NoBackup)
            } else {
                matches!(error, BackupError::Cut { .. })
            };
            assert!(expected, "{end}: {error}");
        }
        assert!(read(&[&*bytes, &[0]].concat()).is_err());
    }

    #[test]
    fn backup_2_a_changed_bit_is_refused_wherever_it_is() {
        let (_, bytes) = sample();
        // But the reserved bytes, which the header's checksum covers too.
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&changed).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn backup_2_a_missing_frame_is_refused() {
        let (_, bytes) = sample();
        let first = u32::from_le_bytes(bytes[HEADER_BYTES..HEADER_BYTES + 4].try_into().unwrap());
        let second = HEADER_BYTES + 8 + first as usize;
        let length = u32::from_le_bytes(bytes[second..second + 4].try_into().unwrap()) as usize;
        let without = [&bytes[..second], &bytes[second + 8 + length..]].concat();
        assert!(matches!(read(&without), Err(BackupError::Damaged { .. })));
    }
}
