//! One participant in a document.

pub(crate) mod audience;
pub(crate) mod downstream;
mod receipts;
pub(crate) mod upstream;

use std::collections::{BTreeMap, btree_map};

use crate::access::Grant;
use crate::document::Turn;
use crate::document::effect::Delivery;
use crate::document::refusal::Refusal;
use crate::document::session::audience::Audience;
use crate::document::session::downstream::Downstream;
use crate::document::session::upstream::Upstream;
use crate::id::{Epoch, Sequence, SessionId};
use crate::time::{Millis, Timestamp};
use crate::wire::{Dialect, Features, ServerMessage, SyncMessage};

/// A participant: its rights, and its part in each of the three exchanges.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) grant: Grant,
    /// What its dialect has messages for.
    pub(crate) features: Features,
    /// The history that its client holds, or was given. None: the client did not name one.
    pub(crate) epoch: Option<Epoch>,
    pub(crate) downstream: Downstream,
    pub(crate) upstream: Upstream,
    pub(crate) audience: Audience,
}

impl Session {
    pub(crate) fn new(
        now: Timestamp,
        grant: Grant,
        dialect: Dialect,
        epoch: Option<Epoch>,
    ) -> Self {
        Self {
            features: dialect.features(),
            epoch,
            downstream: Downstream::Joining,
            upstream: Upstream::new(grant.may_write()),
            audience: Audience::new(now, grant.may_see()),
            grant,
        }
    }

    /// Whether its client holds another history than `epoch`, so that the two must not be merged.
    pub(crate) fn has_other_epoch(&self, epoch: Epoch) -> bool {
        let held = self.epoch.unwrap_or(Epoch::NONE);
        held != Epoch::NONE && epoch != Epoch::NONE && held != epoch
    }

    /// Whether presence is relayed to it.
    pub(crate) fn watches(&self) -> bool {
        self.audience.is_watching() && !self.downstream.is_lagging()
    }

    /// Whether time alone can change something for it.
    pub(crate) fn is_timed(&self) -> bool {
        self.audience.is_timed() || self.downstream.is_timed() || self.upstream.is_timed()
    }

    /// Sends the watermark, if it moved and the dialect has it.
    pub(super) fn confirm(&mut self, id: SessionId, persisted: Sequence, turn: &mut Turn<'_>) {
        let Some(frames) = self.upstream.receipts.persisted(persisted) else { return };
        if self.features.acknowledges {
            turn.send(id, ServerMessage::Saved { frames }, Delivery::Required);
        }
    }

    /// Sends the watermark once more: the message that held it may have been dropped.
    pub(super) fn repeat_saved(&self, id: SessionId, turn: &mut Turn<'_>) {
        let frames = self.upstream.receipts.saved();
        if frames > 0 && self.features.acknowledges {
            turn.send(id, ServerMessage::Saved { frames }, Delivery::Required);
        }
    }

    /// Refuses the update frame that was counted last.
    pub(super) fn refuse(&mut self, id: SessionId, refusal: Refusal, turn: &mut Turn<'_>) {
        let is_first = self.upstream.note_refusal();
        if self.features.refuses_each_frame || is_first {
            let frame = self.upstream.receipts.frames();
            let Refusal { code, text } = refusal;
            let refused = ServerMessage::Refused { frame, reason: code.name(), text };
            turn.send(id, refused, Delivery::Required);
        }
    }
}

/// The participants of one document. Each is boxed: a node of the tree has room for eleven, and most
/// documents have few.
#[derive(Debug, Default)]
pub(crate) struct Sessions(BTreeMap<SessionId, Box<Session>>);

impl Sessions {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn insert(&mut self, id: SessionId, session: Session) {
        self.0.insert(id, Box::new(session));
    }

    pub(crate) fn remove(&mut self, id: SessionId) -> bool {
        self.0.remove(&id).is_some()
    }

    pub(crate) fn get(&self, id: SessionId) -> Option<&Session> {
        self.0.get(&id).map(Box::as_ref)
    }

    pub(crate) fn get_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        self.0.get_mut(&id).map(Box::as_mut)
    }

    pub(crate) fn iter(&self) -> btree_map::Iter<'_, SessionId, Box<Session>> {
        self.0.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> btree_map::IterMut<'_, SessionId, Box<Session>> {
        self.0.iter_mut()
    }

    /// Removes all.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = SessionId> + use<> {
        std::mem::take(&mut self.0).into_keys()
    }

    /// Those for which `condition` holds.
    pub(crate) fn filter(&self, condition: impl Fn(&Session) -> bool) -> Vec<SessionId> {
        let matching = self.0.iter().filter(|(_, session)| condition(session));
        matching.map(|(&id, _)| id).collect()
    }

    /// Those for which `change` returns true.
    pub(crate) fn change(
        &mut self,
        mut change: impl FnMut(&mut Session) -> bool,
    ) -> Vec<SessionId> {
        let changed = self.0.iter_mut().filter_map(|(&id, session)| change(session).then_some(id));
        changed.collect()
    }

    /// Sends an update to every session that follows, except its sender.
    pub(super) fn relay(&self, from: SessionId, update: &SyncMessage, turn: &mut Turn<'_>) {
        for (&to, session) in &self.0 {
            if to != from && session.downstream.follows() {
                turn.send(to, ServerMessage::Sync(update.clone()), Delivery::Required);
            }
        }
    }

    /// Sends every watermark that moved.
    pub(super) fn confirm(&mut self, persisted: Sequence, turn: &mut Turn<'_>) {
        for (&id, session) in &mut self.0 {
            session.confirm(id, persisted, turn);
        }
    }

    /// Sessions that did not drain within `lagging`, and those that did not answer within `resync`.
    pub(super) fn overdue(
        &self,
        now: Timestamp,
        lagging: Millis,
        resync: Millis,
    ) -> (Vec<SessionId>, Vec<SessionId>) {
        let is_slow = |session: &Session| session.downstream.is_overdue(now, lagging);
        let is_silent = |session: &Session| session.upstream.is_overdue(now, resync);
        let silent = self.filter(|session| !is_slow(session) && is_silent(session));
        (self.filter(is_slow), silent)
    }
}
