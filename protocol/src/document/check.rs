//! Comparing the live document with what its log makes of it.

use crate::close::CloseCode;
use crate::document::effect::Effect;
use crate::document::input::CheckOutcome;
use crate::document::stored::Snapshot;
use crate::document::{Document, Phase, Turn};

/// Whether the document is to be compared with its log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Check {
    #[default]
    Unasked,
    /// As soon as nothing is on its way to disk.
    Wanted,
    /// Handed to the caller. Until it answers, no snapshot takes the place of the log's updates.
    UnderWay,
}

impl Check {
    /// One at a time: who asks during a comparison is answered by it.
    pub(super) fn want(&mut self) {
        if *self == Self::Unasked {
            *self = Self::Wanted;
        }
    }
}

impl Document {
    pub(super) fn start_check(&mut self, turn: &mut Turn<'_>) {
        let may_start = self.check == Check::Wanted
            && self.quarantine.is_none()
            && !self.draining
            && self.log.is_settled()
            && !self.log.is_snapshotting();
        let Phase::Ready(replica) = &mut self.phase else { return };
        if !may_start {
            return;
        }
        match replica.state() {
            Ok(state) => {
                let live = Snapshot { through: self.log.last, state: state.into() };
                self.check = Check::UnderWay;
                turn.effects.push(Effect::Compare { live, known: replica.known().clone() });
            }
            Err(error) => self.rebuild(&error, turn),
        }
    }

    /// The log is the truth. A document that differs from it is dropped, and everybody brings what
    /// they hold to the one that is loaded next.
    pub(super) fn compared(&mut self, outcome: CheckOutcome, turn: &mut Turn<'_>) {
        self.check = Check::Unasked;
        if outcome == CheckOutcome::Different && matches!(self.phase, Phase::Ready(_)) {
            let text = "the document differs from its log and is loaded afresh; reconnect";
            self.lose(CloseCode::Internal, text, turn);
        }
    }
}
