//! Figures for the documentation. Not part of a normal run:
//! `cargo test --release -p syncline-tests --test e2e -- --ignored --nocapture measure_`

#![expect(clippy::print_stdout, reason = "printing figures is what these are for")]

use std::fs;

use syncline_protocol::Access;
use syncline_tests::client::Client;
use syncline_tests::server::{Server, token};

fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

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
    let before = resident_kib(server.pid());
    let mut clients = Vec::new();
    for index in 0..2_000 {
        let name = format!("idle/{}", index % 200);
        clients.push(Client::join(&server.url(&name, &token(&name, Access::Write))).await);
    }
    let after = resident_kib(server.pid());
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
