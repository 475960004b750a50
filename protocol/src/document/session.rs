//! One participant in a document.

use std::collections::VecDeque;

use crate::access::Grant;
use crate::document::Turn;
use crate::document::effect::Delivery;
use crate::document::stamp::Stamp;
use crate::id::{Epoch, Sequence, SessionId};
use crate::time::Timestamp;
use crate::validate::StateVector;
use crate::wire::{Dialect, Features, ServerMessage};

/// What a document knows of a participant.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) grant: Grant,
    /// Made of the grant's identity when it first speaks of itself.
    pub(super) stamp: Option<Stamp>,
    /// What its dialect has messages for.
    pub(crate) features: Features,
    /// The history that its client holds, or has been given. None: it did not say.
    pub(crate) epoch: Option<Epoch>,
    /// Whether it has been let in. Before that it waits for the document to be loaded.
    pub(crate) greeted: bool,
    pub(crate) joined_at: Timestamp,
    /// The state its client declared at its latest SyncStep1; None before the first. Everything
    /// newer has been sent since, so a diff from here is always enough.
    pub(crate) base: Option<StateVector>,
    /// Since when nothing is sent to it, because its queue overflowed.
    pub(crate) lagging_since: Option<Timestamp>,
    /// Since when more than updates, dropped with its queue, has to be said again.
    pub(crate) repeat_since: Option<Timestamp>,
    /// Since when updates that it sent earlier are missing here and have been asked for.
    pub(crate) resync_since: Option<Timestamp>,
    /// What it must be asked for once updates are accepted again.
    pub(crate) owed: PendingRequest,
    /// Whether it has been told who is present.
    pub(crate) telling: PresenceDelivery,
    /// Whether its client has been told that it writes in vain.
    pub(crate) write_refusal: WriteRefusal,
    pub(crate) receipts: Receipts,
}

/// How far a session is from being told who is present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PresenceDelivery {
    /// It has neither spoken of itself nor answered a question.
    Unheard,
    /// It is its turn as soon as states have clocks that it cannot know.
    Due,
    Told,
}

/// What a session could not be asked for while nothing was accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum PendingRequest {
    #[default]
    Nothing,
    /// It joined, and has not been asked for what the server lacks.
    Question,
    /// Updates of it were refused. Nothing after them counts as saved until it has answered.
    Refused,
}

/// Whether a client that tried in vain to write has been told. A stock client tries again with
/// every key, and one warning in its console is enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteRefusal {
    Untold,
    Told,
}

impl Session {
    pub(crate) fn new(
        now: Timestamp,
        grant: Grant,
        dialect: Dialect,
        epoch: Option<Epoch>,
    ) -> Self {
        Self {
            grant,
            stamp: None,
            features: dialect.features(),
            epoch,
            greeted: false,
            joined_at: now,
            base: None,
            lagging_since: None,
            repeat_since: None,
            resync_since: None,
            owed: PendingRequest::Nothing,
            telling: PresenceDelivery::Unheard,
            write_refusal: WriteRefusal::Untold,
            receipts: Receipts::default(),
        }
    }

    /// What is written into its presence states.
    pub(super) fn stamp(&mut self) -> &Stamp {
        self.stamp.get_or_insert_with(|| Stamp::new(&self.grant.identity))
    }

    /// Whether it holds another history than `epoch`, so that the two must not be merged.
    pub(crate) fn is_estranged_from(&self, epoch: Epoch) -> bool {
        let held = self.epoch.unwrap_or(Epoch::NONE);
        held != Epoch::NONE && epoch != Epoch::NONE && held != epoch
    }

    /// Whether updates are relayed to it.
    pub(crate) fn follows(&self) -> bool {
        self.base.is_some() && self.lagging_since.is_none()
    }

    /// Whether it may be told who is present, and has given no sign yet that it listens.
    pub(crate) fn is_unheard(&self) -> bool {
        self.telling == PresenceDelivery::Unheard && self.grant.may_see()
    }

    /// Whether it is its turn to be told who is present.
    pub(crate) fn is_due(&self) -> bool {
        self.telling == PresenceDelivery::Due && self.grant.may_see()
    }

    /// Whether a later moment can change something for it.
    pub(crate) fn waits_for_time(&self) -> bool {
        self.is_unheard()
            || self.is_due()
            || self.repeat_since.is_some()
            || self.lagging_since.is_some()
            || self.resync_since.is_some()
    }

    /// Tells its client what is saved, if that moved and the client understands it.
    pub(super) fn confirm(&mut self, id: SessionId, persisted: Sequence, turn: &mut Turn<'_>) {
        let Some(frames) = self.receipts.persisted(persisted) else { return };
        if self.features.acknowledges {
            turn.send(id, ServerMessage::Saved { frames }, Delivery::Required);
        }
    }

    /// Tells its client what is saved once more: the frame that said it may have been dropped.
    pub(super) fn repeat_saved(&self, id: SessionId, turn: &mut Turn<'_>) {
        let frames = self.receipts.saved;
        if frames > 0 && self.features.acknowledges {
            turn.send(id, ServerMessage::Saved { frames }, Delivery::Required);
        }
    }

    /// Whether presence is relayed to it.
    pub(crate) fn watches(&self) -> bool {
        self.telling == PresenceDelivery::Told
            && self.lagging_since.is_none()
            && self.grant.may_see()
    }
}

/// Which update frames of a session are on disk: the watermark behind `Saved`.
#[derive(Debug, Default)]
pub(crate) struct Receipts {
    frames: u64,
    /// Frame counts and the sequence each waits for, both ascending. One entry per sequence under
    /// way, so the store's own queue bounds it.
    waiting: VecDeque<(u64, Sequence)>,
    saved: u64,
}

impl Receipts {
    /// Counts an update frame and returns its number.
    pub(crate) fn count(&mut self) -> u64 {
        self.frames += 1;
        self.frames
    }

    /// How many have been counted.
    pub(crate) fn frames(&self) -> u64 {
        self.frames
    }

    /// Every frame so far is saved once `sequence` is.
    pub(crate) fn await_sequence(&mut self, sequence: Sequence) {
        match self.waiting.back_mut() {
            Some((frames, last)) if *last == sequence => *frames = self.frames,
            _ => self.waiting.push_back((self.frames, sequence)),
        }
    }

    /// Everything up to `through` is on disk. Returns the new watermark if it moved.
    pub(crate) fn persisted(&mut self, through: Sequence) -> Option<u64> {
        let before = self.saved;
        while let Some(&(frames, sequence)) = self.waiting.front() {
            if sequence > through {
                break;
            }
            self.saved = frames;
            self.waiting.pop_front();
        }
        (self.saved > before).then_some(self.saved)
    }
}
