//! The `syncline` binary as a child process.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use syncline_protocol::Access;
use syncline_server::auth::{self, Claims, Secret};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::PATIENCE;

/// The secret that every test server trusts.
pub const SECRET: &str = "a secret for tests, 32 bytes or more";

/// A running server. Dropping it kills the process.
#[derive(Debug)]
pub struct Server {
    child: Child,
    address: SocketAddr,
    data: PathBuf,
    ready_after: Duration,
}

/// How to start a [`Server`].
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// Its data folder.
    pub data: &'a Path,
    /// Where it listens.
    pub listen: &'a str,
    /// More variables in its environment.
    pub environment: &'a [(&'a str, &'a str)],
    /// `serve` or `dev`.
    pub command: &'a str,
    /// The secret that it is given, if any.
    pub secret: Option<&'a str>,
    /// A file for what it logs; by default that goes where this program's does.
    pub log: Option<&'a Path>,
    /// A program that becomes the server: its words, before those of the server.
    pub wrapper: &'a [&'a str],
}

impl<'a> Launch<'a> {
    /// `syncline serve` on a free port, nothing special.
    #[must_use]
    pub fn new(data: &'a Path) -> Self {
        Self {
            data,
            listen: "127.0.0.1:0",
            environment: &[],
            command: "serve",
            secret: Some(SECRET),
            log: None,
            wrapper: &[],
        }
    }

    /// Waits until the server says that it is ready.
    ///
    /// # Errors
    /// If it says anything else, ends, or says nothing.
    pub fn start(self) -> Result<Server, String> {
        let begun = Instant::now();
        let mut child = self.command().spawn().map_err(|error| format!("no process: {error}"))?;
        let stdout = child.stdout.take().expect("piped");
        // Owns the process from here on: whatever goes wrong, it does not stay.
        let mut server = Server {
            child,
            address: SocketAddr::from(([0; 4], 0)),
            data: self.data.to_owned(),
            ready_after: Duration::ZERO,
        };
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let read = BufReader::new(stdout).read_line(&mut line);
            // Nobody listens when it came too late.
            drop(sender.send(read.map(|_| line)));
        });
        let line = receiver
            .recv_timeout(PATIENCE)
            .map_err(|_| format!("no line within {PATIENCE:?}"))?
            .map_err(|error| format!("no line: {error}"))?;
        server.ready_after = begun.elapsed();
        let ready: serde_json::Value =
            serde_json::from_str(&line).map_err(|_| format!("not a ready line: {line:?}"))?;
        let address = ready["url"].as_str().and_then(|url| url.strip_prefix("http://"));
        match address.and_then(|address| address.parse().ok()) {
            Some(address) if ready["event"] == "ready" => server.address = address,
            _ => return Err(format!("not a ready line: {line:?}")),
        }
        Ok(server)
    }

    fn command(self) -> Command {
        // A wrapper may go elsewhere first.
        let server = std::path::absolute(binary()).expect("a folder to work in");
        let mut words = self.wrapper.iter().map(OsString::from).chain([server.into()]);
        let mut command = Command::new(words.next().expect("at least the server"));
        command
            .args(words)
            .args([self.command, "--listen", self.listen, "--data"])
            .arg(self.data)
            .env("SYNCLINE_LOG", std::env::var("SYNCLINE_TEST_LOG").unwrap_or("error".to_owned()))
            .envs(self.environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        if let Some(secret) = self.secret {
            command.env("SYNCLINE_JWT_SECRET", secret);
        }
        if let Some(log) = self.log {
            command.stderr(std::fs::File::create(log).expect("a file for the log"));
        }
        command
    }
}

impl Server {
    /// Starts `syncline serve` on a free port.
    #[must_use]
    pub fn start(data: &Path) -> Self {
        Self::start_with(data, "127.0.0.1:0", &[])
    }

    /// Starts `syncline serve` on `listen` with more variables in its environment.
    #[must_use]
    pub fn start_with(data: &Path, listen: &str, environment: &[(&str, &str)]) -> Self {
        let launch = Launch { listen, environment, ..Launch::new(data) };
        launch.start().unwrap_or_else(|error| panic!("the server does not start: {error}"))
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Memory that it holds.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.pid());
        let status = std::fs::read_to_string(path).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a size");
        let kib = line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok());
        kib.expect("a number") * 1024
    }

    /// What the kernel holds to be sent on each of its IPv4 connections.
    #[must_use]
    pub fn unsent_bytes(&self) -> Vec<u64> {
        const ESTABLISHED: &str = "01";
        let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux has it");
        let port = format!(":{:04X}", self.address.port());
        let sockets = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let own = sockets.filter(|fields| fields[1].ends_with(&port) && fields[3] == ESTABLISHED);
        let unsent = |fields: Vec<&str>| {
            let (unsent, _unread) = fields[4].split_once(':').expect("two queues");
            u64::from_str_radix(unsent, 16).expect("a number")
        };
        own.map(unsent).collect()
    }

    /// How long it took to say that it was ready.
    #[must_use]
    pub fn ready_after(&self) -> Duration {
        self.ready_after
    }

    /// Kills it without warning and starts it again on the same folder and port.
    #[must_use]
    pub fn kill_and_restart(mut self) -> Self {
        self.kill();
        let listen = self.address.to_string();
        Self::start_with(&self.data.clone(), &listen, &[])
    }

    /// Kills it without warning.
    pub fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
    }

    /// Asks it to stop with `signal` (`TERM` or `INT`) and waits.
    pub fn stop(&mut self, signal: &str) -> ExitStatus {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([&format!("-{signal}"), &pid]).status();
        assert!(sent.expect("kill runs").success());
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("it can be waited for") {
                return status;
            }
            assert!(Instant::now() < deadline, "the server does not stop");
            std::thread::yield_now();
        }
    }

    /// The status and the text that `GET path` brings.
    pub async fn get(&self, path: &str) -> (u16, String) {
        let head = "HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        let answer = self.raw(format!("GET {path} {head}").as_bytes()).await;
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.expect("a status"), answer)
    }

    /// The status and the text that a request with a body brings.
    pub async fn post(&self, path: &str, bearer: &str, body: &str) -> (u16, String) {
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
             authorization: Bearer {bearer}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = self.raw(request.as_bytes()).await;
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        let text = answer.split_once("\r\n\r\n").map(|(_, text)| text.to_owned());
        (status.expect("a status"), text.unwrap_or_default())
    }

    /// What some bytes are answered with, up to the end of the connection.
    pub async fn raw(&self, request: &[u8]) -> String {
        let answer = async {
            let mut stream = TcpStream::connect(self.address).await.expect("it listens");
            stream.write_all(request).await.expect("it listens on");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.expect("an answer");
            answer
        };
        timeout(PATIENCE, answer).await.expect("an answer in time")
    }

    /// Asks `/readyz` until it answers with `status`; returns what it says.
    pub async fn until_ready_is(&self, status: u16) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (found, text) = self.get("/readyz").await;
            if found == status {
                return text;
            }
            assert!(Instant::now() < deadline, "/readyz does not become {status}: {text}");
        }
    }

    /// The address of a document, with a token in it.
    #[must_use]
    pub fn url(&self, document: &str, token: &str) -> String {
        format!("ws://{}/ws/{document}?token={token}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already; either way nothing is left running.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A token for `document` that lasts an hour.
#[must_use]
pub fn token(document: &str, access: Access) -> String {
    token_for(document, access, Duration::from_secs(3_600))
}

/// A token for `document` that lasts `ttl`.
#[must_use]
pub fn token_for(document: &str, access: Access, ttl: Duration) -> String {
    sign(&claims_for(document, access, ttl))
}

/// What such a token says.
#[must_use]
pub fn claims_for(document: &str, access: Access, ttl: Duration) -> Claims {
    let now = auth::unix_now();
    Claims {
        exp: now + ttl.as_secs(),
        iat: Some(now),
        sub: Some("tester".to_owned()),
        access: BTreeMap::from([(document.to_owned(), access)]),
        ..Claims::default()
    }
}

/// Signs claims with [`SECRET`].
#[must_use]
pub fn sign(claims: &Claims) -> String {
    auth::install_crypto();
    let secret = Secret::new(SECRET.as_bytes()).expect("long enough");
    auth::sign(&secret, claims).expect("it signs")
}

/// The server's binary: `SYNCLINE_BIN`, or the one that was built with this program.
#[must_use]
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("SYNCLINE_BIN") {
        return path.into();
    }
    let program = std::env::current_exe().expect("a program has a path");
    // target/profile/program, or target/profile/deps/test.
    let mut beside = program.ancestors().skip(1).take(2).map(|folder| folder.join("syncline"));
    let missing = "the server is missing: cargo build -p syncline-server";
    beside.find(|path| path.exists()).expect(missing)
}
