//! Whoever takes more than a share: slow ones, many from one address, many of one user, and floods.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use syncline_protocol::Access;
use syncline_protocol::wire::varint::write_var_uint;
use syncline_server::auth::Claims;
use syncline_tests::PATIENCE;
use syncline_tests::client::{Client, Ended, ending, sync_frame};
use syncline_tests::server::{Server, claims_for, sign, token};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use yrs::{ReadTxn, StateVector, Text, Transact};

use crate::metrics::Scrape;

type Stream = WebSocketStream<MaybeTlsStream<TcpStream>>;

const NAME: &str = "edge";

/// A server with something in its configuration file.
fn start(folder: &tempfile::TempDir, config: &str) -> Server {
    let file = folder.path().join("syncline.toml");
    std::fs::write(&file, config).unwrap();
    let environment = [("SYNCLINE_CONFIG", file.to_str().unwrap())];
    Server::start_with(&folder.path().join("data"), "127.0.0.1:0", &environment)
}

fn token_of(user: &str, document: &str) -> String {
    let access = BTreeMap::from([(document.to_owned(), Access::Write)]);
    let claims = claims_for(document, Access::Write, Duration::from_secs(600));
    sign(&Claims { sub: Some(user.to_owned()), access, ..claims })
}

/// A socket that has sent `bytes` and then says nothing more.
async fn silent(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream
}

/// What the server still says before it ends the connection.
async fn until_cut_off(mut stream: TcpStream) -> String {
    let mut said = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut said));
    // A reset is an end too.
    drop(read.await.expect("the server ends the connection"));
    String::from_utf8_lossy(&said).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edge_1_who_is_slow_is_cut_off_and_holds_up_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(&folder, "");
    let url = server.url(NAME, &token(NAME, Access::Write));
    let post = format!(
        "POST /api/v1/tickets HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
         content-length: 100\r\n\r\n{{",
        token(NAME, Access::Write)
    );
    let begun: [&[u8]; 5] = [
        b"",
        b"GET /ws/edge HTTP/1.1\r\nhost: x\r\nx-slow: ",
        b"GET /ws/edge HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n",
        b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\nGET /hea",
        post.as_bytes(),
    ];
    let mut slow = Vec::new();
    for _ in 0..20 {
        for bytes in begun {
            slow.push(silent(server.address(), bytes).await);
        }
    }
    let mut client = Client::join_v1(&url).await;
    client.splice(0, 0, "unharmed").await;
    client.until("saved", |client| client.saved == client.sent).await;
    let mut ends = JoinSet::new();
    slow.into_iter().for_each(|stream| drop(ends.spawn(until_cut_off(stream))));
    while let Some(said) = ends.join_next().await {
        let said = said.unwrap();
        assert!(!said.contains("101 Switching"), "{said}");
    }
    client.splice(0, 0, "still ").await;
    client.until("saved", |client| client.saved == client.sent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edge_2_an_address_has_so_many_connections_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(&folder, "trusted_proxies = []\n[limits]\nconnections_per_address = 3\n");
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(silent(server.address(), b"").await);
    }
    // Refused before it has said anything.
    let refused = until_cut_off(silent(server.address(), b"").await).await;
    assert!(refused.starts_with("HTTP/1.1 429 "), "{refused}");
    assert!(refused.contains("\"overloaded\""), "{refused}");
    assert!(refused.contains("limits.connections_per_address"), "{refused}");
    drop(held.pop());
    let deadline = Instant::now() + PATIENCE;
    while server.get("/healthz").await.0 != 200 {
        assert!(Instant::now() < deadline, "the place does not become free");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edge_3_a_user_and_a_document_have_so_many_sessions_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let config = "[limits]\nconnections_per_user = 2\nconnections_per_document = 3\n";
    let server = start(&folder, config);
    let join = async |user: &str, document: &str| {
        Client::join_or_end(server.url(document, &token_of(user, document))).await
    };
    let overloaded = |joined: Result<Client, Ended>, what: &str| {
        let ended = joined.expect_err(what);
        assert_eq!(ended.code, 4503, "{ended:?}");
        assert!(
            ended.reason.starts_with("overloaded: ") && ended.reason.contains(what),
            "{ended:?}"
        );
    };
    let first = join("ada", "a").await.unwrap();
    let second = join("ada", "b").await.unwrap();
    overloaded(join("ada", "a").await, "limits.connections_per_user");
    let others = [join("bob", "a").await.unwrap(), join("cyd", "a").await.unwrap()];
    overloaded(join("dan", "a").await, "limits.connections_per_document");
    let dan = join("dan", "b").await.unwrap();
    drop(first);
    let deadline = Instant::now() + PATIENCE;
    while join("ada", "a").await.is_err() {
        assert!(Instant::now() < deadline, "the places do not become free");
    }
    drop((second, others, dan));
}

/// How an upgrade with one more header ends: as a session that is greeted, or with a close.
async fn forwarded(server: &Server, header: &'static str, value: &str) -> Result<Client, Ended> {
    let mut request = server.url(NAME, &token_of("ada", NAME)).into_client_request().unwrap();
    request.headers_mut().insert(header, value.parse().unwrap());
    Client::join_or_end(request).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edge_4_the_client_behind_a_trusted_proxy_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let config = "trusted_proxies = [\"127.0.0.0/8\"]\n[limits]\nconnections_per_address = 2\n";
    let server = start(&folder, config);
    let one = "x-forwarded-for";
    let first = forwarded(&server, one, "192.0.2.1").await.unwrap();
    // What the client made up stands before what the proxy adds.
    let second = forwarded(&server, one, "203.0.113.9, 192.0.2.1").await.unwrap();
    let ended = forwarded(&server, "forwarded", "for=192.0.2.1").await.unwrap_err();
    assert_eq!(ended.code, 4503, "{ended:?}");
    assert!(ended.reason.contains("limits.connections_per_address"), "{ended:?}");
    let other = forwarded(&server, one, "192.0.2.2").await.unwrap();
    drop((first, second, other));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edge_4_nobody_else_is_believed() {
    let folder = tempfile::tempdir().unwrap();
    let config = "trusted_proxies = [\"192.0.2.0/24\"]\n[limits]\nconnections_per_address = 2\n";
    let server = start(&folder, config);
    let held = [
        forwarded(&server, "x-forwarded-for", "192.0.2.1").await.unwrap(),
        forwarded(&server, "x-forwarded-for", "192.0.2.2").await.unwrap(),
    ];
    let refused = until_cut_off(silent(server.address(), b"").await).await;
    assert!(refused.starts_with("HTTP/1.1 429 "), "{refused}");
    drop(held);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edge_5_who_sends_too_fast_is_slowed_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    // Ten seconds' worth at once: 500.
    let server = start(&folder, "[limits]\nmessages_per_second = 50\n");
    let url = server.url(NAME, &token(NAME, Access::Write));
    let mut fast = Client::join_v1(&url).await;
    let mut calm = Client::join_v1(&url).await;
    for _ in 0..600 {
        fast.splice_lazily(0, 0, "f").await;
    }
    fast.flush().await;
    calm.splice(0, 0, "c").await;
    calm.until("saved", |calm| calm.saved == calm.sent).await;
    fast.until("everything is saved", |fast| fast.saved == fast.sent).await;
    calm.until("everything", |calm| calm.length() == 601).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edge_9_whose_questions_are_expensive_is_slowed_and_a_neighbour_is_not() {
    const QUESTIONS: usize = 200;
    let folder = tempfile::tempdir().unwrap();
    // A fifth of a second of work at once.
    let server = start(&folder, "[limits]\nhandling_ms_per_second = 20\n");
    let url = server.url(NAME, &token(NAME, Access::Write));
    let author = write_in_reverse(&url).await;
    let mut neighbour = Client::join_v1(&url).await;
    let answered = Arc::new(AtomicUsize::new(0));
    let asker = tokio::spawn(count(ask(url, author, QUESTIONS).await, Arc::clone(&answered)));
    for _ in 0..QUESTIONS {
        neighbour.splice(0, 0, "n").await;
        neighbour.until("saved", |neighbour| neighbour.saved == neighbour.sent).await;
    }
    let answered = answered.load(Ordering::Relaxed);
    assert!((1..QUESTIONS / 2).contains(&answered), "{answered} of {QUESTIONS} were answered");
    Scrape::until(&server, "a limit", |now| now.limit("handling_ms_per_second") >= 1.0).await;
    asker.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edge_9_who_asks_much_while_the_document_loads_is_not_answered_all_at_once() {
    const QUESTIONS: usize = 200;
    let folder = tempfile::tempdir().unwrap();
    let server = start(&folder, "");
    let author = write_in_reverse(&server.url(NAME, &token(NAME, Access::Write))).await;
    drop(server);
    let server = start(&folder, "[limits]\nhandling_ms_per_second = 20\n");
    let url = server.url(NAME, &token(NAME, Access::Write));
    let answered = Arc::new(AtomicUsize::new(0));
    let asker = ask(url.clone(), author, QUESTIONS).await;
    let asker = tokio::spawn(count(asker, Arc::clone(&answered)));
    let mut neighbour = Client::join_v1(&url).await;
    for _ in 0..10 {
        neighbour.splice(0, 0, "n").await;
        neighbour.until("saved", |neighbour| neighbour.saved == neighbour.sent).await;
    }
    let answered = answered.load(Ordering::Relaxed);
    assert!(answered < QUESTIONS / 2, "{answered} of {QUESTIONS} were answered");
    Scrape::until(&server, "a limit", |now| now.limit("handling_ms_per_second") >= 1.0).await;
    asker.abort();
}

/// Stores letters in reverse: each is a block of its own, and an answer encodes all of them. Returns
/// whose they are.
async fn write_in_reverse(url: &str) -> u64 {
    let mut author = Client::join_v1(url).await;
    {
        let mut txn = author.doc.transact_mut();
        (0..60_000).for_each(|_| author.text.insert(&mut txn, 0, "x"));
    }
    let update = author.doc.transact().encode_diff_v1(&StateVector::default());
    author.send(sync_frame(2, &update)).await;
    author.sent += 1;
    author.until("saved", |author| author.saved == author.sent).await;
    author.doc.client_id().get()
}

/// Asks for what comes after each of some clocks of a client, all at once.
async fn ask(url: String, client: u64, questions: usize) -> Stream {
    let mut stream = connect_async(url).await.unwrap().0;
    for clock in 1..=questions {
        let mut question = vec![1];
        write_var_uint(&mut question, client);
        write_var_uint(&mut question, clock as u64);
        stream.feed(Message::Binary(sync_frame(0, &question))).await.unwrap();
    }
    stream.flush().await.unwrap();
    stream
}

/// Counts the answers.
async fn count(mut stream: Stream, answered: Arc<AtomicUsize>) {
    while let Some(Ok(message)) = stream.next().await {
        let is_answer = message.is_binary() && message.into_data().starts_with(&[0, 1]);
        answered.fetch_add(usize::from(is_answer), Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edge_6_a_flood_of_refused_tokens_starves_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(&folder, "");
    let url = server.url(NAME, &token(NAME, Access::Write));
    let mut client = Client::join_v1(&url).await;
    let bad = server.url(NAME, "eyJhbGciOiJIUzI1NiJ9.e30.AAAA");
    let mut flood = JoinSet::new();
    for _ in 0..300 {
        let bad = bad.clone();
        flood.spawn(async move { ending(&bad, vec![]).await });
    }
    for _ in 0..20 {
        client.splice(0, 0, "x").await;
        client.until("saved", |client| client.saved == client.sent).await;
    }
    while let Some(ended) = flood.join_next().await {
        assert_eq!(ended.unwrap().code, 4401);
    }
    assert_eq!(Client::join(&url).await.length(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edge_6_a_refused_client_that_sends_much_is_told_why() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(&folder, "");
    let bad = server.url(NAME, "bad");
    for messages in [vec![], vec![Message::Binary(vec![0; 8 << 20].into())]] {
        let ended = ending(&bad, messages).await;
        assert_eq!(ended.code, 4401, "{ended:?}");
    }
    let mut client = Client::join_v1(&server.url(NAME, &token(NAME, Access::Write))).await;
    client.splice(0, 0, "x").await;
    client.until("saved", |client| client.saved == client.sent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edge_7_nothing_but_http_1_1_is_spoken() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(&folder, "");
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let said = until_cut_off(silent(server.address(), preface).await).await;
    assert!(
        said.is_empty() || said.starts_with("HTTP/1.1 4") || said.starts_with("HTTP/1.1 5"),
        "{said}"
    );
    let upgrade = b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: upgrade, http2-settings\r\n\
        upgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n";
    let said = until_cut_off(silent(server.address(), upgrade).await).await;
    assert!(said.starts_with("HTTP/1.1 200 "), "{said}");
    assert_eq!(server.get("/healthz").await.0, 200);
}

/// Joins, as soon as there is a place.
async fn join_in_time(server: &Server, document: &str) -> Client {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match Client::join_or_end(server.url(document, &token_of("ada", document))).await {
            Ok(client) => return client,
            Err(ended) => assert!(Instant::now() < deadline, "no place becomes free: {ended:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edge_14_documents_that_nobody_is_in_take_no_place_from_others() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(&folder, "[limits]\ndocuments = 20\nidle_seconds = 3600\n");
    for number in 0..60 {
        let mut client = join_in_time(&server, &format!("d{number}")).await;
        client.splice(0, 0, "left behind").await;
        client.until("saved", |client| client.saved == client.sent).await;
    }
    let are_few = |now: &Scrape| now.get("syncline_documents_open") <= 2.0;
    let scrape = Scrape::until(&server, "few documents", are_few).await;
    assert_eq!(scrape.get("syncline_documents_unused"), 2.0);
    // As many as there may be, of which two are still there.
    let mut held = Vec::new();
    for number in 40..60 {
        held.push(join_in_time(&server, &format!("d{number}")).await);
    }
    let url = server.url("d60", &token_of("ada", "d60"));
    let ended = Client::join_or_end(url).await.expect_err("the limit is reached");
    assert_eq!(ended.code, 4503, "{ended:?}");
    assert!(ended.reason.contains("20 documents are in use (limits.documents)"), "{ended:?}");
    // What is left now makes room at once.
    drop(held.pop());
    drop(join_in_time(&server, "d60").await);
    for client in &mut held {
        client.until("what was left", |client| client.content() == "left behind").await;
    }
}
