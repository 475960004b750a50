//! Bytes that are cut off, pulled apart, run together or sent again.

use std::collections::{BTreeMap, HashMap, VecDeque};

use futures_util::{SinkExt, StreamExt};
use syncline_protocol::Access;
use syncline_protocol::wire::varint::{write_buffer, write_var_uint};
use syncline_tests::client::{Client, doc_of, sync_frame};
use syncline_tests::raw::{Raw, frame, head, request};
use syncline_tests::server::{Server, token};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;
use yrs::{Any, Map, MapRef, Out, ReadTxn, StateVector, Text, Transact};

use crate::measure::journal_bytes;
use crate::metrics::{Scrape, start};

const NAME: &str = "cuts";

/// Who writes in the byte streams below.
const AUTHOR: u64 = 7;

/// An update by a client that writes one text.
fn update_of(client: u64, text: &str) -> Vec<u8> {
    let doc = doc_of(client);
    doc.get_or_insert_text("t").insert(&mut doc.transact_mut(), 0, text);
    doc.transact().encode_diff_v1(&StateVector::default())
}

/// What a client says first: what it has, what the server lacks, and who it is.
fn first_frames() -> Vec<Vec<u8>> {
    let mut frames = [sync_frame(0, &[0]), sync_frame(1, &update_of(AUTHOR, "hello"))]
        .map(|payload| frame(head::BINARY, &payload))
        .to_vec();
    frames.push(presence(1, "{}"));
    frames
}

/// What the author says of itself.
fn presence(clock: u64, state: &str) -> Vec<u8> {
    let mut presence = vec![1];
    write_var_uint(&mut presence, AUTHOR);
    write_var_uint(&mut presence, clock);
    write_buffer(&mut presence, state.as_bytes());
    let mut payload = vec![1];
    write_buffer(&mut payload, &presence);
    frame(head::BINARY, &payload)
}

fn is_empty(now: &Scrape) -> bool {
    // One connection is of who asks.
    now.get("syncline_connections_open") == 1.0
        && now.get("syncline_documents_open") == 0.0
        && now.get("syncline_sessions_open{dialect=\"syncline.v1\"}") == 0.0
        && now.get("syncline_sessions_open{dialect=\"y-websocket\"}") == 0.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edge_12_a_connection_cut_at_any_byte_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(&folder, "[limits]\nidle_seconds = 0\n");
    let url = server.url(NAME, &token(NAME, Access::Write));
    drop(Client::join_v1(&url).await);
    let before = Scrape::until(&server, "nobody", is_empty).await.get("process_open_fds");
    let mut watcher = Client::join_v1(&url).await;
    let bytes = [request(NAME, &token(NAME, Access::Write), ""), first_frames().concat()].concat();
    for cut in 0..=bytes.len() {
        let [mut finished, mut reset] =
            [Raw::connect(server.address()).await, Raw::connect(server.address()).await];
        finished.send(&bytes[..cut]).await;
        reset.send(&bytes[..cut]).await;
        reset.reset();
        finished.finish().await;
    }
    watcher.until("the text", |watcher| watcher.content() == "hello").await;
    // One that was certainly seen.
    let mut raw =
        Raw::open(server.address(), &request(NAME, &token(NAME, Access::Write), "")).await;
    raw.send(&[first_frames().concat(), presence(2, "{\"last\":1}")].concat()).await;
    let state = |watcher: &Client| watcher.present.get(&AUTHOR).cloned().unwrap_or_default();
    watcher.until("somebody", |watcher| state(watcher).contains("last")).await;
    raw.reset();
    watcher.until("nobody", |watcher| state(watcher) == "null").await;
    let of_watcher = |now: &Scrape| {
        now.get("syncline_connections_open") == 2.0
            && now.get("syncline_sessions_open{dialect=\"y-websocket\"}") == 0.0
    };
    Scrape::until(&server, "the end of the others", of_watcher).await;
    watcher.splice(0, 0, "!").await;
    watcher.until("saved", |watcher| watcher.saved == watcher.sent).await;
    assert_eq!(state(&watcher), "null");
    drop(watcher);
    let is_as_before = |now: &Scrape| is_empty(now) && now.get("process_open_fds") <= before;
    Scrape::until(&server, "as many descriptors as before", is_as_before).await;
}

/// How a client's bytes are put into segments.
#[derive(Clone, Copy, Debug)]
enum Segments {
    Whole,
    OneByte,
    Merged,
}

/// What the server answers to a first sync, up to the word that it is saved: its kinds of messages,
/// and all of what is no identity.
async fn answers(server: &Server, document: &str, segments: Segments) -> Vec<(u8, Vec<u8>)> {
    let request = request(document, &token(document, Access::Write), "syncline.v1");
    let frames = &first_frames()[..2];
    let mut raw = Raw::connect(server.address()).await;
    match segments {
        Segments::Whole => {
            raw.send(&request).await;
            for frame in frames {
                raw.send(frame).await;
            }
        }
        Segments::OneByte => {
            for byte in request.iter().chain(frames.iter().flatten()) {
                raw.send(&[*byte]).await;
            }
        }
        Segments::Merged => raw.send(&[&*request, &frames.concat()].concat()).await,
    }
    let head = raw.answer().await;
    let head = head.lines().filter(|line| !line.starts_with("date:")).collect::<Vec<_>>();
    let mut answers = vec![(0, head.join("\n").into_bytes())];
    loop {
        let (head, mut payload) = raw.next().await.expect("the connection ended");
        let kind = payload[0];
        if kind == 64 {
            payload.truncate(1);
        }
        answers.push((head, payload));
        if kind == 65 {
            return answers;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edge_13_how_bytes_are_put_into_segments_changes_no_answer() {
    const UPDATES: usize = 500;
    let folder = tempfile::tempdir().unwrap();
    let server = start(&folder, "");
    let whole = answers(&server, "seg/1", Segments::Whole).await;
    assert!(whole.len() >= 5, "{whole:?}");
    assert_eq!(whole[1].1, [64]);
    assert_eq!(answers(&server, "seg/2", Segments::OneByte).await, whole);
    assert_eq!(answers(&server, "seg/3", Segments::Merged).await, whole);
    // Many messages at once, some of them in fragments with a ping between.
    let mut watcher = Client::join(&server.url(NAME, &token(NAME, Access::Write))).await;
    let mut raw =
        Raw::open(server.address(), &request(NAME, &token(NAME, Access::Write), "")).await;
    let mut segment = Vec::new();
    for number in 0..UPDATES {
        let payload = sync_frame(2, &update_of(100 + number as u64, "x"));
        if number % 2 == 0 {
            segment.extend(frame(head::BINARY, &payload));
        } else {
            segment.extend(frame(head::BEGINNING, &payload[..5]));
            segment.extend(frame(head::PING, b"between"));
            segment.extend(frame(head::END, &payload[5..]));
        }
    }
    raw.send(&segment).await;
    watcher.until("all of them", |watcher| watcher.length() == UPDATES as u32).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sync_4_the_same_update_again_and_again_is_stored_and_told_once() {
    const TIMES: usize = 20_000;
    let folder = tempfile::tempdir().unwrap();
    let server = start(&folder, "");
    let url = server.url(NAME, &token(NAME, Access::Write));
    let mut watcher = Client::join(&url).await;
    watcher.held = Some(VecDeque::new());
    let (mut sink, mut stream) = connect_async(&url).await.unwrap().0.split();
    let reading = tokio::spawn(async move { while let Some(Ok(_)) = stream.next().await {} });
    let once = Message::Binary(sync_frame(2, &update_of(AUTHOR, "again")));
    sink.send(once.clone()).await.unwrap();
    let fate =
        |now: &Scrape, fate: &str| now.get(&format!("syncline_updates_total{{fate=\"{fate}\"}}"));
    let stored = |now: &Scrape| now.get("syncline_stored_bytes_total");
    let before = Scrape::until(&server, "an update", |now| {
        fate(now, "accepted") == 1.0 && now.get("syncline_store_batch_updates_sum") == 1.0
    });
    let (before, journal) = (before.await, journal_bytes(&folder.path().join("data")));
    for _ in 0..TIMES {
        sink.feed(once.clone()).await.unwrap();
    }
    sink.flush().await.unwrap();
    // And what the watcher said when it joined.
    let known = (TIMES + 1) as f64;
    let now = Scrape::until(&server, "known ones", |now| fate(now, "known") == known).await;
    assert_eq!(fate(&now, "accepted"), 1.0);
    assert_eq!(stored(&now), stored(&before));
    assert_eq!(journal_bytes(&folder.path().join("data")), journal);
    sink.send(Message::Binary(sync_frame(2, &update_of(AUTHOR + 1, "last")))).await.unwrap();
    let held = |watcher: &Client| watcher.held.clone().unwrap_or_default();
    let last = update_of(AUTHOR + 1, "last");
    watcher.until("the last", |watcher| held(watcher).back() == Some(&last)).await;
    assert_eq!(held(&watcher).len(), 2);
    reading.abort();
}

/// Names that mean something to JavaScript.
const NAMES: [&str; 6] =
    ["__proto__", "constructor", "toString", "hasOwnProperty", "prototype", "__defineGetter__"];

fn maps(client: &Client) -> BTreeMap<&'static str, BTreeMap<String, Out>> {
    let txn = client.doc.transact();
    let entries = |map: MapRef| {
        let entries = map.iter(&txn).map(|(key, value)| (key.to_owned(), value));
        entries.collect::<BTreeMap<_, _>>()
    };
    NAMES.into_iter().map(|name| (name, entries(txn.get_map(name).unwrap()))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_7_names_that_mean_something_to_javascript_are_names_like_any_other() {
    let folder = tempfile::tempdir().unwrap();
    let config = "[limits]\nsnapshot_updates = 1\n";
    let mut server = start(&folder, config);
    let url = server.url(NAME, &token(NAME, Access::Write));
    let mut writer = Client::join_v1(&url).await;
    let mut watcher = Client::join(&url).await;
    for root in NAMES {
        let map = writer.doc.get_or_insert_map(root);
        let mut txn = writer.doc.transact_mut();
        for key in NAMES {
            let inner = NAMES.map(|name| (name.to_owned(), Any::from(format!("{root}/{key}"))));
            map.insert(&mut txn, key, Any::from(HashMap::from(inner)));
        }
    }
    let update = writer.doc.transact().encode_diff_v1(&StateVector::default());
    writer.send(sync_frame(2, &update)).await;
    writer.sent += 1;
    let fields = NAMES.map(|name| format!("\"{name}\":{{\"{name}\":[\"{name}\"]}}")).join(",");
    writer.announce(1, &format!("{{{fields}}}")).await;
    writer.until("saved", |writer| writer.saved == writer.sent).await;
    let author = writer.doc.client_id().get();
    watcher.until("a state", |watcher| watcher.present.contains_key(&author)).await;
    // What the server adds comes last.
    let state = &watcher.present[&author];
    assert!(state.starts_with(&format!("{{{fields},\"syncline\":")), "{state}");
    let written = maps(&writer);
    assert_eq!(written["__proto__"].len(), NAMES.len());
    let read = |client: &Client| {
        for name in NAMES {
            client.doc.get_or_insert_map(name);
        }
        maps(client)
    };
    assert_eq!(read(&watcher), written);
    let done = "syncline_snapshots_total{outcome=\"done\"}";
    Scrape::until(&server, "a snapshot", |now| now.get(done) >= 1.0).await;
    assert!(server.stop("TERM").success());
    let server = start(&folder, config);
    let late = Client::join(&server.url(NAME, &token(NAME, Access::Write))).await;
    assert_eq!(read(&late), written);
}
