//! Tokens that are wrong, by every way in.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use syncline_protocol::wire::varint::write_buffer;
use syncline_server::auth::unix_now;
use syncline_tests::client::Client;
use syncline_tests::door::{Outcome, knock, post, send};
use syncline_tests::jwt::SigningKey;
use syncline_tests::server::{Launch, Server};

use super::cases::{
    bad_claims, claims, confused, header_tricks, malformed, misformed, with, without,
};
use super::secret;

pub(super) const ISSUER: &str = "https://idp.example/";
pub(super) const AUDIENCE: &str = "syncline";

/// A server that knows a secret, an RSA key, and a set with a P-256 and an Ed25519 key.
pub(super) struct World {
    server: Server,
    pub(super) rsa: SigningKey,
    pub(super) p256: SigningKey,
    pub(super) ed: SigningKey,
    folder: tempfile::TempDir,
}

impl World {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (rsa, p256, ed) = (SigningKey::rsa(), SigningKey::p256(), SigningKey::ed25519());
        let file = |name: &str, text: String| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let set = json!({ "keys": [p256.jwk("ec"), ed.jwk("ed")] }).to_string();
        let environment = [
            ("SYNCLINE_AUTH_PUBLIC_KEY", &*file("rsa.pem", rsa.pem())),
            ("SYNCLINE_AUTH_JWKS", &*file("keys.json", set)),
            ("SYNCLINE_AUTH_ISSUER", ISSUER),
            ("SYNCLINE_AUTH_AUDIENCE", "other,syncline"),
            ("SYNCLINE_LOG", "info,syncline_server=debug"),
        ];
        let data = folder.path().join("data");
        let log = folder.path().join("log");
        let launch = Launch::new(&data);
        let launch =
            Launch { environment: &environment, command: "dev", log: Some(&log), ..launch };
        let server = launch.start().unwrap();
        Self { server, rsa, p256, ed, folder }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// What the server says of its documents on its front page.
    async fn count(&self) -> String {
        let (_, page) = self.server.get("/").await;
        let start = page.find("<p>").unwrap();
        page[start + 3..page.find("</p>").unwrap()].to_owned()
    }

    /// The tokens that are right: one by each key.
    fn good(&self) -> Vec<String> {
        let claims = claims();
        vec![
            secret().token(None, &claims),
            self.rsa.token(None, &claims),
            self.p256.token(Some("ec"), &claims),
            self.p256.token(None, &claims),
            self.ed.token(Some("ed"), &claims),
            secret().token(Some("a name that no set has"), &claims),
            secret().token(None, &with("aud", json!(["theirs", AUDIENCE]))),
            secret().token(None, &with("nbf", unix_now() + 20)),
            secret().token(None, &with("exp", unix_now() - 20)),
        ]
    }
}

/// Presents a token by every way in that can carry it.
async fn present(server: &Server, document: &str, token: &[u8]) -> Vec<(&'static str, Outcome)> {
    let escaped: String = token.iter().map(|byte| format!("%{byte:02x}")).collect();
    let path = format!("/ws/{document}").into_bytes();
    let bearer = [b"Bearer ", token].concat();
    let cookie = [b"theme=dark; syncline_token=", token].concat();
    let protocol = [b"bearer.", token, b", "].concat();
    let query = [&path[..], b"?token=", escaped.as_bytes()].concat();
    let ask = format!("{{\"document\":{document:?}}}").into_bytes();
    let same_page: (&str, &[u8]) = ("origin", b"http://localhost");
    vec![
        ("header", knock(server, &path, b"", &[("authorization", &bearer)]).await),
        ("subprotocol", knock(server, &path, &protocol, &[]).await),
        ("cookie", knock(server, &path, b"", &[("cookie", &cookie), same_page]).await),
        ("query", knock(server, &query, b"", &[]).await),
        ("ticket", post(server, "/api/v1/tickets", &[("authorization", &bearer)], &ask).await),
        ("revoke", post(server, "/api/v1/revoke", &[("authorization", &bearer)], b"{}").await),
        ("documents", send(server, &list("documents", token)).await),
        ("sessions", send(server, &list("sessions", token)).await),
    ]
}

/// Asks for a list that only an administrator is shown.
fn list(what: &str, token: &[u8]) -> Vec<u8> {
    let head = format!("GET /api/v1/{what} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer ");
    [head.as_bytes(), token, b"\r\n\r\n"].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn token_1_no_wrong_one_opens_anything_by_any_way_in() {
    let world = World::start();
    let mut cases = malformed();
    cases.extend(misformed());
    cases.extend(confused(&world));
    cases.extend(header_tricks());
    cases.extend(bad_claims());
    assert!(cases.len() >= 60);
    let mut numbers = BTreeSet::new();
    for (name, token) in &cases {
        let outcomes = present(&world.server, "notes", token).await;
        let is_invalid = outcomes[0].1.number() == 4401;
        for (way, outcome) in outcomes {
            let number = outcome.number();
            // 400: the request cannot be read. 403: a right to nothing. 431: it is too long.
            assert!(
                [400, 401, 403, 431, 4401, 4403].contains(&number),
                "{name} by {way}: {outcome:?}"
            );
            let is_read_further = outcome.text().contains("the body ");
            assert!(!(is_invalid && is_read_further), "{name} by {way}: {outcome:?}");
            numbers.insert(number);
        }
    }
    assert!(numbers.contains(&4401) && numbers.contains(&401), "{numbers:?}");
    // No document was loaded, made, or so much as looked up for any of them.
    let count = world.count().await;
    assert!(count.starts_with("0 documents open, 0 sessions, 0 documents stored"), "{count}");
    assert!(!world.log().contains("A session begins."));

    // The same way, right ones do: the table can fail.
    for token in world.good() {
        for (way, outcome) in present(&world.server, "notes", token.as_bytes()).await {
            let is_in = match way {
                "ticket" => outcome.number() == 201,
                "revoke" => outcome.text().contains("the body is not the JSON"),
                "documents" | "sessions" => outcome.number() == 200,
                _ => outcome == Outcome::Admitted,
            };
            assert!(is_in, "{token} by {way}: {outcome:?}");
        }
    }
    assert!(world.count().await.starts_with("1 documents open"));
    assert!(world.log().contains("A session begins."));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn token_1_no_wrong_one_renews_a_session() {
    let world = World::start();
    let mut cases = malformed();
    cases.extend(misformed());
    cases.extend(confused(&world));
    cases.extend(header_tricks());
    cases.extend(bad_claims());
    assert!(cases.len() >= 60);
    let good = world.good();
    for (name, token) in &cases {
        let mut client = Client::join_v1(&world.server.url("notes", &good[0])).await;
        let mut frame = vec![68];
        write_buffer(&mut frame, token);
        client.send(frame.into()).await;
        let ended = client.until_ended().await;
        assert!([4400, 4401, 4403].contains(&ended.code), "{name}: {ended:?}");
    }
    // The same way, a right one does.
    let mut client = Client::join_v1(&world.server.url("notes", &good[0])).await;
    client.bring(&good[0]).await;
    client.splice(0, 0, "x").await;
    client.until("saved", |client| client.saved == client.sent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn token_2_the_reason_says_what_is_wrong() {
    let world = World::start();
    let now = unix_now();
    let of = |claims: Value| secret().token(None, &claims);
    let cases = [
        (of(with("exp", now - 100)), "token_expired: expired 10"),
        (of(with("nbf", now + 100)), "token_not_yet_valid: starts in "),
        (of(with("exp", (now + 60) * 1_000)), "token_invalid: exp or nbf is beyond the year 9999"),
        (of(without("exp")), "token_invalid: the token has no exp claim"),
        (of(with("iss", "x")), "token_invalid: iss is missing or not one that"),
        (of(with("aud", "x")), "token_invalid: aud is missing or does not name"),
        (of(with("access", "x")), "token_invalid: a claim has the wrong form"),
        (SigningKey::rsa().token(None, &claims()), "token_invalid: the signature does not match"),
        (SigningKey::p384().token(None, &claims()), "token_invalid: no key of the server is for"),
        (SigningKey::p256().token(Some("x"), &claims()), "token_invalid: kid names a key that is"),
        ("x".to_owned(), "token_invalid: this is not a JWT"),
        (String::new(), "token_missing: no token was presented"),
    ];
    for (token, reason) in cases {
        super::assert_refused(&super::attempt(&world.server, &token).await, 4401, reason);
    }
}
