//! The remote end of a connection: its address, and the quota permits that the connection holds.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use crate::net::quota::QuotaPermit;

/// Remote address plus the quota permits of the connection. The permits are released when the last
/// clone is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    address: SocketAddr,
    _permits: Arc<(OwnedSemaphorePermit, Option<QuotaPermit<IpAddr>>)>,
    /// The client that a trusted proxy names in this request, with its permit.
    client: Option<Arc<(IpAddr, QuotaPermit<IpAddr>)>>,
}

impl Peer {
    /// `of_address` is `None` for a proxy: its clients are counted one by one.
    pub(crate) fn new(
        address: SocketAddr,
        connection: OwnedSemaphorePermit,
        of_address: Option<QuotaPermit<IpAddr>>,
    ) -> Self {
        Self { address, _permits: Arc::new((connection, of_address)), client: None }
    }

    /// The address of the socket's other end, which may be a proxy.
    pub(crate) fn ip(&self) -> IpAddr {
        self.address.ip()
    }

    /// The client's address: the one a trusted proxy names, else the socket's, with its port.
    pub(crate) fn address(&self) -> String {
        match &self.client {
            Some(client) => client.0.to_string(),
            None => self.address.to_string(),
        }
    }

    /// Records the client that a trusted proxy names, and its quota permit.
    pub(crate) fn set_client(&mut self, client: IpAddr, permit: QuotaPermit<IpAddr>) {
        self.client = Some(Arc::new((client, permit)));
    }
}
