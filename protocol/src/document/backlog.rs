//! Joins and messages that arrive before the document is loaded.

use std::collections::VecDeque;

use crate::document::limits::Limits;
use crate::id::SessionId;
use crate::wire::ClientMessage;

/// Deferred items in arrival order, bounded in number and bytes of their messages.
#[derive(Debug, Default)]
pub(crate) struct LoadBacklog {
    queue: VecDeque<(SessionId, Deferred)>,
    messages: usize,
    bytes: usize,
}

/// Something that arrived before the document was loaded.
#[derive(Debug)]
pub(crate) enum Deferred {
    Joined,
    Message(ClientMessage),
    /// The session's queue overflowed before, and has drained.
    Drained,
}

impl Deferred {
    fn message_len(&self) -> Option<usize> {
        match self {
            Self::Message(message) => Some(message.payload_len()),
            Self::Joined | Self::Drained => None,
        }
    }
}

impl LoadBacklog {
    /// A session joined. Sessions are bounded where connections are admitted.
    pub(crate) fn joined(&mut self, session: SessionId) {
        self.queue.push_back((session, Deferred::Joined));
    }

    /// A session has drained. It was sent nothing since its overflow, so this is one entry for each.
    pub(crate) fn drained(&mut self, session: SessionId) {
        self.queue.push_back((session, Deferred::Drained));
    }

    /// Keeps a message, unless that would exceed the limits. Returns whether it is kept.
    pub(crate) fn push(
        &mut self,
        session: SessionId,
        message: ClientMessage,
        limits: &Limits,
    ) -> bool {
        let bytes = self.bytes + message.payload_len();
        if self.messages == limits.waiting_messages_max || bytes > limits.waiting_bytes_max {
            return false;
        }
        self.messages += 1;
        self.bytes = bytes;
        self.queue.push_back((session, Deferred::Message(message.detach())));
        true
    }

    /// The session of the first item.
    pub(crate) fn next_session(&self) -> Option<SessionId> {
        self.queue.front().map(|(session, _)| *session)
    }

    /// Takes the first item.
    pub(crate) fn pop(&mut self) -> Option<(SessionId, Deferred)> {
        let (session, item) = self.queue.pop_front()?;
        if let Some(len) = item.message_len() {
            self.messages -= 1;
            self.bytes -= len;
        }
        Some((session, item))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Drops the items of a session that left.
    pub(crate) fn forget(&mut self, session: SessionId) {
        self.queue.retain(|(from, _)| *from != session);
        let lengths = self.queue.iter().filter_map(|(_, item)| item.message_len());
        (self.messages, self.bytes) =
            lengths.fold((0, 0), |(count, bytes), len| (count + 1, bytes + len));
    }
}
