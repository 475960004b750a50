//! The network edge: sockets accepted, frames written, and the addresses and web pages allowed to connect.

pub(crate) mod listener;
pub mod origin;
pub mod proxy;
pub(crate) mod send_queue;
pub(crate) mod transport;
