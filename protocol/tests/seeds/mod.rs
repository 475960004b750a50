//! Updates that broke yrs 0.28.1 when it read them without validation; found by fuzzing.

use Expect::{Harmless, Refused};

/// The expected outcome of a seed's last update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    Refused,
    /// yrs applies it, and the document stays whole.
    Harmless,
}

/// Its effect without validation, the expected outcome, and the update.
pub(crate) type Seed = (&'static str, Expect, &'static str);

/// For an empty document.
pub(crate) const ON_EMPTY: [Seed; 2] = [
    ("poison: every full encode panics", Refused, "AQEBhGkCCWxtAAAAAAAAAP7+/0ry//6NAQIB"),
    ("own state not decodable", Refused, "AQHpEQACAQFlAQABAQA="),
];

/// For a document with the text `t` = "hello", of which 1..3 is deleted, the map `m` = {k: 1} and
/// the array `a` = [1], all written by client 1.
pub(crate) const ON_BASE: [Seed; 11] = [
    (
        "diff length differs after reload",
        Refused,
        "AQIBCmcBAgEKZwAIAQFkCgAAAAAAAAABAAEBBHQCaGV4owAIAQFkCgAAAAAAAAABAAEBBHQCaGV4o5gAbA==",
    ),
    (
        "full encode panics",
        Refused,
        "AQZoAAQBAXQMaGVsbG8gd8O2cmxkKAEBbQFrAXxAgAAAAAkBbQJtbQEAAQFhEgAAAAAAAAABBwGEZQJwAA==",
    ),
    (
        "state vector differs after reload",
        Refused,
        "AQEBBgEG//9LZysAaAAYCgArZ2cBBAENAAcBAXgDAf0sAAAAAQRs//b///8=",
    ),
    ("apply panics", Refused, "AQEB/////////xoAAQAAAAAAAFECAg=="),
    (
        "apply divides by zero",
        Refused,
        "AQdvAAQBAXQCaGWBbwH//////////wOEbwQHAWsBfEEwAADeAQFtAm1tAQgBAQEBbQJtbQEIAQFhAXcBc4dvbQJtbQEIAw==",
    ),
    (
        "apply indexes out of bounds",
        Refused,
        "AQZs////////////AAQBAXQMaGVsbG8Wd8O2cmxkKAEBbQFrAXxhAAhuAQEBAAAAIQKg/wIAOAEBbQJtbQEIAQFhAXcBc4dsDQAHAQF4AwFwAA==",
    ),
    (
        "own state not decodable",
        Refused,
        "AQLQ////////AwAKZwIBAAAAAAAACQCgP/8AAAACMQj1mPWgP///BQAAAAIARgAAAAAAAAAAAHoAAAACAAAAAAAAAAAAAAAAANAAAAAALGM=",
    ),
    ("diff encode divides by zero", Refused, "AQEKAgD/////////XAAAAAA="),
    (
        "apply reaches unreachable!",
        Refused,
        "CAB+AAC+1xEEASwBAQEBAQEBAQEBAQEAAAAAoP/////2AQEBAQEBAQEBAQFhAAEBAQAAbwEBAQEBAQEBAQAAAAAAAAEIAAAGAQEAAAAAJQABAQAAAACg//////YBAQEBAQEAEf8=",
    ),
    (
        "diff encode panics",
        Refused,
        "AQMG/////////////wYBAQEBAQH///////////8GAAAAAAEABQAA//8A/28gdwAA",
    ),
    (
        "to_json of an array does not end; readers must not call it",
        Harmless,
        "AQtqAAQBAWECaGWBagF+hGoDAW+EagQHIHfDtnJsZCgBAW0BawF8QMAAACcBAW0CbW0BCAEBYQF3AXOHag0ABwEBeAMBcEZqAAFiBHRydWXGagRqBQEvBG51bGwBagEDAg==",
    ),
];

pub(crate) fn base64(text: &str) -> Vec<u8> {
    let (mut bits, mut count) = (0_u32, 0);
    let mut bytes = Vec::new();
    for letter in text.trim_end_matches('=').bytes() {
        let digit = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => panic!("{letter} is not base64"),
        };
        (bits, count) = (bits << 6 | u32::from(digit), count + 6);
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count).to_le_bytes()[0]);
        }
    }
    bytes
}
