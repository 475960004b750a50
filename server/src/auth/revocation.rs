//! Revocations: limits on valid tokens of a user, by document pattern and time of issue.
//!
//! One small file in the data folder, replaced as a whole at every change. The server does not know
//! when a user's last token expires, so an entry stays until its `until`, or for ever.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use serde::{Deserialize, Serialize};
use syncline_protocol::{Access, Close, CloseCode, DocumentName, Grant};
use thiserror::Error;

use crate::auth::{Claims, Rights, covers};
use crate::store::atomic_file::replace;
use crate::sync::lock;

const FILE: &str = "revoked.json";

/// Revocations remembered at a time. With names of 50 bytes the file has 2 MB and is written in
/// some 10 ms.
const REVOCATIONS_MAX: usize = 10_000;

/// A limit on a user's tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Revocation {
    /// The user: the `sub` of the tokens.
    pub(crate) sub: String,
    /// The documents: a name, `prefix/*`, or `*`.
    pub(crate) document: String,
    /// The tokens: those issued before this second, and those without `iat`.
    pub(crate) issued_before: u64,
    /// The access that remains. `None`: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) access: Option<Access>,
    /// When the entry can be removed, because the tokens have expired. `None`: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) until: Option<u64>,
}

impl Revocation {
    /// Whether it limits these rights in a document.
    pub(crate) fn hits(&self, document: &DocumentName, rights: &Rights) -> bool {
        *self.sub == *rights.grant.identity.sub
            && rights.issued_at < self.issued_before
            && covers(&self.document, document)
    }

    /// The rights that remain.
    ///
    /// # Errors
    /// The close if none remain.
    pub(crate) fn limit(&self, rights: &Rights) -> Result<Rights, Close> {
        let Some(left) = self.access else { return Err(self.close()) };
        let access = rights.grant.access.min(left);
        Ok(Rights { grant: Grant { access, ..rights.grant.clone() }, issued_at: rights.issued_at })
    }

    /// The close reason when no access remains.
    pub(crate) fn close(&self) -> Close {
        let text = "the right to this document was taken back; ask for a new token";
        Close::new(CloseCode::Revoked, text)
    }

    /// Whether it limits everything that `other` limits, for as long.
    fn replaces(&self, other: &Self) -> bool {
        let lasts = match (self.until, other.until) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(ours), Some(theirs)) => ours >= theirs,
        };
        self.sub == other.sub
            && self.document == other.document
            && self.access <= other.access
            && self.issued_before >= other.issued_before
            && lasts
    }
}

/// Why the list cannot be read or written.
#[derive(Debug, Error)]
#[error("cannot use {}, the list of revoked tokens", .path.display())]
pub struct RevocationError {
    /// The file.
    pub path: PathBuf,
    /// The system's error.
    #[source]
    pub source: io::Error,
}

/// The list has [`REVOCATIONS_MAX`] entries, and none has expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// The list of revocations.
#[derive(Debug)]
pub struct Revocations {
    by_sub: Mutex<BTreeMap<String, Vec<Revocation>>>,
    /// `None` for a server that keeps nothing on disk. Locked while the file is written.
    file: Mutex<Option<PathBuf>>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    revoked: Vec<Revocation>,
}

impl Revocations {
    /// Opens the list of a data folder. There is no file before the first revocation.
    ///
    /// # Errors
    /// If the file exists and cannot be read: without it, revoked tokens would be valid again.
    pub fn open(data: &Path) -> Result<Self, RevocationError> {
        let path = data.join(FILE);
        let read = match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(io::Error::from),
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(Stored::default()),
            Err(error) => Err(error),
        };
        let stored = read.map_err(|source| RevocationError { path: path.clone(), source })?;
        let mut by_sub: BTreeMap<String, Vec<Revocation>> = BTreeMap::new();
        for revocation in stored.revoked {
            by_sub.entry(revocation.sub.clone()).or_default().push(revocation);
        }
        Ok(Self { by_sub: Mutex::new(by_sub), file: Mutex::new(Some(path)) })
    }

    /// A list that ends with the process.
    #[must_use]
    pub fn in_memory() -> Self {
        Self { by_sub: Mutex::default(), file: Mutex::default() }
    }

    /// The rights that revocations leave of those of a valid token.
    ///
    /// # Errors
    /// The close if none are left.
    pub(crate) fn limit(&self, document: &DocumentName, rights: Rights) -> Result<Rights, Close> {
        let by_sub = self.by_sub();
        let revocations = by_sub.get(&*rights.grant.identity.sub).map(Vec::as_slice);
        revocations.unwrap_or_default().iter().try_fold(rights, |rights, revocation| {
            if revocation.hits(document, &rights) { revocation.limit(&rights) } else { Ok(rights) }
        })
    }

    /// Whether a revocation for every document limits the tokens of these claims.
    pub(crate) fn concerns(&self, claims: &Claims) -> bool {
        let by_sub = self.by_sub();
        let revocations = claims.sub.as_ref().and_then(|sub| by_sub.get(sub));
        let issued_at = claims.iat.unwrap_or(0);
        revocations.is_some_and(|revocations| {
            revocations.iter().any(|it| it.document == "*" && issued_at < it.issued_before)
        })
    }

    /// Adds a revocation. At the bound, those that have expired at `now` are removed.
    pub(crate) fn put(&self, revocation: Revocation, now: u64) -> Result<(), Full> {
        let mut by_sub = self.by_sub();
        if let Some(theirs) = by_sub.get_mut(&revocation.sub) {
            theirs.retain(|old| !revocation.replaces(old));
        }
        let count = |by_sub: &BTreeMap<_, Vec<_>>| by_sub.values().map(Vec::len).sum::<usize>();
        if count(&by_sub) >= REVOCATIONS_MAX {
            by_sub.retain(|_, theirs| {
                theirs.retain(|old| old.until.is_none_or(|until| until > now));
                !theirs.is_empty()
            });
            if count(&by_sub) >= REVOCATIONS_MAX {
                return Err(Full);
            }
        }
        by_sub.entry(revocation.sub.clone()).or_default().push(revocation);
        Ok(())
    }

    /// Writes the list to disk. Blocks.
    pub(crate) fn write(&self) -> Result<(), RevocationError> {
        let file = lock(&self.file);
        let Some(path) = &*file else { return Ok(()) };
        let stored = Stored { revoked: self.by_sub().values().flatten().cloned().collect() };
        let written = serde_json::to_vec_pretty(&stored).map_err(io::Error::from);
        let written = written.and_then(|text| replace(path, &text));
        written.map_err(|source| RevocationError { path: path.clone(), source })
    }

    fn by_sub(&self) -> MutexGuard<'_, BTreeMap<String, Vec<Revocation>>> {
        // Every change is made as a whole.
        lock(&self.by_sub)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use syncline_protocol::{Identity, PresenceRight, Timestamp};

    use super::*;

    fn revocation(sub: &str, document: &str, issued_before: u64) -> Revocation {
        Revocation {
            sub: sub.to_owned(),
            document: document.to_owned(),
            issued_before,
            access: None,
            until: None,
        }
    }

    fn rights(sub: &str, issued_at: u64) -> Rights {
        let identity = Arc::new(Identity { sub: sub.into(), name: "".into() });
        let grant = Grant {
            access: Access::Admin,
            presence: PresenceRight::Visible,
            identity,
            expires_at: Timestamp::from_unix_ms(0),
        };
        Rights { grant, issued_at }
    }

    fn left(list: &Revocations, document: &str, sub: &str, issued_at: u64) -> Option<Access> {
        let rights = list.limit(&document.parse().unwrap(), rights(sub, issued_at));
        rights.ok().map(|rights| rights.grant.access)
    }

    #[test]
    fn revoke_4_earlier_tokens_stay_refused_after_a_restart() {
        let data = tempfile::tempdir().unwrap();
        let list = Revocations::open(data.path()).unwrap();
        assert!(!data.path().join(FILE).exists());
        list.put(revocation("ada", "team/*", 100), 50).unwrap();
        let narrowed = Revocation { access: Some(Access::Read), ..revocation("bob", "*", 100) };
        list.put(narrowed, 50).unwrap();
        list.write().unwrap();
        for list in [list, Revocations::open(data.path()).unwrap()] {
            let cases = [
                ("team/a", "ada", 99, None),
                ("team/a", "ada", 0, None),
                ("team/a", "ada", 100, Some(Access::Admin)),
                ("other", "ada", 99, Some(Access::Admin)),
                ("team/a", "eve", 99, Some(Access::Admin)),
                ("team/a", "", 0, Some(Access::Admin)),
                ("team/a", "bob", 99, Some(Access::Read)),
                ("team/a", "bob", 100, Some(Access::Admin)),
            ];
            for (document, sub, issued_at, expected) in cases {
                assert_eq!(left(&list, document, sub, issued_at), expected, "{sub} {issued_at}");
            }
        }
    }

    #[test]
    fn revoke_4_a_damaged_list_is_an_error_that_names_it() {
        let data = tempfile::tempdir().unwrap();
        fs::write(data.path().join(FILE), "{\"revoked\": [{").unwrap();
        let error = Revocations::open(data.path()).unwrap_err();
        assert_eq!(error.path, data.path().join(FILE));
    }

    #[test]
    fn revoke_5_the_list_is_bounded_and_expired_entries_leave() {
        let list = Revocations::in_memory();
        for user in 0..REVOCATIONS_MAX as u64 {
            let ends =
                Revocation { until: Some(1_000 + user), ..revocation(&user.to_string(), "*", 1) };
            list.put(ends, 0).unwrap();
        }
        assert_eq!(list.put(revocation("late", "*", 5), 999), Err(Full));
        assert_eq!(left(&list, "a", "late", 1), Some(Access::Admin));
        assert_eq!(list.put(revocation("late", "*", 5), 1_000), Ok(()));
        assert_eq!(left(&list, "a", "late", 1), None);
        // The same revocation again takes no further entry.
        assert_eq!(list.put(revocation("late", "*", 6), 1_000), Ok(()));
        assert_eq!(list.put(revocation("later", "*", 5), 1_000), Err(Full));
    }

    #[test]
    fn revoke_5_a_weaker_revocation_does_not_replace_another() {
        let list = Revocations::in_memory();
        list.put(revocation("ada", "*", 100), 0).unwrap();
        let weaker = [
            revocation("ada", "*", 50),
            revocation("ada", "team/*", 100),
            Revocation { access: Some(Access::Read), ..revocation("ada", "*", 100) },
            Revocation { until: Some(10), ..revocation("ada", "*", 100) },
        ];
        for weaker in weaker {
            list.put(weaker, 5).unwrap();
        }
        list.put(revocation("bob", "*", 1), 20).unwrap();
        assert_eq!(left(&list, "a", "ada", 99), None);
    }
}
