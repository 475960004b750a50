//! The meaning of an acknowledgement.

use serde::{Deserialize, Serialize};

/// The failures that an acknowledged update survives. Each level contains the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Nothing: documents live in the process and end with it.
    Memory,
    /// The end of the process: the bytes are with the operating system.
    Os,
    /// A power cut: the bytes are through `fdatasync`.
    Fsync,
}
