//! Each limit that can be hit from outside, hit once: what the count says then.

use std::path::Path;

use futures_util::future::select_ok;
use serde_json::json;
use syncline_protocol::wire::varint;
use syncline_tests::client::{new_doc, sync_frame};
use yrs::{Any, Map, ReadTxn, Transact};

use super::*;

/// Connects until one is turned away; the others stay until then.
async fn until_turned_away(server: &Server, places: usize) {
    let mut held = Vec::new();
    for _ in 0..=places {
        held.push(silent(server, b"").await);
    }
    // Whichever it is: all of them are there when it is told.
    let told = held.iter_mut().map(|stream| Box::pin(stream.read_u8()));
    timeout(PATIENCE, select_ok(told)).await.unwrap().unwrap();
}

/// A socket that has sent `bytes` and says nothing more.
async fn silent(server: &Server, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream
}

async fn join(server: &Server, user: &str, document: &str) -> Result<Client, u16> {
    let url = server.url(document, &token_of(user, document, Access::Write));
    Client::join_or_end(url).await.map_err(|ended| ended.code)
}

async fn hit(server: &Server, limit: &str) {
    Scrape::until(server, limit, |now| now.limit(limit) >= 1.0).await;
}

/// A presence message for these clients.
fn presence(clients: &[(u64, &str)]) -> bytes::Bytes {
    let mut states = Vec::new();
    varint::write_var_uint(&mut states, clients.len() as u64);
    for (client, state) in clients {
        varint::write_var_uint(&mut states, *client);
        varint::write_var_uint(&mut states, 1);
        varint::write_buffer(&mut states, state.as_bytes());
    }
    let mut frame = vec![1];
    varint::write_buffer(&mut frame, &states);
    frame.into()
}

/// An update with arrays in arrays.
fn nested(levels: usize) -> bytes::Bytes {
    let value = (0..levels).fold(Any::Null, |inner, _| Any::from(vec![inner]));
    let doc = new_doc();
    let map = doc.get_or_insert_map("m");
    map.insert(&mut doc.transact_mut(), "deep", value);
    let update = doc.transact().encode_diff_v1(&yrs::StateVector::default());
    sync_frame(2, &update)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metric_2_limits_on_connections_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let config = "trusted_proxies = []\n[limits]\nconnections = 12\nconnections_per_address = 8\n\
        connections_per_user = 2\nconnections_per_document = 3\ndocuments = 2\n";
    let server = start(&folder, config);
    let first = join(&server, "ada", "a").await.unwrap();
    let second = join(&server, "ada", "b").await.unwrap();
    assert_eq!(join(&server, "ada", "a").await.err(), Some(4503));
    hit(&server, "connections_per_user").await;
    assert_eq!(join(&server, "bob", "c").await.err(), Some(4503));
    hit(&server, "documents").await;
    let others =
        [join(&server, "bob", "a").await.unwrap(), join(&server, "cyd", "a").await.unwrap()];
    assert_eq!(join(&server, "dan", "a").await.err(), Some(4503));
    hit(&server, "connections_per_document").await;
    until_turned_away(&server, 8).await;
    hit(&server, "connections_per_address").await;
    drop((first, second, others));

    let folder = tempfile::tempdir().unwrap();
    let server = start(&folder, "[limits]\nconnections = 2\n");
    until_turned_away(&server, 2).await;
    hit(&server, "connections").await;
    let refused = "syncline_requests_refused_total{word=\"overloaded\"}";
    Scrape::until(&server, "a refusal", |now| now.get(refused) >= 1.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metric_2_limits_on_messages_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let config = "[limits]\nmessage_bytes = 65536\nupdate_bytes = 16384\ndocument_bytes = 40000\n\
        presence_clients = 2\n";
    let server = start(&folder, config);
    let url = server.url(NAME, &token(NAME, Access::Write));
    let long = |bytes: usize| Message::Binary(vec![0; bytes].into());
    assert_eq!(ending(&url, vec![long(70_000)]).await.code, 4413);
    hit(&server, "message_bytes").await;

    let mut client = Client::join_v1(&url).await;
    client.splice(0, 0, &"x".repeat(20_000)).await;
    assert_eq!(client.until_ended().await.code, 4413);
    hit(&server, "update_bytes").await;

    let mut client = Client::join_v1(&url).await;
    for _ in 0..8 {
        // It may have been closed by one before.
        drop(client.try_splice(0, &"x".repeat(16_000)).await);
    }
    assert_eq!(client.until_ended().await.code, 4413);
    hit(&server, "document_bytes").await;

    let url = server.url("other", &token("other", Access::Write));
    let mut client = Client::join_v1(&url).await;
    client.send(presence(&[(1, "{}"), (2, "{}"), (3, "{}")])).await;
    hit(&server, "presence_clients").await;
    let long = format!("{:?}", "x".repeat(9_000));
    let mut client = Client::join_v1(&url).await;
    client.send(presence(&[(9, &long)])).await;
    assert_eq!(client.until_ended().await.code, 4413);
    hit(&server, "presence_state_bytes").await;

    let mut client = Client::join_v1(&url).await;
    client.send(nested(40)).await;
    assert_eq!(client.until_ended().await.code, 4413);
    hit(&server, "update_content").await;
    let fate = "syncline_updates_total{fate=\"message_too_large\"}";
    Scrape::until(&server, "two updates", |now| now.get(fate) == 2.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metric_2_limits_on_rates_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    // Ten seconds' worth at once: 500 messages, or 1,000 KiB.
    let config = "[limits]\nmessages_per_second = 50\nbytes_per_second = 102400\n";
    let server = start(&folder, config);
    let url = server.url(NAME, &token(NAME, Access::Write));
    let mut client = Client::join_v1(&url).await;
    for _ in 0..520 {
        client.splice_lazily(0, 0, "f").await;
    }
    client.flush().await;
    hit(&server, "messages_per_second").await;

    let mut client = Client::join_v1(&url).await;
    for _ in 0..2 {
        client.splice(0, 0, &"x".repeat(700 * 1024)).await;
    }
    hit(&server, "bytes_per_second").await;

    let mut client = Client::join_v1(&url).await;
    for _ in 0..20 {
        client.bring(&token(NAME, Access::Write)).await;
    }
    assert_eq!(client.until_ended().await.code, 4503);
    hit(&server, "tokens_per_second").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metric_2_limits_on_queues_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(
        &folder,
        "[limits]\noutbox_bytes = 65536\nmessage_bytes = 131072\nupdate_bytes = 131072\n",
    );
    let url = server.url(NAME, &token(NAME, Access::Write));
    let stalled = Client::join(&url).await;
    let mut writer = Client::join_v1(&url).await;
    // Longer ones wait for each other before they are put into the mailbox.
    let chunk = "x".repeat(32 * 1024);
    let mut rounds = 0;
    // Until both the queue of the one who does not read and the way into the document were full.
    loop {
        for _ in 0..64 {
            writer.splice_lazily(0, 0, &chunk).await;
            writer.splice_lazily(0, u32::try_from(chunk.len() - 1).unwrap(), "").await;
        }
        writer.flush().await;
        let now = Scrape::of(&server).await;
        if now.limit("outbox_bytes") >= 1.0 && now.limit("mailbox_bytes") >= 1.0 {
            break;
        }
        rounds += 1;
        assert!(rounds < 100, "{}", now.text);
    }
    drop(stalled);
}

/// As many revocations as are remembered.
fn fill_revocations(data: &Path) {
    let entry =
        |number: u64| json!({ "sub": number.to_string(), "document": "*", "issued_before": 1 });
    let entries: Vec<_> = (0..10_000).map(entry).collect();
    std::fs::create_dir_all(data).unwrap();
    std::fs::write(data.join("revoked.json"), json!({ "revoked": entries }).to_string()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metric_2_limits_on_requests_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    fill_revocations(&folder.path().join("data"));
    let server = start(&folder, "");
    let bearer = token(NAME, Access::Write);
    let slow_header = silent(&server, b"GET /metrics HTTP/1.1\r\nhost: x\r\nx-slow: ").await;
    let slow_body = format!(
        "POST /api/v1/tickets HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {bearer}\r\n\
         content-length: 100\r\n\r\n{{"
    );
    let slow_body = silent(&server, slow_body.as_bytes()).await;

    let long = format!("GET / HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n", "x".repeat(20_000));
    drop(silent(&server, long.as_bytes()).await);
    hit(&server, "header_bytes").await;
    let long = format!("{{\"document\": \"{}\"}}", "x".repeat(20_000));
    assert_eq!(server.post("/api/v1/tickets", &bearer, &long).await.0, 413);
    hit(&server, "body_bytes").await;
    let order = format!("{{\"document\": \"{NAME}\"}}");
    while server.post("/api/v1/tickets", &bearer, &order).await.0 == 201 {}
    hit(&server, "tickets_per_user").await;
    let admin = token("*", Access::Admin);
    let (status, _) = server.post("/api/v1/revoke", &admin, "{\"sub\": \"one more\"}").await;
    assert_eq!(status, 503);
    let now = Scrape::until(&server, "revocations", |now| now.limit("revocations") == 1.0).await;
    assert_eq!(now.get("syncline_tickets_issued_total"), 32.0);
    assert_eq!(now.get("syncline_revocations_total"), 1.0);
    hit(&server, "header_time").await;
    hit(&server, "body_time").await;
    drop((slow_header, slow_body));
}
