//! One writer, many readers, a fixed number of updates under way.

use std::time::{Duration, Instant};

use super::{CaseName, Measurement, Scale};
use crate::failure::Failure;
use crate::lab::Lab;
use crate::ledger::Ledger;
use crate::load::Load;
use crate::results::Figures;
use crate::server::{Kind, Server};
use crate::system;
use crate::update::Writer;

/// Without anything new for so long, something is lost.
pub(crate) const STALLED: Duration = Duration::from_secs(5);

pub(crate) fn plan(scale: Scale) -> Vec<Measurement> {
    let sizes = scale.pick(&[3][..], &[100, 1_000], &[100, 1_000]);
    let mut plan = Vec::new();
    for &readers in sizes {
        for under_way in [1, 16] {
            let variant = format!("1 writer, {readers} readers, {under_way} under way");
            plan.push(Measurement::new(CaseName::FanOut, variant, move |lab, kind, figures| {
                run(lab, kind, readers, under_way, figures)
            }));
        }
    }
    plan
}

fn run(
    lab: &Lab,
    kind: Kind,
    readers: usize,
    under_way: u64,
    figures: &mut Figures,
) -> Result<(), Failure> {
    let server = lab.server(kind)?;
    let target = server.target("fan")?;
    let mut load = Load::new()?;
    let mut ledger = Ledger::new(1);
    let document = ledger.document(1);
    ledger.member(document, Some(0));
    (0..readers).for_each(|_| ledger.member(document, None));
    load.join_all(std::iter::repeat_n(&target, readers + 1), &mut ledger)?;

    let mut writer = Writer::new(0);
    let mut stream = |load: &mut Load, ledger: &mut Ledger, lasts: Duration| {
        let frame = |writer: &mut Writer| target.dialect.sync(2, &writer.append("x"));
        closed_loop(load, ledger, &mut writer, &frame, (under_way, Lasts::For(lasts)))
    };
    stream(&mut load, &mut ledger, lab.scale.seconds(1, 1))?;
    ledger.clear();
    let meter = Meter::start(&server);
    stream(&mut load, &mut ledger, lab.scale.seconds(3, 5))?;
    meter.stop(&server, &mut ledger, figures);
    figures.add("lost", ledger.missing() as f64);
    Ok(())
}

/// How long a stream of updates goes on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lasts {
    /// So long.
    For(Duration),
    /// So many.
    Updates(u64),
}

/// Keeps so many updates of writer 0 under way for a while; false if some never arrived.
pub(crate) fn closed_loop(
    load: &mut Load,
    ledger: &mut Ledger,
    writer: &mut Writer,
    frame: &dyn Fn(&mut Writer) -> Vec<u8>,
    (under_way, lasts): (u64, Lasts),
) -> Result<bool, Failure> {
    let start = Instant::now();
    let before = ledger.completed_of(0);
    let mut sent = before;
    // Made before it is due, so that making it is no part of the latency.
    let mut next = frame(writer);
    let mut progress = (sent, start);
    loop {
        let done = ledger.completed_of(0);
        let goes_on = |sent| match lasts {
            Lasts::For(lasts) => start.elapsed() < lasts,
            Lasts::Updates(updates) => sent < before + updates,
        };
        // The one that is made is sent as well: a clock left out would be a hole.
        let mut is_last = false;
        while !is_last && sent < done + under_way && sent != u64::MAX {
            is_last = !goes_on(sent + 1);
            ledger.sent(0, Instant::now());
            load.send_update(0, &next);
            sent += 1;
            if !is_last {
                next = frame(writer);
            }
        }
        if is_last {
            break;
        }
        if done > progress.0 {
            progress = (done, Instant::now());
        } else if progress.1.elapsed() > STALLED {
            return Ok(false);
        }
        load.turn(Duration::from_millis(100), ledger)?;
    }
    while ledger.completed_of(0) < sent {
        load.turn(Duration::from_millis(100), ledger)?;
        if ledger.completed_of(0) > progress.0 {
            progress = (ledger.completed_of(0), Instant::now());
        } else if progress.1.elapsed() > STALLED {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Waits for what is still under way, for as long as anything comes: what is late is not lost.
pub(crate) fn drain(load: &mut Load, ledger: &mut Ledger) -> Result<(), Failure> {
    let mut progress = (ledger.delivered, Instant::now());
    while ledger.missing() > 0 && progress.1.elapsed() < STALLED {
        load.turn(Duration::from_millis(10), ledger)?;
        if ledger.delivered > progress.0 {
            progress = (ledger.delivered, Instant::now());
        }
    }
    Ok(())
}

/// What server and load use between two moments.
#[derive(Debug)]
pub(crate) struct Meter {
    at: Instant,
    server: Duration,
    load: Duration,
    busy: Duration,
}

impl Meter {
    pub(crate) fn start(server: &Server) -> Self {
        Self {
            at: Instant::now(),
            server: server.cpu(),
            load: system::own_cpu(),
            busy: server.cores_busy(),
        }
    }

    /// The figures of a stream of updates.
    pub(crate) fn stop(self, server: &Server, ledger: &mut Ledger, figures: &mut Figures) {
        let seconds = self.at.elapsed().as_secs_f64();
        let busy = (server.cores_busy() - self.busy).as_secs_f64();
        let server = (server.cpu() - self.server).as_secs_f64();
        let load = (system::own_cpu() - self.load).as_secs_f64();
        let delivered = ledger.delivered as f64;
        figures.add("server CPU µs/delivery", server * 1e6 / delivered);
        figures.add("p50 ms", ledger.latencies.percentile_ms(0.5));
        figures.add("p99 ms", ledger.latencies.percentile_ms(0.99));
        figures.add("deliveries/s", delivered / seconds);
        figures.add("server core %", server / seconds * 100.0);
        // Others on the same core make latencies longer than the server does.
        figures.add("others on its core %", (busy - server).max(0.0) / seconds * 100.0);
        figures.add("load CPU µs/delivery", load * 1e6 / delivered);
        figures.add("load core %", load / seconds * 100.0);
    }
}
