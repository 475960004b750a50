//! The yardstick: the same load against Syncline, a bare relay and Syncline's peers.
//! `docs/benchmarks.md` says what is measured, how to run it and what came out.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a measurement that cannot go on should stop right there, and it prints what it found"
)]

mod args;
mod cases;
mod failure;
mod floor;
mod install;
mod lab;
mod ledger;
mod load;
mod report;
mod results;
mod server;
mod socket;
mod statistics;
mod system;
mod update;
mod wire;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Args, Command};
use crate::failure::Failure;

fn main() -> ExitCode {
    let args = Args::parse();
    let done = match args.command {
        Some(Command::Floor { listen }) => floor::serve(listen).map_err(Failure::from),
        Some(Command::Report { files }) => results::read(&files).map(|rows| report::print(&rows)),
        Some(Command::Install) => install::install(&args.run.cache()),
        None => lab::run(&args.run),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}
