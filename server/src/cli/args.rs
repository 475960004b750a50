//! What the operator typed, before anything is checked. Every flag is also an environment variable
//! and a key of the configuration file; [`config`](crate::config) merges the three.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{Parser, Subcommand};
use syncline_protocol::{Access, DocumentName, Durability};

use crate::config::MetricsFor;

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
    /// Serve for real; needs a secret or a public key
    Serve(ServeArgs),
    /// Print a token
    Token(TokenArgs),
    /// Exit with 0 when the server is ready; for containers
    Healthcheck(HealthcheckArgs),
    /// Read everything that is stored and report whatever is wrong; also beside a running server
    Verify(VerifyArgs),
    /// Write every document into one file; also beside a running server
    Backup(BackupArgs),
    /// Fill an empty data folder from a backup
    Restore(RestoreArgs),
    /// Write one document as a Yjs update; also beside a running server
    Export(ExportArgs),
    /// Add a Yjs update to a document, or make it the document
    Import(ImportArgs),
    /// Delete a document
    Delete(DeleteArgs),
    /// Give back the room that history takes, document by document
    Compact(DataArgs),
    /// Fill the snapshot cache afresh from the journal
    Rebuild(DataArgs),
    /// Documents that are kept from harming the others
    #[command(subcommand)]
    Quarantine(QuarantineCommand),
}

/// The subcommands of `quarantine`.
#[derive(Debug, Subcommand)]
pub enum QuarantineCommand {
    /// Show which documents are in trouble, since when and why
    List(DataArgs),
    /// Serve a document as before; also beside a running server
    Release(ReleaseArgs),
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
    /// What an acknowledged edit survives: a power cut (fsync), the end of the process (os), or
    /// nothing (memory) [default: fsync]
    #[arg(long, env = "SYNCLINE_DURABILITY", value_parser = durability, value_name = "fsync|os|memory")]
    pub durability: Option<Durability>,
    /// Serve the demo and the inspector; what they may do is up to the tokens that people bring
    #[arg(long, env = "SYNCLINE_DEMO")]
    pub demo: bool,
    /// Log filter, such as info or syncline_server=debug [default: info]
    #[arg(long, env = "SYNCLINE_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// Write who came, was refused and wrote to this file, one JSON line each; - is standard output
    #[arg(long, env = "SYNCLINE_AUDIT_LOG", value_name = "FILE|-")]
    pub audit_log: Option<PathBuf>,
    /// Let everybody read /metrics, or only who has a token that is admin for * [default: all]
    #[arg(long, env = "SYNCLINE_METRICS", value_parser = metrics, value_name = "all|admin")]
    pub metrics: Option<MetricsFor>,
    /// Believe these proxies about the address of a client (X-Forwarded-For, Forwarded): addresses
    /// or networks, such as 10.0.0.0/8. May be repeated [default: none]
    #[arg(long, env = "SYNCLINE_TRUSTED_PROXIES", value_delimiter = ',', value_name = "NETWORK")]
    pub trusted_proxies: Vec<String>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become part of --help")]
    pub keys: KeyArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become part of --help")]
    pub auth: AuthArgs,
}

/// What else is checked of tokens.
#[derive(Clone, Debug, clap::Args)]
pub struct AuthArgs {
    /// PEM file with a public key that tokens are verified with: RSA (RS256), P-256 (ES256), P-384
    /// (ES384) or Ed25519 (EdDSA). May be repeated
    #[arg(long, env = "SYNCLINE_AUTH_PUBLIC_KEY", value_delimiter = ',', value_name = "FILE")]
    pub auth_public_key: Vec<PathBuf>,
    /// Key set (JWKS) that tokens are verified with: an https URL, or a file
    #[arg(long, env = "SYNCLINE_AUTH_JWKS", value_name = "URL|FILE")]
    pub auth_jwks: Option<String>,
    /// Allow an http URL for it: whoever is on the way can then let anybody in
    #[arg(long, env = "SYNCLINE_AUTH_JWKS_PLAIN_HTTP", value_parser = BoolishValueParser::new())]
    pub auth_jwks_plain_http: bool,
    /// Take tokens of this issuer (iss) only. May be repeated
    #[arg(long, env = "SYNCLINE_AUTH_ISSUER", value_delimiter = ',', value_name = "NAME")]
    pub auth_issuer: Vec<String>,
    /// Take tokens for this audience (aud) only. May be repeated
    #[arg(long, env = "SYNCLINE_AUTH_AUDIENCE", value_delimiter = ',', value_name = "NAME")]
    pub auth_audience: Vec<String>,
    /// Let only web pages of this origin connect; its scheme, host and port. May be repeated [default:
    /// any page that has a token, and for tokens in cookies those of this host]
    #[arg(long, env = "SYNCLINE_AUTH_ORIGINS", value_delimiter = ',', value_name = "https://HOST")]
    pub auth_origins: Vec<String>,
}

/// Where the data is.
#[derive(Debug, clap::Args)]
pub struct DataArgs {
    /// Read settings from this file; flags and variables win over it
    #[arg(long, env = "SYNCLINE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Folder for the documents [default: ./syncline-data]
    #[arg(long, env = "SYNCLINE_DATA", value_name = "FOLDER")]
    pub data: Option<PathBuf>,
}

/// Where the data and the secret are.
#[derive(Debug, clap::Args)]
pub struct KeyArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become part of --help")]
    pub folder: DataArgs,
    /// Secret that tokens are signed with (HS256), at least 32 bytes; base64:... stands for bytes
    /// in base64. May be repeated: any verifies, the first signs
    #[arg(long, env = "SYNCLINE_JWT_SECRET", value_name = "SECRET", hide_env_values = true)]
    pub jwt_secret: Vec<String>,
    /// File that holds that secret; a newline at its end does not count. May be repeated
    #[arg(long, env = "SYNCLINE_JWT_SECRET_FILE", value_delimiter = ',', value_name = "FILE")]
    pub jwt_secret_file: Vec<PathBuf>,
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

/// Flags of `verify`.
#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    /// Only this document
    #[arg(long, value_name = "NAME")]
    pub doc: Option<DocumentName>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become part of --help")]
    pub folder: DataArgs,
}

/// Flags of `backup`.
#[derive(Debug, clap::Args)]
pub struct BackupArgs {
    /// The file to write; it must not exist. `-` is standard output
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become part of --help")]
    pub folder: DataArgs,
}

/// Flags of `restore`.
#[derive(Debug, clap::Args)]
pub struct RestoreArgs {
    /// A file that `syncline backup` wrote
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Refuse clients that still hold newer edits instead of taking those over
    #[arg(long)]
    pub new_epoch: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become part of --help")]
    pub folder: DataArgs,
}

/// Flags of `export`.
#[derive(Debug, clap::Args)]
pub struct ExportArgs {
    /// The document
    #[arg(value_name = "NAME")]
    pub doc: DocumentName,
    /// The file to write [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become part of --help")]
    pub folder: DataArgs,
}

/// Flags of `import`.
#[derive(Debug, clap::Args)]
pub struct ImportArgs {
    /// The document
    #[arg(value_name = "NAME")]
    pub doc: DocumentName,
    /// A file with a Yjs v1 update
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Drop what the document was. Clients that hold the old one are told to start afresh
    #[arg(long)]
    pub replace: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become part of --help")]
    pub folder: DataArgs,
}

/// Flags of `delete`.
#[derive(Debug, clap::Args)]
pub struct DeleteArgs {
    /// The document
    #[arg(value_name = "NAME")]
    pub doc: DocumentName,
    /// Yes, without a way back
    #[arg(long, required = true)]
    pub yes: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become part of --help")]
    pub folder: DataArgs,
}

/// Flags of `quarantine release`.
#[derive(Debug, clap::Args)]
pub struct ReleaseArgs {
    /// The document
    #[arg(value_name = "NAME")]
    pub doc: DocumentName,
    /// Make the last good state the document and drop what cannot be read. Needs the folder to
    /// itself
    #[arg(long)]
    pub accept_loss: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become part of --help")]
    pub folder: DataArgs,
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

fn metrics(text: &str) -> Result<MetricsFor, String> {
    match text {
        "all" => Ok(MetricsFor::All),
        "admin" => Ok(MetricsFor::Admin),
        other => Err(format!("{other:?} is none of all, admin")),
    }
}

fn durability(text: &str) -> Result<Durability, String> {
    match text {
        "memory" => Ok(Durability::Memory),
        "os" => Ok(Durability::Os),
        "fsync" => Ok(Durability::Fsync),
        other => Err(format!("{other:?} is none of fsync, os, memory")),
    }
}
