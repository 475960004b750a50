//! The bounds that a document's rules need. The server's configuration fills them in.

use crate::durability::Durability;
use crate::time::Millis;
use crate::validate::Budget;

/// Whether the server writes identities into presence states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stamping {
    /// The verified identity, in place of a client's own member of that name.
    #[default]
    Identity,
    /// States are published as they were sent.
    Nothing,
}

/// Bounds of one document.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Limits of one live update.
    pub live: Budget,
    /// Limits of one first-sync update.
    pub sync: Budget,
    /// Limits of one stored record: every accepted update must load.
    pub stored: Budget,
    /// The meaning of an acknowledgement. Only announced: the store keeps it.
    pub durability: Durability,
    /// Bytes of one message. Only announced: the socket keeps it.
    pub message_bytes_max: usize,
    /// Bytes of one live update.
    pub update_bytes_max: usize,
    /// Bytes of the document's encoded state.
    pub document_bytes_max: usize,
    /// Presence states that one session may own at a time.
    pub presence_clients_max: usize,
    /// Whether presence states carry the identity of their owner.
    pub stamping: Stamping,
    /// Messages kept while the document loads. More than that closes the session that sent them.
    pub waiting_messages_max: usize,
    /// Bytes of those messages.
    pub waiting_bytes_max: usize,
    /// Updates after the newest snapshot that make the next one due: as often so many as it has whole
    /// 80 KiB, once at least.
    pub snapshot_updates: u64,
    /// Bytes after the newest snapshot that make the next one due, if they also outweigh it three times.
    pub snapshot_bytes: u64,
    /// How long an unused document stays in memory, unless others need room.
    pub idle: Millis,
    /// How long a session that fell behind may take to drain what is already on its socket.
    pub lagging: Millis,
    /// How long a client may take to answer a SyncStep1 that asks for missing updates.
    pub resync: Millis,
}
