//! `POST /api/v1/revoke`: rights that end while their holder writes.

use std::time::{Duration, Instant};

use syncline_protocol::Access;
use syncline_server::auth::{Claims, unix_now};
use syncline_tests::client::{Client, ending};
use syncline_tests::server::{Server, claims_for, sign, token};

const NAME: &str = "team/plan";
const REVOKE: &str = "/api/v1/revoke";

fn claims(sub: &str, access: Access) -> Claims {
    let claims = claims_for(NAME, access, Duration::from_secs(3_600));
    Claims { sub: Some(sub.to_owned()), ..claims }
}

fn url(server: &Server, claims: &Claims) -> String {
    server.url(NAME, &sign(claims))
}

async fn revoke(server: &Server, order: &str) -> (u16, String) {
    server.post(REVOKE, &token("*", Access::Admin), order).await
}

async fn content(server: &Server) -> String {
    Client::join(&url(server, &claims("reader", Access::Read))).await.content()
}

fn start() -> (tempfile::TempDir, Server) {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    (data, server)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revoke_1_nothing_of_a_flood_comes_after_the_answer() {
    let (_data, server) = start();
    let mut bystander = Client::join_v1(&url(&server, &claims("ann", Access::Write))).await;
    let mut mallory = Client::join_v1(&url(&server, &claims("mallory", Access::Write))).await;
    let flood = tokio::spawn(async move {
        // Without reading, so as fast as the server takes it.
        while mallory.try_splice(0, "xxxxxxxxxxxxxxxx").await.is_ok() {}
        mallory.until_ended().await
    });
    bystander.until("a flood", |bystander| bystander.length() > 16 * 200).await;
    let asked = Instant::now();
    let answer = revoke(&server, r#"{"sub": "mallory"}"#).await;
    let took = asked.elapsed();
    assert_eq!(answer, (200, r#"{"closed":1,"narrowed":0}"#.to_owned()));
    let then = content(&server).await;
    assert!(took < Duration::from_secs(10), "{took:?}");
    let ended = flood.await.unwrap();
    // A peer that only writes may meet the end of the socket before the reason.
    assert!([4403, 1006].contains(&ended.code), "{ended:?}");
    assert_eq!(content(&server).await, then, "something came later");
    bystander.until("the end", |bystander| bystander.content() == then).await;
    bystander.splice(0, 0, "still here. ").await;
    bystander.until("saved", |bystander| bystander.saved == bystander.sent).await;
    let server = server.kill_and_restart();
    assert_eq!(content(&server).await, format!("still here. {then}"), "stored later");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revoke_1_every_session_of_the_user_is_told_and_no_other() {
    let (_data, server) = start();
    let mut hers = Vec::new();
    for _ in 0..3 {
        hers.push(Client::join_v1(&url(&server, &claims("eve", Access::Write))).await);
    }
    let mut stock = Client::join(&url(&server, &claims("eve", Access::Read))).await;
    let mut other = Client::join_v1(&url(&server, &claims("ann", Access::Write))).await;
    stock.announce(1, "{}").await;
    let stock_id = stock.doc.client_id().get();
    other.announce(1, "{}").await;
    other.until("presence", |other| other.present.contains_key(&stock_id)).await;
    let answer = revoke(&server, r#"{"sub": "eve", "document": "team/*"}"#).await;
    assert_eq!(answer, (200, r#"{"closed":4,"narrowed":0}"#.to_owned()));
    for mut client in hers.into_iter().chain([stock]) {
        let ended = client.until_ended().await;
        assert_eq!(ended.code, 4403, "{ended:?}");
        assert!(ended.reason.starts_with("revoked: "), "{ended:?}");
    }
    other
        .until("she is gone", |other| other.present.get(&stock_id).is_some_and(|it| it == "null"))
        .await;
    other.splice(0, 0, "mine").await;
    other.until("saved", |other| other.saved == other.sent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revoke_2_sessions_are_narrowed_to_what_is_left() {
    let (_data, server) = start();
    let mut client = Client::join_v1(&url(&server, &claims("eve", Access::Write))).await;
    let mut stock = Client::join(&url(&server, &claims("eve", Access::Admin))).await;
    let mut other = Client::join_v1(&url(&server, &claims("ann", Access::Write))).await;
    client.splice(0, 0, "before").await;
    for follower in [&mut stock, &mut other] {
        follower.until("the edit", |it| it.content() == "before").await;
    }
    let elsewhere = r#"{"sub": "eve", "document": "team", "access": "read"}"#;
    assert_eq!(revoke(&server, elsewhere).await.1, r#"{"closed":0,"narrowed":0}"#);
    let older =
        format!(r#"{{"sub": "eve", "access": "read", "issued_before": {}}}"#, unix_now() - 60);
    assert_eq!(revoke(&server, &older).await.1, r#"{"closed":0,"narrowed":0}"#);
    let answer = revoke(&server, r#"{"sub": "eve", "access": "read"}"#).await;
    assert_eq!(answer, (200, r#"{"closed":0,"narrowed":2}"#.to_owned()));
    for client in [&mut client, &mut stock] {
        client.splice(0, 0, "after ").await;
        let refused = |it: &Client| it.denied.iter().any(|it| it.starts_with("forbidden_write"));
        client.until("a refusal", refused).await;
    }
    assert_eq!(content(&server).await, "before");
    other.splice(6, 0, "!").await;
    client.until("what others write", |client| client.content().ends_with('!')).await;
    // A newer token counts for what it says.
    let newer = Claims { iat: Some(unix_now() + 2), ..claims("eve", Access::Write) };
    client.bring(&sign(&newer)).await;
    client.until("all saved", |client| client.saved == client.sent).await;
    assert_eq!(content(&server).await, "after before!");
    // An older one does not.
    client.bring(&sign(&Claims { iat: None, ..claims("eve", Access::Write) })).await;
    client.until("narrowed", |client| client.access == Some(0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revoke_3_only_an_operator_may_and_only_what_makes_sense() {
    let (_data, server) = start();
    let mut client = Client::join_v1(&url(&server, &claims("eve", Access::Admin))).await;
    let admin = token("*", Access::Admin);
    let order = r#"{"sub": "eve"}"#;
    let expired = Claims { exp: 1, ..claims_for("*", Access::Admin, Duration::ZERO) };
    let ahead = format!(r#"{{"sub": "eve", "issued_before": {}}}"#, unix_now() * 1_000);
    let long = format!(r#"{{"sub": "{}"}}"#, "x".repeat(20_000));
    let cases = [
        ("", order, 401, "token_"),
        ("garbage", order, 401, "token_invalid"),
        (&sign(&expired), order, 401, "token_expired"),
        (&token("*", Access::Write), order, 403, "forbidden_document"),
        (&token(NAME, Access::Admin), order, 403, "forbidden_document"),
        (&token("team/*", Access::Admin), order, 403, "forbidden_document"),
        (&admin, "", 400, "bad_request"),
        (&admin, "{}", 400, "bad_request"),
        (&admin, r#"{"sub": ""}"#, 400, "bad_request"),
        (&admin, r#"{"sub": "eve", "documents": "*"}"#, 400, "bad_request"),
        (&admin, r#"{"sub": "eve", "document": "te*"}"#, 400, "bad_request"),
        (&admin, r#"{"sub": "eve", "access": "admin"}"#, 400, "bad_request"),
        (&admin, r#"{"sub": "eve", "until": 5}"#, 400, "bad_request"),
        (&admin, &ahead, 400, "bad_request"),
        (&admin, &long, 413, "message_too_large"),
    ];
    for (bearer, order, status, word) in cases {
        let (found, text) = server.post(REVOKE, bearer, order).await;
        let case = &order[..order.len().min(60)];
        assert_eq!(found, status, "{case}: {text}");
        assert!(text.contains(&format!("\"code\":\"{word}")), "{case}: {text}");
    }
    assert_eq!(server.get(REVOKE).await.0, 405);
    client.splice(0, 0, "unharmed").await;
    client.until("saved", |client| client.saved == client.sent).await;
    // An operator can be revoked like anybody, and only everywhere.
    assert_eq!(server.post(REVOKE, &admin, r#"{"sub": "tester"}"#).await.0, 200);
    let (status, text) = server.post(REVOKE, &admin, order).await;
    assert_eq!(status, 403, "{text}");
    assert!(text.contains("\"code\":\"revoked\""), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revoke_4_tokens_from_before_open_nothing_any_more() {
    let (data, server) = start();
    let before = claims("eve", Access::Write);
    let after = Claims { iat: Some(unix_now() + 2), ..before.clone() };
    let bob = claims("bob", Access::Write);
    assert_eq!(revoke(&server, r#"{"sub": "eve"}"#).await.0, 200);
    assert_eq!(revoke(&server, r#"{"sub": "bob", "access": "read"}"#).await.0, 200);
    let mut server = server;
    for _ in 0..2 {
        for claims in [before.clone(), Claims { iat: None, ..before.clone() }] {
            let ended = ending(&url(&server, &claims), vec![]).await;
            assert_eq!(ended.code, 4403, "{ended:?}");
            assert!(ended.reason.starts_with("revoked: "), "{ended:?}");
        }
        Client::join_v1(&url(&server, &after)).await;
        let narrowed = Client::join_v1(&url(&server, &bob)).await;
        assert_eq!(narrowed.access, Some(0));
        // In-band as well.
        let mut client = Client::join_v1(&url(&server, &after)).await;
        client.bring(&sign(&before)).await;
        assert_eq!(client.until_ended().await.code, 4403);
        server = server.kill_and_restart();
    }
    drop(server);
    std::fs::write(data.path().join("revoked.json"), "{").unwrap();
    let refused = syncline_tests::server::Launch::new(data.path()).start();
    assert!(refused.is_err(), "it starts over a list that it cannot read");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revoke_5_a_list_that_cannot_be_written_is_told() {
    let (data, server) = start();
    let mut client = Client::join_v1(&url(&server, &claims("eve", Access::Write))).await;
    // Nothing can be renamed onto a folder.
    std::fs::create_dir(data.path().join("revoked.json")).unwrap();
    let (status, text) = revoke(&server, r#"{"sub": "eve"}"#).await;
    assert_eq!(status, 503, "{text}");
    assert!(text.contains("store_unavailable"), "{text}");
    assert_eq!(client.until_ended().await.code, 4403);
    let ended = ending(&url(&server, &claims("eve", Access::Write)), vec![]).await;
    assert!(ended.reason.starts_with("revoked: "), "{ended:?}");
}
