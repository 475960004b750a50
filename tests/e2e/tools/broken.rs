//! The commands on folders and documents with which something is wrong.

use std::fs;
use std::path::Path;

use syncline_protocol::{DocumentName, Sequence, Snapshot, Timestamp};
use syncline_server::quarantine::{CrashSite, Entry, Quarantine, QuarantineState};
use syncline_server::store::embedded::{Embedded, EmbeddedOptions};
use syncline_server::store::{Record, Store};
use syncline_tests::client::new_doc;
use syncline_tests::server::Server;
use yrs::{Map, ReadTxn, StateVector, Text, Transact};

use super::{content, fail, flip_update, journal_bytes, succeed, syncline, turned_away, write};

/// Holds `document` in quarantine, or suspects it.
fn hold(data: &Path, document: &str, standing: QuarantineState) {
    let (document, cause) = (document.parse().unwrap(), "a test".to_owned());
    let entry = Entry { document, standing, since: Timestamp::from_unix_ms(0), cause };
    Quarantine::in_folder(data).put(&entry).unwrap();
}

fn is_listed(data: &Path, document: &str) -> bool {
    succeed(data, &["quarantine", "list"]).contains(&format!(" {document}: "))
}

fn with_store(data: &Path, work: impl FnOnce(&Embedded)) {
    let store = Embedded::open(EmbeddedOptions::new(data)).unwrap();
    work(&store);
    store.close().unwrap();
}

/// What every checksum is content with and no client could have written.
fn junk(through: u64) -> Snapshot {
    Snapshot { through: Sequence::new(through), state: b"no state at all".as_slice().into() }
}

/// An update that writes `word`, in a file.
fn update_file(folder: &Path, word: &str) -> String {
    let doc = new_doc();
    doc.get_or_insert_text("t").insert(&mut doc.transact_mut(), 0, word);
    let file = folder.join("update.yjs");
    fs::write(&file, doc.transact().encode_diff_v1(&StateVector::default())).unwrap();
    file.to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tool_7_accept_loss_loses_nothing_that_an_older_snapshot_still_leads_to() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    for word in ["one ", "two ", "three "] {
        write(&server, "a", word).await;
    }
    drop(server);
    let document: DocumentName = "a".parse().unwrap();
    with_store(data.path(), |store| store.write_snapshot(&document, &junk(3)).unwrap());
    fail(data.path(), &["verify", "--doc", "a"], 65);
    hold(data.path(), "a", QuarantineState::ReadOnly);
    let released = succeed(data.path(), &["quarantine", "release", "a", "--accept-loss"]);
    assert!(released.contains("update 3 of 3"), "{released}");
    succeed(data.path(), &["verify"]);
    let server = Server::start(data.path());
    assert_eq!(content(&server, "a").await, "one two three ");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tool_7_accept_loss_does_not_take_an_empty_document_for_a_good_one() {
    let data = tempfile::tempdir().unwrap();
    let store = data.path().join("data");
    let server = Server::start(&store);
    write(&server, "a", "text").await;
    drop(server);
    let document: DocumentName = "a".parse().unwrap();
    with_store(&store, |store| store.replace_log(&document, &junk(1)).unwrap());
    hold(&store, "a", QuarantineState::ReadOnly);
    let text = fail(&store, &["quarantine", "release", "a", "--accept-loss"], 65);
    assert!(text.contains("no state of a can be read"), "{text}");
    assert!(is_listed(&store, "a"));
    with_store(&store, |store| assert_eq!(store.documents()[0].last, Sequence::new(1)));

    // What the refusal proposes helps.
    let file = update_file(data.path(), "a copy");
    succeed(&store, &["import", "a", &file, "--replace"]);
    assert!(!is_listed(&store, "a"));
    let server = Server::start(&store);
    assert_eq!(content(&server, "a").await, "a copy");
}

#[test]
fn tool_7_accept_loss_does_not_drop_what_a_limit_refuses() {
    let data = tempfile::tempdir().unwrap();
    let store = data.path().join("data");
    let doc = new_doc();
    doc.get_or_insert_map("m").insert(&mut doc.transact_mut(), "sub", yrs::Doc::new());
    let record = Record {
        document: "a".parse().unwrap(),
        sequence: Sequence::new(1),
        time: Timestamp::from_unix_ms(0),
        author: "".into(),
        update: doc.transact().encode_diff_v1(&StateVector::default()).into(),
    };
    with_store(&store, |store| store.append(&[record]).unwrap());
    hold(&store, "a", QuarantineState::ReadOnly);
    let release = ["quarantine", "release", "a", "--accept-loss"];
    let text = fail(&store, &release, 65);
    assert!(text.contains("--config"), "{text}");
    assert!(is_listed(&store, "a"));

    let config = data.path().join("syncline.toml");
    fs::write(&config, "[limits]\nsubdocuments = true\n").unwrap();
    let with_config = [release.as_slice(), &["--config", config.to_str().unwrap()]].concat();
    assert!(succeed(&store, &with_config).contains("update 1 of 1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tool_7_accept_loss_is_not_for_a_suspect() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    write(&server, "a", "text").await;
    drop(server);
    hold(data.path(), "a", QuarantineState::Suspect(CrashSite::Load));
    let before = journal_bytes(data.path());
    let text = fail(data.path(), &["quarantine", "release", "a", "--accept-loss"], 65);
    assert!(text.contains("without --accept-loss"), "{text}");
    assert_eq!(journal_bytes(data.path()), before);
    succeed(data.path(), &["quarantine", "release", "a"]);
    assert!(!is_listed(data.path(), "a"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tool_8_a_document_in_quarantine_is_changed_only_by_what_replaces_it() {
    let data = tempfile::tempdir().unwrap();
    let store = data.path().join("data");
    let server = Server::start(&store);
    for word in ["one ", "two "] {
        write(&server, "a", word).await;
    }
    let epoch = write(&server, "gone", "text").await;
    drop(server);
    hold(&store, "a", QuarantineState::ReadOnly);
    hold(&store, "gone", QuarantineState::Closed);
    let file = update_file(data.path(), "more");
    let text = fail(&store, &["import", "a", &file], 65);
    assert!(text.contains("release it first"), "{text}");

    let output = syncline(&store, &["compact"]);
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("a is in quarantine") && said.contains("gone is in quarantine"),
        "{said}"
    );
    // Its single updates are still there.
    assert!(succeed(&store, &["quarantine", "release", "a", "--accept-loss"]).contains("2 of 2"));

    succeed(&store, &["delete", "gone", "--yes"]);
    assert!(!is_listed(&store, "gone"));
    succeed(&store, &["import", "a", &file]);
    let server = Server::start(&store);
    assert_eq!(turned_away(&server, "gone", &epoch).await, 4409);
    assert_eq!(content(&server, "gone").await, "");
    assert!(content(&server, "a").await.contains("one two "));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tool_10_a_mistyped_folder_is_not_taken_for_an_empty_one() {
    let data = tempfile::tempdir().unwrap();
    let store = data.path().join("data");
    let file = update_file(data.path(), "text");
    let backup = data.path().join("all.backup");
    let commands: [&[&str]; 11] = [
        &["verify"],
        &["backup", backup.to_str().unwrap()],
        &["export", "a"],
        &["import", "a", &file],
        &["import", "a", &file, "--replace"],
        &["delete", "a", "--yes"],
        &["compact"],
        &["rebuild"],
        &["quarantine", "list"],
        &["quarantine", "release", "a"],
        &["quarantine", "release", "a", "--accept-loss"],
    ];
    for words in commands {
        let text = fail(&store, words, 66);
        assert!(text.contains("is --data right?"), "{words:?}: {text}");
        assert!(!store.exists() && !backup.exists(), "{words:?}");
    }

    // Whatever the work comes to, a later cut of the journal is noticed.
    let server = Server::start(&store);
    write(&server, "a", "text").await;
    drop(server);
    let end = store.join("journal").join("end");
    assert!(!end.exists());
    fs::write(&file, b"no update").unwrap();
    fail(&store, &["import", "a", &file], 65);
    assert!(end.exists());
    succeed(&store, &["delete", "a", "--yes"]);
    assert!(end.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tool_11_the_exit_code_says_what_is_missing_and_what_is_in_the_way() {
    let data = tempfile::tempdir().unwrap();
    let store = data.path().join("data");
    let server = Server::start(&store);
    write(&server, "a", "text").await;
    drop(server);
    let there = update_file(data.path(), "text");
    let missing = data.path().join("missing");
    let missing = missing.to_str().unwrap();
    let folder = data.path().to_str().unwrap();
    let rows: [(&[&str], i32); 12] = [
        (&["verify", "--doc", "a"], 0),
        (&["verify", "--dco", "a"], 2),
        (&["delete", "a"], 2),
        (&["import", "a", &there, "--config", missing], 78),
        (&["verify", "--doc", "typo"], 66),
        (&["export", "typo"], 66),
        (&["delete", "typo", "--yes"], 66),
        (&["quarantine", "release", "typo"], 66),
        (&["import", "a", missing], 66),
        (&["import", "a", folder], 74),
        (&["restore", &there], 73),
        (&["backup", &there], 73),
    ];
    for (words, code) in rows {
        fail(&store, words, code);
    }
    let new = data.path().join("new");
    fail(&new, &["restore", missing], 66);
    fail(&new, &["restore", folder], 74);
    fail(&new, &["restore", &there], 65);
    assert!(!new.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backup_4_an_unfinished_restore_is_not_read() {
    let data = tempfile::tempdir().unwrap();
    let store = data.path().join("data");
    let server = Server::start(&store);
    write(&server, "a", "text").await;
    drop(server);
    fs::write(store.join("restore-unfinished"), b"").unwrap();
    let file = data.path().join("all.backup");
    let commands: [&[&str]; 5] = [
        &["verify"],
        &["backup", file.to_str().unwrap()],
        &["export", "a"],
        &["delete", "a", "--yes"],
        &["compact"],
    ];
    for words in commands {
        let text = fail(&store, words, 73);
        assert!(text.contains("did not finish"), "{words:?}: {text}");
    }
    assert!(!file.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backup_6_a_damaged_folder_is_backed_up_as_far_as_it_is_good() {
    let data = tempfile::tempdir().unwrap();
    let store = data.path().join("data");
    let mut server = Server::start(&store);
    for round in 0..3 {
        for document in ["first", "hurt", "last"] {
            write(&server, document, &format!("{round} ")).await;
        }
    }
    assert!(server.stop("TERM").success());
    flip_update(&store, "hurt", b"1 ");
    let file = data.path().join("one.backup");
    let text = fail(&store, &["backup", file.to_str().unwrap()], 65);
    assert!(text.contains("not in the backup: hurt: "), "{text}");
    assert!(text.contains("not complete"), "{text}");
    let restored = data.path().join("restored");
    succeed(&restored, &["restore", file.to_str().unwrap()]);
    fail(&restored, &["verify", "--doc", "hurt"], 66);
    let server = Server::start(&restored);
    for document in ["first", "last"] {
        assert_eq!(content(&server, document).await, "0 1 2 ");
    }
    drop(server);

    // Of what is cut off or illegible, nobody knows whose it was.
    let segment = fs::read_dir(store.join("journal")).unwrap().find_map(|entry| {
        let path = entry.unwrap().path();
        path.extension().is_some_and(|extension| extension == "wal").then_some(path)
    });
    let segment = segment.unwrap();
    let whole = fs::read(&segment).unwrap();
    let illegible = [vec![0; 256], whole[256..].to_vec()].concat();
    for (name, bytes) in [("cut", &whole[..whole.len() - 1]), ("illegible", &illegible)] {
        fs::write(&segment, bytes).unwrap();
        let file = data.path().join(name);
        let file = file.to_str().unwrap();
        let text = fail(&store, &["backup", file], 65);
        assert!(text.contains("not in the backup: "), "{name}: {text}");
        let restored = data.path().join(format!("{name} restored"));
        succeed(&restored, &["restore", file]);
    }
}
