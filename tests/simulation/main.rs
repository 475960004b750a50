//! Whole lives of a document, each drawn from a seed: clients that write, come and go, a network
//! and a store that fail, and a server that dies, on a clock that jumps from event to event.
//!
//! `SYNCLINE_SIM_SEEDS=n` runs the first n seeds, `SYNCLINE_SIM_SEED=n` replays one and prints what
//! happens in it.
#![expect(clippy::unwrap_used, reason = "a simulation fails by panicking")]
#![expect(clippy::expect_used, reason = "a simulation fails by panicking")]
#![expect(clippy::panic, reason = "a simulation fails by panicking")]
#![expect(clippy::indexing_slicing, reason = "a simulation fails by panicking")]

mod awareness;
mod client;
mod copy;
mod faults;
mod invariants;
mod network;
mod oracle;
mod random;
mod server;
mod stats;
mod store;
mod world;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once};

use crate::oracle::Oracle;
use crate::stats::Stats;
use crate::world::World;

const SEEDS: u64 = 2_000;

/// The name of the threads whose panics are gathered.
const WORKER: &str = "simulation worker";

/// One seed in so many has a client that is Yjs itself.
const YJS_EVERY: u64 = 50;

#[test]
#[expect(clippy::print_stdout, reason = "says what was tested")]
fn a_document_survives_its_life() {
    if let Some(seed) = number("SYNCLINE_SIM_SEED") {
        let mut oracle = None;
        let stats = live(seed, &mut oracle, true);
        println!("seed {seed}: {stats:?}");
        return;
    }
    let seeds = number("SYNCLINE_SIM_SEEDS").unwrap_or(SEEDS);
    quiet_panics();
    let next = AtomicU64::new(0);
    let outcome = Mutex::new(Outcome::default());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            let work = || work(seeds, &next, &outcome);
            std::thread::Builder::new().name(WORKER.into()).spawn_scoped(scope, work).unwrap();
        }
    });
    let outcome = outcome.into_inner().unwrap();
    println!("{seeds} seeds: {:?}", outcome.stats);
    if outcome.stats.yjs == 0 {
        println!("Skipped the clients that are Yjs: node or tests/npm/node_modules is missing.");
    }
    for (reason, seeds) in &outcome.failures {
        println!("{} seeds fail, the first is {}: {reason}", seeds.len(), seeds[0]);
    }
    if let Some(seed) = outcome.failures.values().flatten().min() {
        panic!(
            "replay the first seed that fails with\n  SYNCLINE_SIM_SEED={seed} \
             cargo test -p syncline-tests --test simulation -- --nocapture"
        );
    }
}

#[derive(Debug, Default)]
struct Outcome {
    stats: Stats,
    /// Failed seeds by cause.
    failures: BTreeMap<String, Vec<u64>>,
}

fn work(seeds: u64, next: &AtomicU64, outcome: &Mutex<Outcome>) {
    let mut oracle = None;
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= seeds {
            return;
        }
        let result = catch_unwind(AssertUnwindSafe(|| live(seed, &mut oracle, false)));
        let mut outcome = outcome.lock().unwrap();
        match result {
            Ok(stats) => outcome.stats.add(&stats),
            Err(_) => {
                outcome.failures.entry(REASON.take()).or_default().push(seed);
                // It may be in the middle of an answer.
                oracle = None;
            }
        }
    }
}

type SharedOracle = Option<Rc<RefCell<Oracle>>>;

fn live(seed: u64, oracle: &mut SharedOracle, is_traced: bool) -> Stats {
    let yjs = seed % YJS_EVERY == YJS_EVERY - 1;
    if yjs && oracle.is_none() {
        *oracle = Oracle::start().map(|oracle| Rc::new(RefCell::new(oracle)));
    }
    let mut world = World::new(seed, oracle.clone().filter(|_| yjs), is_traced);
    invariants::live(&mut world);
    world.stats.refused = world.clients.iter().map(|client| client.refused).sum();
    world.stats
}

fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is not a number: {value}")))
}

thread_local! {
    static REASON: Cell<String> = const { Cell::new(String::new()) };
}

/// Records why a seed failed; only the first cause is printed.
fn quiet_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if std::thread::current().name() == Some(WORKER) {
                // Without the values, so that one fault is one reason.
                let reason = info.to_string();
                REASON.set(reason.lines().take(2).collect::<Vec<_>>().join(" "));
            } else {
                print(info);
            }
        }));
    });
}
