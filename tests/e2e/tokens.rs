//! Tokens, keys, tickets and origins, against the server as a process.

mod cases;
mod flips;
mod keys;
mod origins;
mod secrecy;
mod table;
mod tickets;

use serde_json::{Value, json};
use syncline_server::auth::unix_now;
use syncline_tests::door::{Outcome, knock};
use syncline_tests::jwt::SigningKey;
use syncline_tests::server::{SECRET, Server};

/// The key of every test server.
fn secret() -> SigningKey {
    SigningKey::Secret(SECRET.as_bytes().to_vec())
}

/// Claims of somebody who may do everything, for a minute.
fn claims() -> Value {
    json!({ "exp": unix_now() + 60, "sub": "ada", "access": { "*": "admin" } })
}

/// Those claims with one of them changed.
fn claims_with(name: &str, value: impl Into<Value>) -> Value {
    let mut claims = claims();
    claims[name] = value.into();
    claims
}

/// Tries a token in the header.
async fn attempt(server: &Server, token: &str) -> Outcome {
    let bearer = format!("Bearer {token}");
    knock(server, b"/ws/notes", b"", &[("authorization", bearer.as_bytes())]).await
}

/// Whether a text is the refusal that begins with `word`.
#[track_caller]
fn assert_refused(outcome: &Outcome, code: u16, word: &str) {
    let is_it = matches!(outcome, Outcome::Closed { .. }) && outcome.text().starts_with(word);
    assert!(is_it && outcome.number() == code, "not {code} {word}: {outcome:?}");
}
