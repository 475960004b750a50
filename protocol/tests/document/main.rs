//! Scenarios of one document, given by inputs and checked by effects. Each is named after the
//! rule of `docs/spec-document.md` that it checks.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::panic, reason = "a test fails by panicking")]
#![expect(clippy::indexing_slicing, reason = "a test fails by panicking")]

mod check;
mod epoch;
mod grant;
mod hostile;
mod life;
#[path = "../seeds/mod.rs"]
mod listed;
mod load;
mod merge;
mod presence;
mod quarantine;
mod scene;
mod slow;
mod stall;
mod stamp;
mod store;
mod sync;
mod write;
