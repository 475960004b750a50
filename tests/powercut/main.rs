//! Long runs that end a server without warning, over and over, and look for what it had
//! acknowledged:
//!
//! ```text
//! cargo run --release -p syncline-tests --bin endure -- kill --rounds 500
//! cargo run --release -p syncline-tests --bin endure -- power-cut --rounds 50
//! cargo run --release -p syncline-tests --bin endure -- power-cut --rounds 3 --lie
//! ```
//!
//! `kill` is kill -9 on an ordinary disk: the system keeps what was written. `power-cut` is a disk
//! that forgets what was not synced. With `--lie` that disk does nothing on `fsync`, and the run
//! must lose what was acknowledged: otherwise it could not tell.
//!
//! The server is built first, unless `SYNCLINE_BIN` says which one to take. One line of JSON goes
//! to standard output. Exit codes: 0 all was there, 1 something was not, 77 it cannot run here.

#![cfg_attr(
    target_os = "linux",
    expect(
        clippy::cast_possible_truncation,
        clippy::indexing_slicing,
        reason = "offsets into pages, in a test"
    )
)]

#[cfg(target_os = "linux")]
mod content;
#[cfg(target_os = "linux")]
mod image;
#[cfg(target_os = "linux")]
mod power_cut;
mod report;
#[cfg(target_os = "linux")]
mod volatile_fs;

use std::fmt::Display;
use std::io::{self, Write};
use std::process::{Command, ExitCode};

use clap::{Parser, Subcommand};
use syncline_tests::lives::{Kill, Lives, endure};

use crate::report::Report;

/// What automake takes for "skipped".
const SKIPPED: u8 = 77;

/// Ends a server without warning, over and over, and looks for what it had acknowledged.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    end: End,
}

#[derive(Debug, Subcommand)]
enum End {
    /// kill -9, on an ordinary disk
    Kill(Rounds),
    /// The power goes, on a disk that forgets what was not synced
    PowerCut(PowerCut),
}

#[derive(Clone, Copy, Debug, clap::Args)]
struct Rounds {
    /// How often
    #[arg(long, default_value_t = 50)]
    rounds: u64,
    /// Decides who writes where, when it ends, and what survives
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Bytes that each mark has beside its numbers: more of them fill more segments and snapshots
    #[arg(long, default_value_t = 0)]
    padding: usize,
}

impl From<Rounds> for Lives {
    fn from(Rounds { rounds, seed, padding }: Rounds) -> Self {
        Self { rounds, seed, padding }
    }
}

#[derive(Clone, Copy, Debug, clap::Args)]
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "it only runs on Linux"))]
struct PowerCut {
    #[command(flatten)]
    rounds: Rounds,
    /// The disk says that it has synced, and has not: something must be lost
    #[arg(long)]
    lie: bool,
}

fn main() -> ExitCode {
    let Arguments { end } = Arguments::parse();
    if std::env::var_os("SYNCLINE_BIN").is_none()
        && let Err(error) = build_server()
    {
        return say(&format!("the server cannot be built: {error}"), ExitCode::FAILURE);
    }
    match end {
        End::Kill(rounds) => kill(rounds),
        #[cfg(target_os = "linux")]
        End::PowerCut(cut) => power_cut::run(cut),
        #[cfg(not(target_os = "linux"))]
        End::PowerCut(_) => skip("it needs Linux"),
    }
}

/// Otherwise an old one might be the one that endures.
fn build_server() -> io::Result<()> {
    let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.args(["build", "--locked", "--package", "syncline-server", "--profile", profile]);
    match cargo.status()? {
        status if status.success() => Ok(()),
        status => Err(io::Error::other(format!("cargo build: {status}"))),
    }
}

fn kill(rounds: Rounds) -> ExitCode {
    let report = Report::begin("kill", rounds.into());
    let outcome = tempfile::tempdir().and_then(|data| {
        let mut kill = Kill(data.path().join("data"));
        runtime()?.block_on(endure(rounds.into(), &mut kill))
    });
    match outcome {
        Ok(outcome) => report.publish(&outcome),
        Err(error) => broken(&error),
    }
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
}

fn broken(error: &dyn Display) -> ExitCode {
    say(&format!("the test itself broke: {error}"), ExitCode::FAILURE)
}

fn skip(reason: &str) -> ExitCode {
    say(&format!("SKIPPED: {reason}"), ExitCode::from(SKIPPED))
}

fn say(text: &str, code: ExitCode) -> ExitCode {
    // Whoever closed standard error does not want to know.
    drop(writeln!(io::stderr(), "{text}"));
    code
}
