//! How many connections there are from one address, of one user, and to one document. Whoever takes
//! a place gives it back by dropping it.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use syncline_protocol::{Close, CloseCode, DocumentName, Limit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::limits::Limits;

/// The places that are taken.
#[derive(Debug)]
pub(crate) struct Quotas {
    connections: Arc<Semaphore>,
    connections_max: usize,
    addresses: Arc<Taken<IpAddr>>,
    users: Arc<Taken<Arc<str>>>,
    documents: Arc<Taken<DocumentName>>,
}

impl Quotas {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            connections: Arc::new(Semaphore::new(limits.connections)),
            connections_max: limits.connections,
            addresses: Taken::new(limits.connections_per_address),
            users: Taken::new(limits.connections_per_user),
            documents: Taken::new(limits.connections_per_document),
        }
    }

    /// A place for one more connection.
    pub(crate) fn for_connection(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.connections).try_acquire_owned().ok()
    }

    /// How many connections there are.
    pub(crate) fn connections(&self) -> u64 {
        let free = self.connections.available_permits();
        self.connections_max.saturating_sub(free) as u64
    }

    /// A place for one more connection from an address.
    pub(crate) fn for_address(&self, address: IpAddr) -> Result<QuotaPermit<IpAddr>, Close> {
        let text = |max| {
            format!(
                "{max} connections from your address (limits.connections_per_address); close some"
            )
        };
        Taken::take(&self.addresses, network_of(address))
            .map_err(|full| full.close(Limit::ConnectionsPerAddress, text))
    }

    /// The places of one more session. Whoever has no name is not counted as a user.
    pub(crate) fn for_session(
        &self,
        sub: &Arc<str>,
        document: &DocumentName,
    ) -> Result<SessionPermits, Close> {
        let text = |max| {
            format!("{max} connections of your user (limits.connections_per_user); close some")
        };
        let of_user = (!sub.is_empty()).then(|| Taken::take(&self.users, Arc::clone(sub)));
        let of_user = of_user.transpose();
        let of_user = of_user.map_err(|full| full.close(Limit::ConnectionsPerUser, text))?;
        let text = |max| {
            format!("{max} connections to the document (limits.connections_per_document); wait")
        };
        let of_document = Taken::take(&self.documents, document.clone());
        let of_document =
            of_document.map_err(|full| full.close(Limit::ConnectionsPerDocument, text))?;
        Ok(SessionPermits { _of_user: of_user, _of_document: of_document })
    }
}

/// A session's places.
#[derive(Debug)]
pub(crate) struct SessionPermits {
    _of_user: Option<QuotaPermit<Arc<str>>>,
    _of_document: QuotaPermit<DocumentName>,
}

/// What one customer of a network is given: an address, or with IPv6 a network of 64 bits.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

/// All places are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Full {
    max: usize,
}

impl Full {
    fn close(self, limit: Limit, text: impl FnOnce(usize) -> String) -> Close {
        Close::at_limit(limit, CloseCode::Overloaded, text(self.max))
    }
}

/// How many places are taken under each key. Nobody's key stays behind.
#[derive(Debug)]
struct Taken<K> {
    counts: Mutex<HashMap<K, usize>>,
    max: usize,
}

impl<K: Eq + Hash + Clone> Taken<K> {
    fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { counts: Mutex::default(), max })
    }

    fn take(taken: &Arc<Self>, key: K) -> Result<QuotaPermit<K>, Full> {
        let mut counts = taken.counts();
        let count = counts.entry(key.clone()).or_default();
        // Its key was there before: a limit is 1 at least.
        if *count >= taken.max {
            return Err(Full { max: taken.max });
        }
        *count += 1;
        drop(counts);
        Ok(QuotaPermit { taken: Arc::clone(taken), key })
    }
}

impl<K> Taken<K> {
    fn counts(&self) -> MutexGuard<'_, HashMap<K, usize>> {
        // No critical section can leave the map half changed.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One place, free again when this is dropped.
#[derive(Debug)]
pub(crate) struct QuotaPermit<K: Eq + Hash> {
    taken: Arc<Taken<K>>,
    key: K,
}

impl<K: Eq + Hash> Drop for QuotaPermit<K> {
    fn drop(&mut self) {
        let mut counts = self.taken.counts();
        if let Some(count) = counts.get_mut(&self.key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Quotas {
        Quotas::new(&Limits {
            connections_per_address: 2,
            connections_per_user: 2,
            connections_per_document: 2,
            ..Limits::default()
        })
    }

    #[test]
    fn edge_2_a_place_is_free_again_when_its_connection_ends() {
        let places = places();
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        let first = places.for_address(address).unwrap();
        let second = places.for_address(address).unwrap();
        let refused = places.for_address(address).unwrap_err();
        assert_eq!(refused.code, CloseCode::Overloaded);
        assert!(refused.text.starts_with("2 connections from your address"), "{refused:?}");
        assert!(places.for_address("192.0.2.2".parse().unwrap()).is_ok());
        drop(first);
        let third = places.for_address(address).unwrap();
        drop((second, third));
        assert!(places.addresses.counts().is_empty());
    }

    #[test]
    fn edge_2_an_address_of_version_6_counts_with_its_network() {
        let places = places();
        let address = |text: &str| places.for_address(text.parse().unwrap());
        let held = [address("2001:db8::1"), address("2001:db8::2")];
        assert!(held.iter().all(Result::is_ok));
        assert!(address("2001:db8:0:0:ffff::3").is_err());
        assert!(address("2001:db8:0:1::1").is_ok());
        let held = [address("::ffff:192.0.2.1"), address("192.0.2.1")];
        assert!(held.iter().all(Result::is_ok));
        assert!(address("192.0.2.1").is_err());
    }

    #[test]
    fn edge_3_reasons_fit_a_close_frame() {
        let places = |of_user| {
            Quotas::new(&Limits {
                connections_per_address: 0,
                connections_per_user: of_user,
                connections_per_document: 0,
                ..Limits::default()
            })
        };
        let document = "a".parse().unwrap();
        let refused = [
            places(0).for_address([192, 0, 2, 1].into()).unwrap_err(),
            places(0).for_session(&"ada".into(), &document).unwrap_err(),
            places(1).for_session(&"ada".into(), &document).unwrap_err(),
            places(0).for_session(&"".into(), &document).unwrap_err(),
        ];
        for (close, what) in refused.iter().zip(["address", "user", "document", "document"]) {
            assert!(close.reason().ends_with(&close.text), "{}", close.reason());
            assert!(close.text.contains(what), "{what}: {}", close.text);
        }
    }

    #[test]
    fn edge_3_who_has_no_name_takes_no_users_place() {
        let places = places();
        let session = |document: &str| places.for_session(&"".into(), &document.parse().unwrap());
        let held = ["a", "a", "b", "b"].map(|document| session(document).unwrap());
        assert!(places.users.counts().is_empty());
        assert!(session("a").unwrap_err().text.contains("limits.connections_per_document"));
        drop(held);
    }

    #[test]
    fn edge_3_a_refused_session_holds_no_place() {
        let places = places();
        let session =
            |sub: &str, document: &str| places.for_session(&sub.into(), &document.parse().unwrap());
        let held = [session("ada", "a").unwrap(), session("bob", "a").unwrap()];
        assert!(session("ada", "a").is_err());
        let second = session("ada", "b").unwrap();
        assert!(session("ada", "b").is_err());
        drop((held, second));
        assert!(places.users.counts().is_empty() && places.documents.counts().is_empty());
    }
}
