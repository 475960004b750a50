//! What people without a token can make the server hold.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use syncline_protocol::Access;
use syncline_server::config::limits::LOGIN_BYTES;
use syncline_tests::PATIENCE;
use syncline_tests::client::Client;
use syncline_tests::jwt::SigningKey;
use syncline_tests::key_host::{Answer, KeyHost};
use syncline_tests::server::{Launch, Server, claims_for, token};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const NAME: &str = "notes";

/// How many come at once.
const STRANGERS: usize = 200;

/// Headers that take nearly all that headers may.
const NEARLY_ALL: usize = 16_000;

fn resident_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1_024
}

/// How many connections are open at the server's end, and how many bytes it has not read of them.
pub(crate) fn held_open(server: &Server) -> (usize, u64) {
    let port = format!("0100007F:{:04X}", server.address().port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let fields = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let ours = fields.filter(|fields| fields[1] == port && fields[3] == "01");
    let unread = ours.map(|fields| fields[4].split_once(':').unwrap().1.to_owned());
    let unread: Vec<_> = unread.map(|hex| u64::from_str_radix(&hex, 16).unwrap()).collect();
    (unread.len(), unread.iter().sum())
}

async fn connect(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream
}

/// Has strangers send something, and tells what the server holds for each once it has read all of it.
async fn held_for_each(server: &Server, bytes: &[u8], then: &[u8]) -> u64 {
    // What is allocated once, at the first connection.
    let known = Client::join_v1(&server.url(NAME, &token(NAME, Access::Write))).await;
    let before = resident_bytes(server.pid());
    let mut strangers = Vec::new();
    for _ in 0..STRANGERS {
        strangers.push(connect(server.address(), bytes).await);
    }
    for stranger in &mut strangers {
        if then.is_empty() {
            continue;
        }
        // The answer to the upgrade comes first.
        let mut answer = [0; 4];
        stranger.read_exact(&mut answer).await.unwrap();
        stranger.write_all(then).await.unwrap();
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (open, unread) = held_open(server);
        assert!(open > STRANGERS, "only {open} connections are left to be measured");
        if unread == 0 {
            break;
        }
        assert!(Instant::now() < deadline, "{unread} bytes are not read");
    }
    let held = resident_bytes(server.pid()).saturating_sub(before) / STRANGERS as u64;
    assert!(held_open(server).0 > STRANGERS, "they were cut off before they were measured");
    drop((strangers, known));
    held
}

/// A request for an upgrade.
fn upgrade(token: &str) -> Vec<u8> {
    let start = format!(
        "GET /ws/{NAME} HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    );
    filled(start, token)
}

/// A request with a token, filled up with small headers.
fn filled(mut request: String, token: &str) -> Vec<u8> {
    request += &format!("host: x\r\nauthorization: Bearer {token}\r\n");
    let small = (NEARLY_ALL - request.len()) / 40;
    for header in 0..40 {
        let name = format!("x-{header}");
        let value = "v".repeat(small - name.len() - 4);
        request += &format!("{name}: {value}\r\n");
    }
    (request + "\r\n").into_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edge_8_headers_that_never_end_cost_what_is_said() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let begun = upgrade("nobody's");
    let held = held_for_each(&server, &begun[..begun.len() - 2], b"").await;
    assert!(held >= 8 * 1_024, "{held}: what is measured is not there");
    assert!(held <= LOGIN_BYTES as u64, "{held} bytes for each");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edge_8_who_waits_for_a_key_costs_what_is_said() {
    let key = SigningKey::p256();
    let claims = claims_for(&"n".repeat(8_000), Access::Write, Duration::from_secs(600));
    let unknown = key.token(Some("2"), &serde_json::to_value(claims).unwrap());
    assert!(unknown.len() > 10_000);
    let post = "POST /api/v1/tickets HTTP/1.1\r\ncontent-length: 16000\r\n".to_owned();
    for request in [upgrade(&unknown), filled(post, &unknown)] {
        let host = KeyHost::start(Answer::keys(&[key.jwk("1")])).await;
        let data = tempfile::tempdir().unwrap();
        let url = host.url();
        let environment = [("SYNCLINE_AUTH_JWKS", &*url)];
        let launch = Launch { environment: &environment, ..Launch::new(data.path()) };
        let server = launch.start().unwrap();
        server.until_ready_is(200).await;
        host.answer(Answer::Silence);
        let held = held_for_each(&server, &request, b"").await;
        assert!(held >= 16 * 1_024, "{held}: what is measured is not there");
        assert!(held <= LOGIN_BYTES as u64, "{held} bytes for each");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edge_8_who_is_told_why_costs_what_is_said() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    // The beginning of a message as long as one may be, in small pieces.
    let mut message = vec![0x82, 0xfe, 0x0f, 0xff, 0, 0, 0, 0];
    message.extend([0; 4_000]);
    let held = held_for_each(&server, &upgrade("nobody's"), &message).await;
    assert!(held <= LOGIN_BYTES as u64, "{held} bytes for each");
}
