//! Yjs itself, in a Node process that answers one line of JSON with another.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

#[derive(Debug)]
pub(crate) struct Oracle {
    process: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    documents: u64,
}

impl Oracle {
    /// Starts Node; None where it or its packages are missing. `SYNCLINE_NPM_DIR` names another
    /// folder than `tests/npm`.
    pub(crate) fn start() -> Option<Self> {
        let folder = std::env::var_os("SYNCLINE_NPM_DIR").map_or_else(
            || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/npm")),
            PathBuf::from,
        );
        let script = folder.join("oracle/oracle.mjs");
        if !script.is_file() || !folder.join("node_modules/yjs").is_dir() {
            return None;
        }
        let mut process = Command::new("node")
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let requests = process.stdin.take();
        let answers = BufReader::new(process.stdout.take()?);
        Some(Self { process, requests, answers, documents: 0 })
    }

    pub(crate) fn new_document(&mut self, client: u64) -> u64 {
        self.documents += 1;
        let id = self.documents;
        self.request("new", id, json!({ "client_id": client }));
        id
    }

    /// Whether two states are the same document to Yjs.
    pub(crate) fn equal(&mut self, a: &[u8], b: &[u8]) -> bool {
        let arguments = json!({ "a": to_base64(a), "b": to_base64(b) });
        self.request("compare", 0, arguments)["equal"] == true
    }

    pub(crate) fn request(&mut self, op: &str, id: u64, mut arguments: Value) -> Value {
        arguments["op"] = op.into();
        arguments["id"] = id.into();
        writeln!(self.requests.as_mut().unwrap(), "{arguments}").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        let answer: Value = serde_json::from_str(&line).unwrap();
        assert!(answer.get("error").is_none(), "the oracle on {op}: {answer}");
        answer
    }

    pub(crate) fn updates(answer: &Value) -> Vec<Vec<u8>> {
        let updates = answer["updates"].as_array().unwrap();
        updates.iter().map(|update| from_base64(update.as_str().unwrap())).collect()
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        // The end of its input is the end of the process.
        self.requests = None;
        drop(self.process.wait());
    }
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

pub(crate) fn to_base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let value = bits >> (18 - 6 * digit) & 63;
            let filled = digit <= chunk.len();
            text.push(if filled { char::from(DIGITS[value as usize]) } else { '=' });
        }
    }
    text
}

pub(crate) fn from_base64(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for digit in text.bytes().filter(|&byte| byte != b'=') {
        let value = DIGITS.iter().position(|&known| known == digit).unwrap();
        bits = bits << 6 | u32::try_from(value).unwrap();
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    bytes
}
