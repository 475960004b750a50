//! What comes to a document by mail: who joins, what they send, who leaves, and what that costs them.

use std::sync::Arc;

use syncline_protocol::SessionId;
use syncline_protocol::document::Input;
use syncline_protocol::wire::ClientMessage;
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
    pub(super) fn deliver(&mut self, mail: DocumentCommand) {
        let mut spender = None;
        match mail {
            DocumentCommand::Join { session: live, dialect, epoch } => {
                let (session, grant) = (live.session, live.grant());
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
            DocumentCommand::Message { session, message, room, turn } => {
                self.pace.heard(self.now, session);
                self.receive(session, message);
                spender = Some(session);
                if self.document.state_vector().is_none() {
                    // It waits for the load, so whatever has to wait for its turn does too.
                    self.turns.extend(turn);
                }
                drop(room);
            }
            DocumentCommand::Regranted { session, done } => {
                self.regranted(session);
                if done.is_some_and(|done| done.send(()).is_err()) {
                    debug!(document = %self.name, %session, "Nobody waits for this any more.");
                }
            }
            DocumentCommand::Check { done } => {
                self.check = Some(done);
                self.handle(Input::Check);
            }
            DocumentCommand::Drained { session } => {
                if let Some(seat) = self.sessions.get(&session) {
                    seat.live.send_queue.reopen();
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
        self.spend(spender);
    }

    /// Charges a session, if it was one, with the time since this was last asked in this turn.
    pub(super) fn spend(&mut self, spender: Option<SessionId>) {
        let time = Instant::now() - self.now;
        self.now += time;
        let seat = spender.and_then(|session| self.sessions.get_mut(&session));
        if let Some(seat) = seat {
            seat.meter.took(time, &seat.live.handling);
        }
    }

    /// Another grant holds for a session, or its socket is to be closed and it has no say any more.
    pub(super) fn regranted(&mut self, session: SessionId) {
        let Some(seat) = self.sessions.get(&session) else { return };
        if seat.live.send_queue.is_closed() {
            self.sessions.remove(&session);
            self.handle(Input::Left { session });
        } else {
            let grant = seat.live.grant();
            self.handle(Input::Granted { session, grant });
        }
    }

    /// Until a session's first sync is done, what it sends may be what ended a process before.
    fn receive(&mut self, session: SessionId, message: ClientMessage) {
        // Closed from elsewhere: what it sent before that, and is not handled yet, counts no more.
        if self.sessions.get(&session).is_none_or(|seat| seat.live.send_queue.is_closed()) {
            return;
        }
        self.counting.received(&message);
        let is_sync = matches!(message, ClientMessage::SyncStep2 { .. });
        // What arrives before the document is there is applied by `opened`.
        let is_applied = is_sync && self.stores() && self.document.state_vector().is_some();
        let step = match (self.sessions.get_mut(&session), &message) {
            (Some(seat), ClientMessage::SyncStep2 { update }) if is_applied && !seat.synced => {
                seat.synced = true;
                first_sync(&seat.author, update)
            }
            _ => return self.handle(Input::Received { session, message }),
        };
        let hub = Arc::clone(&self.hub);
        let mark = hub.trouble.mark(&self.name, &step);
        self.handle(Input::Received { session, message });
        drop(mark);
        if self.watch == RecoveryWatch::Suspect(step.clone()) {
            self.watch = RecoveryWatch::Nothing;
            self.clear_suspicion(step);
        }
    }

    fn clear_suspicion(&self, step: CrashSite) {
        let (hub, name) = (Arc::clone(&self.hub), self.name.clone());
        self.hub.tasks.spawn_blocking(move || hub.trouble.clear(&name, &step));
    }
}
