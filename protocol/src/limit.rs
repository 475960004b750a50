//! Limits, by name.

/// A limit that was hit. A configurable one has the name of its key under `limits`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Open sockets.
    Connections,
    /// Open sockets of one address.
    ConnectionsPerAddress,
    /// Sessions of one user.
    ConnectionsPerUser,
    /// Sessions of one document.
    ConnectionsPerDocument,
    /// Descriptors that the system gives.
    Descriptors,
    /// Documents in memory.
    Documents,
    /// Bytes of a request's headers, or how many there are.
    HeaderBytes,
    /// Time for a request's headers.
    HeaderTime,
    /// Bytes of a request's body.
    BodyBytes,
    /// Time for a request's body.
    BodyTime,
    /// Time for a token to be checked.
    LoginTime,
    /// Time without a message or pong.
    SilenceTime,
    /// Bytes of one message.
    MessageBytes,
    /// Messages of one session in a time.
    MessagesPerSecond,
    /// Bytes of one session in a time.
    BytesPerSecond,
    /// CPU time of a document for one session in a time.
    HandlingMsPerSecond,
    /// Tokens of one session in a time.
    TokensPerSecond,
    /// Bytes of one live update.
    UpdateBytes,
    /// Content of one update: clients, deletions, depth.
    UpdateContent,
    /// Bytes of one document.
    DocumentBytes,
    /// Messages and bytes that wait while a document loads.
    WaitingBytes,
    /// Commands and bytes in a document's mailbox.
    MailboxBytes,
    /// Updates and bytes that wait for the disk.
    StoreQueueBytes,
    /// Bytes in one session's send queue.
    OutboxBytes,
    /// Time for a reader to catch up.
    LaggingTime,
    /// Presence states of one session.
    PresenceClients,
    /// Bytes of one presence state.
    PresenceStateBytes,
    /// Unused tickets.
    Tickets,
    /// Unused tickets of one user.
    TicketsPerUser,
    /// Stored revocations.
    Revocations,
}

impl Limit {
    /// Every limit, in the order of the documentation.
    pub const ALL: [Self; 30] = [
        Self::Connections,
        Self::ConnectionsPerAddress,
        Self::ConnectionsPerUser,
        Self::ConnectionsPerDocument,
        Self::Descriptors,
        Self::Documents,
        Self::HeaderBytes,
        Self::HeaderTime,
        Self::BodyBytes,
        Self::BodyTime,
        Self::LoginTime,
        Self::SilenceTime,
        Self::MessageBytes,
        Self::MessagesPerSecond,
        Self::BytesPerSecond,
        Self::HandlingMsPerSecond,
        Self::TokensPerSecond,
        Self::UpdateBytes,
        Self::UpdateContent,
        Self::DocumentBytes,
        Self::WaitingBytes,
        Self::MailboxBytes,
        Self::StoreQueueBytes,
        Self::OutboxBytes,
        Self::LaggingTime,
        Self::PresenceClients,
        Self::PresenceStateBytes,
        Self::Tickets,
        Self::TicketsPerUser,
        Self::Revocations,
    ];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::ConnectionsPerAddress => "connections_per_address",
            Self::ConnectionsPerUser => "connections_per_user",
            Self::ConnectionsPerDocument => "connections_per_document",
            Self::Descriptors => "descriptors",
            Self::Documents => "documents",
            Self::HeaderBytes => "header_bytes",
            Self::HeaderTime => "header_time",
            Self::BodyBytes => "body_bytes",
            Self::BodyTime => "body_time",
            Self::LoginTime => "login_time",
            Self::SilenceTime => "silence_time",
            Self::MessageBytes => "message_bytes",
            Self::MessagesPerSecond => "messages_per_second",
            Self::BytesPerSecond => "bytes_per_second",
            Self::HandlingMsPerSecond => "handling_ms_per_second",
            Self::TokensPerSecond => "tokens_per_second",
            Self::UpdateBytes => "update_bytes",
            Self::UpdateContent => "update_content",
            Self::DocumentBytes => "document_bytes",
            Self::WaitingBytes => "waiting_bytes",
            Self::MailboxBytes => "mailbox_bytes",
            Self::StoreQueueBytes => "store_queue_bytes",
            Self::OutboxBytes => "outbox_bytes",
            Self::LaggingTime => "lagging_time",
            Self::PresenceClients => "presence_clients",
            Self::PresenceStateBytes => "presence_state_bytes",
            Self::Tickets => "tickets",
            Self::TicketsPerUser => "tickets_per_user",
            Self::Revocations => "revocations",
        }
    }
}
