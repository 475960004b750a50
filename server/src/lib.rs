//! Everything in Syncline that touches the world: sockets, tokens, disks and clocks.

pub mod store;
