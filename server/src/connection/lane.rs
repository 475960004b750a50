//! A lane: one document's session on a connection, with its queue, grant, token refresh and rate limit.

use std::future::poll_fn;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use syncline_protocol::wire::{ClientFrame, ClientMessage, ServerMessage};
use syncline_protocol::{Close, CloseCode, Limit};
use tokio::time::Instant;
use tracing::debug;

use crate::app::App;
use crate::audit::Event as Audited;
use crate::auth::{Credential, Rights};
use crate::connection::{End, admission};
use crate::document::mailbox::{DocumentCommand, Gone, Mailbox};
use crate::metrics::METRICS;
use crate::net::quota::SessionPermits;
use crate::session::cpu_budget::Busy;
use crate::session::live::LiveSession;
use crate::session::rate_limit::RateLimit;
use crate::session::registry::RegistryGuard;
use crate::session::token_refresh::TokenRefresh;

/// One session, as its connection holds it.
pub(crate) struct Lane {
    pub(super) registered: RegistryGuard,
    pub(super) mailbox: Mailbox,
    pub(super) rate_limit: RateLimit,
    pub(super) token_refresh: TokenRefresh,
    pub(super) _permits: SessionPermits,
}

impl Lane {
    pub(super) fn session(&self) -> &Arc<LiveSession> {
        &self.registered.session
    }

    pub(super) fn mailbox(&self) -> &Mailbox {
        &self.mailbox
    }

    /// Charges a message, and the time that the document has spent on the session since the last one.
    /// Returns until when nothing more may be read, if the rate is exceeded.
    pub(super) fn charge(&mut self, bytes: usize, now: Instant) -> Option<Instant> {
        let spent = self.session().cpu_budget.take();
        let paused_until = self.rate_limit.charge(bytes, spent, now);
        if paused_until.is_some() {
            debug!(session = %self.session().id, "A session exceeds its rate and is paused.");
            METRICS.hit(self.rate_limit.exceeded(bytes, spent));
        }
        paused_until
    }

    pub(super) fn decode(&self, frame: &Bytes) -> Result<ClientFrame, Close> {
        let decoded = self.session().client.dialect.decode(frame);
        decoded.map_err(|error| Close::new(CloseCode::BadFrame, error))
    }

    /// Writes a message of the connection's own, if the dialect has it.
    pub(super) fn send(&self, message: &ServerMessage) {
        let session = self.session();
        if let Some(frame) = session.client.dialect.encode(message) {
            session.send_queue.send(frame);
        }
    }

    /// Sends the document a command, and waits while its mailbox is full. A close of the lane ends
    /// the wait. The connection notices a mailbox that is gone by itself.
    pub(super) async fn command(&self, command: DocumentCommand) -> ControlFlow<End> {
        let send_queue = &self.session().send_queue;
        tokio::select! {
            biased;
            _ = self.mailbox.send(command) => ControlFlow::Continue(()),
            close = poll_fn(|context| send_queue.poll_closed(context)) => {
                ControlFlow::Break(End::Close(close))
            }
        }
    }

    /// Replaces the session's rights by those of a new token, and has the document apply them.
    pub(super) async fn renew(&mut self, app: &App, token: String) -> ControlFlow<End> {
        if !self.token_refresh.takes_token(Instant::now()) {
            let text = "tokens came faster than one a second; send one when it is asked for";
            let limit = Limit::TokensPerSecond;
            return ControlFlow::Break(Close::at_limit(limit, CloseCode::RateLimited, text).into());
        }
        let document = &self.session().client.document;
        let credential = Credential::Token(token);
        let authorized = admission::authorize(app, credential, document).await;
        let next = match authorized {
            Ok(next) => next,
            Err(refusal) => return ControlFlow::Break(refusal.close.into()),
        };
        let mut is_narrower = false;
        let renewed = self.session().change(|rights| {
            if next.grant.identity.sub != rights.grant.identity.sub {
                let text = "the token's sub is not this session's; reconnect with the token";
                return Err(Close::new(CloseCode::TokenInvalid, text));
            }
            // Asked again: a revocation since the check above has found the old rights.
            let next: Rights = app.revocations.limit(document, next)?;
            is_narrower = next.grant.is_narrower_than(&rights.grant);
            Ok(next)
        });
        let grant = match renewed {
            Ok(grant) => grant,
            Err(close) => return ControlFlow::Break(close.into()),
        };
        let event = if is_narrower { Audited::RightsNarrowed } else { Audited::RightsRenewed };
        app.audit.record(|| self.session().entry(event));
        let session = self.session().id;
        self.token_refresh.granted(&grant, &app.services.clock);
        self.command(DocumentCommand::Regranted { session, done: None }).await
    }

    /// # Errors
    /// If the token has expired.
    pub(super) fn check_expiry(&self, now: Instant) -> Result<(), Close> {
        if now < self.token_refresh.ends_at() {
            return Ok(());
        }
        let text = "the token expired while connected; connect with a new one";
        Err(Close::new(CloseCode::TokenExpired, text))
    }

    /// Asks the client for its next token if it is time. `has_written`: whether the client was sent
    /// anything, since the question must not be the first message.
    pub(super) fn ask_for_token(&mut self, now: Instant, has_written: bool) {
        if let Some(seconds_left) = self.token_refresh.ask(now, has_written) {
            self.send(&ServerMessage::TokenWanted { seconds_left });
        }
    }

    pub(super) fn next_timer(&self) -> Instant {
        self.token_refresh.next()
    }

    /// Whether [`next_timer`](Self::next_timer) has changed since the last call.
    pub(super) fn take_timer_change(&mut self) -> bool {
        self.token_refresh.take_change()
    }

    /// Takes the session off the list and out of its document.
    pub(super) async fn leave(self) {
        let Self { registered, mailbox, .. } = self;
        let session = registered.session.id;
        // The mailbox closes only when the document's task is gone.
        drop(mailbox.send(DocumentCommand::Leave { session }).await);
        drop((registered, mailbox));
    }
}

/// Hands a message to the document, or gives it back if it has to wait.
pub(super) fn try_send(
    session: &LiveSession,
    mailbox: &Mailbox,
    message: ClientMessage,
) -> Result<(), ClientMessage> {
    match session.cpu_budget.try_turn(&message) {
        Ok(turn) => mailbox.try_send_message(session.id, message, turn),
        Err(Busy) => Err(message),
    }
}

/// Hands a message to the document; waits for its turn and for room.
pub(super) async fn send(
    session: &LiveSession,
    mailbox: &Mailbox,
    message: ClientMessage,
) -> Result<(), Gone> {
    let turn = session.cpu_budget.turn(&message).await;
    mailbox.send_message(session.id, message, turn).await
}
