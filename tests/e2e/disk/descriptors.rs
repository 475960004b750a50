//! When the system gives no more descriptors, who is connected goes on.

use std::process::Command;

use syncline_protocol::Access;
use syncline_tests::client::Client;
use syncline_tests::server::{Server, token};

use crate::disk::{Pair, skip, text_of};

/// Sets the limit of a running process, with its soft part alone.
fn limit(server: &Server, descriptors: u64) -> bool {
    let pid = server.pid().to_string();
    let limit = format!("--nofile={descriptors}:");
    let set = Command::new("prlimit").args(["--pid", &pid, &limit]).status();
    set.is_ok_and(|status| status.success())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disk_5_without_descriptors_who_is_connected_goes_on() {
    let data = tempfile::tempdir().unwrap();
    let mut server = Server::start(data.path());
    let mut pair = Pair::join(&server, "crowded").await;
    pair.save("before;").await;
    let descriptors = format!("/proc/{}/fd", server.pid());
    let Ok(open) = std::fs::read_dir(&descriptors).map(Iterator::count) else {
        return skip("there is no /proc");
    };
    if !limit(&server, 3) {
        return skip("prlimit is missing");
    }
    let url = server.url("crowded", &token("crowded", Access::Read));
    let newcomer = tokio::spawn(async move { Client::join(&url).await });
    for mark in 0..100 {
        pair.save(&format!("{mark};")).await;
    }
    let written = pair.writer.content();
    pair.reader.until("every mark", |reader| reader.content() == written).await;
    assert!(!newcomer.is_finished(), "there was no descriptor for it");

    assert!(limit(&server, open as u64 + 100));
    assert_eq!(newcomer.await.unwrap().content(), written);
    server.kill();
    let server = Server::start(data.path());
    assert_eq!(text_of(&server, "crowded").await, written);
}
