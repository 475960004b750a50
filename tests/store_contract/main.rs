//! What every store promises (`docs/spec-store.md`), and what only the embedded one can break.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

mod ahead;
mod closing;
mod contract;
mod damage;
mod faults;
mod folder;
mod power;
mod reader;
mod rewrite;
mod room;
mod speed;
mod subject;
mod writer;
