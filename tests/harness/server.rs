//! The `syncline` binary as a child process.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use syncline_protocol::Access;
use syncline_server::auth::{self, Claims, Secret};

use crate::PATIENCE;

/// The secret that every test server trusts.
pub const SECRET: &str = "a secret for tests, 32 bytes or more";

/// A running server. Dropping it kills the process.
#[derive(Debug)]
pub struct Server {
    child: Child,
    address: SocketAddr,
    data: PathBuf,
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
        let mut child = Command::new(binary())
            .args(["serve", "--listen", listen, "--data"])
            .arg(data)
            .env("SYNCLINE_JWT_SECRET", SECRET)
            .env("SYNCLINE_LOG", std::env::var("SYNCLINE_TEST_LOG").unwrap_or("error".to_owned()))
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("the server prints a line");
        let ready: serde_json::Value =
            serde_json::from_str(&line).unwrap_or_else(|_| panic!("not a ready line: {line:?}"));
        assert_eq!(ready["event"], "ready");
        let url = ready["url"].as_str().expect("a url");
        let address = url.strip_prefix("http://").expect("http").parse().expect("an address");
        Self { child, address, data: data.to_owned() }
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
    let claims = Claims {
        exp: auth::unix_now() + ttl.as_secs(),
        nbf: None,
        sub: Some("tester".to_owned()),
        name: None,
        access: BTreeMap::from([(document.to_owned(), access)]),
    };
    sign(&claims)
}

/// Signs claims with [`SECRET`].
#[must_use]
pub fn sign(claims: &Claims) -> String {
    auth::install_crypto();
    let secret = Secret::new(SECRET.as_bytes()).expect("long enough");
    auth::sign(&secret, claims).expect("it signs")
}

/// The server's binary: `SYNCLINE_BIN`, or the one beside this test.
#[must_use]
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("SYNCLINE_BIN") {
        return path.into();
    }
    let test = std::env::current_exe().expect("a test has a path");
    let path = test.ancestors().nth(2).expect("target/profile/deps/test").join("syncline");
    assert!(path.exists(), "{} is missing: cargo build -p syncline-server", path.display());
    path
}
