//! A cache of each document's newest snapshot, in a sled database beside the journal.
//!
//! The only file that names sled. Nothing here is needed: the journal holds every snapshot too, so
//! a database that cannot be opened is moved aside and filled again, and one that fails while
//! running is closed and done without.
//!
//! - Tree `snap`: name length u8, name, through u64, chunk u32 (big-endian) → a chunk of the state.
//! - Tree `meta`: name → head: which generation is complete, how long it is, and its CRC-32C.
//!
//! Values stay within 4 KiB, because sled puts larger pages into files that nobody syncs, and
//! every flush is followed by an `fdatasync` of its file, because its own flush is none.

use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use ::sled::{Config, Db, Tree};
use bytes::Bytes;
use syncline_protocol::{DocumentName, Sequence, Snapshot};
use thiserror::Error;
use tracing::{error, warn};

use crate::store::embedded::journal::{Digest, Retention};

const CHUNK_MAGIC: [u8; 4] = *b"SLSC";
const HEAD_MAGIC: [u8; 4] = *b"SLSH";
const VERSION: u8 = 1;
const VALUE_BYTES_MAX: usize = 4096;
/// Magic, version, total length, chunk, of how many, CRC-32C of the data.
const CHUNK_HEADER_BYTES: usize = 4 + 1 + 8 + 4 + 4 + 4;
const CHUNK_DATA_BYTES: usize = VALUE_BYTES_MAX - CHUNK_HEADER_BYTES;

/// What lay in the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contents {
    /// A database that opened.
    Kept,
    /// Nothing, or nothing any more.
    Fresh,
}

/// The cache; empty after a failure.
#[derive(Debug)]
pub(super) struct SnapshotCache {
    database: Mutex<Option<Arc<Database>>>,
}

#[derive(Debug)]
struct Database {
    db: Db,
    snap: Tree,
    meta: Tree,
    /// sled's own data file, to be synced after each flush.
    file: File,
}

#[derive(Debug, Error)]
enum CacheError {
    #[error("sled failed")]
    Sled(#[from] ::sled::Error),
    #[error("the file system failed")]
    Io(#[from] io::Error),
    #[error("sled panicked")]
    Panicked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    through: Sequence,
    digest: Digest,
}

impl SnapshotCache {
    /// A cache that holds nothing.
    pub(super) fn none() -> Self {
        Self { database: Mutex::new(None) }
    }

    /// Removes the database in `data/sled`, whatever it is.
    pub(super) fn remove(data: &Path) -> io::Result<()> {
        let folder = data.join("sled");
        match fs::symlink_metadata(&folder) {
            Ok(found) if found.is_dir() => fs::remove_dir_all(folder),
            Ok(_) => fs::remove_file(folder),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Opens the database in `data/sled`, whatever it takes: this never fails, but what it returns
    /// may be empty or useless.
    pub(super) fn open(data: &Path, cache_bytes: u64) -> (Self, Contents) {
        let folder = data.join("sled");
        let mut contents = if folder.exists() { Contents::Kept } else { Contents::Fresh };
        let mut opened = open_apart(&folder, cache_bytes);
        if let Err(error) = &opened {
            let aside = aside(data);
            error!(
                error = error as &dyn std::error::Error,
                moved_to = %aside.display(),
                "The snapshot cache is damaged; it is filled again from the journal."
            );
            contents = Contents::Fresh;
            opened = remove_earlier(data)
                .and_then(|()| fs::rename(&folder, &aside))
                .map_err(CacheError::from)
                .and_then(|()| open_apart(&folder, cache_bytes));
        }
        let database = opened.inspect_err(|error| {
            let error = error as &dyn std::error::Error;
            error!(error, "There is no snapshot cache; the journal alone serves.");
        });
        (Self { database: Mutex::new(database.ok().map(Arc::new)) }, contents)
    }

    /// The state of `document` if exactly the one with this `digest` is there.
    pub(super) fn read(
        &self,
        document: &DocumentName,
        through: Sequence,
        digest: Digest,
    ) -> Option<Bytes> {
        self.attempt(|database| database.read(document, Head { through, digest })).flatten()
    }

    /// Takes over the newest snapshots of some documents. Unless what was before is kept, nothing
    /// of it is left here.
    pub(super) fn write(
        &self,
        snapshots: impl Iterator<Item = (DocumentName, Snapshot)>,
        before: Retention,
    ) {
        // Either it worked, or there is no cache any more.
        let _: Option<()> = self.attempt(|database| database.write(snapshots, before));
    }

    fn attempt<T>(&self, call: impl FnOnce(&Database) -> Result<T, CacheError>) -> Option<T> {
        let slot = || self.database.lock().unwrap_or_else(PoisonError::into_inner);
        let database = slot().clone()?;
        let outcome = catch_unwind(AssertUnwindSafe(|| call(&database)));
        match outcome.unwrap_or(Err(CacheError::Panicked)) {
            Ok(value) => Some(value),
            Err(error) => {
                let failed = slot().take();
                if failed.is_some() {
                    let error = &error as &dyn std::error::Error;
                    error!(error, "The snapshot cache failed; the journal alone serves.");
                }
                // Closing flushes, which may fail in its own way: not on this thread.
                thread::spawn(move || drop((failed, database)));
                None
            }
        }
    }
}

/// Opens on a thread of its own: sled panics on some damaged files, and joining catches that.
fn open_apart(folder: &Path, cache_bytes: u64) -> Result<Database, CacheError> {
    let folder = folder.to_owned();
    let opening = thread::Builder::new()
        .name("syncline-sled".to_owned())
        .spawn(move || Database::open(&folder, cache_bytes))?;
    opening.join().unwrap_or(Err(CacheError::Panicked))
}

const ASIDE: &str = "sled.damaged-";

fn aside(data: &Path) -> PathBuf {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    data.join(format!("{ASIDE}{}", since.as_secs()))
}

/// One damaged database is evidence; one for each start would fill the disk.
fn remove_earlier(data: &Path) -> io::Result<()> {
    for entry in fs::read_dir(data)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(ASIDE)) {
            let remove =
                if entry.file_type()?.is_dir() { fs::remove_dir_all } else { fs::remove_file };
            remove(entry.path())?;
        }
    }
    Ok(())
}

impl Database {
    fn open(folder: &Path, cache_bytes: u64) -> Result<Self, CacheError> {
        let config = Config::new().path(folder).cache_capacity(cache_bytes).flush_every_ms(None);
        let db = config.open()?;
        let snap = db.open_tree("snap")?;
        let meta = db.open_tree("meta")?;
        let file = File::open(folder.join("db"))?;
        if fs::read_dir(folder.join("blobs")).is_ok_and(|mut blobs| blobs.next().is_some()) {
            warn!(folder = %folder.display(), "sled has written blobs, which it never syncs.");
        }
        Ok(Self { db, snap, meta, file })
    }

    fn read(&self, document: &DocumentName, wanted: Head) -> Result<Option<Bytes>, CacheError> {
        if self.head(document)? != Some(wanted) {
            return Ok(None);
        }
        let Digest { bytes, .. } = wanted.digest;
        let mut state = Vec::with_capacity(bytes);
        let count = chunk_count(bytes);
        for chunk in 0..count {
            let value = self.snap.get(chunk_key(document, wanted.through, chunk))?;
            let place = ChunkPlace { total: bytes, chunk, count };
            let Some(data) = value.as_deref().and_then(|value| place.open(value)) else {
                // Unless another has taken its place meanwhile.
                if self.head(document)? == Some(wanted) {
                    warn!(%document, chunk, "A cached snapshot is damaged; the journal's is used.");
                }
                return Ok(None);
            };
            state.extend_from_slice(data);
        }
        Ok((Digest::of(&state) == wanted.digest).then(|| state.into()))
    }

    fn head(&self, document: &DocumentName) -> Result<Option<Head>, CacheError> {
        let head = self.meta.get(document.as_str())?;
        Ok(head.and_then(|head| Head::decode(&head)))
    }

    /// Chunks, sync, heads, sync: a head never stands for chunks that a power cut took.
    fn write(
        &self,
        snapshots: impl Iterator<Item = (DocumentName, Snapshot)>,
        before: Retention,
    ) -> Result<(), CacheError> {
        let mut heads = Vec::new();
        for (document, snapshot) in snapshots {
            let total = snapshot.state.len();
            let count = chunk_count(total);
            for (data, chunk) in snapshot.state.chunks(CHUNK_DATA_BYTES).zip(0..) {
                let value = ChunkPlace { total, chunk, count }.seal(data);
                self.snap.insert(chunk_key(&document, snapshot.through, chunk), value)?;
            }
            let digest = Digest::of(&snapshot.state);
            heads.push((document, Head { through: snapshot.through, digest }));
        }
        self.sync()?;
        let mut kept = Vec::with_capacity(heads.len());
        for (document, head) in heads {
            let earlier = self.meta.insert(document.as_str(), head.encode())?;
            let earlier = earlier.filter(|_| before == Retention::Kept);
            kept.push((document, [Some(head), earlier.and_then(|head| Head::decode(&head))]));
        }
        self.sync()?;
        for (document, kept) in kept {
            self.remove_others(&document, kept)?;
        }
        match before {
            // They are only in the way, and go with whatever is written next.
            Retention::Kept => Ok(()),
            Retention::Dropped => self.sync(),
        }
    }

    /// Removes every chunk of `document` that is no part of the states `kept`.
    fn remove_others(
        &self,
        document: &DocumentName,
        kept: [Option<Head>; 2],
    ) -> Result<(), CacheError> {
        let prefix = key_prefix(document);
        for key in self.snap.scan_prefix(&prefix).keys() {
            let key = key?;
            let place = key.get(prefix.len()..).and_then(chunk_place);
            let is_of = |head: &Head| {
                let holds = |(through, chunk)| {
                    through == head.through && chunk < chunk_count(head.digest.bytes)
                };
                place.is_some_and(holds)
            };
            if !kept.iter().flatten().any(is_of) {
                self.snap.remove(key)?;
            }
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), CacheError> {
        self.db.flush()?;
        self.file.sync_data()?;
        Ok(())
    }
}

fn chunk_count(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(CHUNK_DATA_BYTES)).unwrap_or(u32::MAX)
}

/// The length goes first, so that no name is the beginning of another's keys.
fn key_prefix(document: &DocumentName) -> Vec<u8> {
    let name = document.as_str().as_bytes();
    let mut key = Vec::with_capacity(1 + name.len() + 8 + 4);
    key.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
    key.extend_from_slice(name);
    key
}

fn chunk_key(document: &DocumentName, through: Sequence, chunk: u32) -> Vec<u8> {
    let mut key = key_prefix(document);
    key.extend_from_slice(&through.get().to_be_bytes());
    key.extend_from_slice(&chunk.to_be_bytes());
    key
}

/// The position and the number in what follows the prefix of a key.
fn chunk_place(rest: &[u8]) -> Option<(Sequence, u32)> {
    let (through, rest) = rest.split_first_chunk::<8>()?;
    let (chunk, _) = rest.split_first_chunk::<4>()?;
    Some((Sequence::new(u64::from_be_bytes(*through)), u32::from_be_bytes(*chunk)))
}

/// Which part of which whole a chunk is.
#[derive(Clone, Copy, Debug)]
struct ChunkPlace {
    total: usize,
    chunk: u32,
    count: u32,
}

impl ChunkPlace {
    fn header(self, data: &[u8]) -> Vec<u8> {
        let mut value = Vec::with_capacity(CHUNK_HEADER_BYTES + data.len());
        value.extend_from_slice(&CHUNK_MAGIC);
        value.push(VERSION);
        value.extend_from_slice(&(self.total as u64).to_be_bytes());
        value.extend_from_slice(&self.chunk.to_be_bytes());
        value.extend_from_slice(&self.count.to_be_bytes());
        value.extend_from_slice(&crc32c::crc32c(data).to_be_bytes());
        value
    }

    fn seal(self, data: &[u8]) -> Vec<u8> {
        let mut value = self.header(data);
        value.extend_from_slice(data);
        value
    }

    fn open(self, value: &[u8]) -> Option<&[u8]> {
        let (header, data) = value.split_at_checked(CHUNK_HEADER_BYTES)?;
        (header == self.header(data)).then_some(data)
    }
}

impl Head {
    fn encode(self) -> Vec<u8> {
        let mut value = Vec::new();
        value.extend_from_slice(&HEAD_MAGIC);
        value.push(VERSION);
        value.extend_from_slice(&self.through.get().to_be_bytes());
        value.extend_from_slice(&(self.digest.bytes as u64).to_be_bytes());
        value.extend_from_slice(&self.digest.crc.to_be_bytes());
        let crc = crc32c::crc32c(&value);
        value.extend_from_slice(&crc.to_be_bytes());
        value
    }

    fn decode(value: &[u8]) -> Option<Self> {
        let (_, rest) = value.split_at_checked(HEAD_MAGIC.len() + 1)?;
        let (through, rest) = rest.split_first_chunk::<8>()?;
        let (bytes, rest) = rest.split_first_chunk::<8>()?;
        let (crc, _) = rest.split_first_chunk::<4>()?;
        let bytes = usize::try_from(u64::from_be_bytes(*bytes)).ok()?;
        let digest = Digest { bytes, crc: u32::from_be_bytes(*crc) };
        let head = Self { through: Sequence::new(u64::from_be_bytes(*through)), digest };
        (head.encode() == value).then_some(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: usize = CHUNK_DATA_BYTES;

    fn written(
        cache: &SnapshotCache,
        document: &str,
        through: u64,
        bytes: usize,
        before: Retention,
    ) {
        let state = vec![7; bytes].into();
        let snapshot = Snapshot { through: Sequence::new(through), state };
        cache.write(std::iter::once((document.parse().unwrap(), snapshot)), before);
    }

    /// The position and the number of every chunk of `document`.
    fn chunks(cache: &SnapshotCache, document: &str) -> Vec<(u64, u32)> {
        let prefix = key_prefix(&document.parse().unwrap());
        let keys = |database: &Database| {
            let keys = database.snap.scan_prefix(&prefix).keys();
            let place = |key: ::sled::IVec| {
                let (through, chunk) = chunk_place(&key[prefix.len()..]).unwrap();
                (through.get(), chunk)
            };
            Ok(keys.map(|key| place(key.unwrap())).collect())
        };
        cache.attempt(keys).unwrap()
    }

    #[test]
    fn store_24_a_replaced_state_does_not_stay_in_the_cache() {
        let data = tempfile::tempdir().unwrap();
        let (cache, _) = SnapshotCache::open(data.path(), 1 << 20);
        written(&cache, "b", 5, CHUNK, Retention::Kept);
        for through in [4, 8] {
            written(&cache, "a", through, 2 * CHUNK, Retention::Kept);
        }
        assert_eq!(chunks(&cache, "a"), [(4, 0), (4, 1), (8, 0), (8, 1)]);
        written(&cache, "a", 9, CHUNK + 1, Retention::Dropped);
        assert_eq!(chunks(&cache, "a"), [(9, 0), (9, 1)]);
        // At its own position, and shorter.
        written(&cache, "a", 9, 2, Retention::Dropped);
        assert_eq!(chunks(&cache, "a"), [(9, 0)]);
        written(&cache, "a", 10, 0, Retention::Dropped);
        assert_eq!(chunks(&cache, "a"), []);
        assert_eq!(chunks(&cache, "b"), [(5, 0)], "others are untouched");
        drop(cache);
        let (cache, contents) = SnapshotCache::open(data.path(), 1 << 20);
        assert_eq!((contents, chunks(&cache, "a")), (Contents::Kept, vec![]));
    }
}
