//! What is counted, for `GET /metrics`. What can be read when somebody asks is read then
//! ([`expose`]); here is the rest. The counts are the process's, as its memory and its descriptors
//! are, so that code far from the server's parts can add to them.

mod count;
pub(crate) mod expose;
pub(crate) mod labels;
mod process;

use syncline_protocol::document::UpdateOutcome;
use syncline_protocol::wire::Dialect;
use syncline_protocol::{Close, CloseCode, Limit};

use self::count::{Count, Counts, Histogram};
use self::labels::{Compared, Kind, Outcome};

pub(crate) use self::count::Label;

/// The counts of this process.
pub(crate) static METRICS: Metrics = Metrics::new();

type Words = Counts<CloseCode, { CloseCode::ALL.len() }>;
type Outcomes = Counts<Outcome, { Outcome::ALL.len() }>;

/// Upper bounds of buckets for what a disk does, in microseconds: from a fast one to one that hangs.
const DISK_MICROS: [u64; 14] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000,
    5_000_000, 30_000_000,
];

/// The same for work on a whole document.
const WORK_MICROS: [u64; 9] =
    [100, 500, 2_500, 10_000, 50_000, 250_000, 1_000_000, 5_000_000, 30_000_000];

/// The same for updates that one sync covers; the most is in `store/writer.rs`.
const BATCH: [u64; 7] = [1, 4, 16, 64, 256, 512, 1_024];

/// Has every panic counted from here on, beside what is done about it already.
pub(crate) fn count_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        METRICS.panics.add(1);
        before(panic);
    }));
}

/// Every count. The names and what they mean are in [`expose`] and in `docs/operations.md`.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) connections: Count,
    pub(crate) sessions: Counts<Dialect, { Dialect::ALL.len() }>,
    pub(crate) sessions_left: Count,
    closed: Words,
    refused: Words,
    requests_refused: Words,
    limits: Counts<Limit, { Limit::ALL.len() }>,
    pub(crate) messages: Counts<Kind, { Kind::ALL.len() }>,
    pub(crate) received_bytes: Count,
    pub(crate) frames_sent: Count,
    pub(crate) sent_bytes: Count,
    pub(crate) updates: Counts<UpdateOutcome, { UpdateOutcome::ALL.len() }>,
    pub(crate) durable: Histogram<14>,
    pub(crate) syncs: Histogram<14>,
    pub(crate) batches: Histogram<7>,
    pub(crate) stored_bytes: Count,
    pub(crate) loads: Outcomes,
    pub(crate) load_time: Histogram<9>,
    pub(crate) snapshots: Outcomes,
    pub(crate) snapshot_time: Histogram<9>,
    pub(crate) comparisons: Counts<Compared, { Compared::ALL.len() }>,
    pub(crate) quarantined: Count,
    pub(crate) panics: Count,
    pub(crate) audit_lines: Count,
    pub(crate) audit_lost: Count,
    pub(crate) audit_failures: Count,
    pub(crate) jwks: Outcomes,
    pub(crate) tickets: Count,
    pub(crate) revocations: Count,
}

impl Metrics {
    const fn new() -> Self {
        Self {
            connections: Count::new(),
            sessions: Counts::new(),
            sessions_left: Count::new(),
            closed: Counts::new(),
            refused: Counts::new(),
            requests_refused: Counts::new(),
            limits: Counts::new(),
            messages: Counts::new(),
            received_bytes: Count::new(),
            frames_sent: Count::new(),
            sent_bytes: Count::new(),
            updates: Counts::new(),
            durable: Histogram::of_micros(DISK_MICROS),
            syncs: Histogram::of_micros(DISK_MICROS),
            batches: Histogram::of_numbers(BATCH),
            stored_bytes: Count::new(),
            loads: Counts::new(),
            load_time: Histogram::of_micros(WORK_MICROS),
            snapshots: Counts::new(),
            snapshot_time: Histogram::of_micros(WORK_MICROS),
            comparisons: Counts::new(),
            quarantined: Count::new(),
            panics: Count::new(),
            audit_lines: Count::new(),
            audit_lost: Count::new(),
            audit_failures: Count::new(),
            jwks: Counts::new(),
            tickets: Count::new(),
            revocations: Count::new(),
        }
    }

    /// A limit was hit.
    pub(crate) fn hit(&self, limit: Limit) {
        self.hits(limit, 1);
    }

    /// A limit was hit so often.
    pub(crate) fn hits(&self, limit: Limit, times: u64) {
        self.limits.add(limit, times);
    }

    /// A session was closed.
    pub(crate) fn closed(&self, close: &Close) {
        self.closed.add(close.code, 1);
        close.limit.into_iter().for_each(|limit| self.hit(limit));
    }

    /// A WebSocket was refused before it was a session.
    pub(crate) fn refused(&self, close: &Close) {
        self.refused.add(close.code, 1);
        close.limit.into_iter().for_each(|limit| self.hit(limit));
    }

    /// A request that is no WebSocket was refused.
    pub(crate) fn request_refused(&self, close: &Close) {
        self.requests_refused.add(close.code, 1);
        close.limit.into_iter().for_each(|limit| self.hit(limit));
    }
}
