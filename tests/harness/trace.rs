//! Recorded editing sessions (github.com/josephg/editing-traces, CC BY 4.0; credits in
//! `tests/README.md`). They are not part of the repository: where they are absent, a generated
//! session takes their place and the test says so.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use flate2::read::GzDecoder;
use serde::Deserialize;

use crate::Random;

/// An editing session.
#[derive(Clone, Debug, Deserialize)]
pub struct Trace {
    /// The text at the end.
    #[serde(rename = "endContent")]
    pub end: String,
    /// The edits, each after the ones it builds on.
    pub txns: Vec<Txn>,
}

/// One edit.
#[derive(Clone, Debug, Deserialize)]
pub struct Txn {
    /// The edits it builds on; empty in a sequential session.
    #[serde(default)]
    pub parents: Vec<usize>,
    /// Who made it.
    #[serde(default)]
    pub agent: usize,
    /// Position, characters deleted, text inserted.
    pub patches: Vec<(u32, u32, String)>,
}

/// A session by its file name, without `.json.gz`; or a generated one.
#[must_use]
pub fn load(name: &str) -> Trace {
    let path = folder().join(format!("{name}.json.gz"));
    match File::open(&path) {
        Ok(file) => {
            let mut json = String::new();
            GzDecoder::new(file).read_to_string(&mut json).expect("it is gzip");
            serde_json::from_str(&json).expect("it is a trace")
        }
        Err(_) => {
            announce_absence(name);
            generated(name)
        }
    }
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/traces")
}

#[expect(clippy::print_stderr, reason = "whoever runs the tests has to know")]
fn announce_absence(name: &str) {
    eprintln!(
        "SKIPPED the recorded session {name}: {} does not hold it. Get it from \
         github.com/josephg/editing-traces; a generated session takes its place.",
        folder().display()
    );
}

/// A session of one or two people, with the shape of `name`.
fn generated(name: &str) -> Trace {
    if name.ends_with("concurrent") { generated_concurrent() } else { generated_sequential() }
}

fn generated_sequential() -> Trace {
    let mut random = Random::new(1);
    let mut text = String::new();
    let mut txns = Vec::new();
    for _ in 0..20_000 {
        let at = random.below(text.len() as u64 + 1) as usize;
        let deleted = if random.below(4) == 0 { usize::from(at < text.len()) } else { 0 };
        let inserted = if deleted == 0 {
            char::from(b'a' + random.below(26) as u8).to_string()
        } else {
            String::new()
        };
        text.replace_range(at..at + deleted, &inserted);
        txns.push(Txn {
            parents: vec![],
            agent: 0,
            patches: vec![(at as u32, deleted as u32, inserted)],
        });
    }
    Trace { end: text, txns }
}

/// Two people who type at opposite ends of the text, and hear of each other now and then.
fn generated_concurrent() -> Trace {
    let mut txns = vec![Txn { parents: vec![], agent: 0, patches: vec![(0, 0, "|".to_owned())] }];
    let mut heads = [0, 0];
    let (mut left, mut right) = (String::new(), String::new());
    let mut heard = 0;
    for round in 0..4_000 {
        let agent = round % 2;
        let mut parents = vec![heads[agent]];
        let character = char::from(b'a' + (round % 26) as u8);
        let at = if agent == 0 {
            left.push(character);
            0
        } else {
            if round % 14 == 1 && heads[0] > heads[1] {
                parents.push(heads[0]);
                heard = left.len();
            }
            right.push(character);
            (heard + right.len()) as u32
        };
        heads[agent] = txns.len();
        txns.push(Txn { parents, agent, patches: vec![(at, 0, character.to_string())] });
    }
    let left: String = left.chars().rev().collect();
    Trace { end: format!("{left}|{right}"), txns }
}
