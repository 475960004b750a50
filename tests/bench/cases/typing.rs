//! People who type at their own pace, each with a caret that the others see.

use std::time::{Duration, Instant};

use syncline_tests::Random;

use super::fan_out::{Meter, drain};
use super::{CaseName, Measurement, Scale};
use crate::failure::Failure;
use crate::lab::Lab;
use crate::ledger::Ledger;
use crate::load::Load;
use crate::results::Figures;
use crate::server::Kind;
use crate::update::Writer;

#[derive(Clone, Copy, Debug)]
struct Crowd {
    documents: usize,
    people: usize,
    keys_per_second: u32,
}

pub(crate) fn plan(scale: Scale) -> Vec<Measurement> {
    let small = Crowd { documents: 2, people: 3, keys_per_second: 20 };
    let teams = Crowd { documents: 20, people: 10, keys_per_second: 5 };
    let class = Crowd { documents: 1, people: 60, keys_per_second: 8 };
    let crowds = scale.pick(vec![small], vec![teams, class], vec![teams, class]);
    let measurement = |&crowd: &Crowd| {
        let Crowd { documents, people, keys_per_second } = crowd;
        let variant = format!("{documents} × {people} people, {keys_per_second} keys/s each");
        Measurement::new(CaseName::Typing, variant, move |lab, kind, figures| {
            run(lab, kind, crowd, figures)
        })
    };
    crowds.iter().map(measurement).collect()
}

fn run(lab: &Lab, kind: Kind, crowd: Crowd, figures: &mut Figures) -> Result<(), Failure> {
    let server = lab.server(kind)?;
    let mut load = Load::new()?;
    let mut ledger = Ledger::new(1);
    let mut targets = Vec::new();
    for number in 0..crowd.documents {
        let document = ledger.document(crowd.people);
        let target = server.target(&format!("typing{number}"))?;
        for _ in 0..crowd.people {
            ledger.member(document, Some(targets.len()));
            targets.push(target.clone());
        }
    }
    load.join_all(&targets, &mut ledger)?;

    let people = targets.len();
    let mut writers: Vec<Writer> = (0..people).map(Writer::new).collect();
    let beat = Duration::from_secs(1) / crowd.keys_per_second;
    // Everybody has their own moment within the beat, the same for every server.
    let mut random = Random::new(7);
    let start = Instant::now();
    let mut due: Vec<(Instant, usize)> = (0..people)
        .map(|at| (start + beat.mul_f64(random.below(1_000) as f64 / 1e3), at))
        .collect();
    due.sort_unstable();
    let mut keys = 0;
    let mut next = 0;
    let mut play = |load: &mut Load, ledger: &mut Ledger, lasts: Duration| {
        let end = Instant::now() + lasts;
        loop {
            let now = Instant::now();
            if now >= end {
                return Ok::<(), Failure>(());
            }
            let (at, person) = due[next];
            if now < at {
                load.turn(at.min(end) - now, ledger)?;
                continue;
            }
            let dialect = &targets[person].dialect;
            let mut frames = dialect.sync(2, &writers[person].append("x"));
            frames.extend(dialect.presence(&writers[person].caret()));
            ledger.sent(person, Instant::now());
            load.send_update(person, &frames);
            keys += 1;
            due[next].0 += beat;
            next = (next + 1) % people;
        }
    };
    play(&mut load, &mut ledger, lab.scale.seconds(1, 2))?;
    ledger.clear();
    let meter = Meter::start(&server);
    play(&mut load, &mut ledger, lab.scale.seconds(5, 10))?;
    drain(&mut load, &mut ledger)?;
    let carets = ledger.presence as f64 / ledger.delivered as f64;
    meter.stop(&server, &mut ledger, figures);
    figures.add("carets/key", carets);
    figures.add("lost", ledger.missing() as f64);
    Ok(())
}
