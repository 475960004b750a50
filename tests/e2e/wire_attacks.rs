//! Frames, fragments and requests that no client library would send.

use std::time::Instant;

use syncline_protocol::Access;
use syncline_tests::PATIENCE;
use syncline_tests::client::Client;
use syncline_tests::door::send;
use syncline_tests::raw::{Raw, frame, head, header, request};
use syncline_tests::server::{Server, token};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::metrics::{Scrape, start};
use crate::strangers::held_open;

const NAME: &str = "wire";

const KIB: u64 = 1_024;

async fn open(server: &Server) -> Raw {
    Raw::open(server.address(), &request(NAME, &token(NAME, Access::Write), "")).await
}

/// A server, somebody who edits, and so many sockets that have said nothing yet.
async fn crowd(folder: &TempDir, config: &str, count: usize) -> (Server, Client, Vec<Raw>) {
    let server = start(folder, config);
    let mut client = Client::join_v1(&server.url(NAME, &token(NAME, Access::Write))).await;
    let mut sockets = Vec::new();
    for _ in 0..count {
        sockets.push(open(&server).await);
    }
    is_served(&mut client).await;
    (server, client, sockets)
}

/// Until the server has read all that was sent to it.
async fn until_read(server: &Server, connections: usize) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (open, unread) = held_open(server);
        assert!(open >= connections, "only {open} connections are left");
        if unread == 0 {
            return;
        }
        assert!(Instant::now() < deadline, "{unread} bytes are not read");
        tokio::task::yield_now().await;
    }
}

async fn is_served(client: &mut Client) {
    client.splice(0, 0, "x").await;
    client.until("saved", |client| client.saved == client.sent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edge_10_what_is_announced_and_never_comes_costs_next_to_nothing() {
    const SOCKETS: usize = 200;
    const EACH_MAX: u64 = 64 * KIB;
    let folder = tempfile::tempdir().unwrap();
    let (server, mut client, mut sockets) = crowd(&folder, "", SOCKETS).await;
    let before = server.resident_bytes();
    // As long as a message may be: with nothing behind it, and with its first byte.
    for (number, socket) in sockets.iter_mut().enumerate() {
        let mut announced = header(head::BINARY, 8 << 20);
        announced.extend((number % 2 == 0).then_some(0));
        socket.send(&announced).await;
    }
    until_read(&server, SOCKETS).await;
    is_served(&mut client).await;
    let held = server.resident_bytes().saturating_sub(before) / SOCKETS as u64;
    assert!(held <= EACH_MAX, "{held} bytes for each");
    for length in [(8 << 20) + 1, 1 << 32, 1 << 62, u64::MAX] {
        let mut socket = open(&server).await;
        socket.send(&header(head::BINARY, length)).await;
        assert_eq!(socket.close_code().await, 4413, "{length}");
    }
    is_served(&mut client).await;
    drop(sockets);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edge_10_a_message_in_fragments_is_bounded_as_a_whole_one_is() {
    const MESSAGE: u64 = 64 * KIB;
    const SOCKETS: usize = 50;
    let folder = tempfile::tempdir().unwrap();
    let config = "[limits]\nmessage_bytes = 65536\nupdate_bytes = 65536\n";
    let (server, mut client, mut sockets) = crowd(&folder, config, SOCKETS).await;
    let before = server.resident_bytes();
    let kilobyte = frame(head::MORE, &[0; 1_024]);
    for socket in &mut sockets {
        socket.send(&frame(head::BEGINNING, &[0])).await;
        for _ in 0..63 {
            socket.send(&kilobyte).await;
        }
    }
    until_read(&server, SOCKETS).await;
    let held = server.resident_bytes().saturating_sub(before) / SOCKETS as u64;
    assert!(held >= MESSAGE / 2, "{held}: what is measured is not there");
    // It grows by doubling.
    assert!(held <= 2 * MESSAGE + 16 * KIB, "{held} bytes for each");
    let byte_and_nothing = [frame(head::MORE, &[0]), frame(head::MORE, &[])].concat().repeat(1_000);
    for (number, socket) in sockets.iter_mut().enumerate() {
        let more = if number % 10 == 0 { &byte_and_nothing } else { &kilobyte };
        // The server hangs up before it has read all of that.
        for _ in 0..10 {
            drop(socket.try_send(more).await);
        }
        assert_eq!(socket.close_code().await, 4413);
    }
    is_served(&mut client).await;
    let closed = "syncline_sessions_closed_total{word=\"message_too_large\"}";
    let now = Scrape::until(&server, "closes", |now| now.get(closed) == SOCKETS as f64).await;
    assert_eq!(now.limit("message_bytes"), SOCKETS as f64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edge_5_who_floods_with_pings_and_pongs_is_slowed_and_a_neighbour_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(&folder, "");
    let mut neighbour = Client::join_v1(&server.url(NAME, &token(NAME, Access::Write))).await;
    let mut floods = JoinSet::new();
    for head in [head::PING, head::PONG] {
        let mut socket = open(&server).await;
        let frames = frame(head, &[]).repeat(10_000);
        floods.spawn(async move { while socket.try_send(&frames).await.is_ok() {} });
    }
    for _ in 0..100 {
        is_served(&mut neighbour).await;
    }
    let slowed = |now: &Scrape| now.limit("messages_per_second") >= 1.0;
    Scrape::until(&server, "a limit", slowed).await;
    for _ in 0..100 {
        is_served(&mut neighbour).await;
    }
    // Slowed, not hung up on.
    assert!(floods.try_join_next().is_none(), "a flood has ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edge_11_what_is_no_upgrade_opens_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(&folder, "");
    let good = String::from_utf8(request(NAME, &token(NAME, Access::Write), "")).unwrap();
    let instead = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        good.replace(from, to).replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n")
    };
    let with = |header: &str| good.replace("\r\n\r\n", &format!("\r\n{header}\r\n\r\n"));
    let key = "sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
    let version = "sec-websocket-version: 13\r\n";
    let without_upgrade = "connection: close\r\n";
    let cases = [
        ("HTTP/1.0", instead("HTTP/1.1", "HTTP/1.0")),
        ("HTTP/0.9", format!("GET /ws/{NAME}\r\n\r\n")),
        ("HTTP/1.2", instead("HTTP/1.1", "HTTP/1.2")),
        ("HTTP/2.0", instead("HTTP/1.1", "HTTP/2.0")),
        ("no key", instead(key, "")),
        ("version 8", instead(version, "sec-websocket-version: 8\r\n")),
        ("no version", instead(version, "")),
        ("no Connection", instead("connection: upgrade\r\n", "")),
        ("another Connection", instead("connection: upgrade\r\n", without_upgrade)),
        ("no Upgrade", instead("upgrade: websocket\r\n", "")),
        ("two lengths", with("content-length: 1\r\ncontent-length: 2")),
        ("an unknown coding", with("transfer-encoding: chunked, identity")),
        ("a folded header", with("x: a\r\n b")),
        ("a space before the colon", with("x : a")),
        ("NUL", with("x: a\0b")),
    ];
    for (name, request) in cases {
        let mut raw = Raw::connect(server.address()).await;
        raw.send(request.as_bytes()).await;
        let head = raw.answer().await;
        assert!(head.starts_with("HTTP/1.") && head[8..].starts_with(" 4"), "{name}: {head}");
    }
    let sent = send(&server, good.as_bytes()).await;
    assert_eq!(sent.number(), 101, "all else was good: {sent:?}");
    let now = Scrape::until(&server, "a session", |now| {
        now.get("syncline_sessions_total{dialect=\"y-websocket\"}") == 1.0
    });
    assert_eq!(now.await.get("syncline_loads_total{outcome=\"done\"}"), 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edge_11_no_request_is_answered_behind_an_upgrade() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(&folder, "");
    let good = String::from_utf8(request(NAME, &token(NAME, Access::Write), "")).unwrap();
    let next = "GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let with = |headers: &str, body: &str| {
        good.replace("\r\n\r\n", &format!("\r\n{headers}\r\n\r\n{body}"))
    };
    let cases = [
        format!("{good}{next}"),
        format!("{good}{good}"),
        with("transfer-encoding: chunked", &format!("0\r\n\r\n{next}")),
        with("transfer-encoding: chunked", &format!("5\r\nhello\r\n0\r\n\r\n{next}")),
        with("content-length: 5\r\ntransfer-encoding: chunked", &format!("0\r\n\r\n{next}")),
        with("content-length: 5", &format!("hello{next}")),
    ];
    for request in cases {
        let mut raw = Raw::connect(server.address()).await;
        raw.send(request.as_bytes()).await;
        let head = raw.answer().await;
        let rest = String::from_utf8_lossy(&raw.rest().await).into_owned();
        let text = format!("{request}: {head}{rest}");
        // What follows is no frame, if it is looked at.
        assert!(!head.starts_with("HTTP/1.1 101 ") || rest.contains("bad_frame"), "{text}");
        assert!(!rest.contains("HTTP/1.1"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edge_10_pongs_that_are_not_read_do_not_pile_up() {
    const SOCKETS: usize = 4;
    const EACH_MAX: u64 = 256 * KIB;
    let folder = tempfile::tempdir().unwrap();
    let server = start(&folder, "");
    let mut neighbour = Client::join_v1(&server.url(NAME, &token(NAME, Access::Write))).await;
    is_served(&mut neighbour).await;
    let before = server.resident_bytes();
    let frames = frame(head::PING, &[0; 125]).repeat(1_000);
    let mut floods = JoinSet::new();
    for _ in 0..SOCKETS {
        let (mut socket, frames) = (open(&server).await, frames.clone());
        // Ten times what the kernel takes of their pongs.
        floods.spawn(async move {
            for _ in 0..150 {
                socket.send(&frames).await;
            }
            socket
        });
    }
    let sockets = floods.join_all().await;
    until_read(&server, SOCKETS).await;
    let held = server.resident_bytes().saturating_sub(before) / SOCKETS as u64;
    assert!(held <= EACH_MAX, "{held} bytes for each");
    is_served(&mut neighbour).await;
    drop(sockets);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edge_10_fragments_of_nothing_are_bounded_too() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(&folder, "");
    let mut neighbour = Client::join_v1(&server.url(NAME, &token(NAME, Access::Write))).await;
    let mut socket = open(&server).await;
    socket.send(&frame(head::BEGINNING, &[0])).await;
    let frames = frame(head::MORE, &[]).repeat(10_000);
    while socket.try_send(&frames).await.is_ok() {}
    assert_eq!(socket.close_code().await, 4413);
    Scrape::until(&server, "a limit", |now| now.limit("message_bytes") >= 1.0).await;
    is_served(&mut neighbour).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edge_11_what_breaks_a_rule_of_the_upgrade_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(&folder, "");
    let good = String::from_utf8(request(NAME, &token(NAME, Access::Write), "")).unwrap();
    let key = "sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
    let cases = [
        ("POST", good.replacen("GET", "POST", 1)),
        ("HEAD", good.replacen("GET", "HEAD", 1)),
        ("CONNECT", good.replacen("GET", "CONNECT", 1)),
        ("no Host", good.replace("host: x\r\n", "")),
        ("two Hosts", good.replace("host: x\r\n", "host: x\r\nhost: y\r\n")),
        ("an empty key", good.replace(key, "sec-websocket-key:\r\n")),
        ("a short key", good.replace(key, "sec-websocket-key: AAAA\r\n")),
        ("two keys", good.replace(key, &key.repeat(2))),
        ("a body", good.replace("\r\n\r\n", "\r\ncontent-length: 5\r\n\r\nhello")),
        ("chunks", good.replace("\r\n\r\n", "\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n")),
    ];
    for (name, request) in cases {
        let mut raw = Raw::connect(server.address()).await;
        raw.send(request.as_bytes()).await;
        let head = raw.answer().await;
        assert!(head.starts_with("HTTP/1.1 4"), "{name}: {head}");
    }
}
