//! The mailbox of a document: a queue of commands, bounded in commands and in the bytes of the messages
//! among them.

use std::sync::Arc;

use syncline_protocol::document::CheckOutcome;
use syncline_protocol::wire::{ClientMessage, Dialect};
use syncline_protocol::{Epoch, Limit, SessionId};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::config::limits::MAILBOX_LEN;
use crate::metrics::METRICS;
use crate::session::live::LiveSession;

/// A command to a document's task.
#[derive(Debug)]
pub(crate) enum DocumentCommand {
    Join {
        session: Arc<LiveSession>,
        dialect: Dialect,
        epoch: Option<Epoch>,
    },
    /// The grant of a session has changed.
    Regranted {
        session: SessionId,
        /// Completes once the grant holds.
        done: Option<oneshot::Sender<()>>,
    },
    /// No right of a session is left: its socket is being closed, and its later messages are dropped.
    Revoked {
        session: SessionId,
        /// Completes once that holds.
        done: oneshot::Sender<()>,
    },
    Message {
        session: SessionId,
        message: ClientMessage,
        /// The message's share of the mailbox, released when it is handled.
        space: OwnedSemaphorePermit,
        /// The turn of a heavy message, released when it is handled: `session/cpu_budget.rs`.
        turn: Option<OwnedSemaphorePermit>,
    },
    /// The session's queue overflowed, and its socket is writable again.
    Drained {
        session: SessionId,
    },
    Leave {
        session: SessionId,
    },
    /// Unload if idle: the bound on documents is reached.
    MakeRoom,
    /// Compare the document with its log.
    Check {
        done: oneshot::Sender<CheckOutcome>,
    },
}

/// The sending end of a document's mailbox. A document stays live while a clone exists.
#[derive(Clone, Debug)]
pub(crate) struct Mailbox {
    commands: mpsc::Sender<DocumentCommand>,
    /// One permit for each KiB of messages.
    space: Arc<Semaphore>,
    space_kib: u32,
}

/// The document's task has ended.
#[derive(Debug)]
pub(crate) struct Gone;

impl Mailbox {
    pub(crate) fn new(space_bytes: usize) -> (Self, mpsc::Receiver<DocumentCommand>) {
        let (commands, received) = mpsc::channel(MAILBOX_LEN);
        let space_kib = u32::try_from(space_bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        let space = Arc::new(Semaphore::new(usize::try_from(space_kib).unwrap_or(usize::MAX)));
        (Self { commands, space, space_kib }, received)
    }

    /// Queues a client's message, or gives it back if the mailbox is full. A message to a document
    /// that has ended is dropped.
    pub(crate) fn try_send_message(
        &self,
        session: SessionId,
        message: ClientMessage,
        turn: Option<OwnedSemaphorePermit>,
    ) -> Result<(), ClientMessage> {
        let kib = self.kib_of(&message);
        let Ok(space) = Arc::clone(&self.space).try_acquire_many_owned(kib) else {
            return Err(message);
        };
        let sent =
            self.commands.try_send(DocumentCommand::Message { session, message, space, turn });
        if let Err(TrySendError::Full(DocumentCommand::Message { message, .. })) = sent {
            return Err(message);
        }
        Ok(())
    }

    /// The permits for a message. One larger than the whole space takes all of it.
    fn kib_of(&self, message: &ClientMessage) -> u32 {
        let kib = u32::try_from(message.payload_len().div_ceil(1024)).unwrap_or(u32::MAX);
        kib.clamp(1, self.space_kib)
    }

    /// Queues a client's message; waits while the mailbox is full.
    pub(crate) async fn send_message(
        &self,
        session: SessionId,
        message: ClientMessage,
        turn: Option<OwnedSemaphorePermit>,
    ) -> Result<(), Gone> {
        let kib = self.kib_of(&message);
        let space = match Arc::clone(&self.space).try_acquire_many_owned(kib) {
            Ok(space) => space,
            Err(_) => {
                METRICS.hit(Limit::MailboxBytes);
                Arc::clone(&self.space).acquire_many_owned(kib).await.map_err(|_| Gone)?
            }
        };
        self.send(DocumentCommand::Message { session, message, space, turn }).await
    }

    /// Queues a command; waits while the mailbox is full.
    pub(crate) async fn send(&self, command: DocumentCommand) -> Result<(), Gone> {
        match self.commands.try_send(command) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(command)) => {
                METRICS.hit(Limit::MailboxBytes);
                Box::pin(self.commands.send(command)).await.map_err(|_| Gone)
            }
            Err(TrySendError::Closed(_)) => Err(Gone),
        }
    }

    /// Asks the document to unload. One with a full mailbox is in use, and is not asked.
    pub(crate) fn make_room(&self) {
        drop(self.commands.try_send(DocumentCommand::MakeRoom));
    }

    /// Whether the hub has the only clone: the document has no session, and none is joining.
    pub(crate) fn is_only_the_hubs(&self) -> bool {
        self.commands.strong_count() == 1
    }

    /// Completes when the document's task has ended.
    pub(crate) async fn closed(&self) {
        self.commands.closed().await;
    }
}
