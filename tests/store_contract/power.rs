//! A disk that loses, in a power cut, whatever was not synced: any 4 KiB page of a file, its
//! length, and any entry of the folder may or may not have been written.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use syncline_server::store::embedded::disk::{DiskCall, DiskOp, FaultPlan};

const PAGE_BYTES: usize = 4096;

/// Numbers that look random and are the same every time.
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

/// What is known of the files in one folder.
#[derive(Debug, Default)]
struct Disk {
    /// Each file as it was when it was last synced.
    durable: BTreeMap<u64, Vec<u8>>,
    /// The names as the system shows them, and as they were when the folder was last synced.
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    /// The last content of files that were removed.
    removed: BTreeMap<u64, Vec<u8>>,
    /// What the call under way makes durable when it returns.
    pending: Option<Effect>,
    files: u64,
    calls: usize,
}

#[derive(Debug)]
enum Effect {
    Named(PathBuf),
    Synced(u64, Vec<u8>),
    FolderSynced,
    Renamed(PathBuf, PathBuf),
    Removed(PathBuf, Vec<u8>),
}

/// Watches the journal in one data folder.
#[derive(Clone, Debug)]
pub(crate) struct PowerCut {
    journal: PathBuf,
    disk: Arc<Mutex<Disk>>,
}

impl PowerCut {
    /// Everything that is there now is on disk.
    pub(crate) fn watch(folder: &Path) -> Self {
        let journal = folder.join("journal");
        let mut disk = Disk::default();
        for path in fs::read_dir(&journal).into_iter().flatten().map(|entry| entry.unwrap().path())
        {
            disk.files += 1;
            disk.durable.insert(disk.files, fs::read(&path).unwrap());
            disk.names.insert(path, disk.files);
        }
        disk.durable_names = disk.names.clone();
        Self { journal, disk: Arc::new(Mutex::new(disk)) }
    }

    /// Sees every call. `decide` may let one fail, and is told how many came before it.
    pub(crate) fn plan(
        &self,
        decide: impl Fn(usize, DiskOp<'_>) -> io::Result<()> + Send + Sync + 'static,
    ) -> FaultPlan {
        let watched = self.clone();
        FaultPlan::new(move |op| {
            let mut disk = watched.disk();
            disk.settle();
            disk.calls += 1;
            decide(disk.calls - 1, op)?;
            disk.pending = disk.effect_of(op);
            Ok(())
        })
    }

    pub(crate) fn calls(&self) -> usize {
        self.disk().calls
    }

    /// Leaves in the folder what a power cut at this moment could.
    pub(crate) fn cut(&self, random: &mut Random) {
        let mut disk = self.disk();
        disk.settle();
        let (survivors, of) = [(0, 1), (1, 2), (1, 1), (7, 8)][random.below(4)];
        let mut survives = || random.below(of) < survivors;
        let mut found = BTreeMap::new();
        let ids: Vec<u64> = disk.durable.keys().copied().collect();
        for id in ids {
            let by_id = |names: &BTreeMap<PathBuf, u64>| {
                names.iter().find(|(_, named)| **named == id).map(|(path, _)| path.clone())
            };
            let (before, after) = (by_id(&disk.durable_names), by_id(&disk.names));
            let Some(path) = (if before == after || survives() { after.clone() } else { before })
            else {
                continue;
            };
            let written = match (&after, disk.removed.get(&id)) {
                (Some(after), _) => fs::read(after).unwrap(),
                (None, Some(removed)) => removed.clone(),
                (None, None) => continue,
            };
            found.insert(path, mix(&disk.durable[&id], &written, &mut survives));
        }
        for entry in fs::read_dir(&self.journal).into_iter().flatten() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        for (path, bytes) in found {
            fs::write(path, bytes).unwrap();
        }
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap()
    }
}

impl Disk {
    fn effect_of(&self, op: DiskOp<'_>) -> Option<Effect> {
        let path = op.path.to_owned();
        let id = self.names.get(op.path);
        match op.call {
            DiskCall::Create => Some(Effect::Named(path)),
            DiskCall::Sync => Some(Effect::Synced(*id?, fs::read(path).unwrap())),
            DiskCall::SyncFolder => Some(Effect::FolderSynced),
            DiskCall::Rename => Some(Effect::Renamed(path, op.to.to_owned())),
            DiskCall::Remove => fs::read(op.path).ok().map(|bytes| Effect::Removed(path, bytes)),
            DiskCall::Write | DiskCall::Truncate => None,
        }
    }

    /// The next call, or the cut, proves that the one before has returned.
    fn settle(&mut self) {
        match self.pending.take() {
            None => {}
            Some(Effect::Named(path)) => {
                self.files += 1;
                self.durable.insert(self.files, Vec::new());
                self.names.insert(path, self.files);
            }
            Some(Effect::Synced(id, bytes)) => {
                self.durable.insert(id, bytes);
            }
            Some(Effect::FolderSynced) => self.durable_names = self.names.clone(),
            Some(Effect::Renamed(from, to)) => {
                let id = self.names.remove(&from).unwrap();
                self.names.insert(to, id);
            }
            Some(Effect::Removed(path, bytes)) => {
                let id = self.names.remove(&path).unwrap();
                self.removed.insert(id, bytes);
            }
        }
    }
}

/// Some pages of `written`, the others as in `durable`, and one of their lengths.
fn mix(durable: &[u8], written: &[u8], survives: &mut impl FnMut() -> bool) -> Vec<u8> {
    let bytes = if survives() { written.len() } else { durable.len() };
    let mut mixed = vec![0; bytes];
    for (number, page) in mixed.chunks_mut(PAGE_BYTES).enumerate() {
        let from = if survives() { written } else { durable };
        let from = from.get(number * PAGE_BYTES..).unwrap_or_default();
        let kept = from.len().min(page.len());
        page[..kept].copy_from_slice(&from[..kept]);
    }
    mixed
}

#[test]
fn a_power_cut_keeps_what_was_synced_and_sometimes_not_the_rest() {
    let (durable, written) = (vec![1; 9000], vec![2; 20_000]);
    let mut random = Random(1);
    let mut seen = [false; 2];
    for _ in 0..50 {
        let mixed = mix(&durable, &written, &mut || random.below(2) == 0);
        seen[0] |= mixed.len() == durable.len();
        seen[1] |= mixed.contains(&1) && mixed.contains(&2);
    }
    assert_eq!(seen, [true; 2]);
    assert_eq!(mix(&durable, &durable, &mut || random.below(2) == 0), durable);
}
