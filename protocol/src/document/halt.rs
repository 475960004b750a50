//! When nothing is accepted from those who may write, and how they are asked again.

use crate::close::CloseCode;
use crate::document::effect::Delivery;
use crate::document::session::{PendingRequest, WriteRefusal};
use crate::document::sync::Origin;
use crate::document::{Document, Phase, Turn};
use crate::id::SessionId;
use crate::wire::ServerMessage;

/// Why nothing is accepted at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteHalt {
    /// The store takes nothing.
    Stalled,
    /// The document may only be read until it is repaired.
    Quarantined,
}

/// Whether the store takes updates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoreState {
    Writable,
    Stalled,
}

/// What a client is told that writes in vain.
#[derive(Clone, Copy, Debug)]
struct Reason {
    code: CloseCode,
    text: &'static str,
}

const READER: Reason = Reason {
    code: CloseCode::ForbiddenWrite,
    text: "this token may read the document but not change it",
};

impl WriteHalt {
    fn reason(self) -> Reason {
        match self {
            Self::Stalled => Reason {
                code: CloseCode::StoreUnavailable,
                text: "the store takes no edits for now; keep the page open, they will be sent",
            },
            Self::Quarantined => Reason {
                code: CloseCode::DocumentQuarantined,
                text: "the document is damaged and read-only until it is repaired",
            },
        }
    }
}

impl Document {
    pub(super) fn halt(&self) -> Option<WriteHalt> {
        match &self.quarantine {
            Some(_) => Some(WriteHalt::Quarantined),
            None if self.store == StoreState::Stalled => Some(WriteHalt::Stalled),
            None => None,
        }
    }

    pub(super) fn store_stalled(&mut self) {
        self.store = StoreState::Stalled;
        self.log.abandon_snapshot();
    }

    pub(super) fn store_resumed(&mut self, turn: &mut Turn<'_>) {
        self.store = StoreState::Writable;
        if self.quarantine.is_none() {
            let writers = self.sessions.values_mut().filter(|session| session.grant.may_write());
            writers.for_each(|session| session.write_refusal = WriteRefusal::Untold);
            self.ask_owed(turn);
        }
    }

    /// Asks whoever could not be asked, or was refused, while nothing was accepted.
    pub(super) fn ask_owed(&mut self, turn: &mut Turn<'_>) {
        if !matches!(self.phase, Phase::Ready(_)) || self.halt().is_some() {
            return;
        }
        let mut asked = Vec::new();
        for (&id, session) in &mut self.sessions {
            match std::mem::take(&mut session.owed) {
                PendingRequest::Nothing => continue,
                PendingRequest::Question => {}
                // From here on it is like a hole: the answer covers all that was refused.
                PendingRequest::Refused => session.resync_since = Some(turn.now),
            }
            asked.push(id);
        }
        for id in asked {
            self.ask(id, turn);
        }
    }

    /// Refuses the frame counted last: it would change the document.
    pub(super) fn withhold(
        &mut self,
        id: SessionId,
        origin: Origin,
        halt: WriteHalt,
        turn: &mut Turn<'_>,
    ) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.owed = PendingRequest::Refused;
        if origin == Origin::FirstSync {
            // It answered, and is asked anew.
            session.resync_since = None;
        }
        let frame = session.receipts.frames();
        self.refuse_write(id, frame, halt.reason(), turn);
    }

    /// Tells a client whose copy is ahead, and who is not asked for the rest, that it stays so.
    pub(super) fn refuse_ahead(&mut self, id: SessionId, turn: &mut Turn<'_>) {
        let Some(session) = self.sessions.get(&id) else { return };
        let frames = session.receipts.frames();
        if !session.grant.may_write() {
            self.refuse_reader(id, frames, turn);
        } else if let Some(halt @ WriteHalt::Quarantined) = self.halt() {
            self.refuse_write(id, frames, halt.reason(), turn);
        }
    }

    pub(super) fn refuse_reader(&mut self, id: SessionId, frame: u64, turn: &mut Turn<'_>) {
        self.refuse_write(id, frame, READER, turn);
    }

    fn refuse_write(
        &mut self,
        id: SessionId,
        frame: u64,
        Reason { code, text }: Reason,
        turn: &mut Turn<'_>,
    ) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let before = std::mem::replace(&mut session.write_refusal, WriteRefusal::Told);
        if session.features.refuses_each_frame || before == WriteRefusal::Untold {
            let refused = ServerMessage::Refused { frame, reason: code.word(), text };
            turn.send(id, refused, Delivery::Required);
        }
    }
}
