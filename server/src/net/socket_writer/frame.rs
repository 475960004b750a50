//! Frames as bytes: headers, and small frames joined into one piece.

use bytes::Bytes;

/// Up to this many bytes, frames are copied behind their headers into one piece. The kernel takes one
/// piece with 7 % less CPU than two, which is 20 times what copying a keystroke costs.
const COPIED_BYTES: usize = 1024;

/// Small frames behind each other, with their headers.
pub(super) struct Joined {
    bytes: [u8; COPIED_BYTES],
    len: usize,
}

impl Joined {
    pub(super) fn new() -> Self {
        Self { bytes: [0; COPIED_BYTES], len: 0 }
    }

    /// Appends a frame. Returns false, and appends nothing, if it does not fit.
    pub(super) fn append(&mut self, frame: &Bytes) -> bool {
        let header = Header::of(frame);
        let header = header.as_slice();
        let end = self.len + header.len() + frame.len();
        let Some(space) = self.bytes.get_mut(self.len..end) else { return false };
        let (head, body) = space.split_at_mut(header.len());
        head.copy_from_slice(header);
        body.copy_from_slice(frame);
        self.len = end;
        true
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// The header of an unmasked, unfragmented binary frame (RFC 6455 §5.2).
pub(super) struct Header {
    bytes: [u8; 10],
    len: usize,
}

impl Header {
    pub(super) fn of(payload: &Bytes) -> Self {
        const BINARY: u8 = 0x82;
        let [h, g, f, e, d, c, b, a] = (payload.len() as u64).to_be_bytes();
        match payload.len() {
            0..=125 => Self { bytes: [BINARY, a, 0, 0, 0, 0, 0, 0, 0, 0], len: 2 },
            126..=0xffff => Self { bytes: [BINARY, 126, b, a, 0, 0, 0, 0, 0, 0], len: 4 },
            _ => Self { bytes: [BINARY, 127, h, g, f, e, d, c, b, a], len: 10 },
        }
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}
