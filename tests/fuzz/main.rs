//! Runs the fuzz target of tokens over the committed corpus: `docs/fuzzing.md`. The other targets need
//! only the protocol, and are run by its tests.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

#[path = "../../fuzz/targets/token.rs"]
mod token;

use std::fs;
use std::path::Path;

#[test]
fn the_corpus_of_tokens() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/token");
    let inputs: Vec<_> = fs::read_dir(corpus).unwrap().collect();
    assert!(inputs.len() > 5);
    for input in inputs {
        token::run(&fs::read(input.unwrap().path()).unwrap());
    }
}
