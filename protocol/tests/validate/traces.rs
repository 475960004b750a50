//! Real editing sessions, keystroke by keystroke.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use flate2::read::GzDecoder;
use serde::Deserialize;
use syncline_protocol::validate::{Budget, Fit, ParentIndex, StateVector, walk_update};
use yrs::updates::decoder::Decode;
use yrs::{Doc, GetString, Text, Transact, Update};

use crate::pipeline::{Outcome, Replica, doc, encode};
use crate::random::honest_session;

#[derive(Deserialize)]
struct Trace {
    #[serde(rename = "endContent")]
    end: String,
    txns: Vec<Txn>,
}

#[derive(Deserialize)]
struct Txn {
    /// Earlier transactions that this one's author had seen. Absent in sequential sessions.
    parents: Option<Vec<usize>>,
    #[serde(default)]
    agent: usize,
    patches: Vec<(u32, u32, String)>,
}

/// One person of a session: a document, what it has sent, and which transactions it has seen.
struct Author {
    doc: Doc,
    sent: Arc<Mutex<Vec<u8>>>,
    seen: Vec<bool>,
}

impl Author {
    fn new(client: u64) -> Self {
        let doc = doc(client);
        let sent = Arc::new(Mutex::new(Vec::new()));
        let latest = Arc::clone(&sent);
        doc.observe_update_v1("sent", move |_, event| {
            latest.lock().unwrap().clone_from(&event.update);
        })
        .unwrap();
        Self { doc, sent, seen: Vec::new() }
    }

    fn edit(&self, patches: &[(u32, u32, String)]) -> Vec<u8> {
        let text = self.doc.get_or_insert_text("text");
        let mut txn = self.doc.transact_mut();
        for (at, deleted, inserted) in patches {
            if *deleted > 0 {
                text.remove_range(&mut txn, *at, *deleted);
            }
            if !inserted.is_empty() {
                text.insert(&mut txn, *at, inserted);
            }
        }
        drop(txn);
        std::mem::take(&mut *self.sent.lock().unwrap())
    }

    /// Applies what the transaction's author had seen and this author has not.
    fn catch_up(&mut self, txns: &[Txn], updates: &[Vec<u8>], parents: &[usize]) {
        self.seen.resize(txns.len(), false);
        let mut missing = Vec::new();
        let mut open = parents.to_vec();
        while let Some(number) = open.pop() {
            if !std::mem::replace(&mut self.seen[number], true) {
                missing.push(number);
                open.extend(txns[number].parents.iter().flatten());
            }
        }
        missing.sort_unstable();
        let mut txn = self.doc.transact_mut();
        for number in missing {
            txn.apply_update(Update::decode_v1(&updates[number]).unwrap()).unwrap();
        }
    }
}

/// The update of every transaction, in the order of the file.
fn updates(trace: &Trace) -> Vec<Vec<u8>> {
    let mut authors = [Author::new(1_234_567_890), Author::new(3_987_654_321)];
    let mut updates = Vec::with_capacity(trace.txns.len());
    for (number, txn) in trace.txns.iter().enumerate() {
        let author = &mut authors[txn.agent];
        if let Some(parents) = &txn.parents {
            author.catch_up(&trace.txns, &updates, parents);
            author.seen[number] = true;
        }
        updates.push(author.edit(&txn.patches));
    }
    updates
}

fn replay(name: &str, updates: &[Vec<u8>]) -> Replica {
    let mut replica = Replica::new(Budget::LIVE);
    let mut known = StateVector::new();
    for (number, bytes) in updates.iter().enumerate().filter(|(_, bytes)| !bytes.is_empty()) {
        let facts = walk_update(bytes, &Budget::LIVE)
            .unwrap_or_else(|error| panic!("{name}, update {number}: {error}"));
        assert_eq!(facts.fit(&known), Fit::Ready, "{name}, update {number}");
        facts.advance(&mut known);
        assert_eq!(replica.deliver(bytes), Outcome::Applied, "{name}, update {number}");
    }
    assert_eq!(known, replica.known);
    replica.check();
    let snapshot = encode(&replica.doc);
    for budget in [Budget::LIVE, Budget::SYNC, Budget::STORED] {
        walk_update(&snapshot, &budget).unwrap();
    }
    replica
}

fn check(name: &str) {
    let path = folder().join(name);
    let Ok(file) = File::open(&path) else {
        eprintln!(
            "{} is absent, so a generated session is replayed instead. It can be had from \
             github.com/josephg/editing-traces.",
            path.display()
        );
        replay("generated", &honest_session(7, 500));
        return;
    };
    let mut json = String::new();
    GzDecoder::new(file).read_to_string(&mut json).unwrap();
    let trace: Trace = serde_json::from_str(&json).unwrap();
    let replica = replay(name, &updates(&trace));
    let runs = format!("{:?}", replica.places).matches("Run {").count();
    assert_eq!(runs, replica.known.len(), "{name}: one text is one run for each of its authors");
    let text = replica.doc.get_or_insert_text("text").get_string(&replica.doc.transact());
    // Where two people typed at one place, each CRDT has an order of its own.
    if trace.txns.iter().all(|txn| txn.parents.is_none()) {
        assert!(text == trace.end, "{name} ends with another text");
    } else {
        assert_eq!(text.len(), trace.end.len(), "{name} ends with another text");
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/traces")
}

#[test]
fn a_paper_written_by_one_person_passes() {
    check("automerge-paper.json.gz");
}

#[test]
fn a_source_file_written_by_one_person_passes() {
    check("sveltecomponent.json.gz");
}

#[test]
fn a_text_of_two_people_taking_turns_passes() {
    check("friendsforever_flat.json.gz");
}

#[test]
fn a_text_of_two_people_at_once_passes() {
    check("friendsforever-concurrent.json.gz");
}

/// `cargo test --release -p syncline-protocol --test validate -- --ignored --nocapture throughput`
#[test]
#[ignore = "a measurement"]
#[expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
fn throughput_of_the_gate_beside_yrs() {
    let path = folder().join("automerge-paper.json.gz");
    let mut json = String::new();
    GzDecoder::new(File::open(path).unwrap()).read_to_string(&mut json).unwrap();
    let updates = updates(&serde_json::from_str(&json).unwrap());
    let per_update = |start: std::time::Instant| start.elapsed().as_nanos() / updates.len() as u128;

    let start = std::time::Instant::now();
    for bytes in &updates {
        std::hint::black_box(walk_update(bytes, &Budget::LIVE).unwrap());
    }
    let walked = per_update(start);

    let start = std::time::Instant::now();
    let mut known = StateVector::new();
    for bytes in &updates {
        let facts = walk_update(bytes, &Budget::LIVE).unwrap();
        assert_eq!(facts.fit(&known), Fit::Ready);
        facts.advance(&mut known);
    }
    let fit = per_update(start);

    let start = std::time::Instant::now();
    let mut known = StateVector::new();
    let mut places = ParentIndex::default();
    for bytes in &updates {
        let facts = walk_update(bytes, &Budget::LIVE).unwrap();
        assert_eq!(facts.fit(&known), Fit::Ready);
        std::hint::black_box(places.admit(&facts, &known, bytes).unwrap());
        facts.advance(&mut known);
    }
    let admit = per_update(start);
    let runs = format!("{places:?}").matches("Run {").count();

    let start = std::time::Instant::now();
    let doc = doc(1);
    for bytes in &updates {
        doc.transact_mut().apply_update(Update::decode_v1(bytes).unwrap()).unwrap();
    }
    let yrs = per_update(start);

    let snapshot = encode(&doc);
    let start = std::time::Instant::now();
    walk_update(&snapshot, &Budget::STORED).unwrap();
    let walk = start.elapsed();
    eprintln!("walk {walked} ns, + fit {fit} ns, + places {admit} ns; yrs {yrs} ns an update");
    eprintln!("a snapshot of {} bytes: {walk:?}; {runs} runs", snapshot.len());
}
