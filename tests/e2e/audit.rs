//! The audit log: what is in it, what is not, and what happens to it when the disk says no.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use syncline_protocol::Access;
use syncline_server::auth::Claims;
use syncline_tests::PATIENCE;
use syncline_tests::client::{Client, ending};
use syncline_tests::server::{Launch, Server, binary, claims_for, sign, token};
use tokio::time::Instant;

const NAME: &str = "team/plan";

fn start(folder: &Path, log: &Path) -> Server {
    let environment = [("SYNCLINE_AUDIT_LOG", log.to_str().unwrap())];
    Server::start_with(&folder.join("data"), "127.0.0.1:0", &environment)
}

fn token_of(user: &str, access: Access) -> String {
    let claims = claims_for(NAME, access, Duration::from_secs(600));
    sign(&Claims {
        sub: Some(user.to_owned()),
        name: Some("Ada \"\n\u{202e}".to_owned()),
        ..claims
    })
}

/// The lines of a log. The last may be half a line still.
fn lines(log: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(log).unwrap();
    let (whole, _) = text.rsplit_once('\n').unwrap_or_default();
    let read = |line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
    whole.lines().map(read).collect()
}

fn of<'a>(lines: &'a [Value], event: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["event"] == event).collect()
}

/// Reads until there are `count` lines of a kind.
async fn until(log: &Path, event: &str, count: usize) -> Vec<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let lines = if log.exists() { lines(log) } else { vec![] };
        if of(&lines, event).len() >= count {
            return lines;
        }
        assert!(Instant::now() < deadline, "there are no {count} of {event} in {lines:#?}");
        tokio::task::yield_now().await;
    }
}

#[track_caller]
fn holds(line: &Value, fields: &[(&str, &str)]) {
    for (field, expected) in fields {
        assert_eq!(line[field], *expected, "{field} in {line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn audit_1_who_came_wrote_was_refused_and_left_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("audit.log");
    let mut server = start(folder.path(), &log);
    assert_eq!(std::fs::metadata(&log).unwrap().mode() & 0o777, 0o600);
    let ada = token_of("ada", Access::Write);
    let mut client = Client::join_v1(&server.url(NAME, &ada)).await;
    for _ in 0..20 {
        client.splice(0, 0, "canary").await;
    }
    client.until("saved", |client| client.saved == client.sent).await;
    client.bring(&token_of("ada", Access::Read)).await;
    until(&log, "rights_narrowed", 1).await;
    client.bring(&ada).await;
    until(&log, "rights_renewed", 1).await;
    drop(client);
    until(&log, "session_closed", 1).await;
    let forged = format!("{ada}x");
    ending(&server.url(NAME, &forged), vec![]).await;
    ending(&server.url("elsewhere", &ada), vec![]).await;
    ending(&server.url("a//b", &ada), vec![]).await;
    until(&log, "session_refused", 3).await;
    assert!(server.stop("TERM").success());

    let lines = lines(&log);
    let events: Vec<_> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    let expected = [
        "server_started",
        "session_opened",
        "session_wrote",
        "rights_narrowed",
        "rights_renewed",
        "session_closed",
        "session_refused",
        "session_refused",
        "session_refused",
        "server_stopped",
    ];
    assert_eq!(events, expected, "{lines:#?}");
    let who = [
        ("sub", "ada"),
        ("name", "Ada \"\n\u{202e}"),
        ("document", NAME),
        ("dialect", "syncline.v1"),
        ("access", "write"),
    ];
    for line in &lines[1..3] {
        holds(line, &who);
        assert!(line["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
        assert_eq!(line["session"], lines[1]["session"]);
    }
    holds(&lines[3], &[("sub", "ada"), ("access", "read")]);
    holds(&lines[4], &who);
    holds(&lines[5], &[("word", "left"), ("sub", "ada"), ("document", NAME)]);
    assert_eq!(lines[5]["updates"], 20);
    assert!(lines[5]["bytes"].as_u64().unwrap() > 20 * 6, "{}", lines[5]);
    holds(&lines[6], &[("word", "token_invalid"), ("document", NAME)]);
    assert_eq!(lines[6]["sub"], Value::Null);
    let forbidden = [("word", "forbidden_document"), ("document", "elsewhere"), ("sub", "ada")];
    holds(&lines[7], &forbidden);
    holds(&lines[8], &[("word", "bad_document_name")]);
    holds(&lines[9], &[("word", "clean")]);
    for line in &lines {
        let time = line["time"].as_str().unwrap();
        assert!(time.len() == 24 && time.ends_with('Z'), "{time}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn audit_2_what_administrators_do_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("audit.log");
    let server = start(folder.path(), &log);
    let admin = claims_for("*", Access::Admin, Duration::from_secs(600));
    let admin = sign(&Claims { sub: Some("root".to_owned()), ..admin });
    let mut bob = Client::join_v1(&server.url(NAME, &token_of("bob", Access::Write))).await;
    let mut cyd = Client::join_v1(&server.url(NAME, &token_of("cyd", Access::Write))).await;
    let order = r#"{"sub": "bob", "document": "team/*", "access": "read"}"#;
    assert_eq!(server.post("/api/v1/revoke", &admin, order).await.0, 200);
    assert_eq!(server.post("/api/v1/revoke", &admin, r#"{"sub": "bob"}"#).await.0, 200);
    assert_eq!(bob.until_ended().await.code, 4403);
    let ticket = format!("{{\"document\": \"{NAME}\"}}");
    let ticket = server.post("/api/v1/tickets", &token_of("dan", Access::Read), &ticket).await;
    assert_eq!(ticket.0, 201);
    let opened = until(&log, "session_opened", 2).await;
    let of_cyd = opened.iter().find(|line| line["sub"] == "cyd").unwrap();
    let request = format!(
        "DELETE /api/v1/sessions/{} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         authorization: Bearer {admin}\r\n\r\n",
        of_cyd["session"]
    );
    let answer = server.raw(request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
    assert_eq!(cyd.until_ended().await.code, 4403);

    let lines = until(&log, "session_closed", 2).await;
    let revoked = of(&lines, "rights_revoked");
    let first = [("by", "root"), ("sub", "bob"), ("document", "team/*"), ("access", "read")];
    holds(revoked[0], &first);
    holds(revoked[1], &[("by", "root"), ("sub", "bob"), ("document", "*")]);
    assert_eq!(revoked[1]["access"], Value::Null);
    holds(of(&lines, "rights_narrowed")[0], &[("sub", "bob"), ("access", "read")]);
    holds(
        of(&lines, "ticket_issued")[0],
        &[("sub", "dan"), ("document", NAME), ("access", "read")],
    );
    holds(of(&lines, "session_disconnected")[0], &[("by", "root"), ("sub", "cyd")]);
    let words: BTreeMap<_, _> = of(&lines, "session_closed")
        .into_iter()
        .map(|line| (line["sub"].as_str().unwrap(), line["word"].as_str().unwrap()))
        .collect();
    assert_eq!(words, BTreeMap::from([("bob", "revoked"), ("cyd", "disconnected")]));
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(!text.contains(&admin) && !text.contains("slt_"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn audit_3_it_holds_no_content_and_no_token() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("audit.log");
    let server = start(folder.path(), &log);
    let ada = token_of("ada", Access::Write);
    let mut client = Client::join_v1(&server.url(NAME, &ada)).await;
    client.splice(0, 0, "canary-text").await;
    client.announce(1, r#"{"user":{"name":"canary-state"}}"#).await;
    client.until("saved", |client| client.saved == client.sent).await;
    for token in ["canary.token.x", &ada] {
        for path in ["notes%3Ftoken%3D", "notes&token=", "a//b?token=", "other?token="] {
            let url = format!("ws://{}/ws/{path}{token}", server.address());
            ending(&url, vec![]).await;
        }
    }
    let lines = until(&log, "session_refused", 8).await;
    assert_eq!(of(&lines, "session_wrote").len(), 1);
    let text = std::fs::read_to_string(&log).unwrap();
    let parts = ada.split('.').skip(1).map(|part| &part[..16]);
    for secret in parts.chain(["canary"]) {
        assert!(!text.contains(secret), "{secret} is in\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn audit_4_a_log_that_cannot_be_written_holds_up_nobody() {
    let folder = tempfile::tempdir().unwrap();
    // Every write to it finds no room.
    let server = start(folder.path(), Path::new("/dev/full"));
    let mut client = Client::join_v1(&server.url(NAME, &token(NAME, Access::Write))).await;
    for _ in 0..20 {
        client.splice(0, 0, "x").await;
        client.until("saved", |client| client.saved == client.sent).await;
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (_, text) = server.get("/metrics").await;
        let failures = text.lines().find(|line| line.starts_with("syncline_audit_failures_total "));
        if failures.is_some_and(|line| !line.ends_with(" 0")) {
            break;
        }
        assert!(Instant::now() < deadline, "{text}");
    }
    drop(client);
    let mut server = server;
    assert!(server.stop("TERM").success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn audit_5_it_can_be_moved_away_while_the_server_runs() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("audit.log");
    let moved = folder.path().join("audit.log.1");
    let server = start(folder.path(), &log);
    let url = server.url(NAME, &token_of("ada", Access::Write));
    let first = Client::join_v1(&url).await;
    until(&log, "session_opened", 1).await;
    std::fs::rename(&log, &moved).unwrap();
    let hung_up = Command::new("kill").args(["-HUP", &server.pid().to_string()]).status();
    assert!(hung_up.unwrap().success());
    let deadline = Instant::now() + PATIENCE;
    while !log.exists() {
        assert!(Instant::now() < deadline, "the log is not opened anew");
        tokio::task::yield_now().await;
    }
    let second = Client::join_v1(&url).await;
    let new = until(&log, "session_opened", 1).await;
    assert_eq!(of(&new, "server_started").len(), 0);
    assert_eq!(of(&lines(&moved), "session_opened").len(), 1);
    assert_eq!(std::fs::metadata(&log).unwrap().mode() & 0o777, 0o600);
    drop((first, second));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn audit_6_a_log_that_cannot_be_opened_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nowhere/audit.log");
    let output = Command::new(binary())
        .args(["dev", "--listen", "127.0.0.1:0", "--data"])
        .arg(folder.path().join("data"))
        .arg("--audit-log")
        .arg(&path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(73), "{said}");
    let text = format!("cannot open the audit log {}", path.display());
    assert!(said.contains(&text) && said.contains("No such file"), "{said}");
    assert!(output.stdout.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn audit_6_without_the_setting_there_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Launch::new(&data).start().unwrap();
    let (_, metrics) = server.get("/metrics").await;
    assert!(metrics.contains("\nsyncline_audit_lines_total 0\n"), "{metrics}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}
