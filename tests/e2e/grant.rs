//! What a token allows while connected: renewed, changed, hidden, and never more than it says.

use std::time::Duration;

use futures_util::future::join_all;
use syncline_protocol::Access;
use syncline_protocol::wire::varint::{write_buffer, write_var_uint};
use syncline_server::auth::{Claims, PresenceClaim, unix_now};
use syncline_tests::client::{Client, Ended, new_doc, sync_frame};
use syncline_tests::server::{Server, claims_for, sign, token};
use yrs::{ReadTxn, StateVector, Transact};

const NAME: &str = "notes/today";

fn claims(access: Access) -> Claims {
    claims_for(NAME, access, Duration::from_secs(3_600))
}

/// A token with so many seconds until its connection is closed: most of the leeway is over.
fn ending_in(seconds: u64) -> String {
    sign(&Claims { exp: unix_now() + seconds - 30, ..claims(Access::Write) })
}

fn start() -> (tempfile::TempDir, Server) {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    (data, server)
}

fn state(client: &Client) -> Vec<u8> {
    client.doc.transact().encode_state_as_update_v1(&StateVector::default())
}

async fn newcomer(server: &Server) -> Client {
    Client::join(&server.url(NAME, &token(NAME, Access::Read))).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn auth_8_a_session_outlives_its_tokens_if_it_brings_others() {
    let (_data, server) = start();
    let mut silent = Client::join_v1(&server.url(NAME, &ending_in(4))).await;
    // It reads meanwhile: whoever does not cannot be told why it is hung up on.
    let silent = tokio::spawn(async move { (silent.until_ended().await, silent.wanted) });
    let mut typing = Client::join_v1(&server.url(NAME, &ending_in(4))).await;
    let begun = std::time::Instant::now();
    let mut brought = 0;
    while brought < 4 || begun.elapsed() < Duration::from_secs(9) {
        let wanted = typing.wanted;
        typing.splice(0, 0, "x").await;
        typing.until("a question or Saved", |it| it.wanted > wanted || it.saved == it.sent).await;
        if typing.wanted > wanted {
            brought += 1;
            typing.bring(&ending_in(4)).await;
        }
    }
    typing.until("saved", |it| it.saved == it.sent).await;
    assert!(typing.ended.is_none());
    assert_eq!(newcomer(&server).await.content(), typing.content());
    let (ended, wanted) = silent.await.unwrap();
    assert_eq!(ended.code, 4401, "{ended:?}");
    assert!(ended.reason.starts_with("token_expired: "), "{ended:?}");
    assert!(wanted > 1, "it was asked, and again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn auth_9_rights_change_with_the_token() {
    let (_data, server) = start();
    let mut client = Client::join_v1(&server.url(NAME, &sign(&claims(Access::Write)))).await;
    let mut stock = Client::join(&server.url(NAME, &token(NAME, Access::Write))).await;
    client.splice(0, 0, "one.").await;
    client.bring(&sign(&claims(Access::Read))).await;
    client.until("narrowed", |client| client.access == Some(0)).await;
    client.splice(0, 0, "two.").await;
    client.until("a refusal", |client| client.denied == ["forbidden_write"]).await;
    assert_eq!(newcomer(&server).await.content(), "one.");
    client.bring(&sign(&claims(Access::Admin))).await;
    client.until("widened", |client| client.access == Some(2)).await;
    client.until("all saved", |client| client.saved == client.sent).await;
    assert_eq!(newcomer(&server).await.content(), "two.one.");
    stock.until("the others' edits", |stock| stock.content() == "two.one.").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn auth_9_a_bad_token_ends_the_session_and_says_why() {
    let (_data, server) = start();
    let elsewhere = claims_for("other", Access::Write, Duration::from_secs(60));
    let cases = [
        ("garbage".to_owned(), 4401, "token_invalid: "),
        (sign(&Claims { exp: unix_now() - 60, ..claims(Access::Write) }), 4401, "token_expired: "),
        (sign(&elsewhere), 4403, "forbidden_document: "),
        (
            sign(&Claims { sub: Some("eve".to_owned()), ..claims(Access::Write) }),
            4401,
            "token_invalid: the token's sub is not this session's; reconnect with the token",
        ),
        (sign(&Claims { sub: None, ..claims(Access::Write) }), 4401, "token_invalid: "),
        ("x".repeat(100_000), 4401, "token_invalid: "),
    ];
    for (bad, code, reason) in cases {
        let mut client = Client::join_v1(&server.url(NAME, &token(NAME, Access::Write))).await;
        client.bring(&bad).await;
        let ended = client.until_ended().await;
        assert_eq!(ended.code, code, "{ended:?}");
        assert!(ended.reason.starts_with(reason), "{ended:?}");
    }
    // Who has not asked for the extensions has no such message.
    let mut stock = Client::join(&server.url(NAME, &token(NAME, Access::Write))).await;
    stock.bring(&token(NAME, Access::Write)).await;
    let ended = stock.until_ended().await;
    assert!(ended.reason.starts_with("bad_frame: message type 68"), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn auth_10_a_flood_of_tokens_ends_the_session() {
    let (_data, server) = start();
    let good = token(NAME, Access::Write);
    let mut client = Client::join_v1(&server.url(NAME, &good)).await;
    for _ in 0..100 {
        client.bring(&good).await;
    }
    let Ended { code, reason } = client.until_ended().await;
    assert_eq!(code, 4503);
    assert!(reason.starts_with("rate_limited: "), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn auth_6_who_is_hidden_sees_and_who_has_no_presence_does_neither() {
    let (_data, server) = start();
    let with = |presence: &str| {
        let presence: PresenceClaim = serde_json::from_str(presence).unwrap();
        server.url(NAME, &sign(&Claims { presence, ..claims(Access::Write) }))
    };
    let mut seen = Client::join(&with("\"visible\"")).await;
    let mut hidden = Client::join(&with("{\"notes/*\": \"hidden\"}")).await;
    let mut none = Client::join(&with("\"none\"")).await;
    hidden.announce(1, "{\"who\":\"hidden\"}").await;
    none.announce(1, "{\"who\":\"none\"}").await;
    seen.announce(1, "{\"who\":\"seen\"}").await;
    let seen_id = seen.doc.client_id().get();
    hidden.until("who is here", |client| client.present.contains_key(&seen_id)).await;
    // Their edits come after what they said of themselves.
    hidden.splice(0, 0, "h").await;
    none.splice(0, 0, "n").await;
    for client in [&mut seen, &mut none] {
        client.until("both edits", |client| client.length() == 2).await;
    }
    let mut others = seen.present.clone();
    others.remove(&seen_id);
    assert!(others.is_empty(), "{others:?}");
    assert!(none.present.is_empty(), "{:?}", none.present);
}

/// Sends messages of some types, each with nothing in it, with an edit, and with an edit as a sync
/// message has it.
async fn scribble(reader: String, protocol: Option<&'static str>, kinds: Vec<u64>, edit: Vec<u8>) {
    let mut payload = Vec::new();
    write_buffer(&mut payload, &edit);
    let sync = sync_frame(2, &edit).split_off(1).to_vec();
    // Most messages end their connection.
    let mut client = Client::join_as(&reader, new_doc(), protocol).await;
    for kind in kinds {
        for body in [vec![], payload.clone(), sync.clone()] {
            let mut frame = Vec::new();
            write_var_uint(&mut frame, kind);
            frame.extend(body);
            if client.try_send(frame.into()).await.is_err() || client.is_over().await {
                client = Client::join_as(&reader, new_doc(), protocol).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn auth_11_no_message_of_a_reader_changes_anything() {
    let (_data, server) = start();
    let mut writer = Client::join_v1(&server.url(NAME, &token(NAME, Access::Write))).await;
    writer.splice(0, 0, "precious").await;
    writer.until("saved", |writer| writer.saved == writer.sent).await;
    let before = state(&newcomer(&server).await);
    let reader = server.url(NAME, &token(NAME, Access::Read));
    let edit = {
        let (doc, text) = (new_doc(), "graffiti");
        yrs::Text::insert(&doc.get_or_insert_text("t"), &mut doc.transact_mut(), 0, text);
        doc.transact().encode_state_as_update_v1(&StateVector::default())
    };
    let all: Vec<u64> = (0..=255).collect();
    let tasks = all.chunks(64).flat_map(|kinds| {
        [None, Some("syncline.v1")].map(|protocol| {
            tokio::spawn(scribble(reader.clone(), protocol, kinds.to_vec(), edit.clone()))
        })
    });
    tokio::select! {
        ended = join_all(tasks) => assert!(ended.iter().all(Result::is_ok), "{ended:?}"),
        _ = writer.until_or_gone(|_| false) => panic!("the writer was closed"),
    }
    assert_eq!(state(&newcomer(&server).await), before);
    assert_eq!(writer.content(), "precious", "it was sent something");
    writer.splice(8, 0, "!").await;
    writer.until("saved", |writer| writer.saved == writer.sent).await;
    let server = server.kill_and_restart();
    assert_eq!(newcomer(&server).await.content(), "precious!", "something was stored");
}
