//! The map of live documents, and the order in which idle ones are unloaded.

use std::collections::{BTreeMap, HashMap};

use syncline_protocol::DocumentName;

use crate::document::mailbox::Mailbox;

#[derive(Debug, Default)]
pub(super) struct Registry {
    documents: HashMap<DocumentName, LiveDocument>,
    /// Documents without a session, the one idle for longest first. A document that was asked to
    /// end is no longer among them.
    idle: BTreeMap<u64, DocumentName>,
    /// Counts up each time that a document becomes idle.
    idle_since: u64,
}

#[derive(Debug)]
struct LiveDocument {
    mailbox: Mailbox,
    /// Its key in `idle`.
    idle_since: Option<u64>,
}

impl Registry {
    pub(super) fn get(&self, name: &DocumentName) -> Option<&Mailbox> {
        self.documents.get(name).map(|document| &document.mailbox)
    }

    /// Adds a document that a session is about to join.
    pub(super) fn insert(&mut self, name: DocumentName, mailbox: Mailbox) {
        self.documents.insert(name, LiveDocument { mailbox, idle_since: None });
    }

    pub(super) fn remove(&mut self, name: &DocumentName) {
        self.joined(name);
        self.documents.remove(name);
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &DocumentName> {
        self.documents.keys()
    }

    pub(super) fn len(&self) -> usize {
        self.documents.len()
    }

    pub(super) fn idle(&self) -> usize {
        self.idle.len()
    }

    /// Documents that have a session, or that are ending.
    pub(super) fn in_use(&self) -> usize {
        self.len() - self.idle()
    }

    /// Takes a document out of the idle ones.
    pub(super) fn joined(&mut self, name: &DocumentName) {
        let document = self.documents.get_mut(name);
        if let Some(since) = document.and_then(|document| document.idle_since.take()) {
            self.idle.remove(&since);
        }
    }

    /// Makes a document the most recent of the idle ones, unless it is idle already.
    pub(super) fn left(&mut self, name: &DocumentName) {
        let Some(document) = self.documents.get_mut(name) else { return };
        if document.idle_since.is_none() {
            document.idle_since = Some(self.idle_since);
            self.idle.insert(self.idle_since, name.clone());
            self.idle_since += 1;
        }
    }

    /// Asks the documents that are idle for longest to end, until at most `idle_max` are idle.
    pub(super) fn make_room(&mut self, idle_max: usize) {
        while self.idle.len() > idle_max {
            let Some((_, name)) = self.idle.pop_first() else { return };
            let Some(document) = self.documents.get_mut(&name) else { continue };
            document.idle_since = None;
            // Without a clone of the mailbox, which would look like a session about to join.
            document.mailbox.make_room();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;
    use crate::document::mailbox::DocumentCommand;

    /// Documents that became idle in this order.
    fn left(names: &[&str]) -> (Registry, BTreeMap<DocumentName, mpsc::Receiver<DocumentCommand>>) {
        let mut registry = Registry::default();
        let mut received = BTreeMap::new();
        for name in names {
            let name: DocumentName = name.parse().unwrap();
            let (mailbox, commands) = Mailbox::new(1024);
            registry.insert(name.clone(), mailbox);
            registry.left(&name);
            received.insert(name, commands);
        }
        (registry, received)
    }

    fn asked(
        received: &mut BTreeMap<DocumentName, mpsc::Receiver<DocumentCommand>>,
    ) -> Vec<String> {
        let has_command =
            |commands: &mut mpsc::Receiver<DocumentCommand>| commands.try_recv().is_ok();
        let asked = received
            .iter_mut()
            .filter_map(|(name, commands)| has_command(commands).then_some(name));
        asked.map(ToString::to_string).collect()
    }

    #[test]
    fn edge_14_the_longest_idle_document_makes_room_first() {
        let (mut registry, mut received) = left(&["c", "a", "b", "d"]);
        registry.make_room(2);
        assert_eq!(asked(&mut received), ["a", "c"]);
        assert_eq!((registry.idle(), registry.in_use()), (2, 2), "two are ending");
        registry.make_room(2);
        assert_eq!(asked(&mut received), [""; 0], "none is asked twice");
    }

    #[test]
    fn edge_14_a_rejoined_document_is_no_longer_idle() {
        let (mut registry, mut received) = left(&["a", "b"]);
        registry.joined(&"a".parse().unwrap());
        registry.left(&"a".parse().unwrap());
        registry.left(&"a".parse().unwrap());
        registry.joined(&"b".parse().unwrap());
        registry.make_room(1);
        assert_eq!(asked(&mut received), [""; 0]);
        registry.make_room(0);
        assert_eq!(asked(&mut received), ["a"]);
        registry.remove(&"b".parse().unwrap());
        assert_eq!((registry.idle(), registry.in_use()), (0, 1));
    }
}
