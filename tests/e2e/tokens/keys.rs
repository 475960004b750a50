//! Keys that change while the server runs, and servers that do not hand them out.

use std::time::{Duration, Instant};

use syncline_tests::PATIENCE;
use syncline_tests::door::{Outcome, knock};
use syncline_tests::jwt::SigningKey;
use syncline_tests::key_host::{AUTHORITY, Answer, KeyHost};
use syncline_tests::server::{Launch, SECRET, Server};

use super::{assert_refused, attempt, claims, secret};

/// A server that has its keys from `host` alone.
fn start(folder: &tempfile::TempDir, host: &KeyHost, more: &[(&str, &str)]) -> Server {
    let url = host.url();
    let mut environment = vec![("SYNCLINE_AUTH_JWKS", &*url)];
    environment.extend(more);
    let launch = Launch::new(folder.path());
    Launch { environment: &environment, secret: None, ..launch }.start().unwrap()
}

/// Tries until the server has its keys.
async fn until_admitted(server: &Server, token: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let outcome = attempt(server, token).await;
        if outcome == Outcome::Admitted {
            return;
        }
        assert!(Instant::now() < deadline, "{outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn key_3_each_of_several_keys_verifies_and_the_first_secret_signs() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = ("an old secret of at least 32 bytes!", "a new secret of at least 32 bytes!");
    let pems = [SigningKey::p256(), SigningKey::ed25519()];
    let paths = ["one.pem", "two.pem"].map(|name| folder.path().join(name));
    for (path, key) in paths.iter().zip(&pems) {
        std::fs::write(path, key.pem()).unwrap();
    }
    let config = folder.path().join("syncline.toml");
    let [one, two] = paths.map(|path| path.to_str().unwrap().to_owned());
    let text =
        format!("jwt_secret = [{new:?}, {old:?}]\n[auth]\npublic_key = [{one:?}, {two:?}]\n");
    std::fs::write(&config, text).unwrap();
    let config = config.to_str().unwrap();
    let data = folder.path().join("data");
    let environment = [("SYNCLINE_CONFIG", config)];
    let launch = Launch { environment: &environment, secret: None, ..Launch::new(&data) };
    let server = launch.start().unwrap();
    let [p256, ed] = &pems;
    let secret = |text: &str| SigningKey::Secret(text.as_bytes().to_vec());
    for key in [&secret(old), &secret(new), p256, ed] {
        assert_eq!(
            attempt(&server, &key.token(None, &claims())).await,
            Outcome::Admitted,
            "{key:?}"
        );
    }
    let third = secret(SECRET).token(None, &claims());
    assert_refused(&attempt(&server, &third).await, 4401, "token_invalid: the signature");

    let arguments = ["token", "--doc", "notes", "--access", "write", "--config", config];
    let output = std::process::Command::new(syncline_tests::server::binary())
        .args(arguments)
        .env_clear()
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let [header, payload, _] = printed.trim().split('.').collect::<Vec<_>>()[..] else {
        panic!("a token: {printed}")
    };
    assert_eq!(secret(new).token_of(header, payload), printed.trim());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn key_4_a_name_leads_to_its_keys_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let keys = [SigningKey::p256(), SigningKey::p256(), SigningKey::ed25519(), SigningKey::rsa()];
    let [one, other, ed, rsa] = &keys;
    let set = [one.jwk("1"), other.jwk("1"), ed.jwk("1"), rsa.jwk("2"), SigningKey::rsa().jwk("3")];
    let file = folder.path().join("keys.json");
    std::fs::write(&file, serde_json::json!({ "keys": set }).to_string()).unwrap();
    let environment = [("SYNCLINE_AUTH_JWKS", file.to_str().unwrap())];
    let data = folder.path().join("data");
    let server = Launch { environment: &environment, ..Launch::new(&data) }.start().unwrap();
    for (key, kid) in [(one, Some("1")), (other, Some("1")), (ed, Some("1")), (rsa, Some("2"))] {
        let outcome = attempt(&server, &key.token(kid, &claims())).await;
        assert_eq!(outcome, Outcome::Admitted, "{key:?}");
    }
    // The only key of its kind needs no name, and the secret has none.
    for token in [ed.token(None, &claims()), secret().token(None, &claims())] {
        assert_eq!(attempt(&server, &token).await, Outcome::Admitted);
    }
    for (key, kid) in [(rsa, None), (rsa, Some("1")), (rsa, Some("3")), (&secret(), Some("1"))] {
        let outcome = attempt(&server, &key.token(kid, &claims())).await;
        assert_refused(&outcome, 4401, "token_invalid: ");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn key_5_a_withdrawn_key_is_not_believed_after_the_next_look() {
    let (one, two, three) = (SigningKey::p256(), SigningKey::ed25519(), SigningKey::p256());
    let host = KeyHost::start(Answer::keys(&[one.jwk("1"), two.jwk("2")])).await;
    let folder = tempfile::tempdir().unwrap();
    let server = start(&folder, &host, &[]);
    server.until_ready_is(200).await;
    let first = one.token(Some("1"), &claims());
    assert_eq!(attempt(&server, &first).await, Outcome::Admitted);
    host.answer(Answer::keys(&[two.jwk("2"), three.jwk("3")]));
    let third = three.token(Some("3"), &claims());
    assert_eq!(attempt(&server, &third).await, Outcome::Admitted);
    assert_refused(&attempt(&server, &first).await, 4401, "token_invalid: kid names a key");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn key_5_a_new_key_is_fetched_when_a_token_names_it_and_only_seldom() {
    let (one, two, three) = (SigningKey::p256(), SigningKey::ed25519(), SigningKey::rsa());
    let host = KeyHost::start(Answer::keys(&[one.jwk("1")])).await;
    let folder = tempfile::tempdir().unwrap();
    let server = start(&folder, &host, &[]);
    server.until_ready_is(200).await;
    let before = host.asked();
    assert_eq!(attempt(&server, &one.token(Some("1"), &claims())).await, Outcome::Admitted);
    assert_eq!(host.asked(), before, "a known key asks for nothing");

    host.answer(Answer::keys(&[one.jwk("1"), two.jwk("2")]));
    // Many at once bring about one look, and all are let in by it.
    let token = two.token(Some("2"), &claims());
    let crowd = (0..20).map(|_| attempt(&server, &token));
    for outcome in futures_util::future::join_all(crowd).await {
        assert_eq!(outcome, Outcome::Admitted);
    }
    assert_eq!(host.asked(), before + 1);

    // Anybody can name unknown keys: that costs the provider nothing for half a minute.
    host.answer(Answer::keys(&[three.jwk("3")]));
    for number in 0..50 {
        let token = three.token(Some(&format!("unknown {number}")), &claims());
        assert_refused(&attempt(&server, &token).await, 4401, "token_invalid: kid names a key");
    }
    assert_eq!(host.asked(), before + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn key_5_known_keys_stay_good_while_the_set_cannot_be_had() {
    let (one, two) = (SigningKey::p256(), SigningKey::ed25519());
    let oct = secret().jwk("2");
    let failures = [
        ("500", Answer::status("500 Internal Server Error")),
        ("a redirect", Answer::status("302 Found")),
        ("a page", Answer::text("<html>")),
        ("an empty set", Answer::keys(&[])),
        ("a secret", Answer::keys(&[oct])),
        ("33 keys", Answer::keys(&vec![two.jwk("2"); 33])),
        ("endless", Answer::text(&" ".repeat(300_000))),
        ("cut", Answer::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{".to_vec())),
        ("garbage", Answer::Raw(vec![0; 100])),
        ("hung up", Answer::Raw(vec![])),
    ];
    for (name, answer) in failures {
        let host = KeyHost::start(Answer::keys(&[one.jwk("1")])).await;
        let folder = tempfile::tempdir().unwrap();
        let server = start(&folder, &host, &[]);
        server.until_ready_is(200).await;
        host.answer(answer);
        // The set may have the key: the client is asked to come back.
        let unknown = attempt(&server, &two.token(Some("2"), &claims())).await;
        assert_refused(&unknown, 4503, "keys_unavailable: ");
        let known = attempt(&server, &one.token(Some("1"), &claims())).await;
        assert_eq!(known, Outcome::Admitted, "{name}");
        // What the refused set held was not taken over.
        let forged = attempt(&server, &secret().token(Some("2"), &claims())).await;
        assert_refused(&forged, 4401, "token_invalid: ");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn key_8_a_server_without_keys_is_not_ready_and_says_so() {
    let one = SigningKey::p256();
    let host = KeyHost::start(Answer::Silence).await;
    let folder = tempfile::tempdir().unwrap();
    let server = start(&folder, &host, &[]);
    let (status, text) = server.get("/readyz").await;
    assert!(status == 503 && text.contains("keys_unavailable"), "{text}");
    // The look under way ends without an answer; the one that this token brings about has one.
    host.answer(Answer::keys(&[one.jwk("1")]));
    until_admitted(&server, &one.token(Some("1"), &claims())).await;
    server.until_ready_is(200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn key_7_a_set_is_fetched_over_https_from_whom_the_system_trusts() {
    let one = SigningKey::rsa();
    let host = KeyHost::start_tls(Answer::keys(&[one.jwk("1")])).await;
    let folder = tempfile::tempdir().unwrap();
    let server = start(&folder, &host, &[("SSL_CERT_FILE", AUTHORITY)]);
    server.until_ready_is(200).await;
    assert_eq!(attempt(&server, &one.token(Some("1"), &claims())).await, Outcome::Admitted);

    // Another authority's certificates: the same server is not believed.
    let log = folder.path().join("log");
    let data = folder.path().join("other");
    let url = host.url();
    let other = concat!(env!("CARGO_MANIFEST_DIR"), "/harness/tls/server.pem");
    let environment =
        [("SYNCLINE_AUTH_JWKS", &*url), ("SSL_CERT_FILE", other), ("SYNCLINE_LOG", "warn")];
    let launch = Launch { environment: &environment, secret: None, ..Launch::new(&data) };
    let server = Launch { log: Some(&log), ..launch }.start().unwrap();
    let refused = attempt(&server, &one.token(Some("1"), &claims())).await;
    assert_refused(&refused, 4503, "keys_unavailable: ");
    assert_eq!(host.asked(), 1);
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("The JWKS could not be fetched") && log.contains("certificate"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn key_5_waiting_for_a_set_holds_up_nobody_else() {
    let one = SigningKey::p256();
    let host = KeyHost::start(Answer::keys(&[one.jwk("1")])).await;
    let folder = tempfile::tempdir().unwrap();
    let server = start(&folder, &host, &[]);
    server.until_ready_is(200).await;
    host.answer(Answer::Silence);
    let token = one.token(Some("2"), &claims());
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_bytes())];
    let waiting = knock(&server, b"/ws/notes", b"", &headers);
    let mut waiting = std::pin::pin!(waiting);
    let known = one.token(Some("1"), &claims());
    while host.asked() < 2 {
        let outcome = tokio::select! {
            outcome = &mut waiting => panic!("it does not wait: {outcome:?}"),
            outcome = attempt(&server, &known) => outcome,
        };
        assert_eq!(outcome, Outcome::Admitted);
    }
    assert_eq!(attempt(&server, &known).await, Outcome::Admitted);
    // The wait has an end of its own.
    let begun = Instant::now();
    assert_refused(&waiting.await, 4503, "keys_unavailable: ");
    assert!(begun.elapsed() < Duration::from_secs(15));
}
