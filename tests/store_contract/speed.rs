//! Figures for whoever asks: `cargo test -p syncline-tests --test store_contract -- --ignored
//! --nocapture speed`.
#![expect(clippy::print_stdout, reason = "the figures are the point")]

use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use syncline_protocol::Sequence;
use syncline_server::store::writer::{Durable, Progress, StoreWriter, Urgency, WriterLimits};
use syncline_server::store::{Record, Store};
use tempfile::TempDir;

use crate::subject::{name, open, open_journal, record, snapshot};

const SEGMENT_BYTES: u64 = 64 << 20;

#[test]
#[ignore = "measures"]
fn speed_of_a_raw_sync_per_record() {
    let folder = TempDir::new_in(".").unwrap();
    let mut file = File::create(folder.path().join("raw")).unwrap();
    let started = Instant::now();
    let mut waits = Vec::new();
    while started.elapsed() < Duration::from_secs(3) {
        let one = Instant::now();
        file.write_all(&[7; 120]).unwrap();
        file.sync_data().unwrap();
        waits.push(one.elapsed());
    }
    let rate = waits.len() as f64 / started.elapsed().as_secs_f64();
    waits.sort_unstable();
    let (p50, p99) = (waits[waits.len() / 2], waits[waits.len() * 99 / 100]);
    println!("raw: {rate:.0} synced records/s, p50 {p50:?}, p99 {p99:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures"]
async fn speed_of_group_commit() {
    for writers in [1, 16, 256] {
        let folder = TempDir::new_in(".").unwrap();
        let store = Arc::new(open(folder.path(), SEGMENT_BYTES));
        let (writer, thread) = StoreWriter::start(store, WriterLimits::DEFAULT);
        let started = Instant::now();
        let tasks: Vec<_> = (0..writers)
            .map(|number| tokio::spawn(append_one_by_one(writer.clone(), number)))
            .collect();
        let mut waits = Vec::new();
        for task in tasks {
            waits.extend(task.await.unwrap());
        }
        let rate = waits.len() as f64 / started.elapsed().as_secs_f64();
        waits.sort_unstable();
        let (p50, p99) = (waits[waits.len() / 2], waits[waits.len() * 99 / 100]);
        println!("{writers} writers: {rate:.0} acknowledged/s, p50 {p50:?}, p99 {p99:?}");
        thread.stop().await.unwrap();
    }
}

/// One update at a time, as a document does whose author waits for "saved".
async fn append_one_by_one(writer: StoreWriter, number: usize) -> Vec<Duration> {
    let document = format!("document-{number}");
    let (progress, mut durable) = Progress::new(Sequence::ZERO);
    let started = Instant::now();
    let mut waits = Vec::new();
    for sequence in 1.. {
        if started.elapsed() > Duration::from_secs(3) {
            break;
        }
        let one = Record { update: vec![7; 50].into(), ..record(&document, sequence) };
        let sent = Instant::now();
        writer.append(one, Urgency::Awaited, &progress).await.unwrap();
        let goal = Durable::Through(Sequence::new(sequence));
        durable.wait_for(|durable| *durable == goal).await;
        waits.push(sent.elapsed());
    }
    waits
}

#[test]
#[ignore = "measures"]
fn speed_of_opening_a_large_journal() {
    for (bytes, documents) in [(50, 1000), (50, 100_000), (2000, 1000)] {
        let folder = TempDir::new_in(".").unwrap();
        let store = open(folder.path(), SEGMENT_BYTES);
        let names: Vec<_> = (0..documents).map(|number| format!("document-{number}")).collect();
        let (mut written, mut count) = (0, 0_u64);
        for sequence in 1.. {
            if written > 200 << 20 {
                break;
            }
            for names in names.chunks(1000) {
                let one = |name: &String| Record {
                    update: vec![7; bytes].into(),
                    ..record(name, sequence)
                };
                let batch: Vec<_> = names.iter().map(one).collect();
                store.append(&batch).unwrap();
                count += batch.len() as u64;
                written += batch.len() * (bytes + 60);
            }
        }
        drop(store);
        let started = Instant::now();
        let store = open(folder.path(), SEGMENT_BYTES);
        println!(
            "open: {count} records of {bytes} B in {documents} documents, {} MB: {:?}",
            written >> 20,
            started.elapsed()
        );
        assert_eq!(store.documents().len(), documents);
    }
}

#[test]
#[ignore = "measures"]
fn speed_of_a_large_snapshot() {
    let folder = TempDir::new_in(".").unwrap();
    let store = open(folder.path(), SEGMENT_BYTES);
    for sequence in 1..=5 {
        store.append(&[record("a", sequence)]).unwrap();
        let state = snapshot("a", sequence, 16 << 20);
        let started = Instant::now();
        store.write_snapshot(&name("a"), &state).unwrap();
        println!("snapshot of 16 MiB: {:?}", started.elapsed());
    }
}

#[test]
#[ignore = "measures"]
fn speed_of_appends_beside_a_large_snapshot() {
    for bytes in [0, 3 << 20, 30 << 20] {
        let folder = TempDir::new_in(".").unwrap();
        let store = open_journal(folder.path(), SEGMENT_BYTES);
        store.append(&[record("large", 1)]).unwrap();
        let state = snapshot("large", 1, bytes);
        let done = AtomicBool::new(false);
        let mut waits = thread::scope(|scope| {
            let appending = scope.spawn(|| {
                let mut waits = Vec::new();
                for sequence in 1.. {
                    let started = Instant::now();
                    store.append(&[record("small", sequence)]).unwrap();
                    waits.push(started.elapsed());
                    if done.load(Ordering::Acquire) {
                        break;
                    }
                }
                waits
            });
            let started = Instant::now();
            let mut snapshots = 0;
            while started.elapsed() < Duration::from_secs(3) {
                if bytes > 0 {
                    store.write_snapshot(&name("large"), &state).unwrap();
                    snapshots += 1;
                }
            }
            println!("{snapshots} snapshots of {} MiB in 3 s", bytes >> 20);
            done.store(true, Ordering::Release);
            appending.join().unwrap()
        });
        waits.sort_unstable();
        let at = |part: f64| waits[((waits.len() - 1) as f64 * part) as usize];
        let (p50, p99, max) = (at(0.5), at(0.99), at(1.0));
        println!("  appends beside: p50 {p50:?}, p99 {p99:?}, max {max:?}, {} in all", waits.len());
    }
}
