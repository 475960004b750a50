//! Updates in the Yjs v1 format, written and read by hand: the load must cost less than the servers.

use syncline_protocol::wire::varint::{ReadError, Reader, write_buffer, write_var_uint};

/// The id of writer 0. Two bytes in every message, as with any writer of these measurements.
pub(crate) const FIRST_CLIENT: u64 = 1_000;

/// A writer who only appends to what they wrote before.
#[derive(Debug)]
pub(crate) struct Writer {
    client: u64,
    clock: u64,
    presence: u64,
}

impl Writer {
    pub(crate) fn new(number: usize) -> Self {
        Self { client: FIRST_CLIENT + number as u64, clock: 0, presence: 0 }
    }

    /// An update that appends ASCII text.
    pub(crate) fn append(&mut self, text: &str) -> Vec<u8> {
        let mut update = vec![1, 1];
        write_var_uint(&mut update, self.client);
        write_var_uint(&mut update, self.clock);
        if self.clock == 0 {
            // A string; its parent is the root named "t".
            update.extend([0x04, 1, 1, b't']);
        } else {
            // A string with an origin: the character before.
            update.push(0x84);
            write_var_uint(&mut update, self.client);
            write_var_uint(&mut update, self.clock - 1);
        }
        write_buffer(&mut update, text.as_bytes());
        update.push(0);
        self.clock += text.len() as u64;
        update
    }

    /// The same, and everything that this writer wrote before is deleted.
    pub(crate) fn replace(&mut self, text: &str) -> Vec<u8> {
        let before = self.clock;
        let mut update = self.append(text);
        if before > 0 {
            update.pop();
            update.push(1);
            write_var_uint(&mut update, self.client);
            update.push(1);
            write_var_uint(&mut update, before - text.len() as u64);
            write_var_uint(&mut update, text.len() as u64);
        }
        update
    }

    /// An awareness update: a name, a colour and a caret after what was written.
    pub(crate) fn caret(&mut self) -> Vec<u8> {
        self.presence += 1;
        let at = format!(
            r#"{{"type":null,"tname":"t","item":{{"client":{},"clock":{}}},"assoc":0}}"#,
            self.client,
            self.clock.saturating_sub(1)
        );
        let state = format!(
            r##"{{"user":{{"name":"Person {}","color":"#30bced"}},"cursor":{{"anchor":{at},"head":{at}}}}}"##,
            self.client
        );
        let mut update = vec![1];
        write_var_uint(&mut update, self.client);
        write_var_uint(&mut update, self.presence);
        write_buffer(&mut update, state.as_bytes());
        update
    }
}

/// Calls `each` with writer, first clock and length of everything that an update inserts.
pub(crate) fn walk(update: &[u8], mut each: impl FnMut(usize, u64, u64)) -> Result<(), WalkError> {
    let mut reader = Reader::new(update);
    for _ in 0..reader.var_uint()? {
        let structs = reader.var_uint()?;
        let client = reader.var_uint()?;
        let first = reader.var_uint()?;
        let mut clock = first;
        // Servers merge what they relay: one call for each run without a skip.
        let mut begin = first;
        for _ in 0..structs {
            let info = reader.u8()?;
            let len = length(&mut reader, info)?;
            if info & 0x1f == 10 {
                report(&mut each, client, begin, clock);
                begin = clock + len;
            }
            clock += len;
        }
        report(&mut each, client, begin, clock);
    }
    Ok(())
}

fn report(each: &mut impl FnMut(usize, u64, u64), client: u64, begin: u64, end: u64) {
    if let Some(number) = client.checked_sub(FIRST_CLIENT)
        && end > begin
    {
        each(number as usize, begin, end - begin);
    }
}

/// An update that does not hold what these measurements write.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WalkError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("content of type {0}")]
    Content(u8),
}

fn length(reader: &mut Reader<'_>, info: u8) -> Result<u64, WalkError> {
    // Garbage and a skip have a length and nothing else.
    if matches!(info & 0x1f, 0 | 10) {
        return Ok(reader.var_uint()?);
    }
    for side in [0x80, 0x40] {
        if info & side != 0 {
            reader.var_uint()?;
            reader.var_uint()?;
        }
    }
    if info & 0xc0 == 0 {
        if reader.var_uint()? == 1 {
            reader.buffer()?;
        } else {
            reader.var_uint()?;
            reader.var_uint()?;
        }
        if info & 0x20 != 0 {
            reader.buffer()?;
        }
    }
    match info & 0x1f {
        1 => Ok(reader.var_uint()?),
        4 => {
            let text = reader.buffer()?;
            // In UTF-16 units: one for each character, two for one of four bytes.
            let units = |&byte: &u8| u64::from(byte & 0xc0 != 0x80) + u64::from(byte >= 0xf0);
            Ok(if text.is_ascii() { text.len() as u64 } else { text.iter().map(units).sum() })
        }
        content => Err(WalkError::Content(content)),
    }
}

/// How many entries an awareness update has, that of `own` not counted.
pub(crate) fn presences(update: &[u8], own: Option<usize>) -> Result<u64, ReadError> {
    let mut reader = Reader::new(update);
    let mut others = 0;
    for _ in 0..reader.var_uint()? {
        let client = reader.var_uint()?;
        reader.var_uint()?;
        let state = reader.buffer()?;
        let is_own = own.is_some_and(|own| client == FIRST_CLIENT + own as u64);
        others += u64::from(!is_own && state != b"null");
    }
    Ok(others)
}

#[cfg(test)]
mod tests {
    use syncline_tests::client::doc_of;
    use yrs::updates::decoder::Decode;
    use yrs::{GetString, ReadTxn, StateVector, Transact, Update};

    use super::*;

    fn ranges(update: &[u8]) -> Vec<(usize, u64, u64)> {
        let mut ranges = Vec::new();
        walk(update, |writer, start, len| ranges.push((writer, start, len))).unwrap();
        ranges
    }

    #[test]
    fn what_is_written_by_hand_is_read_by_yrs_and_back() {
        let doc = doc_of(1);
        let text = doc.get_or_insert_text("t");
        let (mut one, mut two) = (Writer::new(0), Writer::new(1));
        let updates = [one.append("ab"), two.append("x"), one.append("c"), two.replace("y")];
        assert_eq!(ranges(&updates[2]), [(0, 2, 1)]);
        for update in updates {
            doc.transact_mut().apply_update(Update::decode_v1(&update).unwrap()).unwrap();
        }
        let state = doc.transact().encode_diff_v1(&StateVector::default());
        let mut ranges = ranges(&state);
        ranges.sort_unstable();
        assert_eq!(ranges, [(0, 0, 3), (1, 0, 2)]);
        let content = text.get_string(&doc.transact());
        assert!(content == "abcy" || content == "yabc", "{content}");
    }

    #[test]
    fn presence_of_others_is_counted() {
        let caret = Writer::new(3).caret();
        assert_eq!(presences(&caret, None).unwrap(), 1);
        assert_eq!(presences(&caret, Some(3)).unwrap(), 0);
    }
}
