//! JWKS: a key set kept by another party, read from a file or fetched from a URL at intervals. A token
//! with an unknown `kid` has it fetched at once, at a bounded rate. When a fetch fails, the last good
//! keys stay.

mod fetch;
mod set;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::OwnedMutexGuard;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use self::fetch::{Address, FetchError};
use crate::auth::keys::{self, Key};
use crate::clock;
use crate::metrics::METRICS;
use crate::metrics::labels::Outcome;
use crate::sync::lock;

pub use self::fetch::AddressError;
pub use self::set::{LeftOut, SetError};

/// Between two scheduled fetches: a withdrawn key stays valid for as long.
const EVERY: Duration = Duration::from_secs(300);

/// The same after a failed fetch.
const AFTER_FAILURE: Duration = Duration::from_secs(30);

/// Between two fetches for unknown keys. Anyone can make tokens with unknown keys.
const ON_DEMAND: Duration = Duration::from_secs(30);

/// For one fetch, from the host's name to the last byte.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes of a key set. One of 32 keys with certificates in it has about 100 KiB.
const SET_BYTES_MAX: usize = 256 * 1024;

#[derive(Clone, Debug)]
enum Source {
    File(PathBuf),
    Url(Address),
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Url(address) => write!(f, "{address:?}"),
        }
    }
}

/// A key set, kept up to date.
#[derive(Clone, Debug)]
pub struct Jwks(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    source: Source,
    state: Mutex<KeySet>,
    /// Locked during a fetch; callers that wait for it share its result.
    fetching: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug, Default)]
struct KeySet {
    keys: Arc<[Key]>,
    demanded_at: Option<Instant>,
    /// When fetches began to fail.
    failing_since: Option<Instant>,
}

impl KeySet {
    /// Whether a fetch on demand is within the rate. Counts it.
    fn may_demand(&mut self, now: Instant) -> bool {
        let may = self.demanded_at.is_none_or(|at| now.duration_since(at) >= ON_DEMAND);
        if may {
            self.demanded_at = Some(now);
        }
        may
    }
}

/// Why a key set cannot be used.
#[derive(Debug, Error)]
pub enum JwksError {
    /// The URL is not allowed.
    #[error("the JWKS address cannot be used: {0}")]
    Address(#[from] AddressError),
    /// The file cannot be read, or the URL not fetched.
    #[error("the JWKS {from} is unavailable: {reason}")]
    Unavailable {
        /// The file or address.
        from: String,
        /// Why.
        reason: String,
    },
    /// The content is not a usable key set.
    #[error("the JWKS {from} cannot be used: {error}")]
    Set {
        /// The file or address.
        from: String,
        /// Why.
        error: SetError,
    },
}

impl Jwks {
    /// A set at a path or a URL. A file is read now, so that a mistake in it stops the start. A URL is
    /// fetched once the server runs: its host may be down for a while.
    ///
    /// # Errors
    /// If the address is not allowed, or the file cannot be used.
    pub fn open(source: &str, plain_http: bool) -> Result<Self, JwksError> {
        let is_url = source.starts_with("http://") || source.starts_with("https://");
        let source = if is_url {
            Source::Url(Address::parse(source, plain_http)?)
        } else {
            Source::File(source.into())
        };
        let inner = Inner { source, state: Mutex::default(), fetching: Arc::default() };
        if let Source::File(path) = &inner.source {
            let json =
                keys::read(path, SET_BYTES_MAX).map_err(|error| inner.unavailable(&error))?;
            inner.take(&json)?;
        }
        Ok(Self(Arc::new(inner)))
    }

    /// The keys of the last good fetch.
    pub(super) fn keys(&self) -> Arc<[Key]> {
        Arc::clone(&self.0.state().keys)
    }

    /// Whether the last fetch failed, so that the set may have keys unknown here.
    pub(super) fn is_failing(&self) -> bool {
        let state = self.0.state();
        state.failing_since.is_some() || state.keys.is_empty()
    }

    /// Fetches the set, unless that was demanded within [`ON_DEMAND`]. Concurrent callers share a fetch.
    pub(super) async fn demand(&self) {
        let fetching = Arc::clone(&self.0.fetching).lock_owned().await;
        let may = self.0.state().may_demand(Instant::now());
        if may {
            let inner = Arc::clone(&self.0);
            // In a task of its own, so that it goes on when the caller disconnects.
            drop(tokio::spawn(async move { inner.refresh(fetching).await }).await);
        }
    }

    /// Fetches the set at intervals, for ever.
    pub(crate) async fn keep_fresh(self) {
        loop {
            let fetching = Arc::clone(&self.0.fetching).lock_owned().await;
            self.0.refresh(fetching).await;
            let pause = if self.is_failing() { AFTER_FAILURE } else { EVERY };
            sleep(pause).await;
        }
    }
}

impl Inner {
    /// Fetches and replaces the keys. The guard keeps other fetches out.
    async fn refresh(&self, _fetching: OwnedMutexGuard<()>) {
        let looked = self.fetch().await.and_then(|json| self.take(&json));
        METRICS.jwks.add(Outcome::of(looked.is_ok()), 1);
        let failing_since = self.state().failing_since;
        match (looked, failing_since) {
            (Ok(()), None) => {}
            (Ok(()), Some(since)) => {
                self.state().failing_since = None;
                info!(from = %self.source, failed_s = since.elapsed().as_secs(), "The JWKS is available again.");
            }
            (Err(error), since) => {
                let mut state = self.state();
                let since = *state.failing_since.get_or_insert(since.unwrap_or_else(Instant::now));
                let keys = state.keys.len();
                drop(state);
                let now = clock::now().as_unix_ms() / 1_000;
                let since = now.saturating_sub(since.elapsed().as_secs());
                warn!(
                    %error, keys, since_unix_s = since,
                    "The JWKS could not be fetched; the last good keys stay in use."
                );
            }
        }
    }

    async fn fetch(&self) -> Result<Vec<u8>, JwksError> {
        match &self.source {
            Source::File(path) => {
                let path = path.clone();
                let read =
                    tokio::task::spawn_blocking(move || keys::read(&path, SET_BYTES_MAX)).await;
                let read = read.map_err(|error| self.unavailable(&error))?;
                read.map_err(|error| self.unavailable(&error))
            }
            Source::Url(address) => match timeout(PATIENCE, Box::pin(address.fetch())).await {
                Ok(fetched) => fetched.map_err(|error: FetchError| self.unavailable(&error)),
                Err(_) => {
                    Err(self.unavailable(&format!("no answer within {} s", PATIENCE.as_secs())))
                }
            },
        }
    }

    /// Replaces the keys by those of a valid set.
    fn take(&self, json: &[u8]) -> Result<(), JwksError> {
        let (keys, left_out) = set::parse(json)
            .map_err(|error| JwksError::Set { from: self.source.to_string(), error })?;
        for reason in left_out.iter().filter(|reason| reason.is_mistake()) {
            warn!(from = %self.source, %reason, "A key of the JWKS is left out.");
        }
        self.state().keys = keys.into();
        Ok(())
    }

    fn unavailable(&self, reason: &impl std::fmt::Display) -> JwksError {
        JwksError::Unavailable { from: self.source.to_string(), reason: reason.to_string() }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, KeySet> {
        lock(&self.state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_5_unknown_keys_cause_one_fetch_in_30_seconds() {
        let mut state = KeySet::default();
        let start = Instant::now();
        assert!(state.may_demand(start));
        assert!(!state.may_demand(start));
        assert!(!state.may_demand(start + ON_DEMAND - Duration::from_millis(1)));
        assert!(state.may_demand(start + ON_DEMAND));
        assert!(!state.may_demand(start + ON_DEMAND + Duration::from_secs(1)));
    }

    #[test]
    fn key_7_keys_come_over_https_or_from_this_computer() {
        for here in ["http://localhost:1/keys", "http://127.0.0.1/keys", "http://[::1]:1/"] {
            Jwks::open(here, false).unwrap();
        }
        let error = Jwks::open("http://idp.example/keys", false).unwrap_err();
        assert!(error.to_string().contains("--auth-jwks-plain-http"), "{error}");
        Jwks::open("http://idp.example/keys", true).unwrap();
        for bad in ["http://", "https:///keys", "http://user:password@localhost/keys"] {
            let error = Jwks::open(bad, true).unwrap_err().to_string();
            assert!(error.contains("cannot be used") && !error.contains("password"), "{error}");
        }
        let shown = Address::parse("http://localhost:1/keys?secret=1", false).unwrap();
        assert_eq!(format!("{shown:?}"), "http://localhost:1/keys");
    }

    #[test]
    fn key_7_an_invalid_key_file_stops_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys.json");
        let open = || Jwks::open(file.to_str().unwrap(), false);
        assert!(matches!(open(), Err(JwksError::Unavailable { .. })));
        std::fs::write(&file, "{}").unwrap();
        assert!(matches!(open(), Err(JwksError::Set { .. })));
    }
}
