//! What a disk holds: now, and after the power is gone.
//!
//! Nothing is kept that was not asked for. Written pages, and the length of a file, count after
//! `fsync` of that file; that a name is new, gone or another counts after `fsync` of its folder.
//! What was not asked for may have reached the disk all the same: [`Survival`] decides.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};

use fuser::Errno;
use syncline_tests::Random;

use crate::content::Content;

/// The folder that holds everything.
pub(crate) const ROOT: u64 = 1;

/// What becomes of that which nobody asked to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Survival {
    /// Nothing of it survives.
    Lost,
    /// All of it survives.
    Kept,
    /// Each page, each length and each change of a name survives or does not. Changes of the same
    /// name keep their order.
    Random,
}

impl Survival {
    pub(crate) const ALL: [Self; 3] = [Self::Lost, Self::Random, Self::Kept];
}

/// How much a cut took away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Forgotten {
    pub(crate) pages: u64,
    pub(crate) names: u64,
}

/// A file or a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File { bytes: u64 },
    Folder,
}

/// A tree of files in memory.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    nodes: BTreeMap<u64, Node>,
    /// Changes of names that are not durable, oldest first.
    changes: Vec<Change>,
    next: u64,
    /// Whether `fsync` does what it says.
    is_honest: bool,
}

#[derive(Clone, Debug)]
enum Node {
    File(File),
    Folder(Folder),
}

#[derive(Clone, Debug, Default)]
struct File {
    now: Content,
    durable: Content,
    /// Pages that may differ between the two.
    dirty: BTreeSet<u64>,
}

#[derive(Clone, Debug, Default)]
struct Folder {
    now: BTreeMap<OsString, u64>,
    durable: BTreeMap<OsString, u64>,
}

/// Names that change together or not at all: folder, name, and what it stands for from then on.
#[derive(Clone, Debug)]
struct Change(Vec<(u64, OsString, Option<u64>)>);

impl Change {
    fn touches(&self, folder: u64) -> bool {
        self.0.iter().any(|(of, ..)| *of == folder)
    }

    fn shares_a_name(&self, other: &Self) -> bool {
        let names = || other.0.iter().map(|(folder, name, _)| (folder, name));
        self.0.iter().any(|(folder, name, _)| names().any(|other| other == (folder, name)))
    }
}

impl Image {
    pub(crate) fn new(is_honest: bool) -> Self {
        let nodes = BTreeMap::from([(ROOT, Node::Folder(Folder::default()))]);
        Self { nodes, changes: Vec::new(), next: ROOT + 1, is_honest }
    }

    pub(crate) fn kind(&self, node: u64) -> Result<Kind, Errno> {
        match self.nodes.get(&node).ok_or(Errno::ENOENT)? {
            Node::File(file) => Ok(Kind::File { bytes: file.now.len() }),
            Node::Folder(_) => Ok(Kind::Folder),
        }
    }

    pub(crate) fn find(&self, folder: u64, name: &OsStr) -> Result<u64, Errno> {
        self.folder(folder)?.now.get(name).copied().ok_or(Errno::ENOENT)
    }

    /// The names in a folder, in order.
    pub(crate) fn list(&self, folder: u64) -> Result<Vec<(OsString, u64)>, Errno> {
        let names = &self.folder(folder)?.now;
        Ok(names.iter().map(|(name, node)| (name.clone(), *node)).collect())
    }

    pub(crate) fn create_file(&mut self, folder: u64, name: &OsStr) -> Result<u64, Errno> {
        self.create(folder, name, Node::File(File::default()))
    }

    pub(crate) fn create_folder(&mut self, folder: u64, name: &OsStr) -> Result<u64, Errno> {
        self.create(folder, name, Node::Folder(Folder::default()))
    }

    fn create(&mut self, folder: u64, name: &OsStr, node: Node) -> Result<u64, Errno> {
        if self.folder(folder)?.now.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        let number = self.next;
        self.next += 1;
        self.nodes.insert(number, node);
        self.change(Change(vec![(folder, name.to_owned(), Some(number))]));
        Ok(number)
    }

    pub(crate) fn remove_file(&mut self, folder: u64, name: &OsStr) -> Result<(), Errno> {
        if self.kind(self.find(folder, name)?)? == Kind::Folder {
            return Err(Errno::EISDIR);
        }
        self.change(Change(vec![(folder, name.to_owned(), None)]));
        Ok(())
    }

    pub(crate) fn remove_folder(&mut self, folder: u64, name: &OsStr) -> Result<(), Errno> {
        if !self.folder(self.find(folder, name)?)?.now.is_empty() {
            return Err(Errno::ENOTEMPTY);
        }
        self.change(Change(vec![(folder, name.to_owned(), None)]));
        Ok(())
    }

    pub(crate) fn rename(
        &mut self,
        (folder, name): (u64, &OsStr),
        (to_folder, to_name): (u64, &OsStr),
    ) -> Result<(), Errno> {
        let node = self.find(folder, name)?;
        match (self.kind(node)?, self.find(to_folder, to_name).ok()) {
            (_, None) => {}
            (_, Some(target)) if target == node => return Ok(()),
            (Kind::File { .. }, Some(target)) if self.folder(target).is_ok() => {
                return Err(Errno::EISDIR);
            }
            (Kind::File { .. }, Some(_)) => {}
            (Kind::Folder, Some(target)) if !self.folder(target)?.now.is_empty() => {
                return Err(Errno::ENOTEMPTY);
            }
            (Kind::Folder, Some(_)) => {}
        }
        self.change(Change(vec![
            (folder, name.to_owned(), None),
            (to_folder, to_name.to_owned(), Some(node)),
        ]));
        Ok(())
    }

    fn change(&mut self, change: Change) {
        for (folder, name, node) in &change.0 {
            if let Some(Node::Folder(folder)) = self.nodes.get_mut(folder) {
                set(&mut folder.now, name, *node);
            }
        }
        self.changes.push(change);
    }

    pub(crate) fn read(&self, file: u64, offset: u64, bytes: usize) -> Result<Vec<u8>, Errno> {
        Ok(self.file(file)?.now.read(offset, bytes))
    }

    pub(crate) fn write(&mut self, file: u64, offset: u64, data: &[u8]) -> Result<(), Errno> {
        let file = self.file_mut(file)?;
        file.now.write(offset, data, &mut file.dirty);
        Ok(())
    }

    pub(crate) fn set_len(&mut self, file: u64, bytes: u64) -> Result<(), Errno> {
        let file = self.file_mut(file)?;
        file.now.set_len(bytes, &mut file.dirty);
        Ok(())
    }

    /// What was written to this file, or became of the names in this folder, is durable from here
    /// on; or only said to be.
    pub(crate) fn sync(&mut self, node: u64) -> Result<(), Errno> {
        self.kind(node)?;
        if !self.is_honest {
            return Ok(());
        }
        match self.nodes.get_mut(&node) {
            Some(Node::File(file)) => {
                for page in std::mem::take(&mut file.dirty) {
                    file.durable.copy_page(page, &file.now);
                }
                file.durable.set_len(file.now.len(), &mut BTreeSet::new());
            }
            Some(Node::Folder(_)) | None => self.sync_names(node),
        }
        Ok(())
    }

    /// A change takes along those before it that it builds on.
    fn sync_names(&mut self, folder: u64) {
        let mut taken: Vec<Change> = Vec::new();
        let mut left = Vec::new();
        for change in std::mem::take(&mut self.changes).into_iter().rev() {
            let is_due =
                change.touches(folder) || taken.iter().any(|later| later.shares_a_name(&change));
            if is_due { taken.push(change) } else { left.push(change) }
        }
        left.reverse();
        self.changes = left;
        for change in taken.into_iter().rev() {
            self.make_durable(&change);
        }
    }

    fn make_durable(&mut self, change: &Change) {
        for (folder, name, node) in &change.0 {
            if let Some(Node::Folder(folder)) = self.nodes.get_mut(folder) {
                set(&mut folder.durable, name, *node);
            }
        }
    }

    /// What is there when the power is back.
    pub(crate) fn after_a_cut(
        mut self,
        survival: Survival,
        random: &mut Random,
    ) -> (Self, Forgotten) {
        let mut forgotten = Forgotten::default();
        let mut survives = |count: &mut u64| {
            let survives = match survival {
                Survival::Lost => false,
                Survival::Kept => true,
                Survival::Random => random.below(2) == 0,
            };
            *count += u64::from(!survives);
            survives
        };
        let mut gone: Vec<Change> = Vec::new();
        for change in std::mem::take(&mut self.changes) {
            if gone.iter().any(|earlier| earlier.shares_a_name(&change)) {
                forgotten.names += 1;
                gone.push(change);
            } else if survives(&mut forgotten.names) {
                self.make_durable(&change);
            } else {
                gone.push(change);
            }
        }
        let reachable = self.reachable();
        self.nodes.retain(|node, _| reachable.contains(node));
        for node in self.nodes.values_mut() {
            match node {
                Node::Folder(folder) => folder.now = folder.durable.clone(),
                Node::File(file) => {
                    file.cut(|| survives(&mut forgotten.pages));
                }
            }
        }
        (self, forgotten)
    }

    fn reachable(&self) -> BTreeSet<u64> {
        let mut reachable = BTreeSet::new();
        let mut next = vec![ROOT];
        while let Some(node) = next.pop() {
            if reachable.insert(node)
                && let Some(Node::Folder(folder)) = self.nodes.get(&node)
            {
                next.extend(folder.durable.values());
            }
        }
        reachable
    }

    fn folder(&self, node: u64) -> Result<&Folder, Errno> {
        match self.nodes.get(&node).ok_or(Errno::ENOENT)? {
            Node::Folder(folder) => Ok(folder),
            Node::File(_) => Err(Errno::ENOTDIR),
        }
    }

    fn file(&self, node: u64) -> Result<&File, Errno> {
        match self.nodes.get(&node).ok_or(Errno::ENOENT)? {
            Node::File(file) => Ok(file),
            Node::Folder(_) => Err(Errno::EISDIR),
        }
    }

    fn file_mut(&mut self, node: u64) -> Result<&mut File, Errno> {
        match self.nodes.get_mut(&node).ok_or(Errno::ENOENT)? {
            Node::File(file) => Ok(file),
            Node::Folder(_) => Err(Errno::EISDIR),
        }
    }
}

impl File {
    fn cut(&mut self, mut survives: impl FnMut() -> bool) {
        let Self { now, mut durable, dirty } = std::mem::take(self);
        for page in dirty {
            // A page that was cut off is gone with the old length, not before it.
            if now.has(page) && survives() {
                durable.copy_page(page, &now);
            }
        }
        let len = if durable.len() != now.len() && survives() { now.len() } else { durable.len() };
        durable.set_len(len, &mut BTreeSet::new());
        *self = Self { now: durable.clone(), durable, dirty: BTreeSet::new() };
    }
}

fn set<K: Ord + Clone, V>(map: &mut BTreeMap<K, V>, key: &K, value: Option<V>) {
    match value {
        Some(value) => drop(map.insert(key.clone(), value)),
        None => drop(map.remove(key)),
    }
}

#[cfg(test)]
mod tests;
