//! Bad input: each gets its close code and word, and costs only its own connection.

use std::collections::BTreeMap;

use syncline_protocol::Access;
use syncline_server::auth::{self, Claims};
use syncline_tests::Random;
use syncline_tests::client::{Client, ending, sync_frame};
use syncline_tests::server::{Server, sign, token};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::Message;

const NAME: &str = "refusal";

struct Bystander {
    client: Client,
    url: String,
    server: Server,
    _data: tempfile::TempDir,
}

impl Bystander {
    async fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let server = Server::start(data.path());
        let url = server.url(NAME, &token(NAME, Access::Write));
        let mut client = Client::join_v1(&url).await;
        client.splice(0, 0, "precious").await;
        client.until("saved", |client| client.saved == client.sent).await;
        Self { client, url, server, _data: data }
    }

    /// Whoever was connected all along can still write, and a newcomer sees the same.
    async fn is_unharmed(&mut self) {
        let at = self.client.length();
        self.client.splice(at, 0, "!").await;
        self.client.until("saved", |client| client.saved == client.sent).await;
        let newcomer = Client::join(&self.url).await;
        assert_eq!(newcomer.content(), self.client.content());
        assert!(newcomer.content().starts_with("precious!"));
    }
}

fn binary(bytes: &[u8]) -> Message {
    Message::Binary(bytes.to_vec().into())
}

fn glued(frames: &[&[u8]]) -> Message {
    Message::Binary(frames.concat().into())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frame_1_bad_ones_close_their_own_connection() {
    let mut bystander = Bystander::start().await;
    let step_1: &[u8] = &sync_frame(0, &[0]);
    let nested: Vec<u8> =
        [&[1, 1, 77, 0, 8, 1, 1, b't', 1][..], &[117, 1].repeat(8_000), &[126, 0]].concat();
    let cases: Vec<(&str, Message, u16, &str)> = vec![
        ("empty", binary(&[]), 4400, "bad_frame: "),
        ("truncated", binary(&step_1[..2]), 4400, "bad_frame: "),
        ("a length beyond the end", binary(&[0, 2, 255, 255, 3, 1]), 4400, "bad_frame: "),
        ("glued", glued(&[step_1, step_1]), 4400, "bad_frame: "),
        ("text", Message::Text("hello".into()), 4400, "bad_frame: "),
        ("unknown type", binary(&[42, 0]), 4400, "bad_frame: "),
        ("a server's type", binary(&[2, 0, 0]), 4400, "bad_frame: "),
        ("unknown sync type", binary(&[0, 3, 0]), 4400, "bad_frame: "),
        ("an endless number", binary(&[255; 12]), 4400, "bad_frame: "),
        ("an update that is none", Message::Binary(sync_frame(2, b"hello")), 4400, "bad_frame: "),
        ("a state vector that is none", Message::Binary(sync_frame(0, &[9])), 4400, "bad_frame: "),
        ("200 million clients", Message::Binary(sync_frame(2, &[128, 132, 175, 95])), 4400, ""),
        ("a deep value", Message::Binary(sync_frame(2, &nested)), 4413, "message_too_large: "),
        ("a subdocument", Message::Binary(sync_frame(2, SUBDOCUMENT)), 4400, "bad_frame: "),
        ("presence that is no JSON", binary(&[1, 4, 1, 5, 1, 0]), 4400, "bad_frame: "),
        (
            "a live update beyond 1 MiB",
            Message::Binary(sync_frame(2, &vec![0; 1_100_000])),
            4413,
            "message_too_large: ",
        ),
        ("a message beyond 8 MiB", binary(&vec![0; 9_000_000]), 4413, "message_too_large: "),
    ];
    for (name, message, code, word) in cases {
        let ended = ending(&bystander.url, vec![message]).await;
        assert_eq!(ended.code, code, "{name}: {ended:?}");
        assert!(ended.reason.starts_with(word), "{name}: {ended:?}");
        assert!(ended.reason.len() <= 123, "{name}: {ended:?}");
    }
    bystander.is_unharmed().await;
}

/// `doc.getMap('m').set('sub', new Y.Doc())`, as Yjs 13 writes it.
const SUBDOCUMENT: &[u8] = &[1, 1, 5, 0, 41, 1, 1, 109, 3, 115, 117, 98, 1, 97, 118, 0, 0];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frame_2_random_ones_harm_nobody() {
    let mut bystander = Bystander::start().await;
    let mut random = Random::new(4);
    for _ in 0..200 {
        let length = 1 + random.below(64);
        let mut bytes: Vec<u8> = (0..length).map(|_| random.below(256) as u8).collect();
        // Half of them begin like something real, to reach the deeper decoders.
        if random.below(2) == 0 {
            bytes[0] = random.below(4) as u8;
        }
        // Some are valid by chance; the ping then makes sure that an answer comes at all.
        let ended = ending(&bystander.url, vec![binary(&bytes), Message::Close(None)]).await;
        assert!([1000, 1005, 1006, 4400, 4413].contains(&ended.code), "{bytes:?}: {ended:?}");
    }
    bystander.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn auth_5_a_readers_updates_change_nothing() {
    let mut bystander = Bystander::start().await;
    let url = bystander.server.url(NAME, &token(NAME, Access::Read));
    let mut reader = Client::join(&url).await;
    assert_eq!(reader.content(), "precious");
    for _ in 0..3 {
        reader.splice(0, 0, "graffiti ").await;
    }
    reader.until("a refusal", |reader| !reader.denied.is_empty()).await;
    bystander.is_unharmed().await;
    // It still follows, and was told once.
    reader.until("the others' edit", |reader| reader.content().ends_with('!')).await;
    assert_eq!(reader.denied.len(), 1);
    assert!(reader.denied[0].starts_with("forbidden_write: "), "{:?}", reader.denied);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn auth_1_bad_tokens_open_nothing() {
    let mut bystander = Bystander::start().await;
    let now = auth::unix_now();
    let good = || Claims {
        exp: now + 60,
        access: BTreeMap::from([(NAME.to_owned(), Access::Write)]),
        ..Claims::default()
    };
    let valid = sign(&good());
    let (head, signature) = valid.rsplit_once('.').unwrap();
    let unsigned = "eyJhbGciOiJub25lIn0.eyJleHAiOjk5OTk5OTk5OTksImFjY2VzcyI6eyIqIjoiYWRtaW4ifX0.";
    let cases: Vec<(&str, String, &str)> = vec![
        ("none", String::new(), "token_missing: "),
        ("garbage", "garbage".to_owned(), "token_invalid: "),
        ("no signature", format!("{head}."), "token_invalid: "),
        ("another's signature", format!("{head}.AAAA{signature}"), "token_invalid: "),
        ("alg none", unsigned.to_owned(), "token_invalid: "),
        ("expired", sign(&Claims { exp: now - 100, ..good() }), "token_expired: expired 10"),
        ("early", sign(&Claims { nbf: Some(now + 100), ..good() }), "token_not_yet_valid: "),
        (
            "for another document",
            sign(&Claims { access: BTreeMap::from([("other".into(), Access::Write)]), ..good() }),
            "forbidden_document: the token is for \"other\", you asked for \"refusal\"",
        ),
        (
            "for names that begin alike",
            sign(&Claims { access: BTreeMap::from([("ref*".into(), Access::Write)]), ..good() }),
            "forbidden_document: ",
        ),
    ];
    for (name, token, word) in cases {
        let ended = ending(&bystander.server.url(NAME, &token), vec![]).await;
        let code = if word.starts_with("forbidden_document") { 4403 } else { 4401 };
        assert_eq!(ended.code, code, "{name}: {ended:?}");
        assert!(ended.reason.starts_with(word), "{name}: {ended:?}");
    }
    bystander.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn name_1_bad_ones_are_refused() {
    let mut bystander = Bystander::start().await;
    let everything = token("*", Access::Write);
    for name in ["", "a//b", "/a", "a/", "%2e%2e", "a/%2e/b", "a%00b", "a%0Ab", "%ff", "%2F"] {
        let ended = ending(&bystander.server.url(name, &everything), vec![]).await;
        assert_eq!(ended.code, 4400, "{name:?}: {ended:?}");
        assert!(ended.reason.starts_with("bad_document_name: "), "{name:?}: {ended:?}");
    }
    let nowhere = format!("ws://{}/doc/{NAME}?token={everything}", bystander.server.address());
    let ended = ending(&nowhere, vec![]).await;
    assert_eq!(ended.code, 4400, "{ended:?}");
    assert!(ended.reason.starts_with("bad_request: "), "{ended:?}");
    let long = "n".repeat(256);
    let ended = ending(&bystander.server.url(&long, &everything), vec![]).await;
    assert_eq!(ended.code, 4400, "{ended:?}");
    bystander.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn epoch_6_what_is_no_epoch_is_refused() {
    let mut bystander = Bystander::start().await;
    let url = bystander.url.clone();
    for epoch in ["", "7", "00C0FFEE00C0FFEE", "%22%0A%22%F0%9F%98%80", &"0".repeat(5_000)] {
        let ended = ending(&format!("{url}&epoch={epoch}"), vec![]).await;
        assert_eq!(ended.code, 4400, "{epoch}: {ended:?}");
        assert!(ended.reason.starts_with("bad_request: epoch=\""), "{ended:?}");
        assert!(ended.reason.ends_with("; omit it to start empty"), "{ended:?}");
        assert!(!ended.reason.contains('\n'), "{ended:?}");
    }
    Client::join_v1(&format!("{url}&epoch=0000000000000000")).await;
    bystander.is_unharmed().await;
}

/// Requests that are no upgrade get an HTTP answer with the same words.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_1_odd_requests_get_a_status() {
    let mut bystander = Bystander::start().await;
    let good = token(NAME, Access::Write);
    let cases = [
        ("/nowhere", "", "404", "bad_request"),
        ("/ws/refusal", "", "401", "token_missing"),
        ("/ws/a%00", "", "400", "bad_document_name"),
        ("/ws/other?token=GOOD", "", "403", "forbidden_document"),
        ("/ws/refusal?token=GOOD", "", "426", "bad_request"),
        ("/ws/refusal?token=GOOD", "upgrade: h2c\r\nconnection: upgrade\r\n", "426", "bad_request"),
        ("/healthz", "", "200", "ok"),
        ("/readyz", "", "200", "ready"),
    ];
    for (path, headers, status, word) in cases {
        let path = path.replace("GOOD", &good);
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n");
        let request = if headers.contains("upgrade") {
            request.replacen("connection: close\r\n", "", 1)
        } else {
            request
        };
        let answer = raw(&bystander.server, request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer}");
        assert!(answer.contains(word), "{path}: {answer}");
    }
    let endless = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(64 * 1024));
    let answer = raw(&bystander.server, endless.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    bystander.is_unharmed().await;
}

/// Sends bytes and reads one answer.
async fn raw(server: &Server, request: &[u8]) -> String {
    let mut stream = tokio::net::TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = vec![0; 4_096];
    let read = tokio::time::timeout(syncline_tests::PATIENCE, stream.read(&mut answer));
    let length = read.await.expect("an answer").unwrap();
    String::from_utf8_lossy(&answer[..length]).into_owned()
}
