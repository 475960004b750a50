//! Everything in Syncline that touches the world: sockets, tokens, disks and clocks.
//!
//! [`server::run`] serves until its `stop` future completes. Two kinds of task do most of the work. The
//! task of a connection decodes frames and puts them in the mailbox of their document. The task of a
//! document feeds them to the state machine in `syncline-protocol` and runs its effects: frames to the
//! sockets of sessions, updates to the store's writer. This crate never looks into a CRDT.
//!
//! Further tasks accept connections, serve HTTP, load and compare documents, and fetch key sets.
//! Threads of their own write the journal and the audit log.

mod app;
pub mod audit;
pub mod auth;
pub mod cli;
mod clock;
pub mod config;
mod connection;
mod document;
mod http;
mod log;
mod metrics;
pub mod net;
pub mod quarantine;
pub mod server;
mod services;
mod session;
pub mod store;
mod sync;
