//! A token: as it is, and as the claims of one whose signature is good.

use std::sync::LazyLock;

use syncline_protocol::DocumentName;
use syncline_server::auth::{Claims, Secret, Verifier, install_crypto};

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    install_crypto();
    Verifier::hs256(&Secret::new(&[7; 32]).expect("long enough"))
});

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    assert!(VERIFIER.verify_offline(text).is_err(), "a signature cannot be guessed");
    let Ok(claims) = serde_json::from_str::<Claims>(text) else { return };
    let document: DocumentName = "team/notes".parse().expect("a name");
    let names =
        |pattern: &String| *pattern == "team/notes" || *pattern == "team/*" || *pattern == "*";
    assert_eq!(claims.grant(&document).is_ok(), claims.access.keys().any(names), "{claims:?}");
}
