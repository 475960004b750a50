//! Messages of the y-protocols sync protocol, which every dialect carries in the same encoding.

use bytes::{Bytes, BytesMut};

use crate::validate::StateVector;
use crate::wire::varint::{write_buffer, write_var_uint};

/// The message type of the sync protocol.
pub(super) const SYNC: u64 = 0;

/// The longest header: type, step, and the length of a payload below 2^64.
const HEADER_BYTES_MAX: usize = 12;

/// The kind of a sync message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncStep {
    /// A state vector; asks for what the sender lacks.
    Step1,
    /// An update with what the other side lacked.
    Step2,
    /// An update as it happens.
    Update,
}

impl SyncStep {
    pub(super) const fn from_number(kind: u64) -> Option<Self> {
        match kind {
            0 => Some(Self::Step1),
            1 => Some(Self::Step2),
            2 => Some(Self::Update),
            _ => None,
        }
    }

    const fn number(self) -> u64 {
        match self {
            Self::Step1 => 0,
            Self::Step2 => 1,
            Self::Update => 2,
        }
    }
}

/// A sync message, encoded once when it is made: `varUint(0) varUint(step) varBuffer(payload)`.
///
/// The encoding is a whole y-websocket frame, and the tail of a frame in dialects that put
/// something in front. A fan-out clones it, and a log entry is a slice of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncMessage {
    encoded: Bytes,
    payload_len: usize,
    step: SyncStep,
}

impl SyncMessage {
    /// Asks a client at an older state for what `known` lacks.
    #[must_use]
    pub fn step_1(known: &StateVector) -> Self {
        Self::new(SyncStep::Step1, &encode_state_vector(known))
    }

    /// Answers a client's SyncStep1.
    #[must_use]
    pub fn step_2(update: &[u8]) -> Self {
        Self::new(SyncStep::Step2, update)
    }

    /// Relays an update. This is the one copy out of the read buffer, which a kept slice would pin.
    #[must_use]
    pub fn update(update: &[u8]) -> Self {
        Self::new(SyncStep::Update, update)
    }

    fn new(step: SyncStep, payload: &[u8]) -> Self {
        let mut encoded = BytesMut::with_capacity(payload.len() + HEADER_BYTES_MAX);
        write_var_uint(&mut encoded, SYNC);
        write_var_uint(&mut encoded, step.number());
        write_buffer(&mut encoded, payload);
        Self { encoded: encoded.freeze(), payload_len: payload.len(), step }
    }

    /// Its kind.
    #[must_use]
    pub fn step(&self) -> SyncStep {
        self.step
    }

    /// The state vector or update, as a slice of the encoding.
    #[must_use]
    pub fn payload(&self) -> Bytes {
        self.encoded.slice(self.encoded.len() - self.payload_len..)
    }

    /// The whole message.
    #[must_use]
    pub fn encoded(&self) -> &Bytes {
        &self.encoded
    }
}

/// Encodes a state vector as Yjs does.
#[must_use]
pub fn encode_state_vector(known: &StateVector) -> Vec<u8> {
    let mut payload = Vec::with_capacity(2 + known.len() * 8);
    write_var_uint(&mut payload, known.len() as u64);
    for (client, &clock) in known {
        write_var_uint(&mut payload, client.get());
        write_var_uint(&mut payload, u64::from(clock));
    }
    payload
}
