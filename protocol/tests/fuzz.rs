//! Runs the fuzz targets over the committed corpus: `docs/fuzzing.md`.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a failed assumption fails the test")]
#![expect(clippy::panic, clippy::indexing_slicing, reason = "a failed assumption fails the test")]
#![expect(clippy::cast_possible_truncation, reason = "a few sessions, clients and words")]

#[path = "../../fuzz/targets/mod.rs"]
mod targets;

use std::fs;
use std::path::Path;

/// Every input of a target's corpus, on the small stack of a thread, so that recursion shows.
fn replay(target: &str) {
    let run = targets::ALL.iter().find(|(name, _)| *name == target).unwrap().1;
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut inputs: Vec<_> =
        fs::read_dir(&corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
    inputs.sort();
    assert!(inputs.len() > 5, "{} has {} inputs", corpus.display(), inputs.len());
    for input in inputs {
        let data = fs::read(&input).unwrap();
        let outcome = std::thread::spawn(move || run(&data)).join();
        assert!(outcome.is_ok(), "{} fails", input.display());
    }
}

#[test]
fn the_corpus_of_whole_documents() {
    replay("document");
}

#[test]
fn the_corpus_of_frames() {
    replay("frame");
}

#[test]
fn the_corpus_of_updates() {
    replay("validate");
}

#[test]
fn the_corpus_of_document_names() {
    replay("name");
}
