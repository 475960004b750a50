//! The primitives of lib0, the encoding under every Yjs message: variable-length integers, and
//! buffers and strings with their length in front.
//!
//! A [`Reader`] never allocates and never reads past its bytes. A count or length that is only
//! announced is compared with the bytes that are left before anyone relies on it.

use bytes::BufMut;
use thiserror::Error;

/// Reads lib0 primitives from a slice. After an error its position is unspecified.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    /// Integers at or above this are not exact in JavaScript.
    pub const UINT_END: u64 = 1 << 53;

    /// 8 bytes hold 56 bits, which is enough for every integer below [`Self::UINT_END`].
    const VARINT_BYTES_MAX: usize = 8;

    /// A reader at the start of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// How many bytes have been read.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.position
    }

    /// How many bytes are left.
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }

    /// Whether every byte has been read.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.remaining() == 0
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, ReadError> {
        let Some(&byte) = self.bytes.get(self.position) else {
            return Err(self.ended(1));
        };
        self.position += 1;
        Ok(byte)
    }

    /// The next `len` bytes.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], ReadError> {
        let end = self.position.saturating_add(len);
        let Some(taken) = self.bytes.get(self.position..end) else {
            return Err(self.ended(len as u64));
        };
        self.position = end;
        Ok(taken)
    }

    /// An unsigned integer below [`Self::UINT_END`], in at most 8 bytes.
    #[inline]
    pub fn var_uint(&mut self) -> Result<u64, ReadError> {
        let offset = self.position;
        // Most integers in an update are below 128.
        let first = self.u8()?;
        if first < 0x80 {
            return Ok(u64::from(first));
        }
        let mut value = u64::from(first & 0x7f);
        for index in 1..Self::VARINT_BYTES_MAX {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                return if value < Self::UINT_END {
                    Ok(value)
                } else {
                    Err(ReadError::TooLarge { offset, value, max: Self::UINT_END - 1 })
                };
            }
        }
        Err(ReadError::VarintTooLong { offset })
    }

    /// An unsigned integer of at most `max`.
    #[inline]
    pub fn var_uint_max(&mut self, max: u32) -> Result<u32, ReadError> {
        let offset = self.position;
        let value = self.var_uint()?;
        match u32::try_from(value) {
            Ok(small) if small <= max => Ok(small),
            _ => Err(ReadError::TooLarge { offset, value, max: u64::from(max) }),
        }
    }

    /// A signed integer between -2^53 and 2^53, both excluded, in at most 8 bytes.
    pub fn var_int(&mut self) -> Result<i64, ReadError> {
        let offset = self.position;
        let first = self.u8()?;
        let mut value = i64::from(first & 0x3f);
        let mut more = first & 0x80 != 0;
        for index in 1..=Self::VARINT_BYTES_MAX {
            if !more {
                return if value < Self::UINT_END.cast_signed() {
                    Ok(if first & 0x40 == 0 { value } else { -value })
                } else {
                    let value = value.unsigned_abs();
                    Err(ReadError::TooLarge { offset, value, max: Self::UINT_END - 1 })
                };
            }
            if index == Self::VARINT_BYTES_MAX {
                break;
            }
            let byte = self.u8()?;
            value |= i64::from(byte & 0x7f) << (7 * index - 1);
            more = byte & 0x80 != 0;
        }
        Err(ReadError::VarintTooLong { offset })
    }

    /// How many elements follow, each of which takes at least `element_bytes_min` bytes.
    ///
    /// A count that the bytes left cannot hold is refused here, so that a loop over the result is
    /// bounded by what was really sent.
    #[inline]
    pub fn count(&mut self, element_bytes_min: usize) -> Result<usize, ReadError> {
        let offset = self.position;
        let count = self.var_uint()?;
        let left = self.remaining();
        match usize::try_from(count) {
            Ok(possible) if possible <= left / element_bytes_min.max(1) => Ok(possible),
            _ => Err(ReadError::CountTooLarge { offset, count, left }),
        }
    }

    /// Bytes with their length in front.
    #[inline]
    pub fn buffer(&mut self) -> Result<&'a [u8], ReadError> {
        let len = self.var_uint()?;
        match usize::try_from(len) {
            Ok(len) if len <= self.remaining() => self.take(len),
            _ => Err(self.ended(len)),
        }
    }

    /// UTF-8 text with its length in bytes in front.
    #[inline]
    pub fn string(&mut self) -> Result<&'a str, ReadError> {
        let offset = self.position;
        std::str::from_utf8(self.buffer()?).map_err(|_utf8| ReadError::NotUtf8 { offset })
    }

    #[cold]
    fn ended(&self, wanted: u64) -> ReadError {
        ReadError::Ended { offset: self.position, wanted, left: self.remaining() }
    }
}

/// Why bytes are not the lib0 primitive that was expected. Offsets count from the first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ReadError {
    /// The bytes end too early.
    #[error("{wanted} more bytes are announced at byte {offset}, but {left} are left")]
    Ended {
        /// Where they should be.
        offset: usize,
        /// How many are missing or announced.
        wanted: u64,
        /// How many there are.
        left: usize,
    },
    /// A count of elements that cannot fit in the bytes left.
    #[error("{count} elements are announced at byte {offset}, more than {left} bytes can hold")]
    CountTooLarge {
        /// Where the count is.
        offset: usize,
        /// The count.
        count: u64,
        /// Bytes that follow it.
        left: usize,
    },
    /// An integer of more than 8 bytes.
    #[error("the integer at byte {offset} is longer than 8 bytes")]
    VarintTooLong {
        /// Where it begins.
        offset: usize,
    },
    /// An integer that is too large for its place.
    #[error("the integer at byte {offset} is {value}, at most {max} is allowed")]
    TooLarge {
        /// Where it begins.
        offset: usize,
        /// The integer.
        value: u64,
        /// The largest that is allowed.
        max: u64,
    },
    /// A text that is no UTF-8.
    #[error("the text at byte {offset} is not valid UTF-8")]
    NotUtf8 {
        /// Where its length begins.
        offset: usize,
    },
}

/// Appends `value` as a variable-length integer: 7 bits a byte, the lowest first.
pub fn write_var_uint(out: &mut impl BufMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.put_u8(value.to_le_bytes()[0]);
}

/// Appends `bytes` (of a text: its UTF-8) with their length in front.
pub fn write_buffer(out: &mut impl BufMut, bytes: &[u8]) {
    write_var_uint(out, bytes.len() as u64);
    out.put_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_integer_survives_a_round_trip() {
        let edges = (0..53).flat_map(|bit| [(1_u64 << bit) - 1, 1 << bit, (1 << bit) + 1]);
        for value in edges.chain([Reader::UINT_END - 1]) {
            let mut bytes = Vec::new();
            write_var_uint(&mut bytes, value);
            let mut reader = Reader::new(&bytes);
            assert_eq!(reader.var_uint(), Ok(value));
            assert!(reader.is_empty(), "{value} leaves bytes behind");
        }
    }

    #[test]
    fn an_integer_ends_at_53_bits_and_8_bytes() {
        let mut bytes = Vec::new();
        write_var_uint(&mut bytes, Reader::UINT_END);
        let max = Reader::UINT_END - 1;
        assert_eq!(
            Reader::new(&bytes).var_uint(),
            Err(ReadError::TooLarge { offset: 0, value: max + 1, max })
        );
        assert_eq!(Reader::new(&[0x80; 8]).var_uint(), Err(ReadError::VarintTooLong { offset: 0 }));
        assert_eq!(
            Reader::new(&[0x80]).var_uint(),
            Err(ReadError::Ended { offset: 1, wanted: 1, left: 0 })
        );
        assert_eq!(Reader::new(&[0x80, 0]).var_uint(), Ok(0), "lib0 reads padded integers");
    }

    #[test]
    fn a_signed_integer_reads_as_lib0_writes_it() {
        let cases: [(&[u8], i64); 7] = [
            (&[0], 0),
            (&[0x40], 0),
            (&[0x3f], 63),
            (&[0x7f], -63),
            (&[0x80, 1], 64),
            (&[0xc0, 1], -64),
            (&[0xbf, 0xff, 0xff, 0xff, 0x0f], (1 << 31) - 1),
        ];
        for (bytes, value) in cases {
            assert_eq!(Reader::new(bytes).var_int(), Ok(value), "{bytes:?}");
        }
        assert_eq!(Reader::new(&[0x80; 9]).var_int(), Err(ReadError::VarintTooLong { offset: 0 }));
        let wide = [0xbf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        assert!(matches!(Reader::new(&wide).var_int(), Err(ReadError::TooLarge { .. })));
    }

    #[test]
    fn a_bounded_integer_is_refused_above_its_bound() {
        assert_eq!(Reader::new(&[7]).var_uint_max(7), Ok(7));
        assert_eq!(
            Reader::new(&[8]).var_uint_max(7),
            Err(ReadError::TooLarge { offset: 0, value: 8, max: 7 })
        );
        let mut wide = Vec::new();
        write_var_uint(&mut wide, 1 << 32);
        assert!(Reader::new(&wide).var_uint_max(u32::MAX).is_err());
    }

    #[test]
    fn a_count_is_bounded_by_the_bytes_left() {
        assert_eq!(Reader::new(&[2, 0, 0, 0, 0]).count(2), Ok(2));
        assert_eq!(
            Reader::new(&[2, 0, 0, 0]).count(2),
            Err(ReadError::CountTooLarge { offset: 0, count: 2, left: 3 })
        );
    }

    #[test]
    fn buffers_and_texts_carry_their_length() {
        let mut bytes = Vec::new();
        write_buffer(&mut bytes, "h\u{e9}".as_bytes());
        write_buffer(&mut bytes, &[0xff]);
        let mut reader = Reader::new(&bytes);
        assert_eq!(reader.string(), Ok("h\u{e9}"));
        assert_eq!(reader.position(), 4);
        assert_eq!(reader.clone().buffer(), Ok(&[0xff][..]));
        assert_eq!(reader.string(), Err(ReadError::NotUtf8 { offset: 4 }));
        assert_eq!(
            Reader::new(&[3, 1, 2]).buffer(),
            Err(ReadError::Ended { offset: 1, wanted: 3, left: 2 })
        );
    }
}
