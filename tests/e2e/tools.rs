//! The commands that work on stored documents, as an operator runs them.

mod broken;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use syncline_protocol::{Access, Sequence, Snapshot};
use syncline_server::store::Store;
use syncline_server::store::embedded::{Embedded, EmbeddedOptions};
use syncline_tests::client::{Client, ending, new_doc};
use syncline_tests::server::{Server, binary, token};
use yrs::updates::decoder::Decode;
use yrs::{GetString, ReadTxn, StateVector, Text, Transact, Update};

/// Runs a subcommand on a folder.
fn syncline(data: &Path, words: &[&str]) -> Output {
    let output = Command::new(binary()).args(words).arg("--data").arg(data).output();
    output.expect("the command runs")
}

/// Runs a subcommand that has to succeed, and returns what it prints.
pub(crate) fn succeed(data: &Path, words: &[&str]) -> String {
    let Output { status, stdout, stderr } = syncline(data, words);
    let errors = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{words:?}: {status}: {errors}");
    String::from_utf8(stdout).expect("text")
}

/// Runs a subcommand that has to fail with `code`, and returns what it complains of.
fn fail(data: &Path, words: &[&str], code: i32) -> String {
    let Output { status, stdout, stderr } = syncline(data, words);
    let text = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert_eq!(status.code(), Some(code), "{words:?}: {text}");
    text
}

fn url(server: &Server, document: &str) -> String {
    server.url(document, &token(document, Access::Write))
}

/// Appends `text` to a document and waits until it is on disk. Returns its epoch.
async fn write(server: &Server, document: &str, text: &str) -> String {
    let mut client = Client::join_v1(&url(server, document)).await;
    let at = client.length();
    client.splice(at, 0, text).await;
    client.until("saved", |client| client.saved == client.sent).await;
    client.epoch.clone().expect("a Welcome")
}

async fn content(server: &Server, document: &str) -> String {
    Client::join(&url(server, document)).await.content()
}

/// A client that holds the history `epoch` connects; the code it is closed with.
async fn turned_away(server: &Server, document: &str, epoch: &str) -> u16 {
    ending(&format!("{}&epoch={epoch}", url(server, document)), Vec::new()).await.code
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tool_1_verify_is_content_with_a_good_folder_and_finds_damage() {
    let data = tempfile::tempdir().unwrap();
    let mut server = Server::start(data.path());
    for document in ["a", "b", "c"] {
        for round in 0..20 {
            write(&server, document, &format!("{document} {round}. ")).await;
        }
    }
    let running = succeed(data.path(), &["verify"]);
    assert!(running.contains("3 documents read, 0 problems"), "{running}");
    assert!(server.stop("TERM").success());
    succeed(data.path(), &["verify"]);
    succeed(data.path(), &["verify", "--doc", "b"]);

    flip(data.path(), b"b 7. ");
    let found = fail(data.path(), &["verify"], 65);
    assert!(found.contains("b: "), "{found}");
    fail(data.path(), &["verify", "--doc", "b"], 65);
    succeed(data.path(), &["verify", "--doc", "a"]);
}

/// Changes one bit where `text` lies in the journal.
fn flip(data: &Path, text: &[u8]) {
    let mut found = false;
    for entry in fs::read_dir(data.join("journal")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        if let Some(at) = bytes.windows(text.len()).position(|window| window == text) {
            bytes[at] ^= 1;
            fs::write(&path, bytes).unwrap();
            found = true;
        }
    }
    assert!(found, "the journal does not hold {text:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trouble_4_a_damaged_document_is_shown_as_far_as_it_is_good() {
    let data = tempfile::tempdir().unwrap();
    let mut server = Server::start(data.path());
    for round in 0..5 {
        write(&server, "hurt", &format!("{round} ")).await;
        write(&server, "well", &format!("{round} ")).await;
    }
    assert!(server.stop("TERM").success());
    flip_update(data.path(), "hurt", b"3 ");

    let server = Server::start(data.path());
    let mut reader = Client::join(&url(&server, "hurt")).await;
    assert_eq!(reader.content(), "0 1 2 ");
    reader.splice(0, 0, "more").await;
    reader.until("a refusal", |client| !client.denied.is_empty()).await;
    assert!(reader.denied[0].starts_with("document_quarantined"), "{:?}", reader.denied);
    assert_eq!(content(&server, "hurt").await, "0 1 2 ");
    write(&server, "well", "5 ").await;
    assert_eq!(content(&server, "well").await, "0 1 2 3 4 5 ");
    let listed = succeed(data.path(), &["quarantine", "list"]);
    assert!(listed.starts_with("read-only") && listed.contains(" hurt: "), "{listed}");

    let busy = fail(data.path(), &["quarantine", "release", "hurt", "--accept-loss"], 75);
    assert!(busy.contains(&format!("pid {}", server.pid())), "{busy}");
    drop(server);
    fail(data.path(), &["quarantine", "release", "nothing"], 66);
    let released = succeed(data.path(), &["quarantine", "release", "hurt", "--accept-loss"]);
    assert!(released.contains("update 3 of 5"), "{released}");
    let server = Server::start(data.path());
    write(&server, "hurt", "again").await;
    assert_eq!(content(&server, "hurt").await, "0 1 2 again");
    assert_eq!(
        succeed(data.path(), &["quarantine", "list"]).trim(),
        "no document is in quarantine"
    );
}

/// Changes one bit of an update of `document`; others may hold the same text.
fn flip_update(data: &Path, document: &str, text: &[u8]) {
    for entry in fs::read_dir(data.join("journal")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        let names: Vec<_> = positions(&bytes, document.as_bytes());
        let found = names.into_iter().find_map(|name| {
            let record = bytes.get(name..name + 64)?;
            Some(name + record.windows(text.len()).position(|window| window == text)?)
        });
        if let Some(at) = found {
            bytes[at] ^= 1;
            return fs::write(&path, bytes).unwrap();
        }
    }
    panic!("no update of {document} holds {text:?}");
}

fn positions(bytes: &[u8], text: &[u8]) -> Vec<usize> {
    let windows = bytes.windows(text.len()).enumerate();
    windows.filter(|(_, window)| *window == text).map(|(at, _)| at).collect()
}

/// Leaves behind what a process leaves that ends at once in the middle of `step`.
fn leave_note(data: &Path, document: &str, step: &str) {
    let note = format!(r#"{{"document":"{document}",{step}}}"#);
    fs::write(data.join("in-flight"), note).unwrap();
}

/// A first sync that brings nothing, as a client sends that has nothing.
const FIRST_SYNC: &str = r#""step":"first_sync","author":"tester","crc":4049696722"#;
const LOAD: &str = r#""step":"load""#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trouble_3_a_document_that_ends_the_process_again_and_again_is_held_back() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    for document in ["cleared", "held", "read", "closed"] {
        write(&server, document, "text").await;
    }
    drop(server);

    // Once, and then its author syncs without harm.
    leave_note(data.path(), "cleared", FIRST_SYNC);
    let server = Server::start(data.path());
    assert!(succeed(data.path(), &["quarantine", "list"]).starts_with("suspect "));
    write(&server, "cleared", " more").await;
    let deadline = std::time::Instant::now() + syncline_tests::PATIENCE;
    while succeed(data.path(), &["quarantine", "list"]).contains("cleared") {
        assert!(std::time::Instant::now() < deadline, "the suspicion stays");
    }
    drop(server);

    // Twice in a row.
    for _ in 0..2 {
        leave_note(data.path(), "held", FIRST_SYNC);
        drop(Server::start(data.path()));
    }
    // Once while it was read: another process reads it first, and survives.
    leave_note(data.path(), "read", LOAD);
    let server = Server::start(data.path());
    write(&server, "read", " more").await;
    let mut held = Client::join(&url(&server, "held")).await;
    held.splice(0, 0, "more").await;
    held.until("a refusal", |client| !client.denied.is_empty()).await;
    assert_eq!(held.content(), "moretext", "its own copy");
    assert_eq!(content(&server, "held").await, "text");
    drop(server);

    // Twice while it was read.
    for _ in 0..2 {
        leave_note(data.path(), "closed", LOAD);
        drop(Server::start(data.path()));
    }
    let server = Server::start(data.path());
    assert_eq!(ending(&url(&server, "closed"), Vec::new()).await.code, 4503);
    let listed = succeed(data.path(), &["quarantine", "list"]);
    assert!(listed.contains("closed ") && !listed.contains(" read:"), "{listed}");
    for document in ["cleared", "read"] {
        assert_eq!(content(&server, document).await, "text more");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trouble_5_a_released_document_is_opened_afresh_beside_the_server() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    write(&server, "a", "text ").await;
    let entry = syncline_server::quarantine::Entry {
        document: "a".parse().unwrap(),
        standing: syncline_server::quarantine::QuarantineState::ReadOnly,
        since: syncline_protocol::Timestamp::from_unix_ms(0),
        cause: "a test".to_owned(),
    };
    drop(server);
    syncline_server::quarantine::Quarantine::in_folder(data.path()).put(&entry).unwrap();
    let server = Server::start(data.path());
    let mut client = Client::join(&url(&server, "a")).await;
    client.splice(0, 0, "refused ").await;
    client.until("a refusal", |client| !client.denied.is_empty()).await;
    succeed(data.path(), &["quarantine", "release", "a"]);
    assert!(!client.until_or_gone(|_| false).await, "its clients come back");
    write(&server, "a", "more").await;
    assert_eq!(content(&server, "a").await, "text more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trouble_6_a_log_that_goes_bad_under_a_live_document_is_made_whole() {
    let data = tempfile::tempdir().unwrap();
    let config = data.path().join("syncline.toml");
    fs::write(&config, "[limits]\ncheck_seconds = 1\n").unwrap();
    let config = config.to_str().unwrap();
    let store = data.path().join("data");
    let server = Server::start_with(&store, "127.0.0.1:0", &[("SYNCLINE_CONFIG", config)]);
    let mut client = Client::join_v1(&url(&server, "a")).await;
    for word in ["before ", "the flip "] {
        client.splice(client.length(), 0, word).await;
        client.until("saved", |client| client.saved == client.sent).await;
    }
    flip(&store, b"before ");
    fail(&store, &["verify"], 65);
    // The comparison needs no help; a snapshot of what is in memory takes the place of the log.
    let deadline = std::time::Instant::now() + syncline_tests::PATIENCE;
    while !syncline(&store, &["verify", "--doc", "a"]).status.success() {
        assert!(std::time::Instant::now() < deadline, "the log stays damaged");
    }
    client.splice(0, 0, "still here ").await;
    client.until("saved", |client| client.saved == client.sent).await;
    drop(server);
    let server = Server::start(&store);
    assert_eq!(content(&server, "a").await, "still here before the flip ");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trouble_6_a_snapshot_that_cannot_be_decoded_costs_nothing() {
    let data = tempfile::tempdir().unwrap();
    let config = data.path().join("syncline.toml");
    fs::write(&config, "[limits]\ncheck_seconds = 1\n").unwrap();
    let store = data.path().join("data");
    let mut server = Server::start(&store);
    write(&server, "a", "one ").await;
    write(&server, "a", "two ").await;
    assert!(server.stop("TERM").success());
    let embedded = Embedded::open(EmbeddedOptions::new(&store)).unwrap();
    let state = b"no update".as_slice().into();
    let lie = Snapshot { through: Sequence::new(2), state };
    embedded.write_snapshot(&"a".parse().unwrap(), &lie).unwrap();
    embedded.close().unwrap();
    drop(embedded);
    fail(&store, &["verify"], 65);

    let config = config.to_str().unwrap();
    let server = Server::start_with(&store, "127.0.0.1:0", &[("SYNCLINE_CONFIG", config)]);
    let mut client = Client::join_v1(&url(&server, "a")).await;
    assert_eq!(client.content(), "one two ");
    let deadline = std::time::Instant::now() + syncline_tests::PATIENCE;
    while !syncline(&store, &["verify", "--doc", "a"]).status.success() {
        assert!(std::time::Instant::now() < deadline, "the snapshot stays");
    }
    client.splice(client.length(), 0, "three ").await;
    client.until("saved", |client| client.saved == client.sent).await;
    drop(server);
    assert_eq!(content(&Server::start(&store), "a").await, "one two three ");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backup_3_a_backup_beside_a_busy_server_holds_what_was_acknowledged() {
    let data = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("all.backup");
    let server = Server::start(data.path());
    let epoch = write(&server, "a", "acknowledged ").await;
    write(&server, "b/c", "too ").await;
    let busy = {
        let url = url(&server, "a");
        tokio::spawn(async move {
            let mut client = Client::join_v1(&url).await;
            for _ in 0..2_000 {
                client.splice(0, 0, ".").await;
            }
            client.until("saved", |client| client.saved == client.sent).await;
        })
    };
    succeed(data.path(), &["backup", file.to_str().unwrap()]);
    fail(data.path(), &["backup", file.to_str().unwrap()], 73);
    busy.await.unwrap();

    let restored = folder.path().join("restored");
    succeed(&restored, &["restore", file.to_str().unwrap()]);
    fail(&restored, &["restore", file.to_str().unwrap()], 73);
    succeed(&restored, &["verify"]);
    let other = Server::start(&restored);
    assert!(content(&other, "a").await.trim_start_matches('.').starts_with("acknowledged"));
    assert_eq!(content(&other, "b/c").await, "too ");

    // BACKUP-5: whoever was connected to the old server heals the new one.
    let doc = Client::join(&url(&server, "a")).await.doc;
    write(&server, "a", "newer").await;
    let newer = Client::join(&url(&server, "a")).await.doc;
    drop(doc);
    let healed = format!("{}&epoch={epoch}", url(&other, "a"));
    let mut client = Client::join_as(&healed, newer, Some("syncline.v1")).await;
    client.until("saved", |client| client.saved == client.sent).await;
    assert!(content(&other, "a").await.ends_with("newer"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backup_5_a_restore_as_a_new_history_refuses_the_old_clients() {
    let data = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("all.backup");
    let server = Server::start(data.path());
    let epoch = write(&server, "a", "text").await;
    succeed(data.path(), &["backup", file.to_str().unwrap()]);
    let restored = folder.path().join("restored");
    succeed(&restored, &["restore", file.to_str().unwrap(), "--new-epoch"]);
    let other = Server::start(&restored);
    assert_eq!(turned_away(&other, "a", &epoch).await, 4409);
    assert_eq!(content(&other, "a").await, "text");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backup_4_a_damaged_backup_leaves_the_folder_empty() {
    let data = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("all.backup");
    let server = Server::start(data.path());
    write(&server, "a", "text").await;
    succeed(data.path(), &["backup", file.to_str().unwrap()]);
    let mut bytes = fs::read(&file).unwrap();
    let end = bytes.len() - 1;
    bytes[end] ^= 1;
    fs::write(&file, bytes).unwrap();
    let restored = folder.path().join("restored");
    let text = fail(&restored, &["restore", file.to_str().unwrap()], 65);
    assert!(text.contains("damaged at byte"), "{text}");
    assert!(fs::read_dir(&restored).map_or(true, |mut entries| entries.next().is_none()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tool_2_export_and_import_carry_a_document_as_a_yjs_update() {
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("a.yjs");
    let file = file.to_str().unwrap();
    let store = data.path().join("data");
    let server = Server::start(&store);
    write(&server, "a", "one ").await;
    write(&server, "a", "two ").await;
    succeed(&store, &["export", "a", "--out", file]);
    fail(&store, &["export", "nothing"], 66);
    let doc = new_doc();
    let text = doc.get_or_insert_text("t");
    let update = Update::decode_v1(&fs::read(file).unwrap()).unwrap();
    doc.transact_mut().apply_update(update).unwrap();
    assert_eq!(text.get_string(&doc.transact()), "one two ");

    text.insert(&mut doc.transact_mut(), 0, "zero ");
    let state = doc.transact().encode_diff_v1(&StateVector::default());
    fs::write(file, state).unwrap();
    let busy = fail(&store, &["import", "a", file], 75);
    assert!(busy.contains(&format!("pid {}", server.pid())), "{busy}");
    drop(server);
    succeed(&store, &["import", "a", file]);
    assert!(succeed(&store, &["import", "a", file]).contains("holds all of that already"));
    succeed(&store, &["import", "new", file]);
    fs::write(file, b"no update").unwrap();
    fail(&store, &["import", "a", file], 65);
    let server = Server::start(&store);
    assert_eq!(content(&server, "a").await, "zero one two ");
    assert_eq!(content(&server, "new").await, "zero one two ");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tool_3_what_was_replaced_or_deleted_does_not_come_back() {
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("a.yjs");
    let file = file.to_str().unwrap();
    let store = data.path().join("data");
    let server = Server::start(&store);
    let epoch = write(&server, "a", "old").await;
    assert_eq!(write(&server, "gone", "old").await, epoch);
    let held = Client::join(&url(&server, "a")).await.doc;
    drop(server);
    let doc = new_doc();
    doc.get_or_insert_text("t").insert(&mut doc.transact_mut(), 0, "new");
    fs::write(file, doc.transact().encode_diff_v1(&StateVector::default())).unwrap();
    succeed(&store, &["import", "a", file, "--replace"]);
    fail(&store, &["delete", "gone"], 2);
    succeed(&store, &["delete", "gone", "--yes"]);
    fail(&store, &["delete", "gone", "--yes"], 66);

    let server = Server::start(&store);
    for document in ["a", "gone"] {
        assert_eq!(turned_away(&server, document, &epoch).await, 4409, "{document}");
    }
    assert_eq!(content(&server, "a").await, "new");
    assert_eq!(content(&server, "gone").await, "");
    let fresh = write(&server, "gone", "begun again").await;
    assert_ne!(fresh, epoch);
    // A client that says nothing of its history is taken at its word.
    drop(Client::join_as(&url(&server, "a"), held, None).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tool_6_what_writes_is_refused_beside_a_server_and_changes_nothing() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    write(&server, "a", "text").await;
    let before = journal_bytes(data.path());
    let file = data.path().join("syncline.lock");
    let file = file.to_str().unwrap();
    for words in
        [["import", "a", file].as_slice(), &["delete", "a", "--yes"], &["compact"], &["rebuild"]]
    {
        let text = fail(data.path(), words, 75);
        assert!(text.contains(&format!("pid {}", server.pid())), "{words:?}: {text}");
    }
    assert_eq!(journal_bytes(data.path()), before);
    assert_eq!(content(&server, "a").await, "text");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tool_4_compact_leaves_one_state_of_each_document() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let mut client = Client::join_v1(&url(&server, "a")).await;
    for at in 0..20_000 {
        client.splice_lazily(at, 0, "x").await;
    }
    client.flush().await;
    client.until("saved", |client| client.saved == client.sent).await;
    let state = client.doc.transact().encode_diff_v1(&StateVector::default()).len() as u64;
    let epoch = client.epoch.clone().unwrap();
    let wanted = client.content();
    drop(server);
    let before = journal_bytes(data.path());
    succeed(data.path(), &["compact"]);
    succeed(data.path(), &["verify"]);
    let after = journal_bytes(data.path());
    assert!(after < before / 10, "{before} bytes became {after}");
    assert!(after < 2 * state + 4_096, "{after} bytes for a state of {state}");
    let server = Server::start(data.path());
    assert_eq!(content(&server, "a").await, wanted);
    assert_eq!(write(&server, "a", "more").await, epoch);
}

fn journal_bytes(data: &Path) -> u64 {
    let files = fs::read_dir(data.join("journal")).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tool_5_the_cache_may_be_deleted_or_damaged() {
    let data = tempfile::tempdir().unwrap();
    let mut server = Server::start(data.path());
    let mut wanted = Vec::new();
    for document in ["a", "b"] {
        for round in 0..150 {
            write(&server, document, &format!("{round} ")).await;
        }
        wanted.push((document, content(&server, document).await));
    }
    assert!(server.stop("TERM").success());
    let cache = data.path().join("sled");
    for step in ["nothing", "deleted", "damaged", "rebuilt"] {
        match step {
            "deleted" => fs::remove_dir_all(&cache).unwrap(),
            "damaged" => fs::write(cache.join("db"), b"not a database").unwrap(),
            "rebuilt" => {
                fs::write(cache.join("conf"), b"?").unwrap();
                let text = succeed(data.path(), &["rebuild"]);
                assert!(text.contains("2 documents"), "{text}");
            }
            _ => {}
        }
        let server = Server::start(data.path());
        for (document, wanted) in &wanted {
            assert_eq!(content(&server, document).await, *wanted, "{step}");
        }
    }
}
