//! Starting, stopping, and what the command line says.

use std::process::{Command, Output};

use syncline_protocol::Access;
use syncline_tests::client::Client;
use syncline_tests::server::{SECRET, Server, binary, token};

fn syncline(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(binary())
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn cli_1_serve_without_a_secret_offers_one() {
    let output = syncline(&["serve"], &[]);
    assert_eq!(output.status.code(), Some(78));
    assert!(stderr(&output).contains("SYNCLINE_JWT_SECRET="), "{}", stderr(&output));
}

#[test]
fn cli_1_a_short_secret_is_refused_and_not_shown() {
    let output = syncline(&["serve"], &[("SYNCLINE_JWT_SECRET", "hunter2")]);
    assert_eq!(output.status.code(), Some(78));
    let text = stderr(&output);
    assert!(text.contains("is 7 bytes") && !text.contains("hunter2"), "{text}");
}

#[test]
fn cli_2_an_unknown_key_suggests_the_near_one() {
    let text = with_config("listn = \"127.0.0.1:0\"\n");
    assert!(text.contains("did you mean \"listen\"?"), "{text}");
}

#[test]
fn cli_2_a_limit_that_cannot_work_is_named() {
    let text = with_config("[limits]\nmessage_bytes = 1\n");
    assert!(text.contains("limits.message_bytes is 1"), "{text}");
}

#[test]
fn origin_3_an_entry_of_the_file_that_is_no_origin_is_named() {
    let text = with_config("[auth]\norigins = [\"app.example/path\"]\n");
    assert!(text.contains("in auth.origins is not an origin"), "{text}");
}

#[test]
fn cli_1_a_secret_in_a_broken_file_is_not_shown() {
    let text = with_config("log = \"info\"\njwt_secret = hunter2\n");
    assert!(text.contains("line 2") && !text.contains("hunter2"), "{text}");
}

/// What `serve` says when it is given this file.
fn with_config(config: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("syncline.toml");
    std::fs::write(&file, config).unwrap();
    let output = syncline(&["serve", "--config", file.to_str().unwrap()], &[]);
    assert_eq!(output.status.code(), Some(78));
    stderr(&output)
}

#[test]
fn cli_3_dev_stays_on_this_computer() {
    let output = syncline(&["dev", "--listen", "0.0.0.0:0"], &[]);
    assert_eq!(output.status.code(), Some(78));
    assert!(stderr(&output).contains("--i-know"), "{}", stderr(&output));
}

#[test]
fn cli_4_a_taken_port_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let listen = server.address().to_string();
    let data = folder.path().join("other");
    let arguments = ["serve", "--listen", &listen, "--data", data.to_str().unwrap()];
    let output = syncline(&arguments, &[("SYNCLINE_JWT_SECRET", SECRET)]);
    assert_eq!(output.status.code(), Some(69));
    assert!(stderr(&output).contains(&listen), "{}", stderr(&output));
    assert!(!data.exists(), "nothing is touched before the port is ours");
}

#[test]
fn cli_4_a_folder_in_use_names_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let data = folder.path().to_str().unwrap();
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--data", data];
    let output = syncline(&arguments, &[("SYNCLINE_JWT_SECRET", SECRET)]);
    assert_eq!(output.status.code(), Some(75));
    let pid = format!("pid {}", server.pid());
    assert!(stderr(&output).contains(&pid), "{}", stderr(&output));
}

#[test]
fn cli_5_healthcheck_follows_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(folder.path());
    let listen = server.address().to_string();
    let health = || syncline(&["healthcheck", "--listen", &listen], &[]).status.code();
    assert_eq!(health(), Some(0));
    assert!(server.stop("TERM").success());
    assert_eq!(health(), Some(69));
}

#[tokio::test]
async fn cli_6_a_printed_token_opens_its_document() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let arguments = ["token", "--doc", "notes/today", "--access", "write", "--sub", "ada"];
    let output = syncline(&arguments, &[("SYNCLINE_JWT_SECRET", SECRET)]);
    assert!(output.status.success(), "{}", stderr(&output));
    let token = String::from_utf8(output.stdout).unwrap();
    let mut client = Client::join_v1(&server.url("notes/today", token.trim())).await;
    client.splice(0, 0, "x").await;
    client.until("saved", |client| client.saved == client.sent).await;
}

#[tokio::test]
async fn run_3_an_idle_document_is_unloaded_and_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("syncline.toml");
    std::fs::write(&file, "[limits]\nidle_seconds = 0\n").unwrap();
    let data = folder.path().join("data");
    let config = [("SYNCLINE_CONFIG", file.to_str().unwrap())];
    let server = Server::start_with(&data, "127.0.0.1:0", &config);
    let url = server.url("idle", &token("idle", Access::Write));
    for round in 0..20 {
        let mut client = Client::join_v1(&url).await;
        assert_eq!(client.length(), round, "round {round}");
        client.splice(0, 0, "x").await;
        client.until("saved", |client| client.saved == client.sent).await;
    }
}

#[tokio::test]
async fn auth_4_a_session_ends_with_its_token() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    // Thirty seconds of leeway are granted: two of them are left.
    let gone = syncline_server::auth::Claims {
        exp: syncline_server::auth::unix_now() - 28,
        ..claims("notes")
    };
    let url = server.url("notes", &syncline_tests::server::sign(&gone));
    let ended = syncline_tests::client::ending(&url, vec![]).await;
    assert_eq!(ended.code, 4401);
    assert!(ended.reason.starts_with("token_expired: "), "{}", ended.reason);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn auth_4_a_flood_does_not_outlive_its_token() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let nearly_gone = syncline_server::auth::Claims {
        exp: syncline_server::auth::unix_now() - 28,
        ..claims("notes")
    };
    let url = server.url("notes", &syncline_tests::server::sign(&nearly_gone));
    let mut client = Client::join(&url).await;
    let flood = async { while client.try_splice(0, "x").await.is_ok() {} };
    tokio::time::timeout(syncline_tests::PATIENCE, flood).await.expect("it is closed");
}

fn claims(document: &str) -> syncline_server::auth::Claims {
    syncline_server::auth::Claims {
        access: std::collections::BTreeMap::from([(document.to_owned(), Access::Write)]),
        ..syncline_server::auth::Claims::default()
    }
}
