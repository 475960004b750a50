//! kill -9 under load: whatever was acknowledged is still there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use syncline_protocol::Access;
use syncline_tests::Random;
use syncline_tests::client::Client;
use syncline_tests::server::{Server, token};
use tokio::time::timeout;

const ROUNDS: u64 = 30;
const WRITERS: u64 = 8;
const DOCUMENTS: u64 = 20;

/// How many marks of each writer are known to be on disk, by document.
type Saved = Arc<Mutex<BTreeMap<(String, u64, u64), u64>>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn run_2_kill_9_loses_nothing_that_was_acknowledged() {
    let data = tempfile::tempdir().unwrap();
    let mut server = Server::start(data.path());
    let mut random = Random::new(9);
    let saved = Saved::default();
    for round in 0..ROUNDS {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let name = format!("crash/{}", (round + writer * 3) % DOCUMENTS);
                let url = server.url(&name, &token(&name, Access::Write));
                tokio::spawn(write(url, name, writer, round, Arc::clone(&saved)))
            })
            .collect();
        let life = Duration::from_millis(50 + random.below(250));
        // The one wait that is not for a condition: the moment of the kill is what varies.
        drop(timeout(life, std::future::pending::<()>()).await);
        server.kill();
        for writer in writers {
            writer.await.unwrap();
        }
        server = server.kill_and_restart();
        check(&server, &saved).await;
    }
    let marks: u64 = saved.lock().unwrap().values().sum();
    assert!(marks > ROUNDS, "only {marks} marks were acknowledged: this test shows nothing");
}

/// Types marks at the end of a document until the server is gone, and notes which are saved.
async fn write(url: String, name: String, writer: u64, round: u64, saved: Saved) {
    let joining = timeout(Duration::from_secs(5), Client::try_join_v1(&url)).await;
    let Ok(Some(mut client)) = joining else { return };
    let before = client.sent;
    for mark in 1.. {
        let at = client.length();
        if client.try_splice(at, &format!("{writer}.{round}.{mark};")).await.is_err() {
            return;
        }
        let wanted = client.sent;
        let known = client.until_or_gone(|client| client.saved >= wanted).await;
        let marks = client.saved.saturating_sub(before);
        if marks > 0 {
            saved.lock().unwrap().insert((name.clone(), writer, round), marks);
        }
        if !known {
            return;
        }
    }
}

async fn check(server: &Server, saved: &Saved) {
    let saved = saved.lock().unwrap().clone();
    let names: std::collections::BTreeSet<_> =
        saved.keys().map(|(name, ..)| name.clone()).collect();
    for name in names {
        let url = server.url(&name, &token(&name, Access::Read));
        let text = Client::join(&url).await.content();
        let present: std::collections::BTreeSet<&str> = text.split(';').collect();
        for ((_, writer, round), &marks) in saved.iter().filter(|((of, ..), _)| *of == name) {
            for mark in 1..=marks {
                let mark = format!("{writer}.{round}.{mark}");
                assert!(present.contains(&*mark), "{name} lost the acknowledged mark {mark}");
            }
        }
    }
}

/// What was saved in two lives of the process is there in the third, and both ended with exit 0.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn run_1_a_signal_drains_and_exits_cleanly() {
    let data = tempfile::tempdir().unwrap();
    let mut server = Server::start(data.path());
    for (end, mark) in [("TERM", "one "), ("INT", "two ")] {
        let url = server.url("notes", &token("notes", Access::Write));
        let mut client = Client::join_v1(&url).await;
        let at = client.length();
        client.splice(at, 0, mark).await;
        client.until("saved", |client| client.saved == client.sent).await;
        let stopped = server.stop(end);
        assert!(stopped.success(), "SIG{end}: {stopped}");
        server = Server::start(data.path());
    }
    let url = server.url("notes", &token("notes", Access::Read));
    assert_eq!(Client::join(&url).await.content(), "one two ");
}
