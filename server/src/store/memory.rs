//! A store that forgets everything when it goes: for tests, and for servers inside other programs.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use syncline_protocol::{
    DocumentName, Durability, Epoch, LoggedUpdate, Sequence, Snapshot, StoredLog,
};

use crate::store::{
    AppendError, DocumentInfo, Generation, Health, LoadError, Record, Salvaged, SnapshotError,
    Store,
};

/// Documents in memory.
#[derive(Debug, Default)]
pub struct Memory {
    documents: Mutex<BTreeMap<DocumentName, Entry>>,
}

#[derive(Clone, Debug, Default)]
struct Entry {
    newest: Option<Snapshot>,
    previous: Option<Snapshot>,
    /// Those after the previous snapshot.
    updates: BTreeMap<Sequence, LoggedUpdate>,
    last: Sequence,
    /// Where the document was last written anew; 0 if never.
    origin: Sequence,
}

/// A Yjs update without anything in it.
const NOTHING: &[u8] = &[0, 0];

impl Entry {
    fn is_deleted(&self) -> bool {
        let is_nothing = |newest: &Snapshot| {
            newest.through == self.last && (newest.state.is_empty() || newest.state == NOTHING)
        };
        self.origin > Sequence::ZERO && self.newest.as_ref().is_some_and(is_nothing)
    }
}

impl Memory {
    /// A store without documents.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Every change is made as a whole, so a panic elsewhere leaves the map usable.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<DocumentName, Entry>> {
        self.documents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for Memory {
    fn load(
        &self,
        document: &DocumentName,
        generation: Generation,
    ) -> Result<StoredLog, LoadError> {
        let documents = self.lock();
        let Some(entry) = documents.get(document) else { return Ok(StoredLog::default()) };
        let snapshot = match generation {
            Generation::Newest => entry.newest.clone(),
            Generation::Previous if entry.previous.is_none() && entry.origin > Sequence::ZERO => {
                return Err(LoadError::NoPrevious { origin: entry.origin });
            }
            Generation::Previous => entry.previous.clone(),
        };
        let base = snapshot.as_ref().map_or(Sequence::ZERO, |snapshot| snapshot.through);
        let updates =
            entry.updates.range(base.next()..).map(|(_, logged)| logged.clone()).collect();
        Ok(StoredLog { epoch: Epoch::NONE, snapshot, updates })
    }

    fn salvage(&self, document: &DocumentName) -> Result<Salvaged, LoadError> {
        let log = self.load(document, Generation::Newest)?;
        Ok(Salvaged { last: log.last(), log, reason: None })
    }

    fn append(&self, records: &[Record]) -> Result<(), AppendError> {
        let mut documents = self.lock();
        let mut ends = BTreeMap::new();
        for Record { document, sequence, .. } in records {
            let stored = || documents.get(document).map_or(Sequence::ZERO, |entry| entry.last);
            let last = ends.entry(document).or_insert_with(stored);
            if *sequence != last.next() {
                let (document, last, offered) = (document.clone(), *last, *sequence);
                return Err(AppendError::OutOfOrder { document, last, offered });
            }
            *last = *sequence;
        }
        for record in records {
            let entry = documents.entry(record.document.clone()).or_default();
            entry.updates.insert(record.sequence, record.logged());
            entry.last = record.sequence;
        }
        Ok(())
    }

    fn write_snapshot(
        &self,
        document: &DocumentName,
        snapshot: &Snapshot,
    ) -> Result<(), SnapshotError> {
        let mut documents = self.lock();
        let offered = snapshot.through;
        let known = documents.get(document);
        let last = known.map_or(Sequence::ZERO, |entry| entry.last);
        if offered > last {
            return Err(SnapshotError::Ahead { last, offered });
        }
        let newest = known.and_then(|entry| entry.newest.as_ref()).map(|newest| newest.through);
        if let Some(newest) = newest.filter(|newest| *newest > offered) {
            return Err(SnapshotError::Outdated { newest, offered });
        }
        let entry = documents.entry(document.clone()).or_default();
        let replaced = entry.newest.replace(snapshot.clone());
        if newest != Some(offered) {
            entry.previous = replaced;
        }
        if let Some(previous) = &entry.previous {
            entry.updates = entry.updates.split_off(&previous.through.next());
        }
        Ok(())
    }

    fn replace_log(
        &self,
        document: &DocumentName,
        snapshot: &Snapshot,
    ) -> Result<(), SnapshotError> {
        self.write_snapshot(document, snapshot)?;
        let mut documents = self.lock();
        if let Some(entry) = documents.get_mut(document) {
            entry.previous = None;
            entry.updates = entry.updates.split_off(&snapshot.through.next());
            entry.origin = snapshot.through;
        }
        Ok(())
    }

    fn rewrite(
        &self,
        document: &DocumentName,
        _epoch: Epoch,
        state: Bytes,
    ) -> Result<Sequence, SnapshotError> {
        let mut documents = self.lock();
        let entry = documents.entry(document.clone()).or_default();
        let origin = entry.last.next();
        let newest = Some(Snapshot { through: origin, state });
        *entry = Entry { newest, last: origin, origin, ..Entry::default() };
        Ok(origin)
    }

    fn epoch(&self) -> Epoch {
        Epoch::NONE
    }

    fn durability(&self) -> Durability {
        Durability::Memory
    }

    fn documents(&self) -> Vec<DocumentInfo> {
        let info = |(name, entry): (&DocumentName, &Entry)| {
            let snapshot = entry.newest.as_ref();
            let base = snapshot.map_or(Sequence::ZERO, |snapshot| snapshot.through);
            let updates =
                entry.updates.range(base.next()..).map(|(_, logged)| logged.update.len() as u64);
            let bytes = snapshot.map_or(0, |snapshot| snapshot.state.len() as u64);
            DocumentInfo {
                name: name.clone(),
                epoch: Epoch::NONE,
                last: entry.last,
                bytes: bytes + updates.sum::<u64>(),
            }
        };
        let documents = self.lock();
        documents.iter().filter(|(_, entry)| !entry.is_deleted()).map(info).collect()
    }

    fn health(&self) -> Health {
        Health::Writable
    }

    fn close(&self) -> Result<(), AppendError> {
        Ok(())
    }
}
