//! Readers that stop reading, and what that does to the server and to the others.

use std::time::Duration;

use super::fan_out::{Lasts, closed_loop};
use super::{CaseName, Measurement, Scale};
use crate::failure::Failure;
use crate::lab::Lab;
use crate::ledger::Ledger;
use crate::load::Load;
use crate::results::Figures;
use crate::server::Kind;
use crate::socket::Reading;
use crate::update::Writer;

const MIB: u64 = 1 << 20;

/// Each update inserts as much and deletes what the one before inserted.
const UPDATE_BYTES: usize = 64 * 1_024;

const HEALTHY: usize = 10;

/// Updates between two looks at the server's memory.
const SLICE: u64 = 64;

/// Beyond this the server is stopped, for the sake of the machine.
const MEMORY_MAX: u64 = 4 * 1_024 * MIB;

/// What Syncline queues for one session at most.
const OUTBOX: u64 = 4 * MIB;

/// How many of the stalled read on in the end.
const RESUMED: usize = 10;

pub(crate) fn plan(scale: Scale) -> Vec<Measurement> {
    let (stalled, mib) = scale.pick((3, 1), (100, 40), (1_000, 200));
    let variant = format!("{stalled} readers stop reading while {mib} MiB pass, {HEALTHY} read on");
    vec![Measurement::new(CaseName::Slow, variant, move |lab, kind, figures| {
        run(lab, kind, stalled, mib * MIB / UPDATE_BYTES as u64, figures)
    })]
}

fn run(
    lab: &Lab,
    kind: Kind,
    stalled: usize,
    updates: u64,
    figures: &mut Figures,
) -> Result<(), Failure> {
    if kind == Kind::Floor {
        return Err(Failure::NotApplicable("it has no queue: one reader that stalls stalls all"));
    }
    let server = lab.server(kind)?;
    let target = server.target("slow")?;
    let mut load = Load::new()?;
    let mut ledger = Ledger::new(UPDATE_BYTES as u64);
    let document = ledger.document(1);
    ledger.member(document, Some(0));
    (0..HEALTHY).for_each(|_| ledger.member(document, None));
    load.join_all(std::iter::repeat_n(&target, 1 + HEALTHY), &mut ledger)?;
    let text = "x".repeat(UPDATE_BYTES);
    let mut writer = Writer::new(0);
    let frame = |writer: &mut Writer| target.dialect.sync(2, &writer.replace(&text));
    let mut pass = |load: &mut Load, ledger: &mut Ledger, updates| {
        closed_loop(load, ledger, &mut writer, &frame, (1, Lasts::Updates(updates)))
    };
    pass(&mut load, &mut ledger, SLICE)?;
    ledger.clear();
    pass(&mut load, &mut ledger, updates / 4)?;
    let before = ledger.latencies.percentile_ms(0.99);

    let first = load.len();
    for _ in 0..stalled {
        ledger.bystander(document);
        let at = load.open(&target)?;
        load.socket(at).keep_little()?;
    }
    load.until("the readers", &mut ledger, |load, _| load.joined == load.len())?;
    (first..load.len()).for_each(|at| load.socket(at).reading = Reading::Stalled);
    ledger.clear();
    let (mut passed, mut most) = (0, server.memory());
    while passed < updates && most < MEMORY_MAX && pass(&mut load, &mut ledger, SLICE)? {
        passed += SLICE;
        most = most.max(server.memory());
    }
    let p99 = ledger.latencies.percentile_ms(0.99);
    figures.add("p99 × without", p99 / before);
    figures.add("p99 ms", p99);
    figures.add("p50 ms", ledger.latencies.percentile_ms(0.5));
    figures.add("MiB passed", (passed * UPDATE_BYTES as u64 / MIB) as f64);
    figures.add("server MiB at most", (most / MIB) as f64);
    figures.add("% of 4 MiB a reader", most as f64 / (OUTBOX * stalled as u64) as f64 * 100.0);
    figures.add("lost to the healthy", ledger.missing() as f64);

    let resumed = first..load.len().min(first + RESUMED);
    for at in resumed.clone() {
        load.resume(at, &mut ledger)?;
    }
    load.rest(
        lab.scale.pick(Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(20)),
        &mut ledger,
    )?;
    let behind = resumed.filter(|&at| !ledger.has_all(at)).count();
    let cut = load.ended.min(behind);
    figures.add("of 10 that read on: cut", cut as f64);
    figures.add("of 10 that read on: without all", (behind - cut) as f64);
    Ok(())
}
