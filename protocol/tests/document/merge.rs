//! Adds an update to a document that is not live.

use syncline_protocol::document::LoadedDocument;
use syncline_protocol::document::merge::{MergeError, Merged};

use crate::scene::{Person, limits};

#[test]
fn tool_2_an_update_is_merged_once() {
    let (ann, limits) = (Person::new(1), limits());
    let (first, second) = (ann.write("a"), ann.write("b"));
    let mut document = LoadedDocument::empty(&limits);
    assert_eq!(document.merge(&first, &limits), Ok(Merged::Changed(first.clone())));
    assert_eq!(document.merge(&second, &limits), Ok(Merged::Changed(second)));
    assert_eq!(document.merge(&first, &limits), Ok(Merged::Known));
    let bob = Person::new(2);
    bob.take(&document.state().unwrap());
    assert_eq!(bob.text(), ann.text());
}

#[test]
fn tool_2_an_incomplete_or_invalid_update_is_refused() {
    let (ann, limits) = (Person::new(1), limits());
    let (_missing, second) = (ann.write("a"), ann.write("b"));
    let mut document = LoadedDocument::empty(&limits);
    assert_eq!(document.merge(&second, &limits), Err(MergeError::Incomplete));
    assert!(matches!(document.merge(b"no update", &limits), Err(MergeError::Invalid(_))));
    let small = syncline_protocol::document::Limits { document_bytes_max: 10, ..limits };
    let long = Person::new(3).write("more than ten bytes");
    assert!(matches!(document.merge(&long, &small), Err(MergeError::TooLarge { max: 10, .. })));
}
