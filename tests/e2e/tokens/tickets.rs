//! Tickets over HTTP.

use serde_json::{Value, json};
use syncline_tests::client::{Client, ending};
use syncline_tests::door::{Outcome, knock, post};
use syncline_tests::server::Server;

use super::{assert_refused, claims, claims_with, secret};

async fn ask(server: &Server, token: &str, body: &str) -> Outcome {
    let bearer = format!("Bearer {token}");
    post(server, "/api/v1/tickets", &[("authorization", bearer.as_bytes())], body.as_bytes()).await
}

async fn ticket(server: &Server, claims: &Value, document: &str) -> String {
    let body = json!({ "document": document }).to_string();
    let outcome = ask(server, &secret().token(None, claims), &body).await;
    assert_eq!(outcome.number(), 201, "{outcome:?}");
    let (_, body) = outcome.text().split_once("\r\n\r\n").unwrap();
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["expires_in"], 30);
    body["ticket"].as_str().unwrap().to_owned()
}

fn url(server: &Server, document: &str, ticket: &str) -> String {
    format!("ws://{}/ws/{document}?ticket={ticket}", server.address())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ticket_1_it_opens_its_document_once() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let rights = claims_with("access", json!({ "notes": "write", "plan": "read" }));

    let ticket = ticket(&server, &rights, "notes").await;
    let address = url(&server, "notes", &ticket);
    // Whoever only looks at the link does not use it up.
    let (status, _) = server.get(&format!("/ws/notes?ticket={ticket}")).await;
    assert_eq!(status, 426);
    let mut client = Client::join_v1(&address).await;
    client.splice(0, 0, "by ticket").await;
    client.until("saved", |client| client.saved == client.sent).await;
    let again = ending(&address, vec![]).await;
    assert_eq!(again.code, 4401);
    assert!(again.reason.starts_with("token_invalid: the ticket was used before"), "{again:?}");

    // The right is the token's, and the document is the one that was asked for.
    let reading = self::ticket(&server, &rights, "plan").await;
    let mut reader = Client::join_v1(&url(&server, "plan", &reading)).await;
    reader.splice(0, 0, "graffiti").await;
    reader.until("a refusal", |reader| !reader.denied.is_empty()).await;
    let elsewhere = self::ticket(&server, &rights, "plan").await;
    let ended = ending(&url(&server, "notes", &elsewhere), vec![]).await;
    assert_eq!(ended.code, 4403);
    assert!(ended.reason.starts_with("forbidden_document: "), "{ended:?}");
    let ended = ending(&url(&server, "plan", &elsewhere), vec![]).await;
    assert_eq!(ended.code, 4401, "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ticket_1_it_ends_with_its_token() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    // Of thirty seconds of leeway two are left.
    let nearly_gone = claims_with("exp", syncline_server::auth::unix_now() - 28);
    let ticket = ticket(&server, &nearly_gone, "notes").await;
    let ended = ending(&url(&server, "notes", &ticket), vec![]).await;
    assert_eq!(ended.code, 4401);
    assert!(ended.reason.starts_with("token_expired: "), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ticket_4_wrong_requests_get_a_status_and_no_ticket() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let good = secret().token(None, &claims_with("access", json!({ "notes": "write" })));
    let long = format!("{{\"document\":\"{}\"}}", "n".repeat(20_000));
    let cases = [
        ("", "{\"document\":\"notes\"}", 401, "token_missing"),
        ("x.y.z", "{\"document\":\"notes\"}", 401, "token_invalid"),
        (&good, "{\"document\":\"other\"}", 403, "forbidden_document"),
        (&good, "{\"document\":\"a//b\"}", 400, "bad_document_name"),
        (&good, "{\"document\":\"\"}", 400, "bad_document_name"),
        (&good, "{\"document\":7}", 400, "bad_request"),
        (&good, "{\"document\":\"notes\",\"access\":\"admin\"}", 400, "bad_request"),
        (&good, "", 400, "bad_request"),
        (&good, "[]", 400, "bad_request"),
        (&good, &long, 413, "message_too_large"),
    ];
    for (token, body, status, word) in cases {
        let outcome = ask(&server, token, body).await;
        assert_eq!(outcome.number(), status, "{body}: {outcome:?}");
        assert!(outcome.text().contains(word), "{body}: {outcome:?}");
        assert!(!outcome.text().contains("slt_"), "{body}: {outcome:?}");
    }
    // A cookie or a query is not looked at: a page of somebody else could make a browser send them.
    let cookie = format!("syncline_token={good}");
    let body = b"{\"document\":\"notes\"}";
    let path = format!("/api/v1/tickets?token={good}");
    let outcome = post(&server, &path, &[("cookie", cookie.as_bytes())], body).await;
    assert_eq!(outcome.number(), 401, "{outcome:?}");
    for path in ["/api/v1/tickets", "/api/v1/nothing"] {
        let (status, _) = server.get(path).await;
        assert!([404, 405].contains(&status), "{path}: {status}");
    }
    let unknown = knock(&server, b"/ws/notes?ticket=slt_AAAA", b"", &[]).await;
    assert_refused(&unknown, 4401, "token_invalid: the ticket");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ticket_3_the_bound_is_told_and_leaves_the_others_good() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let mut tickets = Vec::new();
    for _ in 0..32 {
        tickets.push(ticket(&server, &claims(), "notes").await);
    }
    let body = "{\"document\":\"notes\"}";
    let outcome = ask(&server, &secret().token(None, &claims()), body).await;
    assert_eq!(outcome.number(), 503, "{outcome:?}");
    assert!(outcome.text().contains("32 tickets of this user"), "{outcome:?}");
    ticket(&server, &claims_with("sub", "bob"), "notes").await;
    for ticket in tickets {
        let path = format!("/ws/notes?ticket={ticket}");
        assert_eq!(knock(&server, path.as_bytes(), b"", &[]).await, Outcome::Admitted);
    }
}
