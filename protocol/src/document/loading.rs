//! What waits while a document loads.

use std::collections::VecDeque;

use crate::document::limits::Limits;
use crate::id::SessionId;
use crate::wire::ClientMessage;

/// Sessions to greet and messages to handle once the document is there, in arrival order.
#[derive(Debug, Default)]
pub(crate) struct LoadBacklog {
    queue: VecDeque<(SessionId, Deferred)>,
    messages: usize,
    bytes: usize,
    load_requested: bool,
}

/// Something that arrived too early.
#[derive(Debug)]
pub(crate) enum Deferred {
    Joined,
    Message(ClientMessage),
    /// It overflowed before, and there is room in its queue again.
    Drained,
}

impl LoadBacklog {
    /// Whether the load must be asked for now; true once.
    pub(crate) fn request_load(&mut self) -> bool {
        !std::mem::replace(&mut self.load_requested, true)
    }

    /// A session joined. Sessions are bounded where connections are admitted.
    pub(crate) fn greet(&mut self, session: SessionId) {
        self.queue.push_back((session, Deferred::Joined));
    }

    /// A session waits for what was dropped. It has been waiting for nothing else, so this is one
    /// entry for each overflow.
    pub(crate) fn catch_up(&mut self, session: SessionId) {
        self.queue.push_back((session, Deferred::Drained));
    }

    /// Keeps a message, unless too much waits already.
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

    /// Drops what a session left behind.
    pub(crate) fn forget(&mut self, session: SessionId) {
        self.queue.retain(|(from, _)| *from != session);
        let messages = self.queue.iter().filter_map(|(_, arrival)| match arrival {
            Deferred::Joined | Deferred::Drained => None,
            Deferred::Message(message) => Some(message.payload_len()),
        });
        (self.messages, self.bytes) =
            messages.fold((0, 0), |(count, bytes), len| (count + 1, bytes + len));
    }

    /// Drops everything but the request itself.
    pub(crate) fn clear(&mut self) {
        *self = Self { load_requested: self.load_requested, ..Self::default() };
    }

    /// What arrived, in order.
    pub(crate) fn into_arrivals(self) -> VecDeque<(SessionId, Deferred)> {
        self.queue
    }
}
