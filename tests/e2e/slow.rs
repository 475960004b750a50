//! Readers that fall behind.

use syncline_protocol::Access;
use syncline_tests::client::Client;
use syncline_tests::server::{Server, token};

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
