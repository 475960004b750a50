//! `GET /metrics`: what it says, of what, to whom, and what it never says.

mod limits;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use syncline_protocol::Access;
use syncline_server::auth::Claims;
use syncline_tests::PATIENCE;
use syncline_tests::client::{Client, ending};
use syncline_tests::server::{Launch, Server, binary, claims_for, sign, token};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::Message;

const NAME: &str = "counted";
const SERIES_MAX: usize = 500;

/// What a server says of itself.
#[derive(Clone, Debug)]
pub(crate) struct Scrape {
    text: String,
    /// Each series with its labels, as it is written.
    series: BTreeMap<String, f64>,
}

impl Scrape {
    async fn of(server: &Server) -> Self {
        let (status, answer) = server.get("/metrics").await;
        assert_eq!(status, 200, "{answer}");
        Self::read(&answer)
    }

    fn read(answer: &str) -> Self {
        let (head, text) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let mut series = BTreeMap::new();
        for sample in samples {
            let (name, value) = sample.rsplit_once(' ').unwrap();
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("no number: {sample}"));
            assert!(series.insert(name.to_owned(), value).is_none(), "twice: {sample}");
        }
        Self { text: text.to_owned(), series }
    }

    /// Asks until something holds; an answer may be a second old, and there may be no place yet
    /// for who asks.
    pub(crate) async fn until(server: &Server, what: &str, holds: impl Fn(&Self) -> bool) -> Self {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = ask(server).await;
            if answer.starts_with("HTTP/1.1 200 ") {
                let scrape = Self::read(&answer);
                if holds(&scrape) {
                    return scrape;
                }
            }
            assert!(Instant::now() < deadline, "{what} is not counted:\n{answer}");
        }
    }

    #[track_caller]
    pub(crate) fn get(&self, series: &str) -> f64 {
        let value = self.series.get(series).copied();
        value.unwrap_or_else(|| panic!("no {series} in\n{}", self.text))
    }

    pub(crate) fn limit(&self, word: &str) -> f64 {
        self.get(&format!("syncline_limit_hits_total{{limit=\"{word}\"}}"))
    }

    /// The name and the kind of each metric.
    fn metrics(&self) -> BTreeSet<(String, String)> {
        let types = self.text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        types.map(|line| line.split_once(' ').unwrap()).map(owned).collect()
    }
}

/// What a server answers that may turn whoever asks away without reading anything.
async fn ask(server: &Server) -> String {
    let mut answer = Vec::new();
    let read = async {
        let mut stream = TcpStream::connect(server.address()).await?;
        let request = b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await?;
        stream.read_to_end(&mut answer).await
    };
    // A reset is an end too.
    drop(timeout(PATIENCE, read).await.expect("an answer in time"));
    String::from_utf8(answer).expect("text")
}

fn owned((name, kind): (&str, &str)) -> (String, String) {
    (name.to_owned(), kind.to_owned())
}

/// A server with something in its configuration file.
pub(crate) fn start(folder: &tempfile::TempDir, config: &str) -> Server {
    let file = folder.path().join("syncline.toml");
    std::fs::write(&file, config).unwrap();
    let environment = [("SYNCLINE_CONFIG", file.to_str().unwrap())];
    Server::start_with(&folder.path().join("data"), "127.0.0.1:0", &environment)
}

fn token_of(user: &str, document: &str, access: Access) -> String {
    let claims = claims_for(document, access, Duration::from_secs(600));
    sign(&Claims { sub: Some(user.to_owned()), ..claims })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metric_1_the_table_in_the_documentation_has_every_metric_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let scrape = Scrape::of(&start(&folder, "")).await;
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md");
    let page = std::fs::read_to_string(page).unwrap();
    let rows = page.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split('|');
        let name = cells.next()?.split(['`', '{']).next()?;
        let is_metric = name.starts_with("syncline_") || name.starts_with("process_");
        is_metric.then(|| owned((name, cells.next().unwrap_or_default().trim())))
    });
    let documented: Vec<_> = rows.collect();
    let distinct: BTreeSet<_> = documented.iter().cloned().collect();
    assert_eq!(distinct.len(), documented.len(), "a metric is in the table twice");
    assert_eq!(scrape.metrics(), distinct);
    let helped = scrape.text.lines().filter(|line| line.starts_with("# HELP ")).count();
    assert_eq!(helped, distinct.len());
    // Names say their units, as Prometheus asks for it.
    for (name, kind) in &distinct {
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
    }
}

/// Sends requests over one connection without waiting for answers, and returns these.
async fn pipelined(server: &Server, requests: Vec<String>) -> String {
    let stream = TcpStream::connect(server.address()).await.unwrap();
    let (mut reading, mut writing) = stream.into_split();
    let sent = async {
        for request in &requests {
            writing.write_all(request.as_bytes()).await.unwrap();
        }
        writing
    };
    let mut said = String::new();
    let (_writing, read) = tokio::join!(sent, timeout(PATIENCE, reading.read_to_string(&mut said)));
    read.expect("an answer in time").unwrap();
    said
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metric_3_strangers_make_no_series() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(&folder, "");
    let before = Scrape::of(&server).await;
    assert!(before.series.len() <= SERIES_MAX, "{}", before.series.len());
    let requests = |part: usize| -> Vec<String> {
        let request = |number: usize| {
            let token = match number % 3 {
                0 => token_of(&format!("user-{part}-{number}"), "other", Access::Write),
                1 => format!("forged-{part}-{number}"),
                _ => String::new(),
            };
            let last = if number == 2_499 { "connection: close\r\n" } else { "" };
            format!(
                "GET /ws/doc%22%7D%0Aname-{part}-{number}?token={token} HTTP/1.1\r\n\
                 host: host-{number}\r\nuser-agent: agent-{number}\r\n{last}\r\n"
            )
        };
        (0..2_500).map(request).collect()
    };
    let answers = (0..4).map(|part| pipelined(&server, requests(part)));
    for said in futures_util::future::join_all(answers).await {
        assert_eq!(said.matches("HTTP/1.1 4").count(), 2_500);
    }
    let refused = |scrape: &Scrape| {
        let of_requests =
            |(name, _): &(&String, &f64)| name.starts_with("syncline_requests_refused_total");
        scrape.series.iter().filter(of_requests).map(|(_, value)| value).sum::<f64>()
    };
    let after = Scrape::until(&server, "10,000 refusals", |now| refused(now) == 10_000.0).await;
    let names = |scrape: &Scrape| scrape.series.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&after), names(&before));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metric_4_it_names_nobody_and_holds_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(&folder, "");
    let token = token_of("canary-user", "canary-document", Access::Write);
    let url = server.url("canary-document", &token);
    let mut client = Client::join_v1(&url).await;
    client.announce(1, r#"{"user":{"name":"canary-state"}}"#).await;
    client.splice(0, 0, "canary-text").await;
    client.until("saved", |client| client.saved == client.sent).await;
    ending(&server.url("canary-document", "canary-token"), vec![]).await;
    ending(&server.url("canary-elsewhere", &token), vec![]).await;
    ending(&url, vec![Message::Text("canary-frame".into())]).await;
    let scrape = Scrape::until(&server, "a bad frame", |now| {
        now.get("syncline_sessions_closed_total{word=\"bad_frame\"}") == 1.0
    });
    let text = scrape.await.text;
    for secret in ["canary", "127.0.0.1", &token, token.rsplit('.').next().unwrap(), "tmp"] {
        assert!(!text.contains(secret), "{secret} is in\n{text}");
    }
}

async fn status(server: &Server, bearer: Option<&str>) -> u16 {
    let bearer = bearer.map(|token| format!("authorization: Bearer {token}\r\n"));
    let head = bearer.unwrap_or_default();
    let request = format!("GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{head}\r\n");
    let answer = server.raw(request.as_bytes()).await;
    assert_eq!(answer.contains("syncline_"), answer.contains(" 200 "), "{answer}");
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metric_5_it_can_be_kept_for_administrators() {
    let data = tempfile::tempdir().unwrap();
    let admin = token("*", Access::Admin);
    let server = Server::start(data.path());
    assert_eq!(status(&server, None).await, 200);
    drop(server);
    let environment = [("SYNCLINE_METRICS", "admin")];
    let server = Server::start_with(data.path(), "127.0.0.1:0", &environment);
    let of_one_document = token("team/*", Access::Admin);
    let writer = token("*", Access::Write);
    for (bearer, expected) in [
        (None, 401),
        (Some("none"), 401),
        (Some(&*writer), 403),
        (Some(&*of_one_document), 403),
        (Some(&*admin), 200),
    ] {
        assert_eq!(status(&server, bearer).await, expected, "{bearer:?}");
    }
    drop(server);
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(status(&start(&folder, "metrics = \"admin\"\n"), None).await, 401);
    let mut wrong = std::process::Command::new(binary());
    let output = wrong.args(["serve", "--metrics", "nobody"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("none of all, admin"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metric_6_what_happens_is_counted() {
    // So many that the document is written as a whole when nobody uses it.
    const UPDATES: u32 = 150;
    let folder = tempfile::tempdir().unwrap();
    let server = start(&folder, "[limits]\nidle_seconds = 0\ncheck_seconds = 1\n");
    let url = server.url(NAME, &token(NAME, Access::Write));
    let mut writer = Client::join_v1(&url).await;
    let reader = server.url(NAME, &token(NAME, Access::Read));
    let mut reader = Client::join(&reader).await;
    for _ in 0..UPDATES {
        writer.splice(0, 0, "x").await;
    }
    writer.until("saved", |writer| writer.saved == writer.sent).await;
    reader.until("everything", |reader| reader.length() == UPDATES).await;
    reader.splice(0, 0, "in vain").await;
    reader.until("a refusal", |reader| !reader.denied.is_empty()).await;
    ending(&server.url(NAME, "bad"), vec![]).await;
    ending(&url, vec![Message::Text("no".into())]).await;
    let compared = "syncline_comparisons_total{outcome=\"same\"}";
    let now = Scrape::until(&server, "a comparison", |now| now.get(compared) >= 1.0).await;
    let updates = f64::from(UPDATES);
    for (series, expected) in [
        ("syncline_sessions_open{dialect=\"syncline.v1\"}", 1.0),
        ("syncline_sessions_open{dialect=\"y-websocket\"}", 1.0),
        ("syncline_sessions_total{dialect=\"syncline.v1\"}", 1.0),
        ("syncline_sessions_total{dialect=\"y-websocket\"}", 2.0),
        ("syncline_sessions_closed_total{word=\"bad_frame\"}", 1.0),
        ("syncline_sessions_refused_total{word=\"token_invalid\"}", 1.0),
        ("syncline_documents_open", 1.0),
        ("syncline_loads_total{outcome=\"done\"}", 1.0),
        ("syncline_load_duration_seconds_count", 1.0),
        ("syncline_messages_received_total{kind=\"update\"}", updates + 1.0),
        ("syncline_updates_total{fate=\"accepted\"}", updates),
        ("syncline_updates_total{fate=\"forbidden_write\"}", 1.0),
        ("syncline_durable_seconds_count", updates),
        ("syncline_durable_seconds_bucket{le=\"+Inf\"}", updates),
        ("syncline_store_state{state=\"writable\"}", 1.0),
        ("syncline_store_state{state=\"failed\"}", 0.0),
        ("syncline_store_batch_updates_sum", updates),
        ("syncline_journal_segments", 1.0),
        ("syncline_panics_total", 0.0),
        ("syncline_quarantines_total", 0.0),
    ] {
        assert_eq!(now.get(series), expected, "{series} in\n{}", now.text);
    }
    for series in [
        "syncline_connections_total",
        "syncline_connections_open",
        "syncline_received_bytes_total",
        "syncline_frames_sent_total",
        "syncline_sent_bytes_total",
        "syncline_stored_bytes_total",
        "syncline_durable_seconds_sum",
        "syncline_fdatasync_duration_seconds_count",
        "syncline_journal_bytes",
        "process_cpu_seconds_total",
        "process_open_fds",
        "process_resident_memory_bytes",
        "process_start_time_seconds",
    ] {
        assert!(now.get(series) > 0.0, "{series} in\n{}", now.text);
    }
    drop((writer, reader));
    let now = Scrape::until(&server, "the end of everything", |now| {
        now.get("syncline_documents_open") == 0.0
            && now.get("syncline_sessions_left_total") == 2.0
            && now.get("syncline_sessions_open{dialect=\"syncline.v1\"}") == 0.0
    });
    let now = now.await;
    assert_eq!(now.get("syncline_snapshots_total{outcome=\"done\"}"), 1.0);
    assert_eq!(now.get("syncline_snapshot_duration_seconds_count"), 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metric_6_looks_at_a_key_set_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys.json");
    let key = syncline_tests::jwt::SigningKey::p256().jwk("one");
    std::fs::write(&keys, serde_json::json!({ "keys": [key] }).to_string()).unwrap();
    let environment = [("SYNCLINE_AUTH_JWKS", keys.to_str().unwrap())];
    let data = folder.path().join("data");
    let launch = Launch { environment: &environment, ..Launch::new(&data) };
    let server = launch.start().unwrap();
    let done = "syncline_jwks_refreshes_total{outcome=\"done\"}";
    Scrape::until(&server, "a look at the key set", |now| now.get(done) == 1.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metric_7_a_scraper_without_pause_or_patience_holds_up_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(&folder, "");
    let mut client = Client::join_v1(&server.url(NAME, &token(NAME, Access::Write))).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        for _ in 0..50 {
            stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        }
        silent.push(stream);
    }
    let asked = Instant::now();
    let mut answers = BTreeSet::new();
    for _ in 0..50 {
        answers.insert(Scrape::of(&server).await.text);
        client.splice(0, 0, "x").await;
        client.until("saved", |client| client.saved == client.sent).await;
    }
    // Made once a second, however often it is asked for.
    let seconds = usize::try_from(asked.elapsed().as_secs()).unwrap();
    assert!(answers.len() <= seconds + 2, "{} in {seconds} s", answers.len());
    drop(silent);
}
