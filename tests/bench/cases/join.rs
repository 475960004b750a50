//! Joining a long document: first after a start, when it is in memory, and many at once.

use std::rc::Rc;
use std::time::Instant;

use super::replay::{PAPER, Session};
use super::{CaseName, Measurement, Scale};
use crate::failure::Failure;
use crate::lab::Lab;
use crate::ledger::Ledger;
use crate::load::Load;
use crate::results::Figures;
use crate::server::{Kind, Server};
use crate::socket::Target;

/// Joins one after the other.
const WARM: usize = 20;

/// How many times a folder that goes on changing is given another chance.
const SETTLING: usize = 60;

pub(crate) fn plan(scale: Scale) -> Vec<Measurement> {
    let edits = scale.pick("300", "20,000", "260,000");
    let variant = format!("a document of {edits} real edits");
    vec![Measurement::new(CaseName::Join, variant, move |lab, kind, figures| {
        run(lab, kind, scale.pick(&[3], &[50, 1_000], &[50, 1_000]), figures)
    })]
}

fn run(lab: &Lab, kind: Kind, storms: &[usize], figures: &mut Figures) -> Result<(), Failure> {
    if kind == Kind::Floor {
        return Err(Failure::NotApplicable("it keeps no document that could be joined"));
    }
    let session = lab.session(PAPER);
    let mut server = lab.server(kind)?;
    let mut load = Load::new()?;
    let fed = session.stream(&mut load, &server.target("join")?)?;
    figures.add("lost characters while written", session.lost(&fed.received) as f64);
    // The author comes back, and brings what a server that lost some of it lacks.
    load.open(&Target { brings: Rc::clone(&session.whole), ..server.target("join")? })?;
    settle(&server, &mut load)?;
    drop(load);
    server.restart()?;

    let target = server.target("join")?;
    let mut joiners = Joiners::new(session)?;
    let cold = joiners.join(1, &server, &target);
    let payload = joiners.ledger.last_payload().to_vec();
    figures.add("lost characters after a restart", session.lost(&[payload]) as f64);
    let cold = cold?;
    figures.add("cold CPU ms", cold.cpu_ms);
    figures.add("cold ms", cold.ms);
    figures.add("KiB/join", cold.kib);
    let (mut cpu_ms, mut ms) = (0.0, Vec::new());
    for _ in 0..WARM {
        let warm = joiners.join(1, &server, &target)?;
        cpu_ms += warm.cpu_ms;
        ms.push(warm.ms);
    }
    figures.0.insert(0, ("warm CPU ms".to_owned(), Some(cpu_ms / WARM as f64)));
    figures.add("warm ms", crate::statistics::median(&ms));
    for &storm in storms {
        let joined = joiners.join(storm, &server, &target)?;
        figures.add(&format!("{storm} at once: CPU ms/join"), joined.cpu_ms / storm as f64);
        figures.add(&format!("{storm} at once: all within s"), joined.ms / 1e3);
    }
    figures.add("MiB at the end", server.memory() as f64 / f64::from(1 << 20));
    Ok(())
}

/// Waits until the server's folder has not changed for as long as it may hold back.
fn settle(server: &Server, load: &mut Load) -> Result<(), Failure> {
    let mut nobody = Ledger::new(1);
    nobody.document(0);
    (0..load.len()).for_each(|_| nobody.member(0, None));
    for _ in 0..SETTLING {
        let before = server.stored()?;
        load.rest(server.kind().settles(), &mut nobody)?;
        if server.stored()? == before {
            break;
        }
    }
    Ok(())
}

struct Joined {
    cpu_ms: f64,
    ms: f64,
    kib: f64,
}

/// Everybody who has joined, and stays.
struct Joiners {
    load: Load,
    ledger: Ledger,
    end: u64,
}

impl Joiners {
    fn new(session: &Session) -> Result<Self, Failure> {
        let mut ledger = Ledger::new(1);
        ledger.document(1);
        Ok(Self { load: Load::new()?, ledger, end: session.end() })
    }

    /// Lets so many join at once, and waits until each has all of the document.
    fn join(&mut self, count: usize, server: &Server, target: &Target) -> Result<Joined, Failure> {
        let first = self.load.len();
        let (cpu, bytes, start) = (server.cpu(), self.load.received_bytes(), Instant::now());
        for _ in 0..count {
            self.ledger.member(0, None);
            self.load.open(target)?;
        }
        let end = self.end;
        self.load.until("a complete document", &mut self.ledger, |load, ledger| {
            load.ended > 0 || (first..load.len()).all(|at| ledger.next(at, 0) >= end)
        })?;
        let ms = start.elapsed().as_secs_f64() * 1e3;
        if self.load.ended > 0 {
            return Err(Failure::Cut { ended: self.load.ended, all: count });
        }
        let cpu_ms = (server.cpu() - cpu).as_secs_f64() * 1e3;
        let kib = (self.load.received_bytes() - bytes) as f64 / 1_024.0;
        Ok(Joined { cpu_ms, ms, kib })
    }
}
