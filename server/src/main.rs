//! The `syncline` command.

use std::process::ExitCode;

use clap::Parser;
use syncline_server::cli;
use syncline_server::cli::args::Args;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::run(Args::parse().command)
}
