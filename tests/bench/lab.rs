//! One run: every round measures each case on each server in turn, so that whatever else the
//! machine is busy with falls on all of them.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fs;

use syncline_protocol::Access;
use syncline_server::auth::{Claims, unix_now};
use syncline_tests::server::sign;

use crate::args::RunArgs;
use crate::cases::replay::Session;
use crate::cases::{self, Measurement, Scale};
use crate::failure::Failure;
use crate::results::{Figures, Log, Row};
use crate::server::{Home, Kind, Server};
use crate::{report, system};

/// What the cases share.
#[derive(Debug)]
pub(crate) struct Lab {
    pub(crate) home: Home,
    pub(crate) scale: Scale,
    sessions: BTreeMap<&'static str, OnceCell<Session>>,
}

impl Lab {
    /// A server on an empty folder.
    pub(crate) fn server(&self, kind: Kind) -> Result<Server, Failure> {
        Server::start(kind, &self.home)
    }

    /// A recorded session as updates, made at its first use.
    pub(crate) fn session(&self, name: &'static str) -> &Session {
        self.sessions[name].get_or_init(|| Session::load(name, self.scale))
    }
}

/// Measures what was asked for.
pub(crate) fn run(args: &RunArgs) -> Result<(), Failure> {
    let scale = match (args.smoke, args.quick) {
        (true, _) => Scale::Smoke,
        (false, true) => Scale::Quick,
        (false, false) => Scale::Full,
    };
    let kinds = match (args.servers.is_empty(), args.smoke) {
        (false, _) => args.servers.clone(),
        (true, true) => vec![Kind::Syncline, Kind::Floor],
        (true, false) => Kind::ALL.to_vec(),
    };
    let rounds = if args.smoke { 1 } else { args.rounds };
    let mut measurements = cases::plan(scale);
    measurements
        .retain(|measurement| args.cases.is_empty() || args.cases.contains(&measurement.case));
    fs::create_dir_all(&args.folder)?;
    let lab = Lab {
        home: home(args)?,
        scale,
        sessions: cases::replay::SESSIONS.map(|name| (name, OnceCell::new())).into(),
    };
    let descriptors = system::raise_descriptors();
    eprintln!(
        "server cores {:?}, load cores {:?}, {descriptors} descriptors",
        lab.home.server_cores, lab.home.load_cores
    );
    let mut log = Log::create(&args.folder)?;
    let (mut rows, mut broken) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        for measurement in &measurements {
            for &kind in &kinds {
                let (row, failure) = measure(&lab, measurement, kind, round);
                eprintln!("{}", line(&row));
                if is_broken(&row, failure.as_ref()) {
                    broken.push(line(&row));
                }
                log.add(&row)?;
                rows.push(row);
            }
        }
    }
    report::print(&rows);
    eprintln!("written to {}", log.path.display());
    // A peer may fail or lose something: that is a result. In the smoke test nothing may.
    if args.smoke && !broken.is_empty() { Err(Failure::Broken(broken.join("\n"))) } else { Ok(()) }
}

/// Whether a measurement did not run to its end, or something was lost.
fn is_broken(row: &Row, failure: Option<&Failure>) -> bool {
    let lost =
        |(name, value): &(String, Option<f64>)| name.starts_with("lost") && *value != Some(0.0);
    failure.is_some_and(|failure| !matches!(failure, Failure::NotApplicable(_)))
        || row.figures.iter().any(lost)
}

fn home(args: &RunArgs) -> Result<Home, Failure> {
    let cores = system::cores();
    // With one core there is nothing to divide.
    let half = (cores.len() / 2).max(1);
    let claims = Claims {
        exp: unix_now() + 86_400,
        sub: Some("bench".to_owned()),
        access: BTreeMap::from([("*".to_owned(), Access::Write)]),
        ..Claims::default()
    };
    let home = Home {
        folder: args.folder.canonicalize()?,
        cache: args.cache(),
        server_cores: cores[..half].to_vec(),
        load_cores: cores[cores.len() - half..].to_vec(),
        token: sign(&claims),
    };
    system::pin(&home.load_cores);
    Ok(home)
}

fn measure(
    lab: &Lab,
    measurement: &Measurement,
    kind: Kind,
    round: usize,
) -> (Row, Option<Failure>) {
    let mut figures = Figures::default();
    let failure = (measurement.run)(lab, kind, &mut figures).err();
    let row = Row {
        round,
        case: measurement.case,
        variant: measurement.variant.clone(),
        server: kind,
        figures: figures.0,
        note: failure.as_ref().map(ToString::to_string),
    };
    (row, failure)
}

fn line(row: &Row) -> String {
    let figures: Vec<String> = row
        .figures
        .iter()
        .map(|(name, value)| format!("{name} {:.4}", value.unwrap_or(f64::NAN)))
        .collect();
    let note = row.note.as_deref().unwrap_or_default();
    let (round, case, variant) = (row.round, row.case.title(), &row.variant);
    format!("{round} {case}, {variant}, {}: {} {note}", row.server.name(), figures.join(", "))
}
