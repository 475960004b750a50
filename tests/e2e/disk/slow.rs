//! A disk that takes its time keeps nobody waiting but those who wait for it.

use futures_util::future::join_all;
use syncline_protocol::Access;
use syncline_tests::client::Client;
use syncline_tests::server::{Server, token};

use crate::disk::Pair;
use crate::disk::strace::Faults;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disk_2_others_see_an_update_before_it_is_saved() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let mut pair = Pair::join(&server, "slow").await;
    pair.save("0").await;
    let Some(slow) = Faults::inject(&server, "fdatasync:delay_exit=500000") else { return };
    for digit in 1..6 {
        pair.write(&digit.to_string()).await;
        let Pair { writer, reader, .. } = &mut pair;
        tokio::select! {
            biased;
            () = writer.until("saved", |writer| writer.saved == writer.sent) => {
                panic!("the others wait for the disk");
            }
            () = reader.until("the update", |reader| reader.length() == digit + 1) => {}
        }
        writer.until("saved", |writer| writer.saved == writer.sent).await;
    }
    slow.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disk_2_every_update_is_acknowledged_in_the_end() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let Some(slow) = Faults::inject(&server, "fdatasync:delay_exit=200000") else { return };
    let writers = (0..8).map(|number| {
        let document = format!("slow/{}", number % 3);
        let url = server.url(&document, &token(&document, Access::Write));
        async move {
            let mut writer = Client::join_v1(&url).await;
            for _ in 0..10 {
                writer.splice(0, 0, "x").await;
            }
            writer.until("saved", |writer| writer.saved == writer.sent).await;
        }
    });
    join_all(writers).await;
    slow.end();
}
