//! JSON-like values: lib0's binary form (`Any`), and JSON as text.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::validate::ValidationError;
use crate::wire::varint::Reader;

/// The maximum for every budget: yrs reads these values by recursion, and 64 levels fit any stack.
const DEPTH_MAX: usize = 64;

/// Walks one value with at most `depth_max` levels of arrays and objects.
pub(super) fn walk_any(reader: &mut Reader<'_>, depth_max: usize) -> Result<(), ValidationError> {
    let depth_max = depth_max.min(DEPTH_MAX);
    walk_level(reader, depth_max, depth_max)
}

fn walk_level(
    reader: &mut Reader<'_>,
    depth_left: usize,
    depth_max: usize,
) -> Result<(), ValidationError> {
    let offset = reader.position();
    let tag = reader.u8()?;
    match tag {
        // undefined, null, false, true
        127 | 126 | 121 | 120 => {}
        125 => {
            reader.var_int()?;
        }
        124 => {
            reader.take(4)?;
        }
        123 | 122 => {
            reader.take(8)?;
        }
        119 => {
            reader.string()?;
        }
        116 => {
            reader.buffer()?;
        }
        117 | 118 => {
            let Some(depth_left) = depth_left.checked_sub(1) else {
                return Err(ValidationError::ValueTooDeep { offset, max: depth_max });
            };
            let is_object = tag == 118;
            for _ in 0..reader.count(if is_object { 2 } else { 1 })? {
                if is_object {
                    reader.string()?;
                }
                walk_level(reader, depth_left, depth_max)?;
            }
        }
        _ => return Err(ValidationError::UnknownValue { offset, tag }),
    }
    Ok(())
}

/// Walks JSON text that yrs will parse, and refuses what yrs cannot: above all a surrogate
/// escaped without its partner, and integers between 2^63 and 2^64, both of which Yjs can write.
pub(super) fn walk_json(reader: &mut Reader<'_>) -> Result<(), ValidationError> {
    let offset = reader.position();
    let text = reader.string()?;
    match serde_json::from_str::<YrsJson>(text) {
        Ok(YrsJson) => Ok(()),
        Err(error) => Err(ValidationError::BadJson { offset, reason: error.to_string().into() }),
    }
}

/// Checks JSON text that only browsers will parse, without yrs' restrictions, but with a limit on
/// nesting.
pub(super) fn check_json(text: &str) -> Result<(), Box<str>> {
    if let Err(error) = serde_json::from_str::<IgnoredAny>(text) {
        return Err(error.to_string().into());
    }
    // With fewer brackets than levels it cannot be too deep. Counting takes a tenth of following them.
    let brackets = text.bytes().filter(|byte| matches!(byte, b'[' | b'{')).count();
    if brackets <= DEPTH_MAX {
        return Ok(());
    }
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH_MAX {
            return Err(format!("nested deeper than {DEPTH_MAX} levels").into());
        }
    }
    Ok(())
}

/// Accepts exactly what yrs reads as an `Any`, and keeps nothing of it. Nesting is bounded by
/// `serde_json` (128 levels).
struct YrsJson;

impl<'de> Deserialize<'de> for YrsJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for YrsJson {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self, E> {
        match i64::try_from(value) {
            Ok(_) => Ok(self),
            Err(_) => Err(E::custom(format_args!("{value} is larger than 2^63 - 1"))),
        }
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E: Error>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self, A::Error> {
        while elements.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self, A::Error> {
        while entries.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }
}
