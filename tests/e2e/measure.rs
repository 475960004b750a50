//! Figures for the documentation. Not part of a normal run:
//! `cargo test --release -p syncline-tests --test e2e -- --ignored --nocapture measure_`

#![expect(clippy::print_stdout, reason = "printing figures is what these are for")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use syncline_protocol::{Access, DocumentName, Sequence, Snapshot, Timestamp};
use syncline_server::store::embedded::{Embedded, EmbeddedOptions};
use syncline_server::store::{Record, Store};
use syncline_tests::client::Client;
use syncline_tests::server::{Server, binary, token};
use syncline_tests::trace;
use yrs::{ReadTxn, StateVector, Transact};

/// CPU time of all threads, in clock ticks of 10 ms.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints a figure"]
async fn measure_idle_connections() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let before = server.resident_bytes() / 1024;
    let mut clients = Vec::new();
    for index in 0..2_000 {
        let name = format!("idle/{}", index % 200);
        clients.push(Client::join(&server.url(&name, &token(&name, Access::Write))).await);
    }
    let after = server.resident_bytes() / 1024;
    println!(
        "2,000 connections over 200 documents: {:.1} KiB each ({before} -> {after} KiB)",
        (after - before) as f64 / 2_000.0
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints a figure"]
async fn measure_fan_out_to_100_readers() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let url = server.url("fan", &token("fan", Access::Write));
    let mut readers = Vec::new();
    for _ in 0..100 {
        readers.push(Client::join(&url).await);
    }
    let mut writer = Client::join_v1(&url).await;
    let updates: u32 = 2_000;
    let before = cpu_ticks(server.pid());
    for update in 1..=updates {
        writer.splice(0, 0, "x").await;
        for reader in &mut readers {
            reader.until("the update", |reader| reader.length() == update).await;
        }
    }
    let cpu_us = (cpu_ticks(server.pid()) - before) * 10_000;
    let deliveries = u64::from(updates) * 100;
    println!(
        "fan-out to 100, one update under way: {:.2} us CPU a delivery, {:.0} us an update",
        cpu_us as f64 / deliveries as f64,
        cpu_us as f64 / f64::from(updates)
    );
}

/// The recorded paper, typed four times over: about a million keystrokes in one document.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints a figure"]
async fn measure_a_million_keystrokes() {
    let trace = trace::load("automerge-paper");
    let data = tempfile::tempdir().unwrap();
    let mut server = Server::start(data.path());
    let token = token("paper", Access::Write);
    for copy in 1..=4 {
        let mut writer = Client::join_v1(&server.url("paper", &token)).await;
        for (index, txn) in trace.txns.iter().enumerate() {
            for (at, deleted, inserted) in &txn.patches {
                writer.splice_lazily(*at, *deleted, inserted).await;
            }
            if index % 64 == 0 {
                writer.flush().await;
            }
        }
        writer.flush().await;
        let patience = std::time::Duration::from_secs(60);
        writer.until_within(patience, "saved", |writer| writer.saved == writer.sent).await;
        let state = state_bytes(&writer);
        let running = journal_bytes(data.path());
        drop(writer);
        assert!(server.stop("TERM").success());
        server = Server::start(data.path());
        let url = server.url("paper", &token);
        let begun = Instant::now();
        let client = Client::join(&url).await;
        let (cold, begun) = (begun.elapsed(), Instant::now());
        drop(Client::join(&url).await);
        let warm = begun.elapsed();
        drop(client);
        println!(
            "{copy} x 259,778 keystrokes: journal {running} bytes, state {state}; ready after {:?}; \
             first join {cold:?}, next {warm:?}, a client's decoding included",
            server.ready_after()
        );
    }
    let client = Client::join(&server.url("paper", &token)).await;
    let state = state_bytes(&client);
    drop((client, server));
    let compact = Command::new(binary()).arg("compact").arg("--data").arg(data.path()).output();
    assert!(compact.unwrap().status.success());
    let after = journal_bytes(data.path());
    println!("compacted: {after} bytes, {:.2} times the state", after as f64 / state as f64);
}

fn state_bytes(client: &Client) -> usize {
    client.doc.transact().encode_diff_v1(&StateVector::default()).len()
}

pub(crate) fn journal_bytes(data: &Path) -> u64 {
    let files = fs::read_dir(data.join("journal")).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints a figure"]
async fn measure_a_start_with_10_000_documents() {
    let data = tempfile::tempdir().unwrap();
    let store = Embedded::open(EmbeddedOptions::new(data.path())).unwrap();
    for document in 0..10_000_u64 {
        let name: DocumentName = format!("team/{document}").parse().unwrap();
        let records: Vec<_> = (1..=100)
            .map(|sequence| Record {
                document: name.clone(),
                sequence: Sequence::new(sequence),
                time: Timestamp::from_unix_ms(0),
                author: "ada".into(),
                update: vec![7; 100].into(),
            })
            .collect();
        store.append(&records).unwrap();
        if document % 2 == 0 {
            let state = vec![7; 8_000].into();
            store.write_snapshot(&name, &Snapshot { through: Sequence::new(90), state }).unwrap();
        }
    }
    store.close().unwrap();
    drop(store);
    let bytes = journal_bytes(data.path());
    for _ in 0..3 {
        let server = Server::start(data.path());
        println!("10,000 documents, {bytes} bytes: ready after {:?}", server.ready_after());
    }
}
