//! Real Yjs as the judge: random sessions of Yjs 13 clients go through the gate and into a
//! document, and Yjs compares what comes out with what its own clients hold.
//!
//! Needs Node and `npm ci` in `tests/npm`; without them the test says that it was skipped.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use syncline_protocol::document::{LoadedDocument, verify_snapshot};
use syncline_protocol::validate::{self, Budget, Fit, StateVector};
use syncline_protocol::{LoggedUpdate, Sequence, Snapshot, StoredLog, wire};
use syncline_server::config::limits::Limits;

/// Sessions in a normal run; `SYNCLINE_ORACLE_SESSIONS` overrides it.
const SESSIONS: u64 = 10_000;

/// Node processes side by side: as many as there are cores here.
const PROCESSES: u64 = 2;

struct Oracle {
    process: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Oracle {
    fn start(script: &Path) -> Self {
        let mut process = Command::new("node")
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node starts");
        let input = process.stdin.take().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, input, output }
    }

    fn ask(&mut self, question: &Value) {
        writeln!(self.input, "{question}").unwrap();
    }

    fn answer(&mut self) -> Value {
        let line = self.output.next().expect("the oracle answers").unwrap();
        let answer: Value = serde_json::from_str(&line).unwrap();
        assert!(answer.get("error").is_none(), "{answer}");
        answer
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn script() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("npm");
    let installed = folder.join("node_modules/yjs").exists();
    installed.then(|| folder.join("oracle/oracle.mjs"))
}

fn bytes(value: &Value) -> Vec<u8> {
    BASE64.decode(value.as_str().expect("base64")).unwrap()
}

#[test]
#[expect(clippy::print_stderr, reason = "whoever runs the tests has to know what was skipped")]
fn oracle_1_every_update_of_random_yjs_sessions() {
    let Some(script) = script() else {
        eprintln!("SKIPPED: Yjs is not installed. Run `npm ci` in tests/npm.");
        return;
    };
    let sessions = std::env::var("SYNCLINE_ORACLE_SESSIONS")
        .map_or(SESSIONS, |sessions| sessions.parse().expect("a number"));
    let share = sessions.div_ceil(PROCESSES);
    let updates: usize = std::thread::scope(|scope| {
        let judges: Vec<_> = (0..PROCESSES)
            .map(|process| {
                let script = &script;
                scope.spawn(move || judge(script, process * share, share))
            })
            .collect();
        judges.into_iter().map(|judge| judge.join().unwrap()).sum()
    });
    eprintln!("{sessions} sessions, {updates} updates, none refused");
}

/// Lets Yjs judge `count` sessions from number `from` on; returns how many updates they had.
fn judge(script: &Path, from: u64, count: u64) -> usize {
    let mut oracle = Oracle::start(script);
    let mut updates = 0;
    // Asked in small portions, so that neither side has to hold much.
    let mut next = from;
    while next < from + count {
        let portion = (from + count - next).min(50);
        oracle.ask(&json!({"op": "sessions", "seed": "syncline", "count": portion, "from": next}));
        let sessions: Vec<Value> = (0..portion).map(|_| oracle.answer()).collect();
        for session in sessions {
            updates += session["updates"].as_array().unwrap().len();
            judge_one(&mut oracle, &session);
        }
        next += portion;
    }
    updates
}

fn judge_one(oracle: &mut Oracle, session: &Value) {
    let seed = &session["seed"];
    let limits = Limits::default().for_document();
    let mut known = StateVector::new();
    let mut stored = StoredLog::default();
    for (index, update) in session["updates"].as_array().unwrap().iter().enumerate() {
        let update = bytes(update);
        let facts = validate::walk_update(&update, &Budget::LIVE)
            .unwrap_or_else(|error| panic!("session {seed}, update {index}: {error}"));
        assert_ne!(facts.fit(&known), Fit::Incomplete, "session {seed}, update {index}");
        facts.advance(&mut known);
        let sequence = Sequence::new(index as u64 + 1);
        stored.updates.push(LoggedUpdate {
            sequence,
            update: update.into(),
            ..LoggedUpdate::default()
        });
    }
    let mut document = LoadedDocument::decode(&stored, &limits)
        .unwrap_or_else(|error| panic!("session {seed}: {error}"));
    let theirs = validate::walk_state_vector(&bytes(&session["state_vector"])).unwrap();
    assert_eq!(*document.state_vector(), theirs, "session {seed}: another state vector");
    assert_eq!(
        validate::walk_state_vector(&wire::encode_state_vector(&theirs)),
        Ok(theirs.clone())
    );

    let state = document.state().unwrap();
    let snapshot = Snapshot { through: document.last(), state: state.clone().into() };
    verify_snapshot(&snapshot, &theirs, &limits)
        .unwrap_or_else(|error| panic!("session {seed}: {error}"));
    oracle.ask(&json!({"op": "compare", "a": BASE64.encode(&state), "b": session["state"]}));
    let verdict = oracle.answer();
    assert_eq!(verdict["equal"], true, "session {seed}: {verdict}");
    assert_eq!(verdict["same_state"], true, "session {seed}: {verdict}");
    assert_eq!(verdict["pending"], false, "session {seed}: {verdict}");
}
