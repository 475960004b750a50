//! State shared by the connection task, the document task and the admin API.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use syncline_protocol::wire::Dialect;
use syncline_protocol::{Close, DocumentName, Grant, SessionId, Timestamp};

use crate::audit::{Audit, Entry, Event};
use crate::auth::Rights;
use crate::net::socket_writer::SendQueue;
use crate::session::cpu_budget::CpuBudget;
use crate::sync::lock;

/// The document a client opened, its dialect, its address, and the time it joined.
#[derive(Debug)]
pub(crate) struct ClientInfo {
    pub(crate) document: DocumentName,
    pub(crate) dialect: Dialect,
    /// The client's address.
    pub(crate) peer: Arc<str>,
    pub(crate) since: Timestamp,
}

/// One session: one participant in one document.
#[derive(Debug)]
pub(crate) struct LiveSession {
    pub(crate) id: SessionId,
    pub(crate) client: ClientInfo,
    pub(crate) send_queue: SendQueue,
    pub(crate) cpu_budget: CpuBudget,
    /// The rights in force. The document has a copy of the grant, as of the last command that it
    /// handled; it takes a newer one from here, never from the command, so that an older grant
    /// cannot replace a newer one.
    rights: Mutex<Rights>,
    /// Unset while the session is not admitted, and if there is no audit log.
    audit_trail: OnceLock<Box<AuditTrail>>,
}

/// Counts for the session's last line in the audit log, which is written on drop.
#[derive(Debug)]
struct AuditTrail {
    audit: Audit,
    updates: AtomicU64,
    bytes: AtomicU64,
    /// Set if the server closed the session.
    close: OnceLock<Close>,
}

impl LiveSession {
    pub(crate) fn new(
        id: SessionId,
        client: ClientInfo,
        send_queue: SendQueue,
        rights: Rights,
    ) -> Self {
        let (cpu_budget, audit_trail) = (CpuBudget::default(), OnceLock::new());
        Self { id, client, send_queue, cpu_budget, rights: Mutex::new(rights), audit_trail }
    }

    /// The grant in force.
    pub(crate) fn grant(&self) -> Grant {
        lock(&self.rights).grant.clone()
    }

    /// Replaces the rights in one step; an error leaves them unchanged. Returns the grant in force.
    pub(crate) fn change(
        &self,
        change: impl FnOnce(&Rights) -> Result<Rights, Close>,
    ) -> Result<Grant, Close> {
        let mut rights = lock(&self.rights);
        *rights = change(&rights)?;
        Ok(rights.grant.clone())
    }

    /// Starts the audit trail: the session was admitted.
    pub(crate) fn opened(&self, audit: &Audit) {
        if audit.is_on() {
            let (updates, bytes, close) = Default::default();
            // Called once.
            let trail = AuditTrail { audit: audit.clone(), updates, bytes, close };
            drop(self.audit_trail.set(Box::new(trail)));
            audit.record(|| self.entry(Event::SessionOpened));
        }
    }

    /// Counts an accepted update. The first one has an audit line of its own.
    pub(crate) fn wrote(&self, bytes: usize) {
        let Some(trail) = self.audit_trail.get() else { return };
        trail.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        if trail.updates.fetch_add(1, Ordering::Relaxed) == 0 {
            trail.audit.record(|| self.entry(Event::SessionWrote));
        }
    }

    /// Records why the server closed the session. The first reason counts.
    pub(crate) fn closed(&self, close: &Close) {
        if let Some(trail) = self.audit_trail.get() {
            drop(trail.close.set(close.clone()));
        }
    }

    /// An audit entry that names the session, its user, document and client.
    pub(crate) fn entry(&self, event: Event) -> Entry {
        let (client, grant) = (&self.client, self.grant());
        Entry::new(event)
            .of(&grant.identity)
            .document(&client.document)
            .session(self.id)
            .peer(&client.peer)
            .access(Some(grant.access))
            .dialect(client.dialect)
    }
}

impl Drop for LiveSession {
    /// Runs when connection and document have both released the session, so the counts are final.
    fn drop(&mut self) {
        let Some(trail) = self.audit_trail.get() else { return };
        trail.audit.record(|| {
            let (updates, bytes) = (&trail.updates, &trail.bytes);
            let wrote = (updates.load(Ordering::Relaxed), bytes.load(Ordering::Relaxed));
            let entry = self.entry(Event::SessionClosed).wrote(wrote.0, wrote.1);
            match trail.close.get() {
                Some(close) => entry.close(close),
                None => entry.word("left"),
            }
        });
    }
}
