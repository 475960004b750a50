//! Documents that know nothing of one another, whatever they are called.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use syncline_protocol::wire::varint::{write_buffer, write_var_uint};
use syncline_protocol::{Access, DocumentName};
use syncline_server::auth::Claims;
use syncline_tests::client::{Client, Ended, new_doc, sync_frame};
use syncline_tests::server::{Launch, Server, claims_for, sign, token};
use syncline_tests::{PATIENCE, Random};
use tokio::net::TcpStream;
use tokio::time::{Duration, timeout};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use yrs::{ReadTxn, StateVector, Text, Transact};

use crate::tools::succeed;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Documents with a word of their own in each.
const DOCUMENTS: usize = 20;
const ACTIONS: usize = 3_000;

fn name(document: usize) -> String {
    format!("d{document:02}")
}

/// A word that nothing but one document has.
fn canary(document: usize) -> String {
    format!("canary{document:02}bird")
}

/// Somebody in one document, and every byte that came.
struct Listener {
    document: usize,
    url: String,
    socket: Socket,
    heard: Vec<u8>,
}

impl Listener {
    async fn new(server: &Server, document: usize) -> Self {
        let url = server.url(&name(document), &token(&name(document), Access::Write));
        let socket = connect_async(&url).await.unwrap().0;
        let mut listener = Self { document, url, socket, heard: Vec::new() };
        listener.say(sync_frame(0, &[0])).await;
        listener
    }

    fn take(&mut self, message: Result<Message, Error>) -> bool {
        let Ok(message) = message else { return false };
        if let Message::Close(Some(close)) = &message {
            self.heard.extend(close.reason.as_bytes());
        }
        let is_open = !message.is_close();
        self.heard.extend(message.into_data());
        is_open
    }

    /// Takes in what has arrived; comes back if the server has hung up.
    async fn listen(&mut self) {
        while let Ok(message) = timeout(Duration::ZERO, self.socket.next()).await {
            let is_open = match message {
                Some(message) => self.take(message),
                None => false,
            };
            if !is_open {
                self.socket = connect_async(&self.url).await.unwrap().0;
                drop(self.socket.send(Message::Binary(sync_frame(0, &[0]))).await);
            }
        }
    }

    async fn say(&mut self, frame: Bytes) {
        drop(self.socket.send(Message::Binary(frame)).await);
        self.listen().await;
    }

    /// Until everything that was sent has been taken in and answered.
    async fn settle(&mut self) {
        self.listen().await;
        drop(self.socket.send(Message::Ping(Bytes::from_static(b"settled"))).await);
        let answered = async {
            while let Some(message) = self.socket.next().await {
                if matches!(&message, Ok(Message::Pong(_))) || !self.take(message) {
                    break;
                }
            }
        };
        timeout(PATIENCE, answered).await.expect("an answer");
    }

    async fn act(&mut self, server: &Server, random: &mut Random) {
        let word = canary(self.document);
        match random.below(8) {
            0..3 => {
                let doc = new_doc();
                doc.get_or_insert_text("t").insert(&mut doc.transact_mut(), 0, &word);
                let update = doc.transact().encode_state_as_update_v1(&StateVector::default());
                self.say(sync_frame(2, &update)).await;
            }
            3 => self.say(presence(random.below(1_000), &word)).await,
            4 => self.say(sync_frame(0, &[0])).await,
            // Refused, and told why.
            5 => self.say(sync_frame(2, word.as_bytes())).await,
            6 => {
                let elsewhere = name((self.document + 1) % DOCUMENTS);
                let url = server.url(&elsewhere, &token(&name(self.document), Access::Admin));
                let refused = syncline_tests::client::ending(&url, Vec::new()).await;
                assert_eq!(refused.code, 4403, "{refused:?}");
                self.heard.extend(refused.reason.as_bytes());
            }
            _ => {
                *self = Self {
                    heard: std::mem::take(&mut self.heard),
                    ..Self::new(server, self.document).await
                }
            }
        }
    }
}

fn presence(client: u64, word: &str) -> Bytes {
    let mut entries = vec![1];
    write_var_uint(&mut entries, client);
    entries.push(1);
    write_buffer(&mut entries, format!("{{\"user\":{word:?}}}").as_bytes());
    let mut frame = vec![1];
    write_buffer(&mut frame, &entries);
    frame.into()
}

/// The documents whose words are in some bytes.
fn canaries_in(bytes: &[u8]) -> BTreeSet<usize> {
    let has = |word: String| bytes.windows(word.len()).any(|window| window == word.as_bytes());
    (0..DOCUMENTS).filter(|document| has(canary(*document))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn isolation_1_nothing_of_one_document_is_said_in_another_or_logged() {
    let folder = tempfile::tempdir().unwrap();
    let (data, log) = (folder.path().join("data"), folder.path().join("log"));
    let environment = [("SYNCLINE_LOG", "trace")];
    let launch = Launch { environment: &environment, log: Some(&log), ..Launch::new(&data) };
    let server = launch.start().unwrap();
    let mut listeners = Vec::new();
    for document in 0..DOCUMENTS {
        listeners.push(Listener::new(&server, document).await);
        listeners.push(Listener::new(&server, document).await);
    }
    let mut random = Random::new(7);
    for action in 0..ACTIONS {
        let who = random.below(listeners.len() as u64) as usize;
        listeners[who].act(&server, &mut random).await;
        if action % 50 == 0 {
            for listener in &mut listeners {
                listener.listen().await;
            }
        }
    }
    let admin = format!("Bearer {}", token("*", Access::Admin));
    for path in ["/", "/healthz", "/readyz", "/metrics", "/api/v1/", "/ws/d00"] {
        let head = format!("host: x\r\nauthorization: {admin}\r\nconnection: close\r\n\r\n");
        let said = server.raw(format!("GET {path} HTTP/1.1\r\n{head}").as_bytes()).await;
        assert_eq!(canaries_in(said.as_bytes()), BTreeSet::new(), "{path}");
    }
    for mut listener in listeners {
        listener.settle().await;
        let own = BTreeSet::from([listener.document]);
        assert_eq!(canaries_in(&listener.heard), own, "in {}", name(listener.document));
    }
    drop(server);
    let log = std::fs::read(&log).unwrap();
    assert!(log.len() > 10_000, "something is logged");
    assert_eq!(canaries_in(&log), BTreeSet::new(), "in the log");
}

/// Names that somebody may try, as they are meant.
fn hostile_names() -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = Vec::new();
    let texts = "../x|..|.|./x|x/..|x/.|x/../y|x/./y|../../etc/passwd|..\\x|..\\..\\x|C:\\x|C:/x|\\\\host\\x|/x|x/|x//y|//|/\
        |~|~/x|~root/x|-|-rf|--data|--help|*|team/*|team/|team|team/a|team/ab|team/a/b|%|%%|%2e%2e|%252e%252e|%00|%2f|x%2Fy\
        |$HOME|${HOME}|$(id)|`id`|;id|x;y|x|y|x&y|x>y|x<y|<script>alert(1)</script>|\"|'|\"}|{\"a\":1}|[]|{}|null|true|0\
        |' OR '1'='1|x'--|${jndi:ldap://x/y}|%n%n%n%n|%s%s|%x|{0}|{{7*7}}|#|#x|?x|x?y=z|x?token=y|x&token=y|token=x\
        |ticket=x|eyJhbGciOiJub25lIn0.e30.|CON|con|NUL|AUX.txt|COM1|LPT1|x.|x |\u{a0}x|x\u{a0}|x::$DATA|.htaccess|.git|.git/config\
        |sled|sled/db|journal|journal/0|quarantine|syncline.lock|revoked.json|in-flight|dev-secret|__sled__default|db|conf|snap\
        |__proto__|constructor|prototype|toString|hasOwnProperty|index.html|favicon.ico|api/v1/revoke|healthz|metrics|demo\
        |caf\u{e9}|cafe\u{301}|\u{212b}|\u{c5}|A\u{30a}|\u{fb01}|fi|\u{ff0f}x|x\u{ff0f}y|\u{2024}\u{2024}/x|\u{2025}/x|\u{2044}x|x\u{2215}y\
        |\u{430}|a|A|\u{df}|ss|SS|\u{130}|i\u{307}|\u{131}|I|\u{3c3}|\u{3c2}|\u{202e}txt.exe|\u{202d}x|\u{2066}x\u{2069}|\u{200b}|x\u{200b}|x\u{200d}y\
        |\u{feff}x|\u{ad}x|\u{2028}|x\u{2029}y|\u{fffd}|\u{fffe}|\u{ffff}|\u{10ffff}|\u{1f600}|\u{1f468}\u{200d}\u{1f469}|\u{e0001}|\u{d7ff}|\u{e000}\
        |x\u{300}\u{300}\u{300}\u{300}|\u{1f1e6}\u{1f1e8}|\u{0}|x\u{0}y|\u{1}|\u{7}|\u{8}|\t|\n|\r|x\ny|x\r\ny|\u{1b}[31mx|\u{1b}]0;x\u{7}|\u{7f}|\u{80}|\u{85}|\u{9b}31m|\u{9f}";
    names.extend(texts.split('|').map(|text| text.as_bytes().to_vec()));
    names
        .extend([0, 1, 64, 127, 128, 129, 254, 255, 256, 257, 1_000, 4_000].map(|n| vec![b'n'; n]));
    // Ends in the middle of a character, or holds what is none.
    names.extend(
        [
            &b"\xff"[..],
            b"\xfe\xff",
            b"x\xff",
            b"\xc0\xae\xc0\xae/x",
            b"\xc0\xaf",
            b"\xe2\x82",
            b"\xed\xa0\x80",
            b"\xf5\x80\x80\x80",
        ]
        .map(<[u8]>::to_vec),
    );
    for length in [253, 254, 255, 256] {
        names.push("\u{e9}".repeat(length / 2).into_bytes());
        names.push([vec![b'/'.wrapping_add(1); length - 2], b"/x".to_vec()].concat());
    }
    // What begins, ends or goes on alike.
    for twin in [
        "x", "x1", "x/1", "x/1/", "x/11", "x.1", "x-1", "x_1", "x:1", "x,1", "x=1", "x+1", "x@1",
        "x!1",
    ] {
        names.push(twin.as_bytes().to_vec());
        names.push(twin.to_uppercase().into_bytes());
    }
    names.sort();
    names.dedup();
    names
}

/// Whether it is the name of a document, and no address with a token in it that was escaped too often.
fn names_a_document(name: &[u8]) -> bool {
    let holds_token = ["token=", "ticket=", "eyJ"]
        .iter()
        .any(|sign| name.windows(sign.len()).any(|window| window == sign.as_bytes()));
    let parsed = std::str::from_utf8(name).ok().map(str::parse::<DocumentName>);
    !holds_token && parsed.is_some_and(|parsed| parsed.is_ok())
}

fn escaped(name: &[u8]) -> String {
    name.iter().map(|byte| format!("%{byte:02X}")).collect()
}

/// Everything in a folder, below it.
fn entries(folder: &Path) -> BTreeSet<PathBuf> {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

async fn content(server: &Server, name: &[u8]) -> String {
    Client::join(&server.url(&escaped(name), &token("*", Access::Read))).await.content()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn name_2_hostile_ones_are_refused_or_kept_apart() {
    let names = hostile_names();
    assert!(names.len() >= 200, "{}", names.len());
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Server::start(&data);
    let everything = token("*", Access::Write);
    let mut kept = BTreeMap::new();
    for (index, name) in names.iter().enumerate() {
        let is_name = names_a_document(name);
        let joined = Client::join_or_end(server.url(&escaped(name), &everything)).await;
        let shown = String::from_utf8_lossy(name).into_owned();
        match joined {
            Ok(mut client) => {
                assert!(is_name, "{shown:?} was let in");
                assert_eq!(client.content(), "", "{shown:?} is another document");
                client.splice(0, 0, &format!("text {index}")).await;
                client.until("saved", |client| client.saved == client.sent).await;
                kept.insert(name.clone(), format!("text {index}"));
            }
            Err(Ended { code, reason }) => {
                assert!(!is_name, "{shown:?} was refused: {reason}");
                assert_eq!(
                    (code, reason.split(':').next()),
                    (4400, Some("bad_document_name")),
                    "{shown:?}"
                );
                assert!(!reason.contains(char::is_control), "{reason:?}");
            }
        }
        let ask = serde_json::json!({ "document": shown }).to_string();
        // Each asks for one ticket only.
        let claims = claims_for("*", Access::Write, Duration::from_secs(600));
        let asker = sign(&Claims { sub: Some(format!("user {index}")), ..claims });
        let (status, said) = server.post("/api/v1/tickets", &asker, &ask).await;
        assert_eq!(status == 201, names_a_document(shown.as_bytes()), "{shown:?}: {said}");
    }
    assert!(
        kept.len() >= 100 && names.len() - kept.len() >= 40,
        "{} of {}",
        kept.len(),
        names.len()
    );
    let server = server.kill_and_restart();
    for (name, text) in &kept {
        assert_eq!(content(&server, name).await, *text, "{:?}", String::from_utf8_lossy(name));
    }
    drop(server);
    // Through a backup and another folder as well.
    let backup = folder.path().join("backup");
    let restored = folder.path().join("restored");
    succeed(&data, &["backup", backup.to_str().unwrap()]);
    succeed(&restored, &["restore", backup.to_str().unwrap()]);
    let server = Server::start(&restored);
    for (name, text) in &kept {
        assert_eq!(content(&server, name).await, *text, "{:?}", String::from_utf8_lossy(name));
    }
    drop(server);
    assert_eq!(entries(folder.path()), [data.clone(), backup, restored].into());
    let known = ["syncline.lock", "journal", "sled", "quarantine", "revoked.json", "in-flight"];
    let foreign =
        entries(&data).into_iter().find(|path| !known.iter().any(|known| path.ends_with(known)));
    assert_eq!(foreign, None, "a name became a file");
}
