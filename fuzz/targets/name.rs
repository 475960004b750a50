//! The name of a document, as it stands in a path.

use syncline_protocol::DocumentName;

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(name) = text.parse::<DocumentName>() else { return };
    assert_eq!(name.as_str(), text, "a name stays as it is");
    assert!((1..=255).contains(&text.len()));
    assert!(!text.chars().any(char::is_control));
    assert!(text.split('/').all(|segment| !matches!(segment, "" | "." | "..")));
}
