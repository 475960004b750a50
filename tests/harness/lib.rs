//! Shared by the test binaries: the server as a process, clients that speak the wire protocol with
//! a yrs document of their own, recorded editing sessions, and waiting with a deadline.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test that cannot set up its world should stop right there"
)]

pub mod client;
pub mod door;
pub mod jwt;
pub mod key_host;
pub mod lives;
pub mod raw;
pub mod server;
pub mod trace;

use std::time::Duration;

/// How long anything may take that should take milliseconds: the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A small random number generator (SplitMix64), so that a seed means the same everywhere.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator that always gives the same numbers for the same seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    #[expect(clippy::should_implement_trait, reason = "it never ends, so there is no Option")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }
}
