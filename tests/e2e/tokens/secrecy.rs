//! What must not be in anything that the server writes.

use std::path::Path;

use serde_json::json;
use syncline_server::auth::unix_now;
use syncline_tests::client::Client;
use syncline_tests::door::{Outcome, knock, post, send};
use syncline_tests::jwt::SigningKey;
use syncline_tests::server::{Launch, SECRET, Server};

use super::{claims, claims_with, secret};

/// Texts that must not turn up, and where they come from.
#[derive(Default)]
struct Secrets(Vec<(String, String)>);

impl Secrets {
    /// A token: as a whole, and each part that is not the same in every token.
    fn token(&mut self, name: &str, token: &str) {
        self.0.push((name.to_owned(), token.to_owned()));
        for (index, part) in token.split('.').enumerate().skip(1) {
            // Also a piece of it, should it be cut somewhere.
            let piece: String = part.chars().skip(part.len() / 3).take(16).collect();
            self.0.push((format!("part {index} of {name}"), piece));
        }
    }

    fn other(&mut self, name: &str, text: &str) {
        self.0.push((name.to_owned(), text.to_owned()));
    }

    #[track_caller]
    fn are_absent_from(&self, place: &str, bytes: &[u8]) {
        for (name, text) in self.0.iter().filter(|(_, text)| !text.is_empty()) {
            let found = bytes.windows(text.len()).position(|window| window == text.as_bytes());
            if let Some(at) = found {
                let around = &bytes[at.saturating_sub(200)..bytes.len().min(at + 100)];
                panic!("{name} is in {place}: {}", String::from_utf8_lossy(around));
            }
        }
    }
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

/// Presents `token` by every way in and with every mistake; returns all that comes back.
async fn everywhere(server: &Server, token: &str) -> Vec<String> {
    let bearer = format!("Bearer {token}");
    let auth = [("authorization", bearer.as_bytes())];
    let cookie = format!("syncline_token={token}");
    let cookies = [("cookie", cookie.as_bytes()), ("origin", b"http://localhost".as_slice())];
    let escaped = token.replace('.', "%2E");
    let mut said = Vec::new();
    let protocol = format!("bearer.{token}, ");
    for document in ["notes", "other/one", "a//b", "a%00", "%ff"] {
        let path = format!("/ws/{document}");
        said.push(knock(server, path.as_bytes(), b"", &auth).await);
        said.push(knock(server, path.as_bytes(), protocol.as_bytes(), &[]).await);
        said.push(knock(server, path.as_bytes(), b"", &cookies).await);
        let blocked = [cookies[0], ("origin", b"https://evil.example".as_slice())];
        said.push(knock(server, path.as_bytes(), b"", &blocked).await);
        for mistake in [
            "?token=",
            "?x=1&token=",
            "%3Ftoken=",
            "%3Ftoken%3D",
            "&token=",
            ";token=",
            "/token=",
            "?Token=",
            "?jwt=",
            "?epoch=x&token=",
            "?token=x&token=",
            "?ticket=",
            "/",
            "",
            "#token=",
            "%253Ftoken%253D",
        ] {
            for token in [token, &escaped] {
                let path = format!("{path}{mistake}{token}");
                said.push(knock(server, path.as_bytes(), b"", &[]).await);
                said.push(send(server, plain("GET", &path).as_bytes()).await);
            }
        }
    }
    let paths = ["/", "/nowhere", "/nowhere/", "/healthz", "/readyz", "/metrics", "/api/v1/"];
    for path in paths.into_iter().chain(["/api/v1/tickets"]) {
        for between in ["?token=", "%3Ftoken%3D", "&token=", "/"] {
            let path = format!("{path}{between}{token}");
            for method in ["GET", "POST", "PUT", "OPTIONS", "BREW"] {
                said.push(send(server, plain(method, &path).as_bytes()).await);
            }
            said.push(knock(server, path.as_bytes(), b"", &auth).await);
        }
    }
    for body in [
        "{\"document\":\"notes\"}".to_owned(),
        format!("{{\"document\":{token:?}}}"),
        format!("{{\"document\":\"notes?token={token}\"}}"),
        format!("{{\"document\":\"notes\",\"token\":{token:?}}}"),
        token.to_owned(),
    ] {
        said.push(post(server, "/api/v1/tickets", &auth, body.as_bytes()).await);
    }
    said.extend(broken(server, token).await);
    // A ticket that was just given is what was asked for.
    let given = |text: &str| text.contains("\"ticket\":");
    said.iter().map(|outcome| outcome.text().to_owned()).filter(|text| !given(text)).collect()
}

/// Requests that cannot be read at all.
async fn broken(server: &Server, token: &str) -> Vec<Outcome> {
    let mut said = Vec::new();
    for request in [
        format!("GET /ws/notes?token={token}\r\n\r\n"),
        format!("GET /ws/no tes?token={token} HTTP/1.1\r\n\r\n"),
        format!("GET /ws/notes?token={token} HTTP/1.1\r\nbad header: {token}\r\n\r\n"),
        format!("{token} / HTTP/1.1\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nauthorization: Bearer {token}\r\n x: y\r\n\r\n"),
        format!("GET /ws/notes HTTP/1.1\r\ntoken: {token}{}\r\n\r\n", "x".repeat(20_000)),
    ] {
        said.push(send(server, request.as_bytes()).await);
    }
    said
}

fn plain(method: &str, path: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-length: 0\r\n\r\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secret_1_nothing_that_is_written_holds_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let (data, log) = (folder.path().join("data"), folder.path().join("log"));
    let environment = [("SYNCLINE_LOG", "trace"), ("RUST_BACKTRACE", "full")];
    let launch = Launch { environment: &environment, log: Some(&log), ..Launch::new(&data) };
    let mut server = launch.start().unwrap();

    let rights = json!({ "notes": "write" });
    let tokens = [
        ("a good token", secret().token(None, &claims_with("access", rights))),
        ("an expired one", secret().token(None, &claims_with("exp", unix_now() - 100))),
        ("an early one", secret().token(None, &claims_with("nbf", unix_now() + 100))),
        ("a forged one", SigningKey::rsa().token(Some("a-kid-of-mine"), &claims())),
        ("a foreign one", SigningKey::Secret(vec![7; 32]).token(None, &claims())),
        ("one of a wrong form", secret().token(None, &claims_with("access", "everything"))),
    ];
    let mut secrets = Secrets::default();
    secrets.other("the secret", SECRET);
    secrets.other("a kid", "a-kid-of-mine");
    for (name, token) in &tokens {
        secrets.token(name, token);
    }
    let mut said = Vec::new();
    for (_, token) in &tokens {
        said.extend(everywhere(&server, token).await);
    }

    // A ticket: used, used again, and where it does not belong.
    let bearer = format!("Bearer {}", tokens[0].1);
    let headers = [("authorization", bearer.as_bytes())];
    let given = post(&server, "/api/v1/tickets", &headers, b"{\"document\":\"notes\"}").await;
    let ticket = given.text().split("slt_").nth(1).unwrap();
    let ticket = format!("slt_{}", ticket.split('"').next().unwrap());
    secrets.other("a ticket", &ticket);
    secrets.other("a piece of a ticket", &ticket[10..30]);
    let address = format!("ws://{}/ws/notes?ticket={ticket}", server.address());
    let mut client = Client::join_v1(&address).await;
    client.splice(0, 0, "written by ticket").await;
    client.until("saved", |client| client.saved == client.sent).await;
    said.extend(everywhere(&server, &ticket).await);

    let (status, metrics) = server.get("/metrics").await;
    assert!(status == 200 && metrics.contains("syncline_sessions_refused_total"), "{metrics}");
    secrets.are_absent_from("the metrics", metrics.as_bytes());
    assert!(server.stop("TERM").success());
    for text in &said {
        secrets.are_absent_from("an answer", text.as_bytes());
    }
    let log = std::fs::read(log).unwrap();
    secrets.are_absent_from("the log", &log);
    let text = String::from_utf8_lossy(&log);
    for sign in ["DEBUG", "Refused a connection.", "A session begins."] {
        assert!(text.contains(sign), "the log does not hold {sign:?}: it is not the whole log");
    }
    let stored = files(&data);
    assert!(stored.iter().any(|path| path.components().any(|part| part.as_os_str() == "journal")));
    for path in stored {
        secrets.are_absent_from(&path.display().to_string(), &std::fs::read(&path).unwrap());
    }
}
