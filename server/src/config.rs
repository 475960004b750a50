//! Settings that are checked and complete: default < file < environment < flag.

use std::fs;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use syncline_protocol::Durability;
use thiserror::Error;

use crate::args::{DataArgs, DevArgs, KeyArgs, ServeArgs};
use crate::auth::{SECRET_BYTES_MIN, Secret, SecretError};
use crate::limits::{LimitError, Limits};

const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 4000);
const DATA: &str = "./syncline-data";
const LOG: &str = "info";
const DEV_SECRET: &str = "dev-secret";

const KEYS: [&str; 7] =
    ["data", "durability", "jwt_secret", "jwt_secret_file", "limits", "listen", "log"];

/// How a server presents itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// For the person at this computer.
    Dev,
    /// For everybody.
    Serve,
}

/// Everything that a server is told.
#[derive(Debug)]
pub struct Config {
    /// Where documents are kept.
    pub data: PathBuf,
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
    /// How it presents itself.
    pub mode: Mode,
    /// What tokens are signed with.
    pub secret: Secret,
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
        near: Option<&'static str>,
    },
    /// A limit that cannot work.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// `serve` was given no secret.
    #[error(
        "no JWT secret is set. Here is a fresh one: SYNCLINE_JWT_SECRET={suggestion} \
         (or put it in a file and name that in SYNCLINE_JWT_SECRET_FILE)"
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

fn suggestion(near: &Option<&'static str>) -> String {
    near.map(|near| format!("; did you mean {near:?}?")).unwrap_or_default()
}

/// The configuration file.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct FileConfig {
    data: Option<PathBuf>,
    durability: Option<Durability>,
    jwt_secret: Option<String>,
    jwt_secret_file: Option<PathBuf>,
    limits: Limits,
    listen: Option<SocketAddr>,
    log: Option<String>,
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
        if let Some(key) = table.keys().find(|key| !KEYS.contains(&key.as_str())) {
            let distance = |known: &&str| strsim::damerau_levenshtein(known, key);
            let near = KEYS.into_iter().min_by_key(distance).filter(|known| distance(known) <= 3);
            return Err(ConfigError::UnknownKey { path: path.to_owned(), key: key.clone(), near });
        }
        let file: Self = toml::from_str(&text).map_err(malformed)?;
        file.limits.check()?;
        Ok(file)
    }
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
        let Some(secret) = configured_secret(&args.keys, &file)? else {
            return Err(ConfigError::SecretMissing { suggestion: random_hex()? });
        };
        Ok(Self::merge(args, file, Mode::Serve, secret))
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
        let secret = match configured_secret(&args.keys, &file)? {
            Some(secret) => secret,
            None => dev_secret(&data_folder(&args.keys.folder, &file))?,
        };
        Ok(Self::merge(args, file, Mode::Dev, secret))
    }

    fn merge(args: ServeArgs, file: FileConfig, mode: Mode, secret: Secret) -> Self {
        Self {
            data: data_folder(&args.keys.folder, &file),
            file: args.keys.folder.config.clone(),
            durability: args.durability.or(file.durability).unwrap_or(Durability::Fsync),
            limits: file.limits,
            listen: args.listen.or(file.listen).unwrap_or(LISTEN),
            log: args.log.or(file.log).unwrap_or_else(|| LOG.to_owned()),
            mode,
            secret,
        }
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

/// The secret that `syncline token` signs with: the configured one, else that of `syncline dev`.
///
/// # Errors
/// If neither exists.
pub fn token_secret(keys: &KeyArgs) -> Result<Secret, ConfigError> {
    let file = FileConfig::of(&keys.folder)?;
    match configured_secret(keys, &file)? {
        Some(secret) => Ok(secret),
        None => {
            let path = data_folder(&keys.folder, &file).join(DEV_SECRET);
            let text = read_secret(&path)?;
            checked(text.as_bytes())
        }
    }
}

/// Where `syncline healthcheck` looks when it is not told.
#[must_use]
pub fn default_listen() -> SocketAddr {
    LISTEN
}

fn data_folder(folder: &DataArgs, file: &FileConfig) -> PathBuf {
    folder.data.clone().or_else(|| file.data.clone()).unwrap_or_else(|| DATA.into())
}

/// The secret from flag or environment, else from the file; text beats a file of the same source.
fn configured_secret(keys: &KeyArgs, file: &FileConfig) -> Result<Option<Secret>, ConfigError> {
    let text = match (&keys.jwt_secret, &keys.jwt_secret_file) {
        (Some(text), _) => Some(text.clone()),
        (None, Some(path)) => Some(read_secret(path)?),
        (None, None) => match (&file.jwt_secret, &file.jwt_secret_file) {
            (Some(text), _) => Some(text.clone()),
            (None, Some(path)) => Some(read_secret(path)?),
            (None, None) => None,
        },
    };
    text.map(|text| checked(text.as_bytes())).transpose()
}

fn checked(secret: &[u8]) -> Result<Secret, ConfigError> {
    match Secret::new(secret) {
        Ok(secret) => Ok(secret),
        Err(error) => Err(ConfigError::SecretShort { error, suggestion: random_hex()? }),
    }
}

fn read_secret(path: &Path) -> Result<String, ConfigError> {
    let text = fs::read_to_string(path)
        .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// The secret of this data folder, made at the first start and readable by its owner only.
fn dev_secret(data: &Path) -> Result<Secret, ConfigError> {
    let path = data.join(DEV_SECRET);
    if path.exists() {
        return checked(read_secret(&path)?.as_bytes());
    }
    let secret = random_hex()?;
    let write = || {
        fs::create_dir_all(data)?;
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        writeln!(file, "{secret}")?;
        file.sync_all()
    };
    write().map_err(|source| ConfigError::DevSecret { path: path.clone(), source })?;
    checked(secret.as_bytes())
}

fn random_hex() -> Result<String, ConfigError> {
    let mut bytes = [0; SECRET_BYTES_MIN];
    getrandom::fill(&mut bytes)
        .map_err(|error| ConfigError::Randomness { reason: error.to_string() })?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
