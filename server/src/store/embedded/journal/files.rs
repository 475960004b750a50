//! The segment files that are open for reading: a bounded number of them.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::store::embedded::journal::lock;

/// Files that are held open at most, beside those that reads are using at the moment.
const OPEN_MAX: usize = 64;

/// Open files by the number of their segment, the one used last at the end.
#[derive(Debug, Default)]
pub(super) struct Files(Mutex<Vec<(u64, Arc<File>)>>);

impl Files {
    /// The file of a segment, opened unless it is open.
    pub(super) fn open(&self, number: u64, path: &Path) -> io::Result<Arc<File>> {
        let known = take(&mut lock(&self.0), number);
        let file = match known {
            Some(file) => file,
            None => Arc::new(File::open(path)?),
        };
        let mut open = lock(&self.0);
        // Somebody else may have opened it meanwhile.
        drop(take(&mut open, number));
        if open.len() >= OPEN_MAX {
            open.remove(0);
        }
        open.push((number, Arc::clone(&file)));
        Ok(file)
    }

    /// Lets go of the file of a segment that is deleted.
    pub(super) fn close(&self, number: u64) {
        drop(take(&mut lock(&self.0), number));
    }
}

fn take(open: &mut Vec<(u64, Arc<File>)>, number: u64) -> Option<Arc<File>> {
    let at = open.iter().position(|(open, _)| *open == number)?;
    Some(open.remove(at).1)
}
