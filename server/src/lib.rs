//! Everything in Syncline that touches the world: sockets, tokens, disks and clocks.
//!
//! [`server::run`] serves until it is told to stop. Three kinds of task do the work: one for the
//! accept loop, one for each connection, one for each live document. A connection decodes frames
//! and puts them in its document's mailbox; the document's task feeds them to the state machine in
//! `syncline-protocol` and carries out its effects: frames into the sessions' outboxes, updates to
//! the store's writer. CRDT questions are never answered here.

mod allowance;
pub mod args;
pub mod audit;
pub mod auth;
pub mod backup;
pub mod cli;
mod clock;
pub mod config;
mod connection;
pub mod demo;
mod document_task;
mod fields;
mod handling;
mod http;
mod hub;
mod in_flight;
pub mod limits;
mod listener;
mod mailbox;
mod metrics;
pub mod origins;
mod outbox;
mod places;
pub mod proxies;
pub mod quarantine;
mod renewal;
mod replace;
pub mod revoked;
mod sampler;
pub mod server;
mod sessions;
mod socket;
pub mod store;
mod stored_document;
mod tickets;
pub mod tools;
pub mod trouble;
