//! The path of an update: validated, fitted, integrated, logged.

use crate::close::{Close, CloseCode};
use crate::document::availability::WriteHalt;
use crate::document::counts::UpdateOutcome;
use crate::document::limits::Limits;
use crate::document::refusal;
use crate::document::replica::{Applied, ApplyError};
use crate::document::replication::Replication;
use crate::id::Sequence;
use crate::limit::Limit;
use crate::validate::{self, Fit, UpdateFacts};
use crate::wire::SyncMessage;

/// How an update was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// As it was typed.
    Live,
    /// In a SyncStep2, which may bring days of offline work.
    FirstSync,
}

/// The outcome of an update.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It is in the log, and must be relayed and stored: the received bytes, unless validation had
    /// to trim them.
    Accepted { sequence: Sequence, update: SyncMessage },
    /// It adds nothing.
    Known,
    /// It refers to missing updates, and was not applied.
    Incomplete,
    /// It would change the document while writes are halted.
    Halted(WriteHalt),
    /// Its sender must be closed.
    Rejected(UpdateOutcome, Close),
    /// The CRDT failed: its sender must be closed, and the document rebuilt from the log, which
    /// never saw the update. The replica may hold half of it.
    Failed { outcome: UpdateOutcome, code: CloseCode, error: ApplyError },
}

impl Replication {
    /// Handles an update: validates it, fits it against what is known, integrates it, and gives it
    /// its position in the log.
    pub(crate) fn update(
        &mut self,
        origin: Origin,
        update: &[u8],
        halt: Option<WriteHalt>,
        limits: &Limits,
    ) -> Verdict {
        let facts = match self.walk(origin, update, limits) {
            Ok(facts) => facts,
            Err((outcome, close)) => return Verdict::Rejected(outcome, close),
        };
        let Some(replica) = self.phase.replica() else {
            let close = Close::new(CloseCode::Internal, "the document is not loaded");
            return Verdict::Rejected(UpdateOutcome::Internal, close);
        };
        match (facts.fit(replica.state_vector()), halt) {
            (Fit::Known, _) => Verdict::Known,
            (Fit::Ready | Fit::Incomplete, Some(halt)) => match replica.holds(&facts, update) {
                Ok(true) => Verdict::Known,
                Ok(false) => Verdict::Halted(halt),
                Err(error) => {
                    let (outcome, code) = (UpdateOutcome::Internal, CloseCode::Internal);
                    Verdict::Failed { outcome, code, error }
                }
            },
            (Fit::Incomplete, None) => Verdict::Incomplete,
            (Fit::Ready, None) => self.apply(&facts, update),
        }
    }

    fn apply(&mut self, facts: &UpdateFacts, update: &[u8]) -> Verdict {
        let Some(replica) = self.phase.replica() else { return Verdict::Known };
        let update = match replica.admit(facts, update) {
            Ok(update) => update,
            Err(error) => return Verdict::invalid(&error),
        };
        match replica.apply(facts, &update) {
            Ok(Applied::Changed) => {
                self.diffs.forget();
                let sequence = self.log.append(update.len());
                Verdict::Accepted { sequence, update: SyncMessage::update(&update) }
            }
            Ok(Applied::Known) => Verdict::Known,
            Err(error) => {
                let (outcome, code) = (UpdateOutcome::BadFrame, CloseCode::BadFrame);
                Verdict::Failed { outcome, code, error }
            }
        }
    }

    fn walk(
        &self,
        origin: Origin,
        update: &[u8],
        limits: &Limits,
    ) -> Result<UpdateFacts, (UpdateOutcome, Close)> {
        let limit = limits.update_bytes_max;
        if origin == Origin::Live && update.len() > limit {
            let bytes = update.len();
            let text = format!(
                "the update is {bytes} bytes, at most {limit} are allowed; insert less at a time"
            );
            let close = Close::at_limit(Limit::UpdateBytes, CloseCode::MessageTooLarge, text);
            return Err((UpdateOutcome::MessageTooLarge, close));
        }
        let budget = match origin {
            Origin::Live => &limits.live,
            Origin::FirstSync => &limits.sync,
        };
        let facts = validate::walk_update(update, budget).map_err(|error| invalid(&error))?;
        // Deletions always pass: they are the way back under the limit. So does what is known.
        let (bytes, limit) = (self.log.bytes_with(update.len()), limits.document_bytes_max as u64);
        if bytes > limit && self.adds_blocks(&facts) {
            let text = format!("the document would be {bytes} bytes, at most {limit} are allowed");
            let code = CloseCode::DocumentTooLarge;
            let close = Close::at_limit(Limit::DocumentBytes, code, text);
            return Err((UpdateOutcome::DocumentTooLarge, close));
        }
        Ok(facts)
    }

    fn adds_blocks(&self, facts: &UpdateFacts) -> bool {
        let state_vector = self.state_vector();
        let clock = |client| state_vector.and_then(|clocks| clocks.get(&client)).copied();
        facts.sections.iter().any(|section| section.end > clock(section.client).unwrap_or(0))
    }
}

impl Verdict {
    fn invalid(error: &validate::ValidationError) -> Self {
        let (outcome, close) = invalid(error);
        Self::Rejected(outcome, close)
    }
}

fn invalid(error: &validate::ValidationError) -> (UpdateOutcome, Close) {
    let is_budget = error.is_budget();
    let outcome = if is_budget { UpdateOutcome::MessageTooLarge } else { UpdateOutcome::BadFrame };
    (outcome, refusal::invalid(error))
}
