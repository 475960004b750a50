//! What may be there after a cut, and what must be.

use super::*;
use crate::content::PAGE_BYTES;

const DATA: &[u8] = b"precious";

struct Disk {
    image: Image,
}

impl Disk {
    fn new() -> Self {
        Self { image: Image::new(true) }
    }

    fn create(&mut self, name: &str) -> u64 {
        self.image.create_file(ROOT, name.as_ref()).unwrap()
    }

    fn rename(&mut self, from: &str, to: &str) {
        self.image.rename((ROOT, from.as_ref()), (ROOT, to.as_ref())).unwrap();
    }

    fn cut(&self, survival: Survival, seed: u64) -> Self {
        let (image, _) = self.image.clone().after_a_cut(survival, &mut Random::new(seed));
        Self { image }
    }

    /// What survives every seed can bring.
    fn cuts(&self) -> impl Iterator<Item = Self> {
        let random = (0..200).map(|seed| self.cut(Survival::Random, seed));
        random.chain([self.cut(Survival::Lost, 0), self.cut(Survival::Kept, 0)])
    }

    fn text(&self, name: &str) -> Option<String> {
        let file = self.image.find(ROOT, name.as_ref()).ok()?;
        let data = self.image.read(file, 0, usize::MAX >> 1).unwrap();
        Some(String::from_utf8(data).unwrap())
    }
}

/// All that can be seen of `name` after a cut.
fn outcomes(disk: &Disk, name: &str) -> BTreeSet<Option<String>> {
    disk.cuts().map(|after| after.text(name)).collect()
}

fn texts(all: &[Option<&str>]) -> BTreeSet<Option<String>> {
    all.iter().map(|text| text.map(str::to_owned)).collect()
}

#[test]
fn what_was_synced_stays() {
    let mut disk = Disk::new();
    let file = disk.create("a");
    disk.image.write(file, 0, DATA).unwrap();
    disk.image.sync(file).unwrap();
    disk.image.sync(ROOT).unwrap();
    assert_eq!(outcomes(&disk, "a"), texts(&[Some("precious")]));
}

#[test]
fn a_synced_file_without_its_name_may_vanish() {
    let mut disk = Disk::new();
    let file = disk.create("a");
    disk.image.write(file, 0, DATA).unwrap();
    disk.image.sync(file).unwrap();
    assert_eq!(outcomes(&disk, "a"), texts(&[None, Some("precious")]));
}

#[test]
fn pages_and_lengths_survive_each_for_itself() {
    let mut disk = Disk::new();
    let file = disk.create("a");
    disk.image.sync(ROOT).unwrap();
    disk.image.write(file, 0, DATA).unwrap();
    let zeros = "\0".repeat(DATA.len());
    assert_eq!(outcomes(&disk, "a"), texts(&[Some(""), Some("precious"), Some(&zeros)]));
    disk.image.sync(file).unwrap();
    disk.image.write(file, PAGE_BYTES as u64 - 1, b"xy").unwrap();
    assert_eq!(outcomes(&disk, "a").len(), 5, "the old, and each page with each new length");
}

#[test]
fn a_rename_happens_whole_or_not() {
    let mut disk = Disk::new();
    for name in ["a", "b"] {
        let file = disk.create(name);
        disk.image.write(file, 0, name.as_bytes()).unwrap();
        disk.image.sync(file).unwrap();
    }
    disk.image.sync(ROOT).unwrap();
    disk.rename("a", "b");
    for after in disk.cuts() {
        let seen = (after.text("a"), after.text("b"));
        let before = (Some("a".to_owned()), Some("b".to_owned()));
        assert!(seen == before || seen == (None, Some("a".to_owned())), "{seen:?}");
    }
    disk.image.sync(ROOT).unwrap();
    assert_eq!(outcomes(&disk, "b"), texts(&[Some("a")]));
    assert_eq!(outcomes(&disk, "a"), texts(&[None]));
}

#[test]
fn changes_of_one_name_keep_their_order() {
    let mut disk = Disk::new();
    for number in ["1", "2"] {
        let file = disk.create("new");
        disk.image.write(file, 0, number.as_bytes()).unwrap();
        disk.image.sync(file).unwrap();
        disk.rename("new", "a");
    }
    assert_eq!(outcomes(&disk, "a"), texts(&[None, Some("1"), Some("2")]));
}

#[test]
fn a_folder_takes_what_is_in_it_along() {
    let mut disk = Disk::new();
    let folder = disk.image.create_folder(ROOT, "d".as_ref()).unwrap();
    disk.image.create_file(folder, "a".as_ref()).unwrap();
    disk.image.sync(folder).unwrap();
    let found = |disk: &Disk| disk.image.find(folder, "a".as_ref()).is_ok();
    assert!(disk.cuts().any(|after| found(&after)) && !disk.cuts().all(|after| found(&after)));
    assert!(disk.image.remove_folder(ROOT, "d".as_ref()).is_err(), "it is not empty");
    disk.image.sync(ROOT).unwrap();
    assert!(disk.cuts().all(|after| found(&after)));
}

#[test]
fn a_move_between_folders_takes_along_what_it_builds_on() {
    let mut disk = Disk::new();
    let folder = disk.image.create_folder(ROOT, "d".as_ref()).unwrap();
    disk.image.sync(ROOT).unwrap();
    disk.create("a");
    disk.image.rename((ROOT, "a".as_ref()), (folder, "b".as_ref())).unwrap();
    disk.image.sync(folder).unwrap();
    for after in disk.cuts() {
        assert!(after.image.find(folder, "b".as_ref()).is_ok());
        assert!(after.image.find(ROOT, "a".as_ref()).is_err());
    }
}

#[test]
fn a_shorter_file_does_not_come_back_behind_its_end() {
    let mut disk = Disk::new();
    let file = disk.create("a");
    disk.image.write(file, 0, DATA).unwrap();
    disk.image.set_len(file, 3).unwrap();
    disk.image.set_len(file, 5).unwrap();
    assert_eq!(disk.text("a").unwrap(), "pre\0\0");
}

#[test]
fn a_liar_keeps_nothing() {
    let mut disk = Disk { image: Image::new(false) };
    disk.create("a");
    disk.image.sync(ROOT).unwrap();
    assert_eq!(disk.cut(Survival::Lost, 0).text("a"), None);
    assert_eq!(disk.text("a").unwrap(), "");
}
