//! The audit log: who came, was refused, wrote, and what administrators did; one JSON line each.
//! Never what was written, and no token.
//!
//! Whoever records something puts it into a queue and goes on: a disk that is slow or full holds up
//! no document and no connection. At the queue's bound events are lost, and a line says how many.

mod line;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use syncline_protocol::wire::Dialect;
use syncline_protocol::{Access, Close, DocumentName, Identity, SessionId};
use thiserror::Error;

use self::writer::{Shared, Target};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Event {
    ServerStarted,
    ServerStopped,
    /// A socket was turned away before anything of it was read.
    ConnectionRefused,
    /// Somebody was not let into a document.
    SessionRefused,
    SessionOpened,
    /// The first update of a session was taken in.
    SessionWrote,
    SessionClosed,
    /// A new token came in-band, with at least the rights of the one before.
    RightsRenewed,
    /// Less is left of them than there was.
    RightsNarrowed,
    /// An administrator took rights back.
    RightsRevoked,
    /// An administrator ended a session.
    SessionDisconnected,
    TicketIssued,
    /// The queue was full; so many were not written.
    EventsLost,
    /// More were refused in a second than are written down; so many were left out.
    RefusalsLeftOut,
}

impl Event {
    /// Whether anybody who reaches the port can cause it, as often as it likes.
    fn is_refusal(self) -> bool {
        matches!(self, Self::ConnectionRefused | Self::SessionRefused)
    }
}

/// One line. What is not known or does not apply is left out.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Entry {
    #[serde(serialize_with = "line::time")]
    time: SystemTime,
    event: Event,
    /// The administrator.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "line::bounded")]
    by: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "line::bounded")]
    sub: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "line::bounded")]
    name: Option<Arc<str>>,
    /// A document, or in an order to revoke a pattern.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "line::bounded")]
    document: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "line::bounded")]
    peer: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    access: Option<Access>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dialect: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    word: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    updates: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
}

impl Entry {
    pub(crate) fn new(event: Event) -> Self {
        Self {
            time: SystemTime::now(),
            event,
            by: None,
            sub: None,
            name: None,
            document: None,
            session: None,
            peer: None,
            access: None,
            dialect: None,
            word: None,
            limit: None,
            updates: None,
            bytes: None,
            count: None,
        }
    }

    pub(crate) fn by(self, by: Option<&str>) -> Self {
        Self { by: by.map(Arc::from), ..self }
    }

    /// The verified identity. Whoever has none is not named.
    pub(crate) fn of(self, identity: &Identity) -> Self {
        let given = |text: &Arc<str>| Some(Arc::clone(text)).filter(|text| !text.is_empty());
        Self { sub: given(&identity.sub), name: given(&identity.name), ..self }
    }

    pub(crate) fn sub(self, sub: Option<&str>) -> Self {
        Self { sub: sub.map(Arc::from), ..self }
    }

    pub(crate) fn document(self, document: &DocumentName) -> Self {
        self.pattern(document.as_str())
    }

    pub(crate) fn pattern(self, pattern: &str) -> Self {
        Self { document: Some(Arc::from(pattern)), ..self }
    }

    pub(crate) fn session(self, session: SessionId) -> Self {
        Self { session: Some(session.get()), ..self }
    }

    pub(crate) fn peer(self, peer: &str) -> Self {
        Self { peer: Some(Arc::from(peer)), ..self }
    }

    pub(crate) fn access(self, access: Option<Access>) -> Self {
        Self { access, ..self }
    }

    pub(crate) fn dialect(self, dialect: Dialect) -> Self {
        Self { dialect: Some(dialect.name()), ..self }
    }

    pub(crate) fn close(self, close: &Close) -> Self {
        Self { word: Some(close.code.name()), limit: close.limit.map(|it| it.name()), ..self }
    }

    pub(crate) fn word(self, word: &'static str) -> Self {
        Self { word: Some(word), ..self }
    }

    pub(crate) fn wrote(self, updates: u64, bytes: u64) -> Self {
        Self { updates: Some(updates), bytes: Some(bytes), ..self }
    }

    fn count(self, count: u64) -> Self {
        Self { count: Some(count), ..self }
    }
}

/// The audit log cannot be opened.
#[derive(Debug, Error)]
#[error("cannot open the audit log {}", .path.display())]
pub struct AuditError {
    /// Where it was to be.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// Where events are recorded. Off unless it was opened.
#[derive(Clone, Debug, Default)]
pub struct Audit(Option<Arc<Shared>>);

impl Audit {
    /// Opens the log at `path` to append to it, readable by its owner only; `-` is standard output.
    ///
    /// # Errors
    /// If that cannot be done.
    pub fn open(path: &Path) -> Result<Self, AuditError> {
        let failed = |source| AuditError { path: path.to_owned(), source };
        let target = Target::open(path).map_err(failed)?;
        Ok(Self(Some(writer::start(target).map_err(failed)?)))
    }

    /// Whether anything is recorded.
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Records what `entry` says. Never waits.
    pub(crate) fn record(&self, entry: impl FnOnce() -> Entry) {
        if let Some(shared) = &self.0 {
            shared.push(entry());
        }
    }

    /// Goes on in a new file of the same name: the one before was moved away.
    pub(crate) fn reopen(&self) {
        if let Some(shared) = &self.0 {
            shared.reopen();
        }
    }

    /// Writes what is recorded, for as long as `patience`, and ends.
    pub(crate) fn stop(&self, patience: Duration) {
        if let Some(shared) = &self.0 {
            shared.stop(patience);
        }
    }
}
