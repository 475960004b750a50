//! The network edge: sockets, frames on their way to them, and the addresses and web pages that may
//! connect. `server::listener` accepts the sockets.

pub mod origin;
pub(crate) mod peer;
pub mod proxy;
pub(crate) mod quota;
pub(crate) mod socket_writer;
pub(crate) mod transport;
