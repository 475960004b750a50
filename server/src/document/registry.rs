//! Which documents are live, and which of them nobody is in.

use std::collections::{BTreeMap, HashMap};

use syncline_protocol::DocumentName;

use crate::document::mailbox::Mailbox;

#[derive(Debug, Default)]
pub(super) struct Registry {
    documents: HashMap<DocumentName, Entry>,
    /// Those that nobody is in, the one left longest ago first. Who is asked to make room is not
    /// one of them any more.
    unused: BTreeMap<u64, DocumentName>,
    /// Counts up with each document that is left.
    left: u64,
}

#[derive(Debug)]
struct Entry {
    mailbox: Mailbox,
    /// Its key in `unused`.
    left: Option<u64>,
}

impl Registry {
    pub(super) fn get(&self, name: &DocumentName) -> Option<&Mailbox> {
        self.documents.get(name).map(|entry| &entry.mailbox)
    }

    /// Adds a document that somebody is about to join.
    pub(super) fn insert(&mut self, name: DocumentName, mailbox: Mailbox) {
        self.documents.insert(name, Entry { mailbox, left: None });
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

    pub(super) fn unused(&self) -> usize {
        self.unused.len()
    }

    /// Documents that somebody is in, or that are ending.
    pub(super) fn in_use(&self) -> usize {
        self.len() - self.unused()
    }

    /// Somebody is in it.
    pub(super) fn joined(&mut self, name: &DocumentName) {
        if let Some(left) = self.documents.get_mut(name).and_then(|entry| entry.left.take()) {
            self.unused.remove(&left);
        }
    }

    /// Nobody is in it any more.
    pub(super) fn left(&mut self, name: &DocumentName) {
        let Some(entry) = self.documents.get_mut(name) else { return };
        if entry.left.is_none() {
            entry.left = Some(self.left);
            self.unused.insert(self.left, name.clone());
            self.left += 1;
        }
    }

    /// Asks those that were left longest ago to make room, until at most so many are unused.
    pub(super) fn make_room(&mut self, unused_max: usize) {
        while self.unused.len() > unused_max {
            let Some((_, name)) = self.unused.pop_first() else { return };
            let Some(entry) = self.documents.get_mut(&name) else { continue };
            entry.left = None;
            // Not by a clone, which would look as if somebody were on the way in.
            entry.mailbox.make_room();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;
    use crate::document::mailbox::DocumentCommand;

    /// Documents that have been left in this order.
    fn left(names: &[&str]) -> (Registry, BTreeMap<DocumentName, mpsc::Receiver<DocumentCommand>>) {
        let mut registry = Registry::default();
        let mut received = BTreeMap::new();
        for name in names {
            let name: DocumentName = name.parse().unwrap();
            let (mailbox, mail) = Mailbox::new(1024);
            registry.insert(name.clone(), mailbox);
            registry.left(&name);
            received.insert(name, mail);
        }
        (registry, received)
    }

    fn asked(
        received: &mut BTreeMap<DocumentName, mpsc::Receiver<DocumentCommand>>,
    ) -> Vec<String> {
        let has_mail = |mail: &mut mpsc::Receiver<DocumentCommand>| mail.try_recv().is_ok();
        let asked = received.iter_mut().filter_map(|(name, mail)| has_mail(mail).then_some(name));
        asked.map(ToString::to_string).collect()
    }

    #[test]
    fn edge_14_the_document_left_longest_ago_makes_room_first() {
        let (mut registry, mut received) = left(&["c", "a", "b", "d"]);
        registry.make_room(2);
        assert_eq!(asked(&mut received), ["a", "c"]);
        assert_eq!((registry.unused(), registry.in_use()), (2, 2), "two are ending");
        registry.make_room(2);
        assert_eq!(asked(&mut received), [""; 0], "nobody is asked twice");
    }

    #[test]
    fn edge_14_somebody_who_comes_back_keeps_a_document() {
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
        assert_eq!((registry.unused(), registry.in_use()), (0, 1));
    }
}
