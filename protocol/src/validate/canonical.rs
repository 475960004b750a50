//! One form for all encodings of the same state, so that a snapshot can be compared with what it
//! reads back as: yrs keeps objects in hash maps and writes their entries in random order, and
//! where it splits what was written in one go depends on the order in which it read the rest.

use serde_json::Value;

use crate::validate::any::walk_any;
use crate::validate::block::Block;
use crate::validate::update::{ANY, DELETED, EMBED, FORMAT, GC, Id, SKIP, STRING, Walk, utf16_len};
use crate::validate::{Budget, Subdocuments, ValidationError, read_client};
use crate::wire::varint::{Reader, write_buffer, write_var_uint};

/// Everything that passed [`super::walk_update`] passes again.
const PASSED: Budget = Budget { subdocuments: Subdocuments::Allowed, ..Budget::STORED };

/// The update with the entries of every object sorted by key, in values and in JSON text, and with
/// blocks in one piece that continue each other.
///
/// # Errors
/// If [`super::walk_update`] would refuse it.
pub fn canonical(bytes: &[u8]) -> Result<Vec<u8>, ValidationError> {
    let mut walk = Walk::new(bytes, &PASSED);
    let mut out = Vec::with_capacity(bytes.len());
    let sections = walk.reader.count(1)?;
    write_var_uint(&mut out, sections as u64);
    for _ in 0..sections {
        let count = walk.reader.count(1)?;
        let client = read_client(&mut walk.reader)?;
        let mut clock = walk.reader.var_uint_max(u32::MAX)?;
        let start = u64::from(clock);
        let mut pieces: Vec<Piece<'_>> = Vec::new();
        for _ in 0..count {
            let mut reader = walk.reader.clone();
            let id = Id { client, clock };
            clock = walk.block(id)?;
            let len = reader.remaining() - walk.reader.remaining();
            let piece = Piece::read(reader.take(len)?, id)?;
            match pieces.last_mut() {
                Some(last) if last.is_continued_by(&piece) => last.append(&piece),
                _ => pieces.push(piece),
            }
        }
        write_var_uint(&mut out, pieces.len() as u64);
        write_var_uint(&mut out, client.get());
        write_var_uint(&mut out, start);
        pieces.iter().for_each(|piece| piece.write(&mut out));
    }
    out.extend_from_slice(walk.reader.take(walk.reader.remaining())?);
    Ok(out)
}

/// A block, or several that continue each other.
struct Piece<'a> {
    id: Id,
    block: Block<'a>,
    /// Everything before the content.
    head: &'a [u8],
    /// Its length in clocks.
    len: u64,
    /// The content without the length in front, if it has one.
    content: Vec<u8>,
}

impl<'a> Piece<'a> {
    fn read(bytes: &'a [u8], id: Id) -> Result<Self, ValidationError> {
        let mut reader = Reader::new(bytes);
        let block = Block::read(&mut reader)?;
        let head = bytes.get(..reader.position()).unwrap_or_default();
        let (mut len, mut content) = (1, Vec::new());
        match block.kind {
            GC | DELETED | SKIP => len = reader.var_uint()?,
            STRING => {
                content.extend_from_slice(reader.buffer()?);
                len = utf16_len(&content);
            }
            ANY => {
                len = reader.var_uint()?;
                (0..len).try_for_each(|_| canonical_any(&mut reader, &mut content))?;
            }
            EMBED => write_buffer(&mut content, canonical_json(reader.string()?).as_bytes()),
            FORMAT => {
                write_buffer(&mut content, reader.buffer()?);
                write_buffer(&mut content, canonical_json(reader.string()?).as_bytes());
            }
            _ => content.extend_from_slice(reader.take(reader.remaining())?),
        }
        Ok(Self { id, block, head, len, content })
    }

    /// Whether `next`, the block after it, is what was cut off from it: its content lay right of
    /// this one's last element, and left of the same neighbour.
    fn is_continued_by(&self, next: &Self) -> bool {
        let origin = next.block.origin.filter(|origin| origin.client == self.id.client);
        self.block.kind == next.block.kind
            && match self.block.kind {
                GC => true,
                DELETED | STRING | ANY => {
                    origin.map(|origin| u64::from(origin.clock) + 1)
                        == Some(u64::from(self.id.clock) + self.len)
                        && self.block.right_origin == next.block.right_origin
                }
                _ => false,
            }
    }

    fn append(&mut self, next: &Self) {
        self.len += next.len;
        self.content.extend_from_slice(&next.content);
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.head);
        match self.block.kind {
            GC | DELETED | SKIP | ANY => write_var_uint(out, self.len),
            STRING => write_var_uint(out, self.content.len() as u64),
            _ => {}
        }
        out.extend_from_slice(&self.content);
    }
}

/// Copies one value that was walked before, so its nesting is bounded.
fn canonical_any(reader: &mut Reader<'_>, out: &mut Vec<u8>) -> Result<(), ValidationError> {
    let mut peek = reader.clone();
    let tag = peek.u8()?;
    if !matches!(tag, 117 | 118) {
        let mut end = reader.clone();
        walk_any(&mut end, PASSED.any_depth_max)?;
        out.extend_from_slice(reader.take(reader.remaining() - end.remaining())?);
        return Ok(());
    }
    *reader = peek;
    let count = reader.var_uint()?;
    out.push(tag);
    write_var_uint(out, count);
    if tag == 117 {
        return (0..count).try_for_each(|_| canonical_any(reader, out));
    }
    let mut entries = Vec::new();
    for _ in 0..count {
        let key = reader.string()?;
        let mut value = Vec::new();
        canonical_any(reader, &mut value)?;
        entries.push((key, value));
    }
    entries.sort_unstable();
    for (key, value) in entries {
        write_buffer(out, key.as_bytes());
        out.extend_from_slice(&value);
    }
    Ok(())
}

fn canonical_json(text: &str) -> String {
    // Unparsable text stays as it is and is compared byte by byte.
    serde_json::from_str(text).map_or_else(|_| text.to_owned(), |value| sorted(&value))
}

/// JSON text with sorted keys, whether or not `serde_json` was built to keep their order.
fn sorted(value: &Value) -> String {
    match value {
        Value::Object(object) => {
            let mut entries: Vec<_> = object.iter().collect();
            entries.sort_unstable_by_key(|&(key, _)| key);
            let entries: Vec<_> = entries
                .into_iter()
                .map(|(key, value)| format!("{}:{}", Value::from(key.as_str()), sorted(value)))
                .collect();
            format!("{{{}}}", entries.join(","))
        }
        Value::Array(elements) => {
            let elements: Vec<_> = elements.iter().map(sorted).collect();
            format!("[{}]", elements.join(","))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_28_the_order_of_an_objects_entries_does_not_count() {
        // {a: 1, b: {d: 2, c: 3}} and {b: {c: 3, d: 2}, a: 1}, in an array under the root "t".
        let nested = |c: &[u8]| [&[118, 2][..], c].concat();
        let one = nested(&[1, b'd', 125, 2, 1, b'c', 125, 3]);
        let two = nested(&[1, b'c', 125, 3, 1, b'd', 125, 2]);
        let update = |object: &[&[u8]]| {
            [&[1, 1, 1, 0, 8, 1, 1, b't', 1, 118, 2][..], &object.concat(), &[0]].concat()
        };
        let (a, b): (&[u8], &[u8]) = (&[1, b'a', 125, 1], &[1, b'b']);
        let first = update(&[a, b, &one]);
        let second = update(&[b, &two, a]);
        assert_ne!(first, second);
        assert_eq!(canonical(&first).unwrap(), canonical(&second).unwrap());
        let other = update(&[b, &two, &[1, b'a', 125, 9]]);
        assert_ne!(canonical(&first).unwrap(), canonical(&other).unwrap());
    }

    #[test]
    fn valid_28_json_text_is_compared_by_value() {
        assert_eq!(canonical_json(r#"{"b": [1, {"y":0,"x":"é"}], "a":null}"#), {
            r#"{"a":null,"b":[1,{"x":"é","y":0}]}"#
        });
    }

    #[test]
    fn valid_28_numbers_keep_their_value() {
        for number in ["20000000000146597767792702003040", "0.30000000000000004", "5e-324"] {
            let once = canonical_json(number);
            assert_eq!(once.parse(), number.parse::<f64>());
            assert_eq!(canonical_json(&once), once);
        }
    }

    #[test]
    fn valid_28_where_text_is_split_does_not_count() {
        let text = |blocks: &[&[u8]]| {
            [&[1, u8::try_from(blocks.len()).unwrap(), 1, 0][..], &blocks.concat(), &[0]].concat()
        };
        let whole = text(&[&[0xc4, 2, 5, 3, 7, 4, b'w', b'x', b'y', b'z']]);
        let [w, xy, z]: [&[u8]; 3] = [
            &[0xc4, 2, 5, 3, 7, 1, b'w'],
            &[0xc4, 1, 0, 3, 7, 2, b'x', b'y'],
            &[0xc4, 1, 2, 3, 7, 1, b'z'],
        ];
        assert_eq!(canonical(&text(&[w, xy, z])).unwrap(), whole);
        let others: [[&[u8]; 3]; 4] = [
            [w, xy, &[0xc4, 1, 1, 3, 7, 1, b'z']],
            [w, xy, &[0xc4, 1, 2, 3, 6, 1, b'z']],
            [w, xy, &[0x84, 1, 2, 1, b'z']],
            [w, xy, &[0xc8, 1, 2, 3, 7, 1, 126]],
        ];
        for other in others {
            assert_ne!(canonical(&text(&other)).unwrap(), whole, "{other:?}");
        }
        let any = |values: &[u8]| [&[0x81, 1, 0, 2][..], values].concat();
        assert_eq!(canonical(&text(&[&[0, 1], &[0, 3]])), Ok(text(&[&[0, 4]])));
        assert_eq!(canonical(&text(&[&[0, 1], &any(&[])])), Ok(text(&[&[0, 1], &any(&[])])));
        assert_eq!(
            canonical(&text(&[&[8, 1, 1, b't', 1, 126], &[0x88, 1, 0, 1, 127]])),
            Ok(text(&[&[8, 1, 1, b't', 2, 126, 127]]))
        );
    }

    #[test]
    fn valid_28_everything_else_stays_as_it_is() {
        for update in [
            &[0, 0][..],
            &[1, 1, 1, 0, 4, 1, 1, b't', 3, b'x', b'y', b'z', 0],
            &[1, 2, 1, 0, 0, 2, 0x81, 2, 0, 5, 1, 1, 1, 0, 1],
        ] {
            assert_eq!(canonical(update).unwrap(), update);
        }
    }
}
