//! Identifiers. Each is a type of its own, so that one is never passed where another is meant.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

/// The name of a document: 1 to 255 bytes of UTF-8, parsed once at the edge.
///
/// May contain `/`. Refused are control characters, empty segments, and the segments `.` and `..`:
/// no name can be mistaken for another one's folder, and none can break a log line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocumentName(Arc<str>);

impl DocumentName {
    /// The longest name, in bytes. One byte holds the length wherever a name is stored.
    pub const BYTES_MAX: usize = 255;

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DocumentName {
    type Err = DocumentNameError;

    fn from_str(name: &str) -> Result<Self, DocumentNameError> {
        if name.is_empty() {
            return Err(DocumentNameError::Empty);
        }
        if name.len() > Self::BYTES_MAX {
            return Err(DocumentNameError::TooLong { bytes: name.len() });
        }
        if name.chars().any(char::is_control) {
            return Err(DocumentNameError::ControlCharacter);
        }
        match name.split('/').find(|segment| matches!(*segment, "" | "." | "..")) {
            Some("") => Err(DocumentNameError::EmptySegment),
            Some(_) => Err(DocumentNameError::DotSegment),
            None => Ok(Self(name.into())),
        }
    }
}

impl Borrow<str> for DocumentName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DocumentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is not the name of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DocumentNameError {
    /// Nothing is left of the path.
    #[error("a document name cannot be empty")]
    Empty,
    /// More than [`DocumentName::BYTES_MAX`] bytes.
    #[error("the document name is {bytes} bytes long, at most 255 are allowed")]
    TooLong {
        /// Length of the refused name.
        bytes: usize,
    },
    /// A character below U+0020 or in U+007F to U+009F.
    #[error("a document name cannot contain control characters")]
    ControlCharacter,
    /// A leading, trailing or doubled `/`.
    #[error("a document name cannot begin or end with `/` or contain `//`")]
    EmptySegment,
    /// A segment `.` or `..`.
    #[error("a document name cannot contain the segments `.` or `..`")]
    DotSegment,
}

/// A participant in one document. Unique within that document while the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(u64);

impl SessionId {
    /// The session with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number of this session.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A position in one document's log. The first update has sequence 1; 0 is "nothing yet".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(u64);

impl Sequence {
    /// Before the first update.
    pub const ZERO: Self = Self(0);

    /// The position with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number of this position.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The position after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The id under which one Yjs document instance writes; below 2^53.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(u64);

impl ClientId {
    /// Ids at or above this are not exact in JavaScript.
    pub const END: u64 = 1 << 53;

    /// The client with this id, if it is in range.
    #[must_use]
    pub const fn new(id: u64) -> Option<Self> {
        if id < Self::END { Some(Self(id)) } else { None }
    }

    /// The id as a number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The identity of a document's history. Two copies may be merged only if they share it.
///
/// It changes when a history is replaced (deleted and begun again, imported over, restored as a
/// new one), so that a client which comes back with the old one is closed instead of doubling the
/// text. Written as 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(u64);

impl Epoch {
    /// No identity is kept: a store in memory begins anew with every process, and its clients bring
    /// back what they hold. It is never compared.
    pub const NONE: Self = Self(0);

    /// The epoch with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number of this epoch.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A text is not an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("an epoch is 16 hexadecimal digits in lower case")]
pub struct EpochError;

impl FromStr for Epoch {
    type Err = EpochError;

    fn from_str(text: &str) -> Result<Self, EpochError> {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() != 16 || !text.bytes().all(digit) {
            return Err(EpochError);
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| EpochError)
    }
}
