//! Every bound of the server in one place, with its arithmetic. Each can be set under `[limits]`
//! in the configuration file; sizes are in bytes, times in seconds.

use std::time::Duration;

use serde::Deserialize;
use syncline_protocol::Durability;
use syncline_protocol::document::{self, Stamping};
use syncline_protocol::time::Millis;
use syncline_protocol::validate::{Budget, Subdocuments};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Stack of a runtime thread. The CRDT deletes nested types by recursion at about 500 bytes a
/// level, and nothing limits how deep a document nests over time: 64 MiB last for 128,000 levels.
/// Untouched stack costs address space only.
pub const THREAD_STACK_BYTES: usize = 64 * MIB;

/// Threads for loading, snapshots and other blocking work: 64 MiB of address space each.
pub const BLOCKING_THREADS: usize = 16;

/// Loads and snapshots under way at a time. Each holds a decoded document beside the live one.
pub const BLOCKING_DOCUMENTS: usize = 4;

/// Of as many documents as somebody may be in, one in so many may stay after everybody has left it.
/// At 10,000 those are 1,000, and 16 MB if they are small.
pub const UNUSED_SHARE: usize = 10;

/// Mail that a document has not handled yet, from all of its sessions; its messages hold twice
/// `message_bytes` at most. When it is full, sessions stop reading their sockets and TCP slows their
/// clients down.
pub const MAILBOX_LEN: usize = 256;

/// Mail handled before the store is asked for room for the updates in it.
pub const MAIL_BATCH: usize = 64;

/// Read buffer of an idle WebSocket. tungstenite's 128 KiB would make 10,000 idle connections
/// cost 1.3 GB; a longer message grows the buffer for as long as it takes.
pub const READ_BUFFER_BYTES: usize = KIB;

/// What the system takes of a socket's output before the network does. Left alone it takes 3.9 MB
/// for somebody who has stopped reading, after which a thousand of them hold all the memory that
/// Linux has for TCP. What is on its way is not counted, so a fast line stays full.
pub const UNSENT_BYTES: u32 = 256 * 1024;

/// Longest a client may go without a message before stock clients reconnect is 30 s
/// (y-websocket's `messageReconnectTimeout`); control frames do not count in browsers.
pub const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Between two pings. Proxies commonly cut what is silent for 30 s or 60 s.
pub const PING: Duration = Duration::from_secs(25);

/// A peer that has answered neither ping is gone.
pub const SILENCE: Duration = Duration::from_secs(60);

/// How long a close waits for the peer's own close, so that the reason is not lost in a reset.
pub const LINGER: Duration = Duration::from_secs(2);

/// For a request's headers, from the first byte or from the end of the request before.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of a request's headers. A token of many documents is the largest of them.
pub const HEADER_BYTES: usize = 16 * KIB;

/// What one connection can make the server hold before its token is found to be good, and while it is
/// told that it was not. What the kernel keeps for a socket comes on top.
pub const LOGIN_BYTES: usize = 64 * KIB;

/// Bytes of a token. One that names 100 documents takes about 8 KiB.
pub const TOKEN_BYTES_MAX: usize = 12 * KIB;

/// Of that: the task of a connection, with the routes that it goes through. Measured.
const CONNECTION_BYTES: usize = 16 * KIB;

/// Where one header begins and ends, and its name.
const HEADER_INDEX_BYTES: usize = 128;

const _: () = {
    let request = CONNECTION_BYTES + HEADER_BYTES + HEADERS * HEADER_INDEX_BYTES;
    // A REST request waits with the beginning of its body, an upgrade with a copy of its token. Both
    // are measured as well: `edge_8_…` in tests/e2e/strangers.rs.
    assert!(request + BODY_BYTES <= LOGIN_BYTES);
    assert!(request + TOKEN_BYTES_MAX <= LOGIN_BYTES);
    // What was read with the request, and a message that grows to its bound by doubling.
    let refused = CONNECTION_BYTES + HEADER_BYTES + READ_BUFFER_BYTES + 2 * REFUSED_MESSAGE_BYTES;
    assert!(refused <= LOGIN_BYTES);
};

/// For a token to be checked. A key that is not known yet is fetched meanwhile.
pub const LOGIN: Duration = Duration::from_secs(10);

/// One message of a client that was refused and is being told so. A stock client's first is its
/// state vector; a longer one is not taken in at all.
pub const REFUSED_MESSAGE_BYTES: usize = 4 * KIB;

/// How much may be sent at once, in time at the rates of `messages_per_second`,
/// `bytes_per_second` and `handling_ms_per_second`. With the defaults that is 200,000 messages,
/// 320 MiB, or what takes 2.5 s to handle.
pub const BURST: Duration = Duration::from_secs(10);

/// A message of more bytes is handled while no other such message of its session waits in the
/// mailbox: many times what somebody types, and less than most first syncs.
pub const HEAVY_BYTES: usize = 64 * KIB;

/// The same holds for whatever a session sends after a message that took this long.
pub const HEAVY_TIME: Duration = Duration::from_millis(2);

/// Headers of one request.
pub const HEADERS: usize = 48;

/// Bytes of the body of a request.
pub const BODY_BYTES: usize = 16 * KIB;

/// For that body to arrive.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a ticket may wait to be used.
pub const TICKET: Duration = Duration::from_secs(30);

/// Tickets that wait. At 1 KiB each they are 10 MB; a token's claims take 12 KiB at most.
pub const TICKETS: usize = 10_000;

/// Tickets of one user that wait: tabs that open at once.
pub const TICKETS_OF_ONE: usize = 32;

/// For documents to write what they hold when the server stops.
pub const DRAIN: Duration = Duration::from_secs(10);

/// The same while the store takes nothing: for clients to be told.
pub const DRAIN_STALLED: Duration = Duration::from_secs(2);

/// For blocking work to end after that.
pub const SHUTDOWN: Duration = Duration::from_secs(1);

/// Descriptors kept for the journal, sled and everything else that is no connection.
pub const DESCRIPTORS_RESERVED: usize = 256;

/// The bounds an operator may want to move.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Open sockets. At 6 KiB an idle connection, 20,000 are 120 MB.
    pub connections: usize,
    /// Open sockets from one address, or from one network of 64 bits with IPv6: a school or an
    /// office behind one. A tenth of all, so ten strangers are needed to take every place.
    pub connections_per_address: usize,
    /// Sessions of one `sub`, a fifth of all. Each tab takes one for each document; a program that
    /// keeps many documents open takes more.
    pub connections_per_user: usize,
    /// Sessions of one document. What one of them types is written to all others: at 60 keys/s,
    /// 5,000 are 300,000 frames a second, about a core's worth.
    pub connections_per_document: usize,
    /// Messages of one session in a second, over ten seconds. Somebody who types sends 10, one who
    /// drags something 60; 20,000 are the tenth part of what a core can take.
    pub messages_per_second: u64,
    /// Bytes of one session in a second, over ten seconds: a first sync of 8 MiB passes at once.
    pub bytes_per_second: u64,
    /// Milliseconds that a document works for one session in a second, over ten seconds: a quarter
    /// of a core. Somebody who types takes less than one of them.
    pub handling_ms_per_second: u64,
    /// Documents that somebody is in; a tenth as many unused ones may be in memory with them. A
    /// keystroke history takes about nine times its encoded size.
    pub documents: usize,
    /// One WebSocket message; a first sync may use all of it.
    pub message_bytes: usize,
    /// One live update.
    pub update_bytes: usize,
    /// One document, encoded.
    pub document_bytes: usize,
    /// Output queued for one session. Beyond it the queue is replaced by one merged diff.
    pub outbox_bytes: usize,
    /// Presence states that one session may introduce: its own, and those of tabs behind it.
    pub presence_clients: usize,
    /// Seconds that an unused document stays in memory, if nobody needs its place before.
    pub idle_seconds: u64,
    /// Updates after which a document is written as a whole; more for one longer than 160 KiB. 10,000
    /// replay in about 10 ms.
    pub snapshot_updates: u64,
    /// Bytes of updates after which a document is written as a whole, if they also outweigh it three
    /// times.
    pub snapshot_bytes: u64,
    /// Seconds between two comparisons of a live document with its log, at least; 0: there are
    /// none.
    pub check_seconds: u64,
    /// Whether subdocuments are let in. Documents then run without garbage collection: deleted
    /// text stays in memory and is sent to everyone who joins.
    pub subdocuments: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            connections_per_address: 2_000,
            connections_per_user: 4_000,
            connections_per_document: 5_000,
            messages_per_second: 20_000,
            bytes_per_second: 32 * MIB as u64,
            handling_ms_per_second: 250,
            documents: 10_000,
            message_bytes: 8 * MIB,
            update_bytes: MIB,
            document_bytes: 64 * MIB,
            outbox_bytes: 4 * MIB,
            presence_clients: 32,
            idle_seconds: 30,
            snapshot_updates: 10_000,
            snapshot_bytes: 256 * KIB as u64,
            check_seconds: 10,
            subdocuments: false,
        }
    }
}

/// A limit that cannot work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("limits.{key} is {value}; it must be between {min} and {max}")]
pub struct LimitError {
    /// Its key.
    pub key: &'static str,
    /// Its value.
    pub value: u64,
    /// The least that works.
    pub min: u64,
    /// The most that works.
    pub max: u64,
}

impl Limits {
    /// Checks that every value is one that can work.
    ///
    /// # Errors
    /// The first that is not.
    pub fn check(&self) -> Result<(), LimitError> {
        const KIB: u64 = 1024;
        const GIB: u64 = KIB * KIB * KIB;
        let checks = [
            ("connections", self.connections as u64, 1, 10_000_000),
            ("connections_per_address", self.connections_per_address as u64, 1, 10_000_000),
            ("connections_per_user", self.connections_per_user as u64, 1, 10_000_000),
            ("connections_per_document", self.connections_per_document as u64, 1, 10_000_000),
            ("messages_per_second", self.messages_per_second, 1, 10_000_000),
            ("bytes_per_second", self.bytes_per_second, KIB, GIB),
            ("handling_ms_per_second", self.handling_ms_per_second, 1, 1_000),
            ("documents", self.documents as u64, 1, 10_000_000),
            ("message_bytes", self.message_bytes as u64, KIB, GIB),
            ("update_bytes", self.update_bytes as u64, KIB, self.message_bytes as u64),
            ("document_bytes", self.document_bytes as u64, KIB, GIB),
            ("outbox_bytes", self.outbox_bytes as u64, KIB, GIB),
            ("presence_clients", self.presence_clients as u64, 1, 10_000),
            ("idle_seconds", self.idle_seconds, 0, 31_536_000),
            ("snapshot_updates", self.snapshot_updates, 1, 10_000_000),
            ("snapshot_bytes", self.snapshot_bytes, KIB, GIB),
            ("check_seconds", self.check_seconds, 0, 31_536_000),
        ];
        match checks.into_iter().find(|&(_, value, min, max)| value < min || value > max) {
            Some((key, value, min, max)) => Err(LimitError { key, value, min, max }),
            None => Ok(()),
        }
    }

    /// The part that the document's own rules need.
    #[must_use]
    pub fn for_document(&self) -> document::Limits {
        let subdocuments =
            if self.subdocuments { Subdocuments::Allowed } else { Subdocuments::Refused };
        document::Limits {
            live: Budget { subdocuments, ..Budget::LIVE },
            sync: Budget { subdocuments, ..Budget::SYNC },
            stored: Budget { subdocuments, ..Budget::STORED },
            durability: Durability::Fsync,
            message_bytes_max: self.message_bytes,
            update_bytes_max: self.update_bytes,
            document_bytes_max: self.document_bytes,
            presence_clients_max: self.presence_clients,
            stamping: Stamping::Identity,
            waiting_messages_max: 1_024,
            waiting_bytes_max: 4 * self.message_bytes,
            snapshot_updates: self.snapshot_updates,
            snapshot_bytes: self.snapshot_bytes,
            idle: Millis::from_secs(self.idle_seconds),
            lagging: Millis::from_secs(30),
            resync: Millis::from_secs(30),
        }
    }
}
