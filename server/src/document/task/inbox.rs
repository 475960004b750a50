//! Commands of sessions to their document, and the CPU time that is charged to them.

use std::sync::Arc;

use syncline_protocol::SessionId;
use syncline_protocol::document::Input;
use syncline_protocol::wire::ClientMessage;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::debug;

use crate::document::loader::RecoveryWatch;
use crate::document::mailbox::DocumentCommand;
use crate::document::task::{DocumentTask, Participant};
use crate::quarantine::CrashSite;
use crate::quarantine::crash_marker::first_sync;
use crate::session::cpu_budget::Meter;
use crate::store::writer::Urgency;

impl DocumentTask {
    pub(super) fn deliver(&mut self, command: DocumentCommand) {
        let mut charged = None;
        match command {
            DocumentCommand::Join { session: live, dialect, epoch } => {
                let (session, grant) = (live.id, live.grant());
                let is_acknowledged = dialect.features().acknowledges;
                let urgency = if is_acknowledged { Urgency::Awaited } else { Urgency::Unwatched };
                let author = Arc::clone(&grant.identity.sub);
                if self.document.session_count() == 0 {
                    self.hub.joined(&self.name);
                }
                self.sessions.insert(
                    session,
                    Participant {
                        live,
                        dialect,
                        author,
                        urgency,
                        meter: Meter::default(),
                        synced: false,
                    },
                );
                self.handle(Input::Joined { session, grant, dialect, epoch });
            }
            DocumentCommand::Message { session, message, space, turn } => {
                self.batching.received(self.now, session);
                self.receive(session, message);
                charged = Some(session);
                if self.document.state_vector().is_none() {
                    // The message is deferred until the load, and its permit with it.
                    self.deferred_permits.extend(turn);
                }
                drop(space);
            }
            DocumentCommand::Regranted { session, done } => {
                self.regranted(session);
                self.confirm(session, done);
            }
            DocumentCommand::Revoked { session, done } => {
                self.remove(session);
                self.confirm(session, Some(done));
            }
            DocumentCommand::Check { done } => {
                self.check = Some(done);
                self.handle(Input::Check);
            }
            DocumentCommand::Drained { session } => {
                if let Some(participant) = self.sessions.get(&session) {
                    participant.live.send_queue.reopen();
                }
                self.handle(Input::Drained { session });
            }
            DocumentCommand::Leave { session } => {
                self.sessions.remove(&session);
                self.handle(Input::Left { session });
                if self.document.session_count() == 0 {
                    self.hub.left(&self.name);
                }
            }
            DocumentCommand::MakeRoom => self.handle(Input::MakeRoom),
        }
        self.charge(charged);
    }

    /// Charges a session with the time since the last charge in this turn. None: no session.
    pub(super) fn charge(&mut self, session: Option<SessionId>) {
        let time = Instant::now() - self.now;
        self.now += time;
        let participant = session.and_then(|session| self.sessions.get_mut(&session));
        if let Some(participant) = participant {
            participant.meter.took(time, &participant.live.cpu_budget);
        }
    }

    /// Another grant holds for a session.
    fn regranted(&mut self, session: SessionId) {
        let Some(participant) = self.sessions.get(&session) else { return };
        let grant = participant.live.grant();
        self.handle(Input::Granted { session, grant });
    }

    /// Ends a session whose socket is being closed from elsewhere.
    pub(super) fn remove(&mut self, session: SessionId) {
        if self.sessions.remove(&session).is_some() {
            self.handle(Input::Left { session });
        }
    }

    fn confirm(&self, session: SessionId, done: Option<oneshot::Sender<()>>) {
        if done.is_some_and(|done| done.send(()).is_err()) {
            debug!(document = %self.name, %session, "A confirmation came too late.");
        }
    }

    /// Handles a client's message. Its first sync is marked: one may have ended the process before.
    fn receive(&mut self, session: SessionId, message: ClientMessage) {
        // Closed from elsewhere: messages sent before that are not handled any more.
        if self
            .sessions
            .get(&session)
            .is_none_or(|participant| participant.live.send_queue.is_closed())
        {
            return;
        }
        self.stats.received(&message);
        let is_sync = matches!(message, ClientMessage::SyncStep2 { .. });
        // A message that arrives before the document is loaded is applied by `job_ended`.
        let is_applied = is_sync && self.stores() && self.document.state_vector().is_some();
        let step = match (self.sessions.get_mut(&session), &message) {
            (Some(participant), ClientMessage::SyncStep2 { update })
                if is_applied && !participant.synced =>
            {
                participant.synced = true;
                first_sync(&participant.author, update)
            }
            _ => return self.handle(Input::Received { session, message }),
        };
        let services = Arc::clone(&self.services);
        let mark = services.recovery.mark(&self.name, &step);
        self.handle(Input::Received { session, message });
        drop(mark);
        if self.recovery_watch == RecoveryWatch::Suspect(step.clone()) {
            self.recovery_watch = RecoveryWatch::Nothing;
            self.clear_suspicion(step);
        }
    }

    fn clear_suspicion(&self, step: CrashSite) {
        let (services, name) = (Arc::clone(&self.services), self.name.clone());
        self.services.tasks.spawn_blocking(move || services.recovery.clear(&name, &step));
    }
}
