//! What the operator typed, before anything is checked. Every flag is also an environment variable
//! and a key of the configuration file; [`config`](crate::config) merges the three.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use syncline_protocol::Access;

/// Self-hosted backend for collaborative documents.
#[derive(Debug, Parser)]
#[command(version, about, after_help = EXAMPLES)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "Examples:
  syncline dev
  syncline token --doc notes/today --access write --sub ada
  SYNCLINE_JWT_SECRET_FILE=/run/secrets/jwt syncline serve --listen 0.0.0.0:4000 --data /data";

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve this computer only, with a secret made on the spot
    Dev(DevArgs),
    /// Serve for real; needs a secret
    Serve(ServeArgs),
    /// Print a token
    Token(TokenArgs),
    /// Exit with 0 when the server is ready; for containers
    Healthcheck(HealthcheckArgs),
}

/// Flags of `dev`.
#[derive(Debug, clap::Args)]
pub struct DevArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become part of --help")]
    pub serve: ServeArgs,
    /// Allow an address that other computers can reach
    #[arg(long)]
    pub i_know: bool,
}

/// Flags of `serve`.
#[derive(Debug, clap::Args)]
pub struct ServeArgs {
    /// Address to listen on; port 0 takes any free one [default: 127.0.0.1:4000]
    #[arg(long, env = "SYNCLINE_LISTEN", value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Log filter, such as info or syncline_server=debug [default: info]
    #[arg(long, env = "SYNCLINE_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become part of --help")]
    pub keys: KeyArgs,
}

/// Where the data and the secret are.
#[derive(Debug, clap::Args)]
pub struct KeyArgs {
    /// Read settings from this file; flags and variables win over it
    #[arg(long, env = "SYNCLINE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Folder for the documents [default: ./syncline-data]
    #[arg(long, env = "SYNCLINE_DATA", value_name = "FOLDER")]
    pub data: Option<PathBuf>,
    /// Secret that tokens are signed with (HS256), at least 32 bytes
    #[arg(long, env = "SYNCLINE_JWT_SECRET", value_name = "SECRET", hide_env_values = true)]
    pub jwt_secret: Option<String>,
    /// File that holds that secret; a newline at its end does not count
    #[arg(long, env = "SYNCLINE_JWT_SECRET_FILE", value_name = "FILE")]
    pub jwt_secret_file: Option<PathBuf>,
}

/// Flags of `token`.
#[derive(Debug, clap::Args)]
pub struct TokenArgs {
    /// Document it opens; `team/*` and `*` are patterns. May be repeated
    #[arg(long, required = true, value_name = "NAME")]
    pub doc: Vec<String>,
    /// What it allows
    #[arg(long, value_parser = access, value_name = "read|write|admin")]
    pub access: Access,
    /// Who it is for, as your application knows them
    #[arg(long, value_name = "ID")]
    pub sub: Option<String>,
    /// What they are called
    #[arg(long)]
    pub name: Option<String>,
    /// How long it lasts
    #[arg(long, default_value = "1h", value_parser = humantime::parse_duration)]
    pub ttl: Duration,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become part of --help")]
    pub keys: KeyArgs,
}

/// Flags of `healthcheck`.
#[derive(Debug, clap::Args)]
pub struct HealthcheckArgs {
    /// Address of the server [default: 127.0.0.1:4000]
    #[arg(long, env = "SYNCLINE_LISTEN", value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
}

fn access(text: &str) -> Result<Access, String> {
    match text {
        "read" => Ok(Access::Read),
        "write" => Ok(Access::Write),
        "admin" => Ok(Access::Admin),
        other => Err(format!("{other:?} is none of read, write, admin")),
    }
}
