//! The way to a document: what is sent to its task, bounded by mails and by the bytes in them.

use std::sync::Arc;

use syncline_protocol::document::CheckOutcome;
use syncline_protocol::wire::{ClientMessage, Dialect};
use syncline_protocol::{Epoch, Limit, SessionId};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::config::limits::MAILBOX_LEN;
use crate::metrics::METRICS;
use crate::session::registry::LiveSession;

/// What a session sends to its document.
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
        room: OwnedSemaphorePermit,
        /// Given back once it is handled: `handling.rs`.
        turn: Option<OwnedSemaphorePermit>,
    },
    Drained {
        session: SessionId,
    },
    Leave {
        session: SessionId,
    },
    /// Other documents want its place.
    MakeRoom,
    /// Compare the document with its log.
    Check {
        done: oneshot::Sender<CheckOutcome>,
    },
}

/// The way to a document, bounded by mails and by the bytes of the messages in them.
#[derive(Clone, Debug)]
pub(crate) struct Mailbox {
    mail: mpsc::Sender<DocumentCommand>,
    room: Arc<Semaphore>,
    room_kib: u32,
}

/// The document's task is gone.
#[derive(Debug)]
pub(crate) struct Gone;

impl Mailbox {
    pub(crate) fn new(room_bytes: usize) -> (Self, mpsc::Receiver<DocumentCommand>) {
        let (mail, received) = mpsc::channel(MAILBOX_LEN);
        let room_kib = u32::try_from(room_bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        let room = Arc::new(Semaphore::new(usize::try_from(room_kib).unwrap_or(usize::MAX)));
        (Self { mail, room, room_kib }, received)
    }

    /// Puts a client's message in, or gives it back if there is no room for it. A mailbox that is
    /// gone takes everything.
    pub(crate) fn try_send_message(
        &self,
        session: SessionId,
        message: ClientMessage,
        turn: Option<OwnedSemaphorePermit>,
    ) -> Result<(), ClientMessage> {
        let kib = self.room_for(&message);
        let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(kib) else {
            return Err(message);
        };
        let sent = self.mail.try_send(DocumentCommand::Message { session, message, room, turn });
        if let Err(TrySendError::Full(DocumentCommand::Message { message, .. })) = sent {
            return Err(message);
        }
        Ok(())
    }

    /// A message larger than all the room waits until it is alone.
    fn room_for(&self, message: &ClientMessage) -> u32 {
        let kib = u32::try_from(message.payload_len().div_ceil(1024)).unwrap_or(u32::MAX);
        kib.clamp(1, self.room_kib)
    }

    /// Puts a client's message in; waits while the mailbox is full.
    pub(crate) async fn send_message(
        &self,
        session: SessionId,
        message: ClientMessage,
        turn: Option<OwnedSemaphorePermit>,
    ) -> Result<(), Gone> {
        let kib = self.room_for(&message);
        let room = match Arc::clone(&self.room).try_acquire_many_owned(kib) {
            Ok(room) => room,
            Err(_) => {
                METRICS.hit(Limit::MailboxBytes);
                Arc::clone(&self.room).acquire_many_owned(kib).await.map_err(|_| Gone)?
            }
        };
        self.send(DocumentCommand::Message { session, message, room, turn }).await
    }

    /// Puts anything else in; waits while the mailbox is full.
    pub(crate) async fn send(&self, mail: DocumentCommand) -> Result<(), Gone> {
        match self.mail.try_send(mail) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(mail)) => {
                METRICS.hit(Limit::MailboxBytes);
                Box::pin(self.mail.send(mail)).await.map_err(|_| Gone)
            }
            Err(TrySendError::Closed(_)) => Err(Gone),
        }
    }

    /// Asks for its document's place. One with a full mailbox is not about to end.
    pub(crate) fn make_room(&self) {
        drop(self.mail.try_send(DocumentCommand::MakeRoom));
    }

    /// Whether the hub alone holds it: nobody is in the document or on the way in.
    pub(crate) fn is_only_the_hubs(&self) -> bool {
        self.mail.strong_count() == 1
    }

    /// Completes when the document's task is gone.
    pub(crate) async fn closed(&self) {
        self.mail.closed().await;
    }
}
