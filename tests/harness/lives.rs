//! Lives of a server on one folder. Clients write marks and note which are acknowledged, the life
//! ends without warning, and a fresh client of the next one looks for every mark.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use syncline_protocol::Access;
use tokio::time::timeout;

use crate::client::Client;
use crate::server::{Launch, Server, token};
use crate::{PATIENCE, Random};

const WRITERS: u64 = 8;
const DOCUMENTS: u64 = 20;
/// A server that does not start is tried again: whether it ever does is a question of its own.
const STARTS: u64 = 3;

/// What to live through.
#[derive(Clone, Copy, Debug)]
pub struct Lives {
    /// How many lives.
    pub rounds: u64,
    /// Decides who writes where and when each life ends; what the machine makes of that differs
    /// from run to run.
    pub seed: u64,
    /// Bytes that each mark has beside its numbers.
    pub padding: usize,
}

/// How a life ends.
pub trait UpdateOutcome {
    /// The data folder.
    fn folder(&self) -> PathBuf;

    /// Ends the process, and leaves the folder as the next one finds it.
    ///
    /// # Errors
    /// If the test's own world breaks.
    fn strike(&mut self, server: &mut Server) -> io::Result<()>;
}

/// An ordinary disk, and kill -9.
#[derive(Debug)]
pub struct Kill(pub PathBuf);

impl UpdateOutcome for Kill {
    fn folder(&self) -> PathBuf {
        self.0.clone()
    }

    fn strike(&mut self, server: &mut Server) -> io::Result<()> {
        server.kill();
        Ok(())
    }
}

/// What came out of a number of lives.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Lives that ended and were looked into.
    pub rounds: u64,
    /// Marks that the server said are on disk.
    pub acknowledged: u64,
    /// Marks among them that were gone.
    pub lost: u64,
    /// Runs of marks with one missing before the last that was found.
    pub holes: u64,
    /// Starts that came to nothing.
    pub failed_starts: u64,
    /// From each start to its ready line, shortest first.
    pub ready_after: Vec<Duration>,
    /// What went wrong, in words.
    pub complaints: Vec<String>,
}

impl Outcome {
    /// Whether everything acknowledged was there, and every start went well.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.lost == 0 && self.holes == 0 && self.failed_starts == 0 && self.complaints.is_empty()
    }

    fn start(&mut self, launch: Launch<'_>) -> Option<Server> {
        for _ in 0..STARTS {
            match launch.start() {
                Ok(server) => {
                    self.ready_after.push(server.ready_after());
                    return Some(server);
                }
                Err(error) => {
                    self.failed_starts += 1;
                    self.complaints.push(format!("round {}: {error}", self.rounds));
                }
            }
        }
        None
    }
}

/// Lives, again and again.
///
/// # Errors
/// If `fate` fails.
pub async fn endure(lives: Lives, fate: &mut impl UpdateOutcome) -> io::Result<Outcome> {
    let mut random = Random::new(lives.seed);
    let ledger = Arc::new(Ledger::default());
    let mut outcome = Outcome::default();
    let mut next = outcome.start(Launch::new(&fate.folder()));
    while let Some(mut server) = next.take() {
        if outcome.rounds == lives.rounds {
            break;
        }
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let document = format!("lives/{}", random.below(DOCUMENTS));
                let url = server.url(&document, &token(&document, Access::Write));
                let run = Run { document, writer, round: outcome.rounds };
                tokio::spawn(write(url, run, lives.padding, Arc::clone(&ledger)))
            })
            .collect();
        let life = Duration::from_millis(20 + random.below(480));
        // The one wait that is not for a condition: the moment of the end is what varies.
        drop(timeout(life, std::future::pending::<()>()).await);
        fate.strike(&mut server)?;
        for writer in writers {
            writer.await.expect("a writer ends well");
        }
        let listen = server.address().to_string();
        let folder = fate.folder();
        next = outcome.start(Launch { listen: &listen, ..Launch::new(&folder) });
        if let Some(server) = &next {
            ledger.check(server, &mut outcome).await;
        }
        outcome.rounds += 1;
    }
    outcome.acknowledged = ledger.total();
    outcome.ready_after.sort_unstable();
    Ok(outcome)
}

/// The marks that one writer leaves in one document during one life, numbered from 1.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Run {
    document: String,
    writer: u64,
    /// The life.
    round: u64,
}

/// How many marks of each run are known to be on disk.
#[derive(Debug, Default)]
struct Ledger(Mutex<BTreeMap<Run, Noted>>);

#[derive(Clone, Copy, Debug, Default)]
struct Noted {
    acknowledged: u64,
    /// It has been complained of: what is lost once is not lost again in each later life.
    is_settled: bool,
}

impl Ledger {
    fn note(&self, run: &Run, marks: u64) {
        if marks > 0 {
            self.lock().entry(run.clone()).or_default().acknowledged = marks;
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Run, Noted>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All marks that were acknowledged.
    fn total(&self) -> u64 {
        self.lock().values().map(|noted| noted.acknowledged).sum()
    }

    /// Looks for every mark with fresh clients.
    async fn check(&self, server: &Server, outcome: &mut Outcome) {
        let mut runs = self.lock().clone();
        runs.retain(|_, noted| !noted.is_settled);
        let documents: BTreeSet<&String> = runs.keys().map(|run| &run.document).collect();
        for document in documents {
            let url = server.url(document, &token(document, Access::Read));
            let Ok(Some(reader)) = timeout(PATIENCE, Client::try_join_v1(&url)).await else {
                outcome.complaints.push(format!("{document} cannot be read"));
                continue;
            };
            let found = marks_in(&reader.content());
            for (run, noted) in runs.iter().filter(|(run, _)| run.document == *document) {
                let marks = found.get(&(run.writer, run.round)).cloned().unwrap_or_default();
                if !is_whole(run, noted.acknowledged, &marks, outcome) {
                    self.lock().entry(run.clone()).or_default().is_settled = true;
                }
            }
        }
    }
}

/// Whether what was found of a run has all that was acknowledged and no hole. If not, `outcome` is
/// told.
fn is_whole(run: &Run, acknowledged: u64, found: &BTreeSet<u64>, outcome: &mut Outcome) -> bool {
    let round = outcome.rounds;
    let lost = (1..=acknowledged).filter(|mark| !found.contains(mark)).count() as u64;
    if lost > 0 {
        outcome.lost += lost;
        let text = format!("{lost} of {acknowledged} acknowledged marks are gone: {run:?}");
        outcome.complaints.push(format!("round {round}: {text}"));
    }
    let last = found.last().copied().unwrap_or_default();
    let missing = last - found.len() as u64;
    if missing > 0 {
        outcome.holes += 1;
        let text = format!("mark {last} is there and {missing} before it are not: {run:?}");
        outcome.complaints.push(format!("round {round}: {text}"));
    }
    lost == 0 && missing == 0
}

/// The numbers of the marks in a text, by writer and life.
fn marks_in(text: &str) -> BTreeMap<(u64, u64), BTreeSet<u64>> {
    let mut marks: BTreeMap<_, BTreeSet<u64>> = BTreeMap::new();
    for mark in text.split_terminator(';') {
        let mut numbers = mark.split('.').map(str::parse);
        let (Some(Ok(writer)), Some(Ok(round)), Some(Ok(number))) =
            (numbers.next(), numbers.next(), numbers.next())
        else {
            panic!("{mark:?} is no mark");
        };
        marks.entry((writer, round)).or_default().insert(number);
    }
    marks
}

/// Types marks at the end of a document until the server is gone, each when the one before it is
/// saved, and notes how many are.
async fn write(url: String, run: Run, padding: usize, ledger: Arc<Ledger>) {
    let joining = timeout(PATIENCE, Client::try_join_v1(&url)).await;
    let Ok(Some(mut client)) = joining else { return };
    // The update frame that each mark went out with.
    let mut frames = Vec::new();
    let padding = ".".repeat(padding);
    loop {
        let at = client.length();
        let mark = format!("{}.{}.{}{padding};", run.writer, run.round, frames.len() + 1);
        if client.try_splice(at, &mark).await.is_err() {
            return;
        }
        let frame = client.sent;
        frames.push(frame);
        let is_open = client.until_or_gone(|client| client.saved >= frame).await;
        ledger.note(&run, frames.partition_point(|frame| *frame <= client.saved) as u64);
        if !is_open {
            return;
        }
    }
}

#[test]
fn what_is_gone_is_seen() {
    let run = Run { document: "d".to_owned(), writer: 3, round: 7 };
    let cases = [
        ("3.7.1;3.7.2...;", 2, 0, 0),
        ("3.7.1;4.7.9;3.7.2;3.7.3;3.6.9;", 2, 0, 0),
        ("3.7.1;", 2, 1, 0),
        ("", 2, 2, 0),
        ("3.7.1;3.7.3;", 1, 0, 1),
        ("3.7.2;", 1, 1, 1),
    ];
    for (text, acknowledged, lost, holes) in cases {
        let mut outcome = Outcome::default();
        let found = marks_in(text).remove(&(3, 7)).unwrap_or_default();
        let is_clean = is_whole(&run, acknowledged, &found, &mut outcome);
        assert_eq!((outcome.lost, outcome.holes), (lost, holes), "{text}");
        assert_eq!(is_clean, outcome.is_clean(), "{text}");
    }
}
