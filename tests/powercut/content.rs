//! The bytes of a file, in pages that several contents may share.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The unit that reaches a disk whole or not at all.
pub(crate) const PAGE_BYTES: usize = 4096;

/// A page that is not there is all zeros.
#[derive(Clone, Debug, Default)]
pub(crate) struct Content {
    bytes: u64,
    pages: BTreeMap<u64, Arc<[u8; PAGE_BYTES]>>,
}

impl Content {
    pub(crate) fn len(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn has(&self, page: u64) -> bool {
        self.pages.contains_key(&page)
    }

    /// Takes over a page from `other`, without its length.
    pub(crate) fn copy_page(&mut self, page: u64, other: &Self) {
        match other.pages.get(&page) {
            Some(data) => self.pages.insert(page, Arc::clone(data)),
            None => self.pages.remove(&page),
        };
    }

    pub(crate) fn read(&self, offset: u64, bytes: usize) -> Vec<u8> {
        let end = self.bytes.min(offset.saturating_add(bytes as u64));
        let mut data = vec![0; end.saturating_sub(offset) as usize];
        for (page, in_page, in_data) in spans(offset, data.len()) {
            if let Some(page) = self.pages.get(&page) {
                data[in_data].copy_from_slice(&page[in_page]);
            }
        }
        data
    }

    /// `dirty` gets the pages that change.
    pub(crate) fn write(&mut self, offset: u64, data: &[u8], dirty: &mut BTreeSet<u64>) {
        for (page, in_page, in_data) in spans(offset, data.len()) {
            dirty.insert(page);
            let page = self.pages.entry(page).or_insert_with(|| Arc::new([0; PAGE_BYTES]));
            Arc::make_mut(page)[in_page].copy_from_slice(&data[in_data]);
        }
        self.bytes = self.bytes.max(offset + data.len() as u64);
    }

    /// What lies behind the end of a file is zeros when the file grows again.
    pub(crate) fn set_len(&mut self, bytes: u64, dirty: &mut BTreeSet<u64>) {
        let whole = bytes.div_ceil(PAGE_BYTES as u64);
        dirty.extend(self.pages.split_off(&whole).into_keys());
        let rest = bytes as usize % PAGE_BYTES;
        if rest > 0
            && let Some(page) = self.pages.get_mut(&(whole - 1))
            && page[rest..].iter().any(|byte| *byte != 0)
        {
            Arc::make_mut(page)[rest..].fill(0);
            dirty.insert(whole - 1);
        }
        self.bytes = bytes;
    }
}

/// Which part of which page holds which part of `bytes` bytes at `offset`.
fn spans(
    offset: u64,
    bytes: usize,
) -> impl Iterator<Item = (u64, std::ops::Range<usize>, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let start = at as usize % PAGE_BYTES;
        let length = (PAGE_BYTES - start).min(bytes - done);
        let span = (at / PAGE_BYTES as u64, start..start + length, done..done + length);
        done += length;
        (length > 0).then_some(span)
    })
}

#[test]
fn it_reads_like_a_file() {
    let mut content = Content::default();
    let mut dirty = BTreeSet::new();
    let mut random = syncline_tests::Random::new(5);
    let mut model: Vec<u8> = Vec::new();
    for _ in 0..500 {
        let (offset, length) = (random.below(40_000) as usize, random.below(9_000) as usize);
        if random.below(4) == 0 {
            model.resize(offset, 0);
            content.set_len(offset as u64, &mut dirty);
        } else {
            let data: Vec<u8> = (0..length).map(|_| random.below(256) as u8).collect();
            // Writing nothing does not make a file longer.
            if length > 0 {
                model.resize(model.len().max(offset + length), 0);
                model[offset..offset + length].copy_from_slice(&data);
                content.write(offset as u64, &data, &mut dirty);
            }
        }
        assert_eq!(content.read(0, 1 << 20), model);
        let (from, length) = (random.below(50_000) as usize, random.below(9_000) as usize);
        let (start, end) = (from.min(model.len()), (from + length).min(model.len()));
        let part = content.read(from as u64, length);
        assert_eq!(part, model[start..end.max(start)]);
    }
}
