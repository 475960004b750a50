//! Validation together with yrs: valid updates must be harmless, and updates of real clients valid.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed assumption fails the test")]
#![expect(clippy::indexing_slicing, reason = "a failed assumption fails the test")]
#![expect(clippy::print_stderr, reason = "a skipped test says so")]

mod hostile;
#[path = "../seeds/mod.rs"]
mod listed;
mod pipeline;
mod random;
mod seeds;
mod traces;
