//! What a run says when it is over.

use std::io::{self, Write};
use std::process::{Command, ExitCode};
use std::time::{Duration, SystemTime};

use serde_json::json;
use syncline_tests::lives::{Lives, Outcome};

/// What is said of a run when it is over.
#[derive(Debug)]
pub(crate) struct Report {
    how: &'static str,
    lives: Lives,
    /// What was checked out when it began, as far as git knows.
    commit: Option<String>,
    /// Pages and changes of names that the cuts took away.
    forgotten: Option<[u64; 2]>,
}

impl Report {
    pub(crate) fn begin(how: &'static str, lives: Lives) -> Self {
        Self { how, lives, commit: commit(), forgotten: None }
    }

    pub(crate) fn forgotten(self, pages: u64, names: u64) -> Self {
        Self { forgotten: Some([pages, names]), ..self }
    }

    /// One line of JSON for machines, some lines for people.
    pub(crate) fn publish(&self, outcome: &Outcome) -> ExitCode {
        let Outcome { rounds, acknowledged, lost, holes, failed_starts, .. } = *outcome;
        let (p50, max) = (ready_ms(outcome, 50), ready_ms(outcome, 100));
        let mut figures = json!({
            "run": self.how,
            "rounds": rounds,
            "acknowledged": acknowledged,
            "lost": lost,
            "holes": holes,
            "failed_starts": failed_starts,
            "ready_ms": { "p50": p50, "max": max },
            "seed": self.lives.seed,
            "padding": self.lives.padding,
            "commit": self.commit,
            "date": humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        });
        if let Some([pages, names]) = self.forgotten {
            figures["forgotten"] = json!({ "pages": pages, "names": names });
        }
        let mut text = format!(
            "{}: {rounds} rounds, {acknowledged} acknowledged, {lost} lost, {holes} holes, \
             {failed_starts} failed starts, ready after {p50:.0} ms (median), {max:.0} ms (longest)\n",
            self.how
        );
        for complaint in outcome.complaints.iter().take(20) {
            text += &format!("  {complaint}\n");
        }
        // The exit code says it too, to whoever closed these.
        drop(write!(io::stderr(), "{text}"));
        drop(writeln!(io::stdout(), "{figures}"));
        if outcome.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// The shortest time from start to ready line within which `percent` of the starts were.
fn ready_ms(outcome: &Outcome, percent: usize) -> f64 {
    let all = &outcome.ready_after;
    let place = (all.len() * percent).div_ceil(100).saturating_sub(1);
    let seconds = all.get(place).map_or(0.0, Duration::as_secs_f64);
    (seconds * 10_000.0).round() / 10.0
}

fn commit() -> Option<String> {
    let mut git = Command::new("git");
    git.args(["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty"]);
    let described = git.output().ok()?;
    let name = String::from_utf8(described.stdout).ok()?;
    described.status.success().then(|| name.trim().to_owned())
}
