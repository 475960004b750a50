//! Each server as a process on a folder of its own.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use syncline_tests::server::SECRET;

use crate::failure::Failure;
use crate::socket::{NOTHING, Target};
use crate::wire::Dialect;
use crate::{install, system};

/// How long a server may take to listen, and how long to stop when asked.
const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(10);

/// All of the load is one user, who has more connections and sends faster than people do.
const SYNCLINE_CONFIG: &str =
    "[limits]\nconnections_per_user = 20000\nmessages_per_second = 1000000\n";

/// Between two looks at a condition that nothing announces.
const LOOK: Duration = Duration::from_millis(5);

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    Syncline,
    Floor,
    YSweet,
    Hocuspocus,
    YWebsocket,
    Pycrdt,
}

impl Kind {
    /// All of them, in the order of the tables.
    pub(crate) const ALL: [Self; 6] = [
        Self::Syncline,
        Self::Floor,
        Self::YSweet,
        Self::Hocuspocus,
        Self::YWebsocket,
        Self::Pycrdt,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Syncline => "Syncline",
            Self::Floor => "floor",
            Self::YSweet => "y-sweet",
            Self::Hocuspocus => "Hocuspocus",
            Self::YWebsocket => "y-websocket",
            Self::Pycrdt => "pycrdt-websocket",
        }
    }

    /// How long after the last edit everything is on its disk.
    pub(crate) fn settles(self) -> Duration {
        Duration::from_secs(match self {
            Self::Floor => 0,
            // Until a snapshot that is under way is written.
            Self::Syncline => 3,
            // It stores 2 s after an edit, at most 10 s.
            Self::Hocuspocus => 5,
            // It stores every 10 s, and does not hear SIGTERM.
            Self::YSweet => 22,
            Self::YWebsocket | Self::Pycrdt => 5,
        })
    }
}

/// What every server needs to start.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    /// Where data folders and logs are made.
    pub(crate) folder: PathBuf,
    pub(crate) cache: PathBuf,
    pub(crate) server_cores: Vec<usize>,
    pub(crate) load_cores: Vec<usize>,
    /// A token that opens every document of Syncline.
    pub(crate) token: String,
}

/// A running server. Dropping it kills the process and removes its data.
#[derive(Debug)]
pub(crate) struct Server {
    kind: Kind,
    home: Home,
    child: Child,
    address: SocketAddr,
    data: tempfile::TempDir,
}

impl Server {
    /// Starts a server on an empty folder.
    pub(crate) fn start(kind: Kind, home: &Home) -> Result<Self, Failure> {
        let data = tempfile::Builder::new().prefix("data-").tempdir_in(&home.folder)?;
        let (child, address) = spawn(kind, home, data.path())?;
        let mut server = Self { kind, home: home.clone(), child, address, data };
        server.wait_until_it_listens()?;
        Ok(server)
    }

    /// Asks it to stop, and starts it again on what it left behind.
    pub(crate) fn restart(&mut self) -> Result<(), Failure> {
        if let Some(pid) = Pid::from_raw(self.child.id().cast_signed()) {
            kill_process(pid, Signal::TERM).map_err(std::io::Error::from)?;
        }
        let deadline = Instant::now() + STOP;
        while self.child.try_wait()?.is_none() && Instant::now() < deadline {
            std::thread::park_timeout(LOOK);
        }
        self.kill();
        (self.child, self.address) = spawn(self.kind, &self.home, self.data.path())?;
        self.wait_until_it_listens()
    }

    fn wait_until_it_listens(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + START;
        while TcpStream::connect(self.address).is_err() {
            if self.child.try_wait()?.is_some() || Instant::now() > deadline {
                let log = log_path(self.kind, &self.home).display().to_string();
                return Err(Failure::NoStart(self.kind.name(), log));
            }
            std::thread::park_timeout(LOOK);
        }
        Ok(())
    }

    fn kill(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn cpu(&self) -> Duration {
        system::cpu(self.child.id())
    }

    /// How long its cores have been at work, for it or for others.
    pub(crate) fn cores_busy(&self) -> Duration {
        system::busy(&self.home.server_cores)
    }

    pub(crate) fn memory(&self) -> u64 {
        system::memory(self.child.id())
    }

    /// What it has stored, as one number. y-sweet writes the same file again and again, so the time of
    /// a change says nothing.
    pub(crate) fn stored(&self) -> Result<u64, Failure> {
        let mut hasher = DefaultHasher::new();
        let mut folders = vec![self.data.path().to_owned()];
        while let Some(folder) = folders.pop() {
            let mut paths: Vec<_> =
                fs::read_dir(folder)?.flatten().map(|entry| entry.path()).collect();
            paths.sort();
            for path in paths {
                path.hash(&mut hasher);
                if path.is_dir() {
                    folders.push(path);
                } else {
                    // A file may be gone by now.
                    fs::read(&path).unwrap_or_default().hash(&mut hasher);
                }
            }
        }
        Ok(hasher.finish())
    }

    /// A document on it, made first where the server wants that.
    pub(crate) fn target(&self, document: &str) -> Result<Target, Failure> {
        let mut dialect = Dialect::plain();
        let path = match self.kind {
            Kind::Syncline => format!("/ws/{document}?token={}", self.home.token),
            Kind::Floor | Kind::YWebsocket | Kind::Pycrdt => format!("/{document}"),
            Kind::YSweet => {
                self.create(document)?;
                format!("/d/{document}/ws/{document}")
            }
            Kind::Hocuspocus => {
                dialect = Dialect::hocuspocus(document);
                "/".to_owned()
            }
        };
        let brings = Rc::from(&NOTHING[..]);
        Ok(Target { address: self.address, path, subprotocol: None, dialect, brings })
    }

    /// `POST /doc/new` of y-sweet.
    fn create(&self, document: &str) -> Result<(), Failure> {
        let body = format!(r#"{{"docId":"{document}"}}"#);
        let mut stream = TcpStream::connect(self.address)?;
        write!(
            stream,
            "POST /doc/new HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn log_path(kind: Kind, home: &Home) -> PathBuf {
    home.folder.join(format!("{}.log", kind.name()))
}

fn spawn(kind: Kind, home: &Home, data: &Path) -> Result<(Child, SocketAddr), Failure> {
    // The port is free again at once; nothing else here asks for one in between.
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let mut command = command(kind, home, address, data)?;
    let log = File::create(log_path(kind, home))?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    // Cores are inherited.
    system::pin(&home.server_cores);
    let child = command.spawn();
    system::pin(&home.load_cores);
    Ok((child?, address))
}

fn command(kind: Kind, home: &Home, address: SocketAddr, data: &Path) -> Result<Command, Failure> {
    let port = address.port().to_string();
    let installed = |path: &str| {
        let path = home.cache.join(path);
        let missing = || Failure::NotInstalled(format!("{}; see `bench install`", path.display()));
        if path.exists() { Ok(path.clone()) } else { Err(missing()) }
    };
    Ok(match kind {
        Kind::Syncline => {
            let config = home.folder.join("syncline.toml");
            fs::write(&config, SYNCLINE_CONFIG)?;
            let mut command = Command::new(syncline_binary()?);
            command.args(["serve", "--listen", &address.to_string(), "--data"]).arg(data);
            command.arg("--config").arg(config);
            command.env("SYNCLINE_JWT_SECRET", SECRET).env("SYNCLINE_LOG", "error");
            command
        }
        Kind::Floor => {
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["floor", "--listen", &address.to_string()]);
            command
        }
        Kind::YSweet => {
            let mut command = Command::new(installed("y-sweet/bin/y-sweet")?);
            command.args(["serve", "--host", "127.0.0.1", "--port", &port]).arg(data);
            command.env("RUST_LOG", "error");
            command
        }
        Kind::Hocuspocus => {
            let mut command = Command::new(installed("node/node_modules/.bin/node")?);
            installed("node/node_modules/@hocuspocus/extension-database")?;
            let script = home.cache.join("node/hocuspocus.mjs");
            fs::write(&script, install::HOCUSPOCUS)?;
            command.arg(script).arg(&port).arg(data).env("NODE_ENV", "production");
            command
        }
        Kind::YWebsocket => {
            let mut command = Command::new(installed("node/node_modules/.bin/node")?);
            command.arg(installed("node/node_modules/y-websocket/bin/server.cjs")?);
            command.env("HOST", "127.0.0.1").env("PORT", &port).env("YPERSISTENCE", data);
            command.env("NODE_ENV", "production");
            command
        }
        Kind::Pycrdt => {
            let mut command = Command::new(installed("python/bin/python")?);
            let script = home.cache.join("python/relay.py");
            fs::write(&script, install::PYCRDT)?;
            command.arg(script).arg(&port).arg(data);
            command
        }
    })
}

/// `SYNCLINE_BIN`, or the one beside this program.
fn syncline_binary() -> Result<PathBuf, Failure> {
    if let Some(path) = std::env::var_os("SYNCLINE_BIN") {
        return Ok(path.into());
    }
    let path = std::env::current_exe()?.with_file_name("syncline");
    let missing = || Failure::NotInstalled(format!("{}: build syncline-server", path.display()));
    if path.exists() { Ok(path.clone()) } else { Err(missing()) }
}
