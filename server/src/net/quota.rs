//! Connection quotas: in all, per address, user and document. Permits are released on drop.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex};

use syncline_protocol::{Close, CloseCode, DocumentName, Limit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::limits::Limits;
use crate::sync::lock;

/// The permits of the process, and the bounds on them.
#[derive(Debug)]
pub(crate) struct Quotas {
    connections: Arc<Semaphore>,
    connections_max: usize,
    addresses: Arc<Counts<IpAddr>>,
    users: Arc<Counts<Arc<str>>>,
    documents: Arc<Counts<DocumentName>>,
}

impl Quotas {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            connections: Arc::new(Semaphore::new(limits.connections)),
            connections_max: limits.connections,
            addresses: Counts::new(limits.connections_per_address),
            users: Counts::new(limits.connections_per_user),
            documents: Counts::new(limits.connections_per_document),
        }
    }

    /// A permit for a connection; `None` at the limit.
    pub(crate) fn for_connection(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.connections).try_acquire_owned().ok()
    }

    /// The number of connections.
    pub(crate) fn connections(&self) -> u64 {
        let free = self.connections.available_permits();
        self.connections_max.saturating_sub(free) as u64
    }

    /// A permit for a connection from an address. An IPv6 address counts with its /64 network.
    pub(crate) fn for_address(&self, address: IpAddr) -> Result<QuotaPermit<IpAddr>, Close> {
        let text = |max| {
            format!(
                "{max} connections from your address (limits.connections_per_address); close some"
            )
        };
        Counts::acquire(&self.addresses, network_of(address))
            .map_err(|full| full.close(Limit::ConnectionsPerAddress, text))
    }

    /// The permits for a session. An empty `sub` is not counted as a user.
    pub(crate) fn for_session(
        &self,
        sub: &Arc<str>,
        document: &DocumentName,
    ) -> Result<SessionPermits, Close> {
        let text = |max| {
            format!("{max} connections of your user (limits.connections_per_user); close some")
        };
        let of_user = (!sub.is_empty()).then(|| Counts::acquire(&self.users, Arc::clone(sub)));
        let of_user = of_user.transpose();
        let of_user = of_user.map_err(|full| full.close(Limit::ConnectionsPerUser, text))?;
        let text = |max| {
            format!("{max} connections to the document (limits.connections_per_document); wait")
        };
        let of_document = Counts::acquire(&self.documents, document.clone());
        let of_document =
            of_document.map_err(|full| full.close(Limit::ConnectionsPerDocument, text))?;
        Ok(SessionPermits { _of_user: of_user, _of_document: of_document })
    }
}

/// The permits of a session.
#[derive(Debug)]
pub(crate) struct SessionPermits {
    _of_user: Option<QuotaPermit<Arc<str>>>,
    _of_document: QuotaPermit<DocumentName>,
}

/// The block that providers assign to one customer: an IPv4 address, or an IPv6 /64 network.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

/// A key has as many permits as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Full {
    max: usize,
}

impl Full {
    fn close(self, limit: Limit, text: impl FnOnce(usize) -> String) -> Close {
        Close::at_limit(limit, CloseCode::Overloaded, text(self.max))
    }
}

/// The permits held under each key. A key without permits is removed.
#[derive(Debug)]
struct Counts<K> {
    by_key: Mutex<HashMap<K, usize>>,
    max: usize,
}

impl<K: Eq + Hash + Clone> Counts<K> {
    fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { by_key: Mutex::default(), max })
    }

    fn acquire(counts: &Arc<Self>, key: K) -> Result<QuotaPermit<K>, Full> {
        let mut by_key = lock(&counts.by_key);
        let count = by_key.entry(key.clone()).or_default();
        // A limit is 1 at least, so a key at its limit is not left behind without permits.
        if *count >= counts.max {
            return Err(Full { max: counts.max });
        }
        *count += 1;
        drop(by_key);
        Ok(QuotaPermit { counts: Arc::clone(counts), key })
    }
}

/// One permit, released on drop.
#[derive(Debug)]
pub(crate) struct QuotaPermit<K: Eq + Hash> {
    counts: Arc<Counts<K>>,
    key: K,
}

impl<K: Eq + Hash> Drop for QuotaPermit<K> {
    fn drop(&mut self) {
        let mut by_key = lock(&self.counts.by_key);
        if let Some(count) = by_key.get_mut(&self.key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                by_key.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quotas() -> Quotas {
        Quotas::new(&Limits {
            connections_per_address: 2,
            connections_per_user: 2,
            connections_per_document: 2,
            ..Limits::default()
        })
    }

    #[test]
    fn edge_2_a_permit_is_released_with_its_connection() {
        let quotas = quotas();
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        let first = quotas.for_address(address).unwrap();
        let second = quotas.for_address(address).unwrap();
        let refused = quotas.for_address(address).unwrap_err();
        assert_eq!(refused.code, CloseCode::Overloaded);
        assert!(refused.text.starts_with("2 connections from your address"), "{refused:?}");
        assert!(quotas.for_address("192.0.2.2".parse().unwrap()).is_ok());
        drop(first);
        let third = quotas.for_address(address).unwrap();
        drop((second, third));
        assert!(lock(&quotas.addresses.by_key).is_empty());
    }

    #[test]
    fn edge_2_an_ipv6_address_counts_with_its_network() {
        let quotas = quotas();
        let address = |text: &str| quotas.for_address(text.parse().unwrap());
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
        let quotas = |of_user| {
            Quotas::new(&Limits {
                connections_per_address: 0,
                connections_per_user: of_user,
                connections_per_document: 0,
                ..Limits::default()
            })
        };
        let document = "a".parse().unwrap();
        let refused = [
            quotas(0).for_address([192, 0, 2, 1].into()).unwrap_err(),
            quotas(0).for_session(&"ada".into(), &document).unwrap_err(),
            quotas(1).for_session(&"ada".into(), &document).unwrap_err(),
            quotas(0).for_session(&"".into(), &document).unwrap_err(),
        ];
        for (close, what) in refused.iter().zip(["address", "user", "document", "document"]) {
            assert!(close.reason().ends_with(&close.text), "{}", close.reason());
            assert!(close.text.contains(what), "{what}: {}", close.text);
        }
    }

    #[test]
    fn edge_3_an_empty_sub_takes_no_user_permit() {
        let quotas = quotas();
        let session = |document: &str| quotas.for_session(&"".into(), &document.parse().unwrap());
        let held = ["a", "a", "b", "b"].map(|document| session(document).unwrap());
        assert!(lock(&quotas.users.by_key).is_empty());
        assert!(session("a").unwrap_err().text.contains("limits.connections_per_document"));
        drop(held);
    }

    #[test]
    fn edge_3_a_refused_session_holds_no_permit() {
        let quotas = quotas();
        let session =
            |sub: &str, document: &str| quotas.for_session(&sub.into(), &document.parse().unwrap());
        let held = [session("ada", "a").unwrap(), session("bob", "a").unwrap()];
        assert!(session("ada", "a").is_err());
        let second = session("ada", "b").unwrap();
        assert!(session("ada", "b").is_err());
        drop((held, second));
        assert!(lock(&quotas.users.by_key).is_empty() && lock(&quotas.documents.by_key).is_empty());
    }
}
