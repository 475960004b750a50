//! Settings about tokens: with what they are signed, by whom and for whom, and which web pages may
//! carry them.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::auth::{Expected, Jwks, Key, Secret, SecretError};
use crate::cli::args::{AuthArgs, KeyArgs};
use crate::config::{ConfigError, FileConfig, data_folder};
use crate::net::origin::OriginPolicy;

/// Keys of one kind. A token without a name of its key may be tried with each.
const KEYS_MAX: usize = 8;

const DEV_SECRET: &str = "dev-secret";

/// Keys under `[auth]`.
pub(super) const KEYS: [&str; 6] =
    ["audience", "issuer", "jwks", "jwks_plain_http", "origins", "public_key"];

/// What is checked of tokens.
#[derive(Debug)]
pub struct Auth {
    /// Secrets and public keys.
    pub keys: Vec<Key>,
    /// What the embedded pages' tokens are signed with in `dev`: the first secret, unless tokens
    /// have to say for whom or by whom they are.
    pub signer: Option<Secret>,
    /// A key set that somebody else keeps.
    pub jwks: Option<Jwks>,
    /// What claims must say.
    pub expected: Expected,
    /// Which web pages may connect.
    pub origins: OriginPolicy,
}

/// The part `[auth]` of the configuration file.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct FileAuth {
    audience: OneOrMore<String>,
    issuer: OneOrMore<String>,
    jwks: Option<String>,
    jwks_plain_http: bool,
    origins: OneOrMore<String>,
    public_key: OneOrMore<PathBuf>,
}

/// A value, or a list of them.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "this must be a string in quotes, or a list of them")]
pub(super) enum OneOrMore<T> {
    One(T),
    More(Vec<T>),
}

impl<T> Default for OneOrMore<T> {
    fn default() -> Self {
        Self::More(Vec::new())
    }
}

impl<T: Clone> OneOrMore<T> {
    pub(super) fn list(&self) -> Vec<T> {
        match self {
            Self::One(value) => vec![value.clone()],
            Self::More(values) => values.clone(),
        }
    }
}

/// What was typed, or what is in the file. A variable that is set to nothing counts as not set.
fn either(typed: Vec<String>, file: &OneOrMore<String>) -> Vec<String> {
    let typed: Vec<_> = typed.into_iter().filter(|text| !text.is_empty()).collect();
    if typed.is_empty() { file.list() } else { typed }
}

impl Auth {
    /// What was typed, or is in the file.
    pub(super) fn of(
        keys: &KeyArgs,
        auth: AuthArgs,
        file: &FileConfig,
    ) -> Result<Self, ConfigError> {
        let secrets = secrets(keys, file)?;
        let mut found: Vec<Key> = secrets.iter().map(Key::secret).collect();
        let typed: Vec<_> =
            auth.auth_public_key.into_iter().filter(|path| !path.as_os_str().is_empty()).collect();
        let paths = if typed.is_empty() { file.auth.public_key.list() } else { typed };
        few("auth.public_key", paths.len())?;
        for path in paths {
            found.push(Key::from_file(&path)?);
        }
        let jwks = auth.auth_jwks.filter(|source| !source.is_empty()).or(file.auth.jwks.clone());
        let plain_http = auth.auth_jwks_plain_http || file.auth.jwks_plain_http;
        let jwks = jwks.map(|source| Jwks::open(&source, plain_http)).transpose()?;
        let expected = Expected {
            issuers: either(auth.auth_issuer, &file.auth.issuer),
            audiences: either(auth.auth_audience, &file.auth.audience),
        };
        let origins = OriginPolicy::parse(&either(auth.auth_origins, &file.auth.origins))?;
        let signer = secrets.into_iter().next().filter(|_| expected == Expected::default());
        Ok(Self { keys: found, signer, jwks, expected, origins })
    }

    /// Whether there is anything to verify a token with.
    pub(super) fn has_keys(&self) -> bool {
        !self.keys.is_empty() || self.jwks.is_some()
    }

    /// Adds the secret that `dev` makes if it was given no key.
    pub(super) fn add_dev_secret(&mut self, folder: &Path) -> Result<(), ConfigError> {
        let secret = dev_secret(folder)?;
        self.keys.push(Key::secret(&secret));
        self.signer = Some(secret).filter(|_| self.expected == Expected::default());
        Ok(())
    }
}

fn few(key: &'static str, count: usize) -> Result<(), ConfigError> {
    if count > KEYS_MAX { Err(ConfigError::ManyKeys { key, count }) } else { Ok(()) }
}

/// The secret that `syncline token` signs with: the first one configured, else that of `dev`.
///
/// # Errors
/// If neither exists.
pub fn token_secret(keys: &KeyArgs) -> Result<Secret, ConfigError> {
    let file = FileConfig::of(&keys.folder)?;
    match secrets(keys, &file)?.into_iter().next() {
        Some(secret) => Ok(secret),
        None => checked(&read_secret(&data_folder(&keys.folder, &file).join(DEV_SECRET))?),
    }
}

/// The secrets from flag or environment, else from the file; text beats a file of the same source.
fn secrets(keys: &KeyArgs, file: &FileConfig) -> Result<Vec<Secret>, ConfigError> {
    let sources = [
        (keys.jwt_secret.clone(), keys.jwt_secret_file.clone()),
        (file.jwt_secret.list(), file.jwt_secret_file.list()),
    ];
    for (texts, paths) in sources {
        few("jwt_secret", texts.len().max(paths.len()))?;
        if !texts.is_empty() {
            return texts.iter().map(|text| checked(text)).collect();
        }
        if !paths.is_empty() {
            return paths.iter().map(|path| checked(&read_secret(path)?)).collect();
        }
    }
    Ok(Vec::new())
}

fn checked(text: &str) -> Result<Secret, ConfigError> {
    match Secret::parse(text) {
        Ok(secret) => Ok(secret),
        Err(error @ SecretError::Short { .. }) => {
            Err(ConfigError::SecretShort { error, suggestion: random_hex()? })
        }
        Err(error) => Err(ConfigError::Secret(error)),
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
        return checked(&read_secret(&path)?);
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
    checked(&secret)
}

pub(super) fn random_hex() -> Result<String, ConfigError> {
    crate::auth::random_hex().map_err(|error| ConfigError::Randomness { reason: error.to_string() })
}
