//! Connections that say nothing.

use super::{CaseName, Measurement, Scale};
use crate::failure::Failure;
use crate::lab::Lab;
use crate::ledger::Ledger;
use crate::load::Load;
use crate::results::Figures;
use crate::server::Kind;
use crate::statistics::seconds_since;

const DOCUMENTS: usize = 200;

pub(crate) fn plan(scale: Scale) -> Vec<Measurement> {
    let sizes = scale.pick(&[20][..], &[2_000], &[2_000, 10_000]);
    let measurement = |&connections: &usize| {
        let variant = format!("{connections} connections over {DOCUMENTS} documents");
        Measurement::new(CaseName::Idle, variant, move |lab, kind, figures| {
            run(lab, kind, connections, figures)
        })
    };
    sizes.iter().map(measurement).collect()
}

fn run(lab: &Lab, kind: Kind, connections: usize, figures: &mut Figures) -> Result<(), Failure> {
    let server = lab.server(kind)?;
    let mut load = Load::new()?;
    let mut ledger = Ledger::new(1);
    ledger.document(0);
    (0..=connections).for_each(|_| ledger.member(0, None));
    // What the first client costs is no cost of each.
    load.join_all(&[server.target("first")?], &mut ledger)?;
    let before = server.memory();
    let mut targets = Vec::new();
    for number in 0..DOCUMENTS {
        targets.push(server.target(&format!("idle{number}"))?);
    }
    let start = std::time::Instant::now();
    load.join_all(targets.iter().cycle().take(connections), &mut ledger)?;
    let opening = seconds_since(start);
    load.rest(lab.scale.seconds(3, 5), &mut ledger)?;
    let memory = server.memory().saturating_sub(before);
    // Longer than any server's interval between two pings.
    let (cpu, start) = (server.cpu(), std::time::Instant::now());
    load.rest(lab.scale.seconds(5, 32), &mut ledger)?;
    let cpu_ms = (server.cpu() - cpu).as_secs_f64() * 1e3;
    figures.add("KiB/connection", memory as f64 / 1_024.0 / connections as f64);
    figures.add("CPU ms/s at rest", cpu_ms / seconds_since(start));
    figures.add("opened/s", connections as f64 / opening);
    figures.add("MiB before", before as f64 / f64::from(1 << 20));
    figures.add("cut", load.ended as f64);
    Ok(())
}
