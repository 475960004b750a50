//! The document as a state machine: inputs in, effects out. It never waits.

pub mod stored;
