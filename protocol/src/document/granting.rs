//! When what a session may do changes while it takes part.

use crate::access::Grant;
use crate::document::limits::Stamping;
use crate::document::session::{PendingRequest, PresenceDelivery, WriteRefusal};
use crate::document::{Document, Turn};
use crate::id::SessionId;
use crate::validate::PresenceEntry;

impl Document {
    /// Another grant holds for a session. What it sent before was judged by the one before.
    pub(super) fn granted(&mut self, id: SessionId, grant: Grant, turn: &mut Turn<'_>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let before = std::mem::replace(&mut session.grant, grant.clone());
        if before.identity != grant.identity {
            session.stamp = None;
        }
        if grant.may_write() != before.may_write() {
            session.write_refusal = WriteRefusal::Untold;
            session.resync_since = None;
            // Whoever gets the right may hold what was refused, or was never asked for: it is like a
            // hole, and nothing counts as saved before it is filled. A reader is asked for nothing.
            let may_have_more = grant.may_write() && session.greeted;
            session.owed =
                if may_have_more { PendingRequest::Refused } else { PendingRequest::Nothing };
        }
        let is_news = grant.access != before.access && session.greeted;
        if is_news {
            self.welcome(id, turn);
        }
        self.ask_owed(turn);
        self.presence_granted(id, &before, &grant, turn);
    }

    fn presence_granted(
        &mut self,
        id: SessionId,
        before: &Grant,
        grant: &Grant,
        turn: &mut Turn<'_>,
    ) {
        if before.may_be_seen() && !grant.may_be_seen() {
            let ended = self.presence.leave(turn.now, id);
            self.publish(&ended, turn);
        } else if before.identity != grant.identity {
            self.rename(id, turn);
        }
        if before.may_see() && !grant.may_see() {
            let gone = |entry| PresenceEntry { state: None, ..entry };
            let others: Vec<_> = self.presence.others(id).into_iter().map(gone).collect();
            Self::send_presence(id, &others, turn);
        } else if !before.may_see()
            && grant.may_see()
            && let Some(session) = self.sessions.get_mut(&id)
        {
            session.telling = PresenceDelivery::Unheard;
        }
    }

    /// Shows the states of a session under the identity that it has now.
    fn rename(&mut self, id: SessionId, turn: &mut Turn<'_>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if self.limits.stamping == Stamping::Identity {
            self.presence.rename(id, session.stamp());
            self.flush_presence(turn);
        }
    }
}
