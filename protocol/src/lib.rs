//! The deterministic part of Syncline: wire codecs, the validation of what clients send, and the
//! document as a state machine.
#![warn(missing_docs)]

pub mod access;
pub mod close;
pub mod document;
pub mod durability;
pub mod id;
pub mod limit;
pub mod time;
pub mod validate;
pub mod wire;

pub use access::{Access, Grant, Identity, PresenceRight};
pub use close::{Close, CloseCode};
pub use document::stored::{LoggedUpdate, Snapshot, StoredLog};
pub use durability::Durability;
pub use id::{ClientId, DocumentName, DocumentNameError, Epoch, EpochError, Sequence, SessionId};
pub use limit::Limit;
pub use time::{Millis, Timestamp};
