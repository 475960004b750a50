//! How an event looks as a line.

use std::fmt::Write;
use std::sync::Arc;
use std::time::SystemTime;

use serde::Serializer;

use crate::audit::Entry;

/// Longest text in a line, in bytes: as long as a name of a document or a user may be.
const TEXT_BYTES_MAX: usize = 255;

/// RFC 3339 in UTC, to the millisecond.
pub(super) fn time<S: Serializer>(time: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&humantime::format_rfc3339_millis(*time))
}

/// A text that is cut where it would be too long.
pub(super) fn bounded<S: Serializer>(text: &Option<Arc<str>>, to: S) -> Result<S::Ok, S::Error> {
    let text = text.as_deref().unwrap_or_default();
    if text.len() <= TEXT_BYTES_MAX {
        return to.serialize_str(text);
    }
    let end = (0..=TEXT_BYTES_MAX - 3).rev().find(|&end| text.is_char_boundary(end));
    let cut = text.get(..end.unwrap_or(0)).unwrap_or_default();
    to.serialize_str(&format!("{cut}…"))
}

/// Appends the line of `entry`.
pub(super) fn write(entry: &Entry, lines: &mut String) {
    // Serializing strings and numbers does not fail.
    let json = serde_json::to_string(entry).unwrap_or_default();
    for char in json.chars() {
        if misleads(char) {
            let mut units = [0; 2];
            for unit in char.encode_utf16(&mut units) {
                // Writing to a String does not fail.
                _ = write!(lines, "\\u{unit:04x}");
            }
        } else {
            lines.push(char);
        }
    }
    lines.push('\n');
}

/// What is no ASCII control character, and still moves the cursor of a terminal, breaks lines in
/// some programs, or shows what follows in another order.
fn misleads(char: char) -> bool {
    char.is_control()
        || matches!(
            char,
            '\u{61c}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
        )
}

#[cfg(test)]
mod tests {
    use super::super::Event;
    use super::*;

    #[test]
    fn audit_3_names_are_escaped_and_cut() {
        let name = "a\"}\n{\"event\":\"\u{9b}2J\u{202e}\u{2028}\u{7f}\u{61c}Å";
        let mut lines = String::new();
        write(&Entry::new(Event::SessionOpened).sub(Some(name)), &mut lines);
        assert_eq!(lines.matches('\n').count(), 1, "{lines}");
        assert!(lines.ends_with("\\u009b2J\\u202e\\u2028\\u007f\\u061cÅ\"}\n"), "{lines}");
        let read: serde_json::Value = serde_json::from_str(&lines).unwrap();
        assert_eq!(read["sub"], name);
        for long in ["x".repeat(256), "é".repeat(200)] {
            let mut line = String::new();
            write(&Entry::new(Event::SessionOpened).pattern(&long), &mut line);
            let read: serde_json::Value = serde_json::from_str(&line).unwrap();
            let document = read["document"].as_str().unwrap();
            assert!(document.len() <= TEXT_BYTES_MAX && document.ends_with('…'), "{document}");
        }
    }

    #[test]
    fn audit_1_a_line_begins_with_its_time_and_what_happened() {
        let entry = Entry { time: SystemTime::UNIX_EPOCH, ..Entry::new(Event::EventsLost) };
        let mut line = String::new();
        write(&entry.count(7), &mut line);
        let expected = r#"{"time":"1970-01-01T00:00:00.000Z","event":"events_lost","count":7}"#;
        assert_eq!(line.trim_end(), expected);
    }
}
