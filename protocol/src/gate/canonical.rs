//! One form for all encodings of the same state, so that a snapshot can be compared with what it
//! reads back as: yrs keeps objects in hash maps and writes their entries in random order.

use serde_json::Value;

use super::any::walk_any;
use super::update::{
    ANY, EMBED, FORMAT, GC, HAS_ORIGIN, HAS_RIGHT_ORIGIN, Id, KIND_MASK, SKIP, Walk, skip_parent,
};
use super::{Budget, GateError, Subdocuments, read_client};
use crate::varint::{Reader, write_buffer, write_var_uint};

/// Everything that passed [`super::walk_update`] passes again.
const PASSED: Budget = Budget { subdocuments: Subdocuments::Allowed, ..Budget::STORED };

/// The update with the entries of every object sorted by key, in values and in JSON text.
///
/// # Errors
/// If [`super::walk_update`] would refuse it.
pub fn canonical(bytes: &[u8]) -> Result<Vec<u8>, GateError> {
    let mut walk = Walk::new(bytes, &PASSED);
    let mut out = Vec::with_capacity(bytes.len());
    let sections = walk.reader.count(1)?;
    write_var_uint(&mut out, sections as u64);
    for _ in 0..sections {
        let blocks = walk.reader.count(1)?;
        let client = read_client(&mut walk.reader)?;
        let mut clock = walk.reader.var_uint_max(u32::MAX)?;
        write_var_uint(&mut out, blocks as u64);
        write_var_uint(&mut out, client.get());
        write_var_uint(&mut out, u64::from(clock));
        for _ in 0..blocks {
            let mut block = walk.reader.clone();
            clock = walk.block(Id { client, clock })?;
            let len = block.remaining() - walk.reader.remaining();
            canonical_block(block.take(len)?, &mut out)?;
        }
    }
    out.extend_from_slice(walk.reader.take(walk.reader.remaining())?);
    Ok(out)
}

fn canonical_block(block: &[u8], out: &mut Vec<u8>) -> Result<(), GateError> {
    let mut reader = Reader::new(block);
    let info = reader.u8()?;
    let kind = info & KIND_MASK;
    if matches!(kind, ANY | EMBED | FORMAT) && !matches!(info, GC | SKIP) {
        for flag in [HAS_ORIGIN, HAS_RIGHT_ORIGIN] {
            if info & flag != 0 {
                reader.var_uint()?;
                reader.var_uint()?;
            }
        }
        if info & (HAS_ORIGIN | HAS_RIGHT_ORIGIN) == 0 {
            skip_parent(&mut reader, info)?;
        }
        out.extend_from_slice(block.get(..reader.position()).unwrap_or_default());
        if kind == ANY {
            let count = reader.var_uint()?;
            write_var_uint(out, count);
            for _ in 0..count {
                canonical_any(&mut reader, out)?;
            }
            return Ok(());
        }
        if kind == FORMAT {
            write_buffer(out, reader.buffer()?);
        }
        write_buffer(out, canonical_json(reader.string()?).as_bytes());
        return Ok(());
    }
    out.extend_from_slice(block);
    Ok(())
}

/// Copies one value that was walked before, so its nesting is bounded.
fn canonical_any(reader: &mut Reader<'_>, out: &mut Vec<u8>) -> Result<(), GateError> {
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
    // What cannot be parsed stays as it is, and is then compared byte by byte.
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
    fn gate_28_the_order_of_an_objects_entries_does_not_count() {
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
    fn gate_28_json_text_is_compared_by_value() {
        assert_eq!(canonical_json(r#"{"b": [1, {"y":0,"x":"é"}], "a":null}"#), {
            r#"{"a":null,"b":[1,{"x":"é","y":0}]}"#
        });
    }

    #[test]
    fn gate_28_everything_else_stays_as_it_is() {
        for update in [
            &[0, 0][..],
            &[1, 1, 1, 0, 4, 1, 1, b't', 3, b'x', b'y', b'z', 0],
            &[1, 3, 1, 0, 0, 2, 0, 4, 0, 5, 1, 1, 1, 0, 1],
        ] {
            assert_eq!(canonical(update).unwrap(), update);
        }
    }
}
