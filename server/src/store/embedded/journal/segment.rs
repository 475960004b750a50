//! One file of the journal: a header, then records.
//!
//! ```text
//! header, twice: "SYNCLINE" | format u16 | reserved u16 | number u64 | epoch u64
//!                | mark u32 | seed u32 | CRC-32C of the bytes before u32
//! ```
//!
//! The header is written twice because nothing in the file can be verified without it. The epoch
//! is the store's, the same in every segment: it is as durable as the journal.

use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use syncline_protocol::Epoch;

use crate::store::OpenError;
use crate::store::embedded::disk::WriteFailure;
use crate::store::embedded::journal::Place;
use crate::store::embedded::journal::files::Files;
use crate::store::embedded::journal::record::Salt;

/// The format that this program writes and reads.
const FORMAT: u16 = 2;
const MAGIC: [u8; 8] = *b"SYNCLINE";
const COPY_BYTES: usize = 40;
/// A copy in format 1, which had no epoch.
const COPY_BYTES_1: usize = 32;
/// Where the first record begins.
pub(super) const HEADER_BYTES: usize = 2 * COPY_BYTES;
const SUFFIX: &str = ".wal";

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) number: u64,
    pub(super) epoch: Epoch,
    pub(super) salt: Salt,
}

/// A segment file.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) path: PathBuf,
    pub(super) salt: Salt,
    pub(super) files: Arc<Files>,
}

impl Segment {
    /// A segment whose file does not exist yet, and the header that belongs into it.
    pub(super) fn new(place: &Place, number: u64) -> (Self, Vec<u8>) {
        let salt = random_salt();
        let header = Header { number, epoch: place.epoch, salt }.encode();
        let (path, files) = (path(&place.folder.path, number), Arc::clone(&place.files));
        (Self { number, path, salt, files }, header)
    }

    /// Creates an empty segment that survives a power cut.
    pub(super) fn create(place: &Place, number: u64) -> Result<(Self, File), WriteFailure> {
        let Place { folder, disk, .. } = place;
        let (segment, header) = Self::new(place, number);
        let file = disk.create(&segment.path).map_err(WriteFailure::of)?;
        disk.write(&segment.path, &file, &header, 0).map_err(WriteFailure::of)?;
        disk.sync(&segment.path, &file).map_err(WriteFailure::Final)?;
        folder.sync(disk).map_err(WriteFailure::Final)?;
        Ok((segment, file))
    }

    /// Fills `into` with the `bytes` bytes at `offset`.
    pub(super) fn read(&self, offset: u64, bytes: usize, into: &mut Vec<u8>) -> io::Result<()> {
        into.resize(bytes, 0);
        self.files.open(self.number, &self.path)?.read_exact_at(into, offset)
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

impl Header {
    fn encode(self) -> Vec<u8> {
        let mut copy = Vec::with_capacity(HEADER_BYTES);
        copy.extend_from_slice(&MAGIC);
        copy.extend_from_slice(&FORMAT.to_le_bytes());
        copy.extend_from_slice(&[0; 2]);
        copy.extend_from_slice(&self.number.to_le_bytes());
        copy.extend_from_slice(&self.epoch.get().to_le_bytes());
        copy.extend_from_slice(&self.salt.mark);
        copy.extend_from_slice(&self.salt.seed.to_le_bytes());
        let crc = crc32c::crc32c(&copy);
        copy.extend_from_slice(&crc.to_le_bytes());
        debug_assert_eq!(copy.len(), COPY_BYTES);
        copy.repeat(2)
    }

    fn decode(fields: &[u8]) -> Option<Self> {
        let (_, rest) = fields.split_at_checked(MAGIC.len() + 4)?;
        let (number, rest) = rest.split_first_chunk::<8>()?;
        let (epoch, rest) = rest.split_first_chunk::<8>()?;
        let (mark, rest) = rest.split_first_chunk::<4>()?;
        let (seed, _) = rest.split_first_chunk::<4>()?;
        Some(Self {
            number: u64::from_le_bytes(*number),
            epoch: Epoch::new(u64::from_le_bytes(*epoch)),
            salt: Salt { mark: *mark, seed: u32::from_le_bytes(*seed) },
        })
    }
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
/// If an intact copy has another format. Later formats keep the length of a copy, its magic bytes,
/// its format and its CRC where they are.
pub(super) fn read_header(bytes: &[u8], path: &Path) -> Result<Option<Header>, OpenError> {
    let copies = |bytes_each: usize| {
        let copies = bytes.get(..(2 * bytes_each).min(bytes.len())).unwrap_or_default();
        copies.chunks_exact(bytes_each).find_map(intact_copy)
    };
    let path = || path.to_owned();
    let Some((format, fields)) = copies(COPY_BYTES).or_else(|| copies(COPY_BYTES_1)) else {
        return Ok(None);
    };
    match format {
        // The second copy was never written: nothing lies behind it.
        FORMAT if bytes.len() < HEADER_BYTES => Ok(None),
        FORMAT => Ok(Header::decode(fields)),
        found if found > FORMAT => {
            Err(OpenError::NewerFormat { path: path(), found, supported: FORMAT })
        }
        found => Err(OpenError::OlderFormat { path: path(), found, supported: FORMAT }),
    }
}

fn intact_copy(copy: &[u8]) -> Option<(u16, &[u8])> {
    let (fields, crc) = copy.split_last_chunk::<4>()?;
    let (magic, rest) = fields.split_first_chunk::<8>()?;
    let (format, _) = rest.split_first_chunk::<2>()?;
    let intact = *magic == MAGIC && crc32c::crc32c(fields) == u32::from_le_bytes(*crc);
    intact.then_some((u16::from_le_bytes(*format), fields))
}
