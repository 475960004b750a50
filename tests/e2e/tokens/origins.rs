//! Web pages of other hosts.

use syncline_tests::door::{Outcome, knock, post, send};
use syncline_tests::server::{Launch, Server};

use super::{assert_refused, claims, secret};

fn start(folder: &tempfile::TempDir, origins: &str) -> Server {
    let environment = [("SYNCLINE_AUTH_ORIGINS", origins)];
    Launch { environment: &environment, ..Launch::new(folder.path()) }.start().unwrap()
}

async fn visit(server: &Server, cookie: bool, origin: Option<&str>) -> Outcome {
    let token = secret().token(None, &claims());
    let path = if cookie { "/ws/notes".to_owned() } else { format!("/ws/notes?token={token}") };
    let value = format!("syncline_token={token}");
    let mut headers = Vec::new();
    if cookie {
        headers.push(("cookie", value.as_bytes()));
    }
    if let Some(origin) = origin {
        headers.push(("origin", origin.as_bytes()));
    }
    knock(server, path.as_bytes(), b"", &headers).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn origin_1_a_list_lets_in_whom_it_names() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(&folder, "https://app.example,https://b.example:8443");
    for good in [None, Some("https://app.example"), Some("http://localhost")] {
        assert_eq!(visit(&server, false, good).await, Outcome::Admitted, "{good:?}");
    }
    let refused = visit(&server, false, Some("https://evil.example")).await;
    assert_refused(&refused, 4403, "origin_blocked: https://evil.example is not in auth.origins");
    let refused = visit(&server, false, Some("null")).await;
    assert_refused(&refused, 4403, "origin_blocked: ");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn origin_2_a_cookie_is_no_use_to_another_page() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(&folder, "");
    assert_eq!(visit(&server, true, Some("http://localhost")).await, Outcome::Admitted);
    assert_eq!(visit(&server, false, Some("https://evil.example")).await, Outcome::Admitted);
    for bad in [None, Some("null"), Some("https://evil.example"), Some("http://localhost:1")] {
        assert_refused(&visit(&server, true, bad).await, 4403, "origin_blocked: ");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn origin_4_the_rest_face_answers_the_pages_that_may_connect() {
    let preflight = |origin: &str| {
        format!(
            "OPTIONS /api/v1/tickets HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             origin: {origin}\r\naccess-control-request-method: POST\r\n\r\n"
        )
    };
    let folder = tempfile::tempdir().unwrap();
    let mut server = start(&folder, "");
    let outcome = send(&server, preflight("https://any.example").as_bytes()).await;
    assert_eq!(outcome.number(), 204);
    assert!(outcome.text().contains("access-control-allow-origin: *\r\n"), "{outcome:?}");
    assert!(outcome.text().contains("authorization"), "{outcome:?}");
    server.kill();

    let server = start(&folder, "https://app.example");
    let outcome = send(&server, preflight("https://app.example").as_bytes()).await;
    let allowed = "access-control-allow-origin: https://app.example\r\n";
    assert!(outcome.text().contains(allowed), "{outcome:?}");
    let outcome = send(&server, preflight("https://evil.example").as_bytes()).await;
    assert!(!outcome.text().contains("access-control-allow-origin"), "{outcome:?}");
    let bearer = format!("Bearer {}", secret().token(None, &claims()));
    let headers =
        [("authorization", bearer.as_bytes()), ("origin", b"https://evil.example".as_slice())];
    let outcome = post(&server, "/api/v1/tickets", &headers, b"{\"document\":\"notes\"}").await;
    assert_eq!(outcome.number(), 403, "{outcome:?}");
    assert!(outcome.text().contains("origin_blocked"), "{outcome:?}");
}

#[test]
fn origin_3_what_is_no_origin_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let output = std::process::Command::new(syncline_tests::server::binary())
        .args(["serve", "--data"])
        .arg(folder.path())
        .args(["--auth-origins", "app.example/path"])
        .env_clear()
        .env("SYNCLINE_JWT_SECRET", syncline_tests::server::SECRET)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(78));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("\"app.example/path\" in auth.origins is not an origin"), "{text}");
}
