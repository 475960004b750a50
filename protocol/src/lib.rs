//! Everything in Syncline that is deterministic: bytes to messages, the gate that stands before
//! the CRDT, and the document as a state machine.
#![warn(missing_docs)]

pub mod access;
pub mod close;
pub mod document;
pub mod gate;
pub mod id;
pub mod time;
pub mod varint;
pub mod wire;

pub use access::Access;
pub use close::{Close, CloseCode};
pub use document::stored::{LoggedUpdate, Snapshot, StoredLog};
pub use id::{ClientId, DocumentName, DocumentNameError, Sequence, SessionId};
pub use time::{Millis, Timestamp};
