//! Everything in Syncline that touches the world: sockets, tokens, disks and clocks.
//!
//! [`server::run`] serves until it is told to stop. Three kinds of task do the work: one for the
//! accept loop, one for each connection, one for each live document. A connection decodes frames
//! and puts them in its document's mailbox; the document's task feeds them to the state machine in
//! `syncline-protocol` and carries out its effects: frames into the sessions' outboxes, updates to
//! the store's writer. CRDT questions are never answered here.

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
