//! Tests of the server as a process, over real sockets.

#![expect(
    clippy::unwrap_used,
    clippy::unwrap_in_result,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod audit;
mod crash;
mod disk;
mod edge;
mod grant;
mod isolation;
mod lifecycle;
mod measure;
mod metrics;
mod panics;
mod powercut;
mod refusal;
mod replay;
mod revoke;
mod slow;
mod strangers;
mod tokens;
mod tools;
mod wire_attacks;
mod wire_cuts;
