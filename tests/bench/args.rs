//! What was typed.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::cases::CaseName;
use crate::server::Kind;

/// Measures Syncline beside a bare relay and its peers.
#[derive(Debug, Parser)]
#[command(name = "bench")]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

/// What else it can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Be the bare relay.
    Floor {
        /// Where to listen.
        #[arg(long)]
        listen: SocketAddr,
    },
    /// Print the tables and charts of earlier runs.
    Report {
        /// Their results.
        files: Vec<PathBuf>,
    },
    /// Install the peers into the cache folder.
    Install,
}

/// What to measure.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "they are flags")]
pub(crate) struct RunArgs {
    /// Only these cases.
    #[arg(long = "case", value_delimiter = ',')]
    pub(crate) cases: Vec<CaseName>,
    /// Only these servers.
    #[arg(long, value_delimiter = ',')]
    pub(crate) servers: Vec<Kind>,
    /// How often everything is measured; the medians are reported.
    #[arg(long, default_value_t = 3)]
    pub(crate) rounds: usize,
    /// Shorter and smaller.
    #[arg(long, conflicts_with = "smoke")]
    pub(crate) quick: bool,
    /// Whether everything still runs: Syncline and the floor, tiny, once.
    #[arg(long)]
    pub(crate) smoke: bool,
    /// Where results and the servers' data go. It should be on the disk that is to be measured.
    #[arg(long, default_value = "target/bench")]
    pub(crate) folder: PathBuf,
    /// Where the peers are installed.
    #[arg(long, env = "SYNCLINE_BENCH_CACHE")]
    cache: Option<PathBuf>,
}

impl RunArgs {
    /// Where the peers are installed: outside the repository, so that a clean build keeps them.
    pub(crate) fn cache(&self) -> PathBuf {
        self.cache.clone().unwrap_or_else(|| {
            let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
            home.join(".cache/syncline-bench")
        })
    }
}
