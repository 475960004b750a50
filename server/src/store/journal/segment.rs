//! One file of the journal: a header, then records.
//!
//! ```text
//! header, twice: "SYNCLINE" | format u16 | reserved u16 | number u64 | mark u32 | seed u32
//!                | CRC-32C of the bytes before u32
//! ```
//!
//! The header is written twice because nothing in the file can be verified without it.

use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use syncline_protocol::{DocumentName, Sequence};

use crate::store::OpenError;
use crate::store::disk::FaultPlan;
use crate::store::journal::record::{self, Decoded, Salt};

/// The format that this program writes, and the latest that it reads.
const FORMAT: u16 = 1;
const MAGIC: [u8; 8] = *b"SYNCLINE";
const COPY_BYTES: usize = 32;
/// Where the first record begins.
pub(super) const HEADER_BYTES: usize = 2 * COPY_BYTES;
const SUFFIX: &str = ".wal";

/// An open segment file.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) path: PathBuf,
    pub(super) salt: Salt,
    /// Stays readable for whoever holds it when the file is deleted meanwhile.
    pub(super) file: File,
}

impl Segment {
    /// Creates an empty segment that survives a power cut.
    pub(super) fn create(folder: &Path, number: u64, disk: &FaultPlan) -> io::Result<Self> {
        let path = path(folder, number);
        let salt = random_salt();
        let file = disk.create(&path)?;
        disk.write(&file, &header(number, salt), 0)?;
        disk.sync(&file)?;
        disk.sync_folder(folder)?;
        Ok(Self { number, path, salt, file })
    }

    /// Fills `into` with the `bytes` bytes at `offset`.
    pub(super) fn read(&self, offset: u64, bytes: usize, into: &mut Vec<u8>) -> io::Result<()> {
        into.resize(bytes, 0);
        self.file.read_exact_at(into, offset)
    }
}

/// Where the segment `number` lies.
pub(super) fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:020}{SUFFIX}"))
}

/// The number in a segment's file name.
pub(super) fn number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    if digits.len() == 20 { digits.parse().ok() } else { None }
}

fn header(number: u64, salt: Salt) -> Vec<u8> {
    let mut copy = Vec::with_capacity(HEADER_BYTES);
    copy.extend_from_slice(&MAGIC);
    copy.extend_from_slice(&FORMAT.to_le_bytes());
    copy.extend_from_slice(&[0; 2]);
    copy.extend_from_slice(&number.to_le_bytes());
    copy.extend_from_slice(&salt.mark);
    copy.extend_from_slice(&salt.seed.to_le_bytes());
    let crc = crc32c::crc32c(&copy);
    copy.extend_from_slice(&crc.to_le_bytes());
    debug_assert_eq!(copy.len(), COPY_BYTES);
    copy.repeat(2)
}

fn random_salt() -> Salt {
    let random = RandomState::new().build_hasher().finish();
    let [a, b, c, d, seed @ ..] = random.to_le_bytes();
    // Never four zero bytes, which is what a hole in a file reads as.
    Salt { mark: [a | 0x80, b, c, d], seed: u32::from_le_bytes(seed) }
}

/// Reads a header; `None` when neither copy is intact.
///
/// # Errors
/// If an intact copy has a later format. Later formats keep this layout of the header.
pub(super) fn read_header(bytes: &[u8], path: &Path) -> Result<Option<Salt>, OpenError> {
    let copies = bytes.get(..HEADER_BYTES.min(bytes.len())).unwrap_or_default();
    let Some((format, salt)) = copies.chunks_exact(COPY_BYTES).find_map(read_copy) else {
        return Ok(None);
    };
    if format > FORMAT {
        let path = path.to_owned();
        return Err(OpenError::NewerFormat { path, found: format, supported: FORMAT });
    }
    Ok(Some(salt))
}

fn read_copy(copy: &[u8]) -> Option<(u16, Salt)> {
    let (fields, crc) = copy.split_last_chunk::<4>()?;
    let (magic, rest) = fields.split_first_chunk::<8>()?;
    if *magic != MAGIC || crc32c::crc32c(fields) != u32::from_le_bytes(*crc) {
        return None;
    }
    let (format, rest) = rest.split_first_chunk::<2>()?;
    let (rest, seed) = rest.split_last_chunk::<4>()?;
    let (_, mark) = rest.split_last_chunk::<4>()?;
    Some((u16::from_le_bytes(*format), Salt { mark: *mark, seed: u32::from_le_bytes(*seed) }))
}

/// What a scan meets.
#[derive(Debug)]
pub(super) enum Found<'a> {
    /// An intact record.
    Record {
        /// Where it begins.
        offset: usize,
        /// What it holds.
        record: Decoded<'a>,
    },
    /// Bytes that are no record, up to the next intact one or the end of the file.
    Damage {
        /// Where they begin.
        offset: usize,
        /// What they seem to have been.
        suspect: Option<(Sequence, DocumentName)>,
    },
}

/// Walks the records of a whole segment, and over what is damaged in it.
#[derive(Debug)]
pub(super) struct Scan<'a> {
    bytes: &'a [u8],
    salt: Salt,
    offset: usize,
}

impl<'a> Scan<'a> {
    pub(super) fn new(bytes: &'a [u8], salt: Salt) -> Self {
        Self { bytes, salt, offset: HEADER_BYTES }
    }

    fn next_intact(&self, mut from: usize) -> usize {
        while let Some(rest) = self.bytes.get(from..) {
            let Some(step) = rest.windows(4).position(|window| window == self.salt.mark) else {
                break;
            };
            if rest.get(step..).is_some_and(|bytes| record::decode(bytes, self.salt).is_some()) {
                return from + step;
            }
            from += step + 1;
        }
        self.bytes.len()
    }
}

impl<'a> Iterator for Scan<'a> {
    type Item = Found<'a>;

    fn next(&mut self) -> Option<Found<'a>> {
        let rest = self.bytes.get(self.offset..).filter(|rest| !rest.is_empty())?;
        let offset = self.offset;
        if let Some(record) = record::decode(rest, self.salt) {
            self.offset += record.bytes;
            return Some(Found::Record { offset, record });
        }
        self.offset = self.next_intact(offset + 1);
        let damaged = self.bytes.get(offset..self.offset).unwrap_or_default();
        Some(Found::Damage { offset, suspect: record::suspect(damaged) })
    }
}
