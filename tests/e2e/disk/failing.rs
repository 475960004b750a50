//! A sync that fails is final: what is on disk is not known any more.

use syncline_tests::server::Server;

use crate::disk::strace::Faults;
use crate::disk::{Pair, text_of};

/// What sysexits.h has for an error of input or output.
const EX_IOERR: i32 = 74;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disk_1_nothing_is_acknowledged_after_the_first_failed_sync() {
    first_failure(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disk_1_nothing_is_acknowledged_after_the_second_sync_failed() {
    first_failure(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disk_1_nothing_is_acknowledged_after_the_twentieth_sync_failed() {
    first_failure(20).await;
}

/// Only the `nth` sync from here on fails. The ones after it would work, and must not count.
async fn first_failure(nth: u32) {
    let data = tempfile::tempdir().unwrap();
    let mut server = Server::start(data.path());
    Pair::join(&server, "other").await.save("untouched").await;
    let mut pair = Pair::join(&server, "failing").await;
    pair.save("before;").await;
    let what = format!("fdatasync:error=EIO:when={nth}");
    let Some(faults) = Faults::inject(&server, &what) else { return };
    let (acknowledged, reason) = pair.write_until_refused(&server, "mark;").await;
    assert_eq!(acknowledged.matches("mark;").count() as u32, nth - 1);
    assert!(reason.contains("store_unavailable"), "{reason}");
    assert!(reason.contains("Input/output error"), "{reason}");
    for _ in 0..3 {
        pair.reads_but_does_not_write(&server, &acknowledged).await;
    }
    assert_eq!(text_of(&server, "other").await, "untouched");
    faults.end();
    pair.reads_but_does_not_write(&server, &acknowledged).await;
    let (status, _) = server.get("/readyz").await;
    assert_eq!(status, 503, "it does not become ready again");
    assert_eq!(server.stop("TERM").code(), Some(EX_IOERR));

    let server = Server::start(data.path());
    assert!(text_of(&server, "failing").await.starts_with(&acknowledged));
    assert_eq!(text_of(&server, "other").await, "untouched");
    Pair::join(&server, "failing").await.save("after;").await;
}
