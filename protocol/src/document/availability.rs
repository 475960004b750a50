//! Whether a document can be written, and whether it may leave memory.

use crate::time::{Millis, Timestamp};

/// Whether the store takes updates, of any document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StoreAvailability {
    /// It does.
    #[default]
    Writable,
    /// It does not at the moment, for any document. It keeps what it was given.
    Stalled,
}

/// Why no update is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteHalt {
    /// The store is stalled.
    Stalled,
    /// The document is read-only until it is repaired.
    Quarantined,
}

/// The conditions around a document that are not its content.
#[derive(Debug, Default)]
pub(crate) struct Availability {
    /// The cause of its quarantine.
    quarantine: Option<String>,
    store: StoreAvailability,
    draining: bool,
    /// How long it stays for a session that may come back; None while it has sessions.
    idle_until: Option<Timestamp>,
}

impl Availability {
    /// Why no update is accepted, if so.
    pub(crate) fn halt(&self) -> Option<WriteHalt> {
        match (&self.quarantine, self.store) {
            (Some(_), _) => Some(WriteHalt::Quarantined),
            (None, StoreAvailability::Stalled) => Some(WriteHalt::Stalled),
            (None, StoreAvailability::Writable) => None,
        }
    }

    pub(crate) fn quarantine(&self) -> Option<&str> {
        self.quarantine.as_deref()
    }

    /// The document was loaded, quarantined for this cause or not.
    pub(crate) fn loaded(&mut self, quarantine: Option<String>) {
        self.quarantine = quarantine;
    }

    pub(crate) fn store_changed(&mut self, store: StoreAvailability) {
        self.store = store;
    }

    /// The server is stopping.
    pub(crate) fn drain(&mut self) {
        self.draining = true;
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining
    }

    /// The document has sessions.
    pub(crate) fn in_use(&mut self) {
        self.idle_until = None;
    }

    /// The document has no sessions: the idle time begins, unless it has begun before. Returns whether
    /// the document may be dropped.
    pub(crate) fn is_idle(&mut self, now: Timestamp, idle: Millis) -> bool {
        now >= *self.idle_until.get_or_insert(now + idle) || self.draining
    }

    /// Its memory is wanted for other documents.
    pub(crate) fn end_idle_time(&mut self, now: Timestamp) {
        self.idle_until = Some(now);
    }

    /// The idle time begins again.
    pub(crate) fn restart_idle_time(&mut self, now: Timestamp, idle: Millis) {
        self.idle_until = Some(now + idle);
    }

    pub(crate) fn idle_until(&self) -> Option<Timestamp> {
        self.idle_until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_unix_ms(1_000);
    const IDLE: Millis = Millis(10);

    #[test]
    fn quarantine_2_a_quarantine_outranks_a_stall() {
        let mut availability = Availability::default();
        assert_eq!(availability.halt(), None);
        availability.store_changed(StoreAvailability::Stalled);
        assert_eq!(availability.halt(), Some(WriteHalt::Stalled));
        availability.loaded(Some("damaged".to_owned()));
        assert_eq!(availability.halt(), Some(WriteHalt::Quarantined));
        availability.store_changed(StoreAvailability::Writable);
        assert_eq!(availability.halt(), Some(WriteHalt::Quarantined));
        availability.loaded(None);
        assert_eq!(availability.halt(), None);
    }

    #[test]
    fn life_2_a_session_restarts_the_idle_time() {
        let mut availability = Availability::default();
        assert!(!availability.is_idle(START, IDLE));
        assert!(availability.is_idle(START + IDLE, IDLE));
        availability.in_use();
        assert!(!availability.is_idle(START + IDLE, IDLE));
    }

    #[test]
    fn life_5_a_drain_ends_the_idle_time() {
        let mut availability = Availability::default();
        availability.drain();
        assert!(availability.is_idle(START, IDLE));
    }
}
