//! What can be wrong with a journal, as data.

use std::fmt;

use syncline_protocol::{DocumentName, Sequence};

/// Something in a journal that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// Both headers of a segment; nothing in it can be read.
    Headers {
        /// The segment.
        segment: u64,
        /// Its length.
        bytes: u64,
    },
    /// Bytes in which there is no record. There may have been several.
    Record {
        /// The segment.
        segment: u64,
        /// Where they begin.
        offset: u64,
        /// How many.
        bytes: u64,
        /// The document and position of the first record, as far as that can be believed.
        suspect: Option<(DocumentName, Sequence)>,
    },
    /// A document that cannot be loaded whole.
    Document {
        /// Which.
        document: DocumentName,
        /// What is missing.
        reason: String,
    },
    /// The journal ends before the place at which it was closed.
    Shortened {
        /// The segment that was the last.
        segment: u64,
        /// Its length when the journal was closed.
        closed_at: u64,
        /// How much of it is not there.
        missing: u64,
    },
}

/// Bytes at the end of a journal that are no record yet. While a server runs it is writing them;
/// otherwise they are left from a crash, and were never acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The last segment.
    pub segment: u64,
    /// Where they begin.
    pub offset: u64,
    /// How many.
    pub bytes: u64,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Headers { segment, bytes } => {
                write!(f, "segment {segment}: both headers are damaged, its {bytes} bytes are lost")
            }
            Self::Record { segment, offset, bytes, suspect } => {
                write!(f, "segment {segment}: {bytes} bytes from byte {offset} are no record")?;
                match suspect {
                    None => Ok(()),
                    Some((document, at)) => write!(f, ", perhaps of {document} at position {at}"),
                }
            }
            Self::Document { document, reason } => write!(f, "document {document}: {reason}"),
            Self::Shortened { segment, closed_at, missing } => write!(
                f,
                "the journal was closed at byte {closed_at} of segment {segment}, \
                 at least {missing} bytes of that are missing"
            ),
        }
    }
}
