//! Writers who wait until what they wrote is on disk.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{CaseName, Measurement, Scale};
use crate::failure::Failure;
use crate::lab::Lab;
use crate::load::Load;
use crate::results::Figures;
use crate::server::Kind;
use crate::socket::Receive;
use crate::statistics::{Latencies, seconds_since};
use crate::update::Writer;
use crate::wire::Message;

const DOCUMENTS: usize = 200;

/// How often the disk is asked on its own.
const SYNCS: usize = 200;

pub(crate) fn plan(scale: Scale) -> Vec<Measurement> {
    // One alone shows the time of a write, many show how many there can be.
    let sizes = scale.pick(&[3][..], &[1, 200], &[1, 200, 256]);
    let measurement = |&writers: &usize| {
        let documents = DOCUMENTS.min(writers);
        let variant = format!("writers: {writers}, documents: {documents}, each waits for Saved");
        Measurement::new(CaseName::Durable, variant, move |lab, kind, figures| {
            run(lab, kind, writers, figures)
        })
    };
    sizes.iter().map(measurement).collect()
}

fn run(lab: &Lab, kind: Kind, writers: usize, figures: &mut Figures) -> Result<(), Failure> {
    if kind == Kind::Floor {
        return Err(Failure::NotApplicable("it stores nothing"));
    }
    if kind != Kind::Syncline {
        let reason = "it has no acknowledgement that stands for a write to disk";
        return Err(Failure::NotApplicable(reason));
    }
    let mut disk = disk(&lab.home.folder)?;
    let server = lab.server(kind)?;
    let mut load = Load::new()?;
    let mut saves = Saves::new(writers);
    let mut targets = Vec::new();
    for number in 0..writers {
        let mut target = server.target(&format!("durable{}", number % DOCUMENTS))?;
        target.subprotocol = Some("syncline.v1");
        targets.push(target);
    }
    load.join_all(&targets, &mut saves)?;
    let mut hands: Vec<Writer> = (0..writers).map(Writer::new).collect();
    saves.ready = (0..writers).collect();
    let mut play = |load: &mut Load, saves: &mut Saves, lasts: Duration| {
        let end = Instant::now() + lasts;
        while Instant::now() < end {
            for at in std::mem::take(&mut saves.ready) {
                let frame = targets[at].dialect.sync(2, &hands[at].append("x"));
                load.send_update(at, &frame);
                saves.waits[at] = Some((load.socket(at).updates_sent, Instant::now()));
            }
            load.turn(Duration::from_millis(10), saves)?;
        }
        Ok::<(), Failure>(())
    };
    play(&mut load, &mut saves, lab.scale.seconds(1, 1))?;
    saves.latencies.clear();
    saves.count = 0;
    let (cpu, start) = (server.cpu(), Instant::now());
    play(&mut load, &mut saves, lab.scale.seconds(3, 8))?;
    let seconds = seconds_since(start);
    let cpu = (server.cpu() - cpu).as_secs_f64();
    let p50 = saves.latencies.percentile_ms(0.5);
    let alone = disk.percentile_ms(0.5);
    figures.add("durable p50 ms", p50);
    figures.add("durable p99 ms", saves.latencies.percentile_ms(0.99));
    figures.add("acknowledged updates/s", saves.count as f64 / seconds);
    figures.add("server CPU µs/update", cpu * 1e6 / saves.count as f64);
    figures.add("one fdatasync p50 ms", alone);
    figures.add("one fdatasync p99 ms", disk.percentile_ms(0.99));
    figures.add("p50 in fdatasyncs", p50 / alone);
    Ok(())
}

/// One small write and one `fdatasync` at a time, on the same disk.
fn disk(folder: &Path) -> Result<Latencies, Failure> {
    let mut latencies = Latencies::default();
    let path = folder.join("fdatasync");
    let mut file = File::create(&path)?;
    for _ in 0..SYNCS {
        let start = Instant::now();
        file.write_all(&[0; 128])?;
        file.sync_data()?;
        latencies.add(start.elapsed());
    }
    std::fs::remove_file(&path)?;
    Ok(latencies)
}

/// Who waits for what.
#[derive(Debug)]
struct Saves {
    /// The number of the update frame that each waits for, and since when.
    waits: Vec<Option<(u64, Instant)>>,
    ready: Vec<usize>,
    latencies: Latencies,
    count: u64,
}

impl Saves {
    fn new(writers: usize) -> Self {
        let (latencies, ready) = (Latencies::default(), Vec::new());
        Self { waits: vec![None; writers], ready, latencies, count: 0 }
    }
}

impl Receive for Saves {
    fn receive(&mut self, at: usize, message: Message<'_>, now: Instant) {
        if let Message::Saved(through) = message
            && let Some((_, since)) = self.waits[at].take_if(|(number, _)| through >= *number)
        {
            self.latencies.add(now - since);
            self.count += 1;
            self.ready.push(at);
        }
    }
}
