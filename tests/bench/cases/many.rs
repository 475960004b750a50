//! Many documents, opened, written once and left.

use std::time::{Duration, Instant};

use super::{CaseName, Measurement, Scale};
use crate::failure::Failure;
use crate::lab::Lab;
use crate::ledger::Ledger;
use crate::load::Load;
use crate::results::Figures;
use crate::server::Kind;
use crate::statistics::seconds_since;
use crate::update::Writer;

/// Documents opened at a time.
const BATCH: usize = 100;

/// For the update to arrive before its connection ends.
const PARTING: Duration = Duration::from_millis(20);

pub(crate) fn plan(scale: Scale) -> Vec<Measurement> {
    let documents = scale.pick(20, 1_000, 10_000);
    let variant = format!("{documents} documents opened and left");
    vec![Measurement::new(CaseName::Many, variant, move |lab, kind, figures| {
        run(lab, kind, documents, figures)
    })]
}

fn run(lab: &Lab, kind: Kind, documents: usize, figures: &mut Figures) -> Result<(), Failure> {
    const MIB: f64 = 1_048_576.0;
    let server = lab.server(kind)?;
    let before = server.memory();
    let cpu = server.cpu();
    let mut opening = 0.0;
    let mut most = before;
    for first in (0..documents).step_by(BATCH) {
        let mut load = Load::new()?;
        let mut ledger = Ledger::new(1);
        ledger.document(0);
        let batch = first..documents.min(first + BATCH);
        let start = Instant::now();
        let mut targets = Vec::new();
        for number in batch {
            ledger.member(0, None);
            targets.push(server.target(&format!("many{number}"))?);
        }
        load.join_all(&targets, &mut ledger)?;
        opening += seconds_since(start);
        for (at, target) in targets.iter().enumerate() {
            let update = Writer::new(0).append("Something that somebody wrote here and left.");
            load.send_update(at, &target.dialect.sync(2, &update));
        }
        load.rest(PARTING, &mut ledger)?;
        if first % 1_000 == 0 {
            most = most.max(server.memory());
        }
    }
    let most = most.max(server.memory());
    let cpu = (server.cpu() - cpu).as_secs_f64();
    // Longer than any server keeps what nobody uses, if it lets go of it at all.
    let mut nobody = Ledger::new(1);
    Load::new()?.rest(lab.scale.seconds(40, 75), &mut nobody)?;
    let kept = server.memory() as f64 - before as f64;
    figures.add("MiB kept in the end", kept / MIB);
    figures.add("MiB at most", (most - before) as f64 / MIB);
    figures.add("KiB/document at most", (most - before) as f64 / 1_024.0 / documents as f64);
    figures.add("opened/s", documents as f64 / opening);
    figures.add("CPU ms/document", cpu * 1e3 / documents as f64);
    Ok(())
}
