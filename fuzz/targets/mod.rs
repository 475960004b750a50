//! What is fuzzed: each target takes bytes and panics if a promise is broken. `tests/fuzz` runs
//! them over the corpus, `fuzz/run` under libFuzzer.

mod document;
mod frame;
mod name;
mod nonsense;
mod validate;

/// A target and its name.
pub(crate) type Target = (&'static str, fn(&[u8]));

/// Every target that needs nothing but the protocol, and its name. `token.rs` needs the server.
pub(crate) const ALL: &[Target] = &[
    ("document", document::run),
    ("frame", frame::run),
    ("name", name::run),
    ("validate", validate::run),
];
