//! Settings that are checked and complete: default < file < environment < flag.

mod auth;
pub mod limits;

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use syncline_protocol::Durability;
use syncline_protocol::document::Stamping;
use thiserror::Error;

use self::auth::random_hex;
use self::auth::{FileAuth, OneOrMore};
use crate::auth::{JwksError, KeyFileError, SecretError};
use crate::cli::args::{DataArgs, DevArgs, ServeArgs};
use crate::config::limits::{LimitError, Limits};
use crate::net::origin::OriginError;
use crate::net::proxy::{NetworkError, TrustedProxies};

pub use self::auth::{Auth, token_secret};

const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 4000);
const DATA: &str = "./syncline-data";
const LOG: &str = "info";

const KEYS: [&str; 13] = [
    "audit_log",
    "auth",
    "data",
    "demo",
    "durability",
    "jwt_secret",
    "jwt_secret_file",
    "limits",
    "listen",
    "log",
    "metrics",
    "presence",
    "trusted_proxies",
];

/// How a server presents itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// For the person at this computer.
    Dev,
    /// For everybody.
    Serve,
}

/// Who may read what is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MetricsFor {
    /// Everybody: it names nobody.
    #[default]
    All,
    /// Whoever has a token that is `admin` for `*`.
    Admin,
}

/// Everything that a server is told.
#[derive(Debug)]
pub struct Config {
    /// Where the audit log is written; nowhere if it is None.
    pub audit_log: Option<PathBuf>,
    /// Where documents are kept.
    pub data: PathBuf,
    /// Whether the embedded pages are served.
    pub demo: bool,
    /// The configuration file, if one was named.
    pub file: Option<PathBuf>,
    /// What an acknowledged edit survives.
    pub durability: Durability,
    /// Its bounds.
    pub limits: Limits,
    /// Where it listens.
    pub listen: SocketAddr,
    /// What is logged.
    pub log: String,
    /// Who may read what is counted.
    pub metrics: MetricsFor,
    /// How it presents itself.
    pub mode: Mode,
    /// What is checked of tokens.
    pub auth: Auth,
    /// What presence states are given.
    pub stamping: Stamping,
    /// The proxies that are believed.
    pub proxies: TrustedProxies,
}

/// Why there is no usable configuration.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read {}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file is not TOML, or a value has the wrong type.
    #[error("{}: {message}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where and what.
        message: String,
    },
    /// A key that does not exist.
    #[error("unknown key {key:?} in {}{}", .path.display(), suggestion(.near))]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The key that was probably meant.
        near: Option<String>,
    },
    /// A limit that cannot work.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// `serve` was given no key.
    #[error(
        "no JWT secret is set. Here is a fresh one: SYNCLINE_JWT_SECRET={suggestion} \
         (or put it in a file and name that in SYNCLINE_JWT_SECRET_FILE; or name a public key in \
         SYNCLINE_AUTH_PUBLIC_KEY or your identity provider's key set in SYNCLINE_AUTH_JWKS)"
    )]
    SecretMissing {
        /// A secret ready to be used.
        suggestion: String,
    },
    /// The secret is too short.
    #[error("{error}. Here is a fresh one: SYNCLINE_JWT_SECRET={suggestion}")]
    SecretShort {
        /// By how much.
        error: SecretError,
        /// A secret ready to be used.
        suggestion: String,
    },
    /// A secret is none.
    #[error(transparent)]
    Secret(SecretError),
    /// A public key is none.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// A key set is none.
    #[error(transparent)]
    Jwks(#[from] JwksError),
    /// An origin is none.
    #[error(transparent)]
    Origin(#[from] OriginError),
    /// A trusted proxy is none.
    #[error(transparent)]
    Proxy(#[from] NetworkError),
    /// More keys than a token should be tried with.
    #[error("{key} names {count} keys; two are enough to change from one to the next, 8 the most")]
    ManyKeys {
        /// Where.
        key: &'static str,
        /// How many.
        count: usize,
    },
    /// `dev` was told to listen where others can reach it.
    #[error(
        "dev mode listens on this computer only, not on {listen}: use syncline serve, \
         or add --i-know"
    )]
    DevExposed {
        /// The address.
        listen: SocketAddr,
    },
    /// The development secret cannot be kept.
    #[error("cannot keep a development secret in {}", .path.display())]
    DevSecret {
        /// Its file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The system gives no randomness.
    #[error("the system gives no random bytes for a secret: {reason}")]
    Randomness {
        /// What it said.
        reason: String,
    },
}

fn suggestion(near: &Option<String>) -> String {
    near.as_ref().map(|near| format!("; did you mean {near:?}?")).unwrap_or_default()
}

/// The configuration file.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct FileConfig {
    audit_log: Option<PathBuf>,
    auth: FileAuth,
    data: Option<PathBuf>,
    demo: Option<bool>,
    durability: Option<Durability>,
    jwt_secret: OneOrMore<String>,
    jwt_secret_file: OneOrMore<PathBuf>,
    limits: Limits,
    listen: Option<SocketAddr>,
    log: Option<String>,
    metrics: Option<MetricsFor>,
    presence: PresenceConfig,
    trusted_proxies: Option<OneOrMore<String>>,
}

/// The table `[presence]`.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct PresenceConfig {
    /// Whether states are given the verified identity.
    stamp: bool,
}

impl Default for PresenceConfig {
    fn default() -> Self {
        Self { stamp: true }
    }
}

impl FileConfig {
    /// The file that was named, if one was.
    fn of(folder: &DataArgs) -> Result<Self, ConfigError> {
        folder.config.as_deref().map_or_else(|| Ok(Self::default()), Self::read)
    }

    fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        let malformed = |error: toml::de::Error| ConfigError::Malformed {
            path: path.to_owned(),
            message: explain(&error, &text),
        };
        let table: toml::Table = text.parse().map_err(malformed)?;
        known(path, "", table.keys(), &KEYS)?;
        if let Some(toml::Value::Table(auth)) = table.get("auth") {
            known(path, "auth.", auth.keys(), &auth::KEYS)?;
        }
        let file: Self = toml::from_str(&text).map_err(malformed)?;
        file.limits.check()?;
        Ok(file)
    }
}

/// Refuses a key that does not exist.
fn known<'a>(
    path: &Path,
    table: &'static str,
    mut keys: impl Iterator<Item = &'a String>,
    known: &[&'static str],
) -> Result<(), ConfigError> {
    let Some(key) = keys.find(|key| !known.contains(&key.as_str())) else { return Ok(()) };
    let distance = |known: &&str| strsim::damerau_levenshtein(known, key);
    let near = known.iter().copied().min_by_key(distance).filter(|known| distance(known) <= 3);
    let key = format!("{table}{key}");
    let near = near.map(|near| format!("{table}{near}"));
    Err(ConfigError::UnknownKey { path: path.to_owned(), key, near })
}

/// Where and what, without the line itself: it may hold the secret.
fn explain(error: &toml::de::Error, text: &str) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.lines().count().max(1) + usize::from(before.ends_with('\n'));
    let is_secret = text.lines().nth(line - 1).is_some_and(|line| line.contains("secret"));
    let what = if is_secret { "a secret must be a string in quotes" } else { error.message() };
    format!("line {line}: {what}")
}

impl Config {
    /// The configuration of `syncline serve`.
    ///
    /// # Errors
    /// If a setting is missing or wrong.
    pub fn serve(args: ServeArgs) -> Result<Self, ConfigError> {
        let file = FileConfig::of(&args.keys.folder)?;
        let auth = Auth::of(&args.keys, args.auth.clone(), &file)?;
        if !auth.has_keys() {
            return Err(ConfigError::SecretMissing { suggestion: random_hex()? });
        }
        Self::merge(args, file, Mode::Serve, auth)
    }

    /// The configuration of `syncline dev`: as for `serve`, but a secret is made when none is set.
    ///
    /// # Errors
    /// If a setting is wrong, or the address is not this computer's own.
    pub fn dev(args: DevArgs) -> Result<Self, ConfigError> {
        let DevArgs { serve: args, i_know } = args;
        let file = FileConfig::of(&args.keys.folder)?;
        let listen = args.listen.or(file.listen).unwrap_or(LISTEN);
        if !listen.ip().is_loopback() && !i_know {
            return Err(ConfigError::DevExposed { listen });
        }
        let mut auth = Auth::of(&args.keys, args.auth.clone(), &file)?;
        if !auth.has_keys() {
            auth.add_dev_secret(&data_folder(&args.keys.folder, &file))?;
        }
        Self::merge(args, file, Mode::Dev, auth)
    }

    fn merge(
        args: ServeArgs,
        file: FileConfig,
        mode: Mode,
        auth: Auth,
    ) -> Result<Self, ConfigError> {
        let typed: Vec<_> =
            args.trusted_proxies.into_iter().filter(|network| !network.is_empty()).collect();
        let listed = file.trusted_proxies.as_ref().map(OneOrMore::list);
        let networks = if typed.is_empty() { listed } else { Some(typed) };
        let audit_log = args.audit_log.or(file.audit_log.clone());
        Ok(Self {
            audit_log: audit_log.filter(|path| !path.as_os_str().is_empty()),
            data: data_folder(&args.keys.folder, &file),
            demo: mode == Mode::Dev || args.demo || file.demo.unwrap_or(false),
            file: args.keys.folder.config.clone(),
            durability: args.durability.or(file.durability).unwrap_or(Durability::Fsync),
            limits: file.limits,
            listen: args.listen.or(file.listen).unwrap_or(LISTEN),
            log: args.log.or(file.log).unwrap_or_else(|| LOG.to_owned()),
            metrics: args.metrics.or(file.metrics).unwrap_or_default(),
            mode,
            auth,
            stamping: if file.presence.stamp { Stamping::Identity } else { Stamping::Nothing },
            proxies: TrustedProxies::parse(networks.as_deref())?,
        })
    }
}

/// What the commands that work on stored documents need to know.
#[derive(Debug)]
pub struct Folder {
    /// Where documents are kept.
    pub data: PathBuf,
    /// The bounds that they were written under.
    pub limits: Limits,
}

/// The data folder, from flag, environment or file.
///
/// # Errors
/// If the configuration file cannot be used.
pub fn folder(args: &DataArgs) -> Result<Folder, ConfigError> {
    let file = FileConfig::of(args)?;
    Ok(Folder { data: data_folder(args, &file), limits: file.limits })
}

/// Where `syncline healthcheck` looks when it is not told.
#[must_use]
pub fn default_listen() -> SocketAddr {
    LISTEN
}

fn data_folder(folder: &DataArgs, file: &FileConfig) -> PathBuf {
    folder.data.clone().or_else(|| file.data.clone()).unwrap_or_else(|| DATA.into())
}
