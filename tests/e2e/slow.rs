//! Readers that fall behind.

use syncline_protocol::Access;
use syncline_tests::PATIENCE;
use syncline_tests::client::Client;
use syncline_tests::server::{Server, token};
use tokio::time::timeout;

/// Closes after which a client comes back: `overloaded` and its like, a restart, a fault.
const RETRIABLE: [u16; 3] = [4503, 1012, 1011];

/// Megabytes are written while a client reads nothing: its queue overflows, is dropped, and one
/// diff makes up for all of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replay_3_a_stalled_reader_catches_up_without_a_gap() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let url = server.url("slow", &token("slow", Access::Write));
    let mut stalled = Client::join(&url).await;
    let mut writer = Client::join_v1(&url).await;
    let chunk = "x".repeat(64 * 1024);
    // More than the outbox (4 MiB) and what the kernel buffers between the two.
    for _ in 0..512 {
        writer.splice(0, 0, &chunk).await;
        writer.splice(0, u32::try_from(chunk.len() - 1).unwrap(), "").await;
    }
    writer.until("everything is on disk", |writer| writer.saved == writer.sent).await;
    let expected = writer.content();
    stalled.until("the rest", |stalled| stalled.content() == expected).await;
}

/// A thousand stop reading while 200 MiB pass. A frame that is queued for all of them is there once,
/// so that only queues without a bound, or copies in the kernel, would cost that much.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replay_4_readers_that_stop_cost_no_more_than_their_queues_and_miss_nothing() {
    const READERS: usize = 1_000;
    const UPDATES: u32 = 3_200;
    // 64 MiB for all of them, less than a third of what passes.
    const OUTBOX: usize = 64 * 1024;
    const KERNEL_MAX: u64 = 512 * 1024;
    let descriptors = rlimit::increase_nofile_limit(4 * READERS as u64).unwrap();
    assert!(descriptors > 2 * READERS as u64, "{descriptors} descriptors are too few");
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("syncline.toml");
    std::fs::write(&config, format!("[limits]\noutbox_bytes = {OUTBOX}\n")).unwrap();
    let environment = [("SYNCLINE_CONFIG", config.to_str().unwrap())];
    let server = Server::start_with(&folder.path().join("data"), "127.0.0.1:0", &environment);
    let url = server.url("slow", &token("slow", Access::Write));
    let mut healthy = Client::join(&url).await;
    let mut stalled = Vec::new();
    for _ in 0..READERS {
        stalled.push(Client::join(&url).await);
    }
    let mut writer = Client::join_v1(&url).await;
    let (mut before, mut most) = (0, 0);
    for number in 0..UPDATES {
        let text = char::from(b'a' + (number % 26) as u8).to_string().repeat(64 * 1024);
        writer.splice(0, writer.length(), &text).await;
        healthy.until("the update", |healthy| healthy.content() == text).await;
        if number % 64 == 63 {
            writer.until("everything is on disk", |writer| writer.saved == writer.sent).await;
            most = most.max(server.resident_bytes());
        } else if number == 0 {
            before = server.resident_bytes();
        }
    }
    let grown = most.saturating_sub(before);
    let queues = (READERS * OUTBOX) as u64;
    assert!(grown <= queues * 3 / 2, "{grown} bytes for queues of {queues}");
    let held = server.unsent_bytes();
    assert!(held.iter().all(|bytes| *bytes <= KERNEL_MAX), "the kernel holds {held:?}");
    assert!(held.iter().filter(|bytes| **bytes > 0).count() >= READERS, "nobody is behind");
    let expected = writer.content();
    for mut reader in stalled {
        let caught_up =
            timeout(PATIENCE, reader.until_or_gone(|reader| reader.content() == expected));
        let caught_up = caught_up.await.expect("it has everything, or is hung up on");
        let code = reader.ended.map(|ended| ended.code);
        assert!(caught_up || code.is_some_and(|code| RETRIABLE.contains(&code)), "{code:?}");
    }
}
