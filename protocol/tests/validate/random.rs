//! Sessions of real clients: several people edit all shared types at once, and nothing is refused.
#![expect(clippy::disallowed_types, reason = "a macro of yrs builds its maps")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use syncline_protocol::validate::{Budget, Fit, walk_state_vector, walk_update};
use yrs::types::Attrs;
use yrs::updates::decoder::Decode;
use yrs::updates::encoder::Encode;
use yrs::{
    Any, Array, ArrayPrelim, Doc, GetString, Map, MapPrelim, ReadTxn, Text, TextPrelim, Transact,
    TransactionMut, Update, Xml, XmlElementPrelim, XmlFragment, XmlTextPrelim, any,
};

use crate::pipeline::{Outcome, Replica, doc, encode, state_vector};

/// A generator of numbers that are random enough (splitmix64).
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    fn at(&mut self, len: u32) -> u32 {
        u32::try_from(self.below(u64::from(len) + 1)).unwrap()
    }
}

/// One person's document, and the updates that it has produced.
struct Peer {
    doc: Doc,
    sent: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Peer {
    fn new(client: u64) -> Self {
        let doc = doc(client);
        let sent = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&sent);
        doc.observe_update_v1("log", move |_, event| {
            log.lock().unwrap().push(event.update.clone());
        })
        .unwrap();
        Self { doc, sent }
    }

    fn edit(&self, rng: &mut Rng) -> Vec<Vec<u8>> {
        let roots = (
            self.doc.get_or_insert_text("t"),
            self.doc.get_or_insert_map("m"),
            self.doc.get_or_insert_array("a"),
            self.doc.get_or_insert_xml_fragment("x"),
        );
        let mut txn = self.doc.transact_mut();
        for _ in 0..=rng.below(2) {
            match rng.below(12) {
                0..5 => edit_text(rng, &mut txn, &roots.0),
                5..8 => edit_map(rng, &mut txn, &roots.1),
                8..10 => edit_array(rng, &mut txn, &roots.2),
                _ => edit_xml(rng, &mut txn, &roots.3),
            }
        }
        drop(txn);
        std::mem::take(&mut *self.sent.lock().unwrap())
    }

    /// Applies the updates of `from` that this peer lacks.
    fn pull(&self, from: &Self) {
        let diff = from.doc.transact().encode_diff_v1(&self.doc.transact().state_vector());
        self.doc.transact_mut().apply_update(Update::decode_v1(&diff).unwrap()).unwrap();
        self.sent.lock().unwrap().clear();
    }
}

fn edit_text(rng: &mut Rng, txn: &mut TransactionMut<'_>, text: &yrs::TextRef) {
    let len = text.len(txn);
    let at = rng.at(len);
    let bold = Attrs::from([("bold".into(), [Any::Bool(true), Any::Null][rng.index(2)].clone())]);
    match rng.below(6) {
        0 | 1 => text.insert(txn, at, ["a", "hello ", "\u{e9}\u{20ac}", "z"][rng.index(4)]),
        2 => text.insert_with_attributes(txn, at, "bold", bold),
        3 => {
            text.insert_embed(txn, at, any!({"image": ["x", 1, null]}));
        }
        4 if at < len => text.remove_range(txn, at, 1 + rng.at(2.min(len - at - 1))),
        5 if at < len => text.format(txn, at, 1 + rng.at(len - at - 1), bold),
        _ => {}
    }
}

fn edit_map(rng: &mut Rng, txn: &mut TransactionMut<'_>, map: &yrs::MapRef) {
    let key = ["k", "l", "n"][rng.index(3)];
    match rng.below(5) {
        0 => {
            map.insert(txn, key, any!({"deep": [[1.5, "x"], {"y": true}]}));
        }
        1 => {
            map.insert(txn, key, Any::Buffer(vec![0, 255].into()));
        }
        2 => {
            let nested = map.insert(txn, key, MapPrelim::default());
            nested.insert(txn, "inner", TextPrelim::new("nested"));
        }
        3 => {
            map.insert(txn, key, Any::Undefined);
        }
        _ => drop(map.remove(txn, key)),
    }
}

fn edit_array(rng: &mut Rng, txn: &mut TransactionMut<'_>, array: &yrs::ArrayRef) {
    let len = array.len(txn);
    let at = rng.at(len);
    match rng.below(4) {
        0 => array.insert_range(txn, at, [Any::from(1), Any::from("two"), Any::Null]),
        1 => {
            array.insert(txn, at, ArrayPrelim::from([1, 2, 3]));
        }
        _ if at < len => array.remove_range(txn, at, 1),
        _ => {}
    }
}

fn edit_xml(rng: &mut Rng, txn: &mut TransactionMut<'_>, xml: &yrs::XmlFragmentRef) {
    let len = xml.len(txn);
    let at = rng.at(len);
    match rng.below(3) {
        0 => {
            let element = xml.insert(txn, at, XmlElementPrelim::empty("p"));
            element.insert_attribute(txn, "class", "wide");
            element.push_back(txn, XmlTextPrelim::new("text"));
        }
        1 => {
            xml.insert(txn, at, XmlTextPrelim::new("loose"));
        }
        _ if at < len => xml.remove_range(txn, at, 1),
        _ => {}
    }
}

/// The updates of three people, in an order in which a server could receive them.
pub(crate) fn honest_session(seed: u64, rounds: usize) -> Vec<Vec<u8>> {
    let mut rng = Rng::new(seed);
    let peers = [1, 1 << 31, (1 << 53) - 1].map(Peer::new);
    let mut updates = Vec::new();
    for _ in 0..rounds {
        let peer = &peers[rng.index(peers.len())];
        updates.extend(peer.edit(&mut rng));
        if rng.below(3) == 0 {
            peer.pull(&peers[rng.index(peers.len())].clone_doc());
        }
    }
    updates
}

impl Peer {
    /// A copy to pull from, so that a peer may pull from itself.
    fn clone_doc(&self) -> Self {
        let copy = Self::new(0);
        copy.doc
            .transact_mut()
            .apply_update(Update::decode_v1(&encode(&self.doc)).unwrap())
            .unwrap();
        copy
    }
}

#[test]
fn honest_updates_are_ready_and_say_what_yrs_says() {
    for seed in 0..60 {
        let mut replica = Replica::new(Budget::LIVE);
        for (number, bytes) in honest_session(seed, 120).iter().enumerate() {
            let facts = walk_update(bytes, &Budget::LIVE)
                .unwrap_or_else(|error| panic!("seed {seed}, update {number}: {error}"));
            let update = Update::decode_v1(bytes).unwrap();
            assert_eq!(facts.deletes, !update.delete_set().is_empty());
            assert_eq!(facts.fit(&replica.known), Fit::Ready, "seed {seed}, update {number}");
            assert_eq!(replica.deliver(bytes), Outcome::Applied);
            assert_eq!(state_vector(&replica.doc), replica.known, "seed {seed}, update {number}");
            if facts.deletes {
                assert_eq!(facts.fit(&replica.known), Fit::Ready);
            } else {
                assert_eq!(facts.fit(&replica.known), Fit::Known);
            }
        }
        replica.check();
    }
}

#[test]
fn differences_and_state_vectors_pass() {
    for seed in 100..130 {
        let mut replica = Replica::new(Budget::LIVE);
        let mut states = vec![yrs::StateVector::default()];
        for bytes in honest_session(seed, 80) {
            replica.deliver(&bytes);
            states.push(replica.doc.transact().state_vector());
        }
        for state in &states {
            let known = walk_state_vector(&state.encode_v1()).unwrap();
            let diff = replica.doc.transact().encode_diff_v1(state);
            let facts = walk_update(&diff, &Budget::SYNC).unwrap();
            assert_ne!(facts.fit(&known), Fit::Incomplete, "seed {seed}");
            let mut reached = known;
            facts.advance(&mut reached);
            assert_eq!(reached, replica.known, "seed {seed}");
        }
    }
}

/// Updates that arrive in any order: an incomplete one is delivered again later, and in the end all
/// documents are equal.
#[test]
fn an_order_with_holes_converges_with_nothing_pending() {
    for seed in 200..230 {
        let updates = honest_session(seed, 60);
        let mut expected = Replica::new(Budget::LIVE);
        for bytes in &updates {
            expected.deliver(bytes);
        }
        let mut rng = Rng::new(seed);
        let mut waiting: BTreeMap<u64, &Vec<u8>> =
            updates.iter().map(|update| (rng.next(), update)).collect();
        let mut replica = Replica::new(Budget::LIVE);
        while !waiting.is_empty() {
            let before = waiting.len();
            waiting.retain(|_, bytes| replica.deliver(bytes) == Outcome::Incomplete);
            assert!(waiting.len() < before, "seed {seed}: nothing fits any more");
        }
        replica.check();
        assert_eq!(encode(&replica.doc).len(), encode(&expected.doc).len(), "seed {seed}");
        let text = |replica: &Replica| {
            let text = replica.doc.get_or_insert_text("t");
            text.get_string(&replica.doc.transact())
        };
        assert_eq!(text(&replica), text(&expected), "seed {seed}");
    }
}
