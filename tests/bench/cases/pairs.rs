//! Documents of two, who answer each other.

use std::time::{Duration, Instant};

use super::fan_out::{Meter, drain};
use super::{CaseName, Measurement, Scale};
use crate::failure::Failure;
use crate::lab::Lab;
use crate::ledger::Ledger;
use crate::load::Load;
use crate::results::Figures;
use crate::server::Kind;
use crate::update::Writer;

pub(crate) fn plan(scale: Scale) -> Vec<Measurement> {
    let documents = scale.pick(3, 100, 100);
    let variant = format!("{documents} documents, 2 clients each, ping-pong");
    vec![Measurement::new(CaseName::Pairs, variant, move |lab, kind, figures| {
        run(lab, kind, documents, figures)
    })]
}

fn run(lab: &Lab, kind: Kind, documents: usize, figures: &mut Figures) -> Result<(), Failure> {
    let server = lab.server(kind)?;
    let mut load = Load::new()?;
    let mut ledger = Ledger::new(1);
    let mut targets = Vec::new();
    for number in 0..documents {
        let document = ledger.document(2);
        ledger.member(document, Some(2 * document));
        ledger.member(document, Some(2 * document + 1));
        let target = server.target(&format!("pair{number}"))?;
        targets.extend([target.clone(), target]);
    }
    load.join_all(&targets, &mut ledger)?;

    let mut writers: Vec<Writer> = (0..2 * documents).map(Writer::new).collect();
    let mut sent = vec![0; 2 * documents];
    let mut write = |load: &mut Load, ledger: &mut Ledger, at: usize, sent: &mut [u64]| {
        let frame = targets[at].dialect.sync(2, &writers[at].append("x"));
        ledger.sent(at, Instant::now());
        load.send_update(at, &frame);
        sent[at] += 1;
    };
    (0..documents).for_each(|pair| write(&mut load, &mut ledger, 2 * pair, &mut sent));
    let mut play = |load: &mut Load, ledger: &mut Ledger, lasts: Duration, sent: &mut [u64]| {
        let end = Instant::now() + lasts;
        while Instant::now() < end {
            load.turn(Duration::from_millis(10), ledger)?;
            for first in (0..2 * documents).step_by(2) {
                // Whoever has heard all that the other wrote answers.
                let (writer, other) = if sent[first] == sent[first + 1] {
                    (first, first + 1)
                } else {
                    (first + 1, first)
                };
                if ledger.completed_of(other) == sent[other] {
                    write(load, ledger, writer, sent);
                }
            }
        }
        Ok::<(), Failure>(())
    };
    play(&mut load, &mut ledger, lab.scale.seconds(1, 1), &mut sent)?;
    ledger.clear();
    let meter = Meter::start(&server);
    play(&mut load, &mut ledger, lab.scale.seconds(3, 5), &mut sent)?;
    meter.stop(&server, &mut ledger, figures);
    drain(&mut load, &mut ledger)?;
    figures.add("lost", ledger.missing() as f64);
    Ok(())
}
