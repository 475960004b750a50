//! The `syncline` command.

use std::process::ExitCode;

use clap::Parser;
use syncline_server::args::Args;
use syncline_server::cli;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::run(Args::parse().command)
}
