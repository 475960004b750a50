//! The end of a server under load: whatever was acknowledged is still there.

use std::io;
use std::path::PathBuf;

use syncline_protocol::Access;
use syncline_tests::client::Client;
use syncline_tests::lives::{Kill, Lives, UpdateOutcome, endure};
use syncline_tests::server::{Server, token};

const ROUNDS: u64 = 30;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn run_2_kill_9_loses_nothing_that_was_acknowledged() {
    let data = tempfile::tempdir().unwrap();
    let lives = Lives { rounds: ROUNDS, seed: 9, padding: 0 };
    let outcome = endure(lives, &mut Kill(data.path().to_owned())).await.unwrap();
    assert!(outcome.is_clean(), "{outcome:#?}");
    let marks = outcome.acknowledged;
    assert!(marks > ROUNDS, "only {marks} marks were acknowledged: this test shows nothing");
}

/// An ordinary disk, and a signal that asks.
struct Signals {
    data: tempfile::TempDir,
    next: &'static str,
    then: &'static str,
}

impl UpdateOutcome for Signals {
    fn folder(&self) -> PathBuf {
        self.data.path().to_owned()
    }

    fn strike(&mut self, server: &mut Server) -> io::Result<()> {
        let status = server.stop(self.next);
        std::mem::swap(&mut self.next, &mut self.then);
        if status.success() { Ok(()) } else { Err(io::Error::other(status.to_string())) }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn run_1_a_signal_under_load_loses_nothing_that_was_acknowledged() {
    let data = tempfile::tempdir().unwrap();
    let mut signals = Signals { data, next: "TERM", then: "INT" };
    let lives = Lives { rounds: 6, seed: 1, padding: 0 };
    let outcome = endure(lives, &mut signals).await.unwrap();
    assert!(outcome.is_clean(), "{outcome:#?}");
    assert!(outcome.acknowledged > 6, "this test shows nothing: {outcome:#?}");
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
