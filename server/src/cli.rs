//! The subcommands, from arguments to exit codes.

pub mod args;
pub mod commands;

use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use syncline_protocol::Durability;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{Level, Metadata, info, warn};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::audit::{Audit, AuditError, Entry, Event};
use crate::auth::demo_login::Demo;
use crate::auth::revocation::{RevocationError, Revocations};
use crate::auth::{self, BackendError, Claims, Verifier};
use crate::cli::args::{Command, HealthcheckArgs, QuarantineCommand, TokenArgs};
use crate::cli::commands::ToolError;
use crate::config::limits::{
    BLOCKING_THREADS, DESCRIPTORS_RESERVED, DRAIN, Limits, SHUTDOWN, THREAD_STACK_BYTES,
};
use crate::config::{self, Config, ConfigError, Mode};
use crate::metrics;
use crate::quarantine::recovery::Recovery;
use crate::server::{self, Parts, StopError};
use crate::store::embedded::{Embedded, EmbeddedOptions};
use crate::store::memory::Memory;
use crate::store::{OpenError, Store};

/// Why a subcommand failed. The exit codes are those of sysexits.h.
#[derive(Debug, Error)]
enum CliError {
    #[error("the configuration cannot be used")]
    Config(#[from] ConfigError),
    #[error("the log filter {filter:?} cannot be read; try info, or syncline_server=debug")]
    LogFilter { filter: String },
    #[error(transparent)]
    Crypto(#[from] BackendError),
    #[error("the documents cannot be opened")]
    Store(#[from] OpenError),
    #[error(transparent)]
    Tool(#[from] ToolError),
    #[error(transparent)]
    Revocations(#[from] RevocationError),
    #[error(transparent)]
    Audit(#[from] AuditError),
    #[error(
        "cannot listen on {listen}; is another program using the port? \
         --listen 127.0.0.1:0 takes any free one"
    )]
    Listen { listen: SocketAddr, source: io::Error },
    #[error("the runtime cannot be started")]
    Runtime(#[source] io::Error),
    #[error("the command cannot be given a thread")]
    Thread(#[source] io::Error),
    #[error("the command failed by a fault of its own; please report what stands above")]
    Panicked,
    #[error("the server did not stop cleanly")]
    Stop(#[from] StopError),
    #[error("the token cannot be signed")]
    Sign(#[source] jsonwebtoken::errors::Error),
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
    #[error("{address} is not ready: {reason}")]
    NotReady { address: SocketAddr, reason: String },
}

impl CliError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Listen { .. } | Self::NotReady { .. } => 69,
            Self::Stop(StopError::Unstored(_) | StopError::Close(_)) => 74,
            Self::Crypto(_)
            | Self::Runtime(_)
            | Self::Thread(_)
            | Self::Panicked
            | Self::Stop(_)
            | Self::Sign(_) => 70,
            Self::Tool(error) => error.exit_code(),
            Self::Store(OpenError::InUse { .. }) => 75,
            Self::Store(_) | Self::Revocations(_) | Self::Audit(_) => 73,
            Self::Output(_) => 74,
            Self::Config(_) | Self::LogFilter { .. } => 78,
        }
    }
}

/// Runs a subcommand to its end.
#[must_use]
pub fn run(command: Command) -> ExitCode {
    auth::install_crypto();
    let result = match command {
        Command::Dev(args) => Config::dev(args).map_err(CliError::from).and_then(serve),
        Command::Serve(args) => Config::serve(args).map_err(CliError::from).and_then(serve),
        Command::Token(args) => token(args),
        Command::Healthcheck(args) => healthcheck(&args),
        Command::Verify(args) => tool(move || commands::verify(&args)),
        Command::Backup(args) => tool(move || commands::backup(&args)),
        Command::Restore(args) => tool(move || commands::restore(&args)),
        Command::Export(args) => tool(move || commands::export(&args)),
        Command::Import(args) => tool(move || commands::import(&args)),
        Command::Delete(args) => tool(move || commands::delete(&args)),
        Command::Compact(args) => tool(move || commands::compact(&args)),
        Command::Rebuild(args) => tool(move || commands::rebuild(&args)),
        Command::Quarantine(QuarantineCommand::List(args)) => tool(move || commands::list(&args)),
        Command::Quarantine(QuarantineCommand::Release(args)) => {
            tool(move || commands::release(&args))
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = format!("syncline: {error}");
            let mut source = error.source();
            while let Some(cause) = source {
                // Writing to a String does not fail.
                _ = write!(text, ": {cause}");
                source = cause.source();
            }
            drop(writeln!(io::stderr(), "{text}"));
            ExitCode::from(error.exit_code())
        }
    }
}

/// Runs a tool with the stack of the server's threads: what they wrote, it has to read.
fn tool<F>(run: F) -> Result<(), CliError>
where
    F: FnOnce() -> Result<(), ToolError> + Send + 'static,
{
    let thread = thread::Builder::new().stack_size(THREAD_STACK_BYTES).spawn(run);
    let ended = thread.map_err(CliError::Thread)?.join();
    ended.map_err(|_| CliError::Panicked)?.map_err(CliError::from)
}

fn serve(config: Config) -> Result<(), CliError> {
    auth::test_backend()?;
    start_logging(&config.log)?;
    metrics::count_panics();
    no_huge_pages();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(THREAD_STACK_BYTES)
        .max_blocking_threads(BLOCKING_THREADS)
        .build()
        .map_err(CliError::Runtime)?;
    let served = runtime.block_on(async {
        // Bound first: a taken port is the likelier mistake, and nothing is touched by then.
        let listener = TcpListener::bind(config.listen)
            .await
            .map_err(|source| CliError::Listen { listen: config.listen, source })?;
        let address = listener.local_addr().map_err(CliError::Runtime)?;
        let (store, recovery, revocations) = open_store(&config)?;
        let audit = config.audit_log.as_deref().map(Audit::open).transpose()?.unwrap_or_default();
        reopen_at_hangup(&audit).map_err(CliError::Runtime)?;
        let stop = stop_signal().map_err(CliError::Runtime)?;
        let (demo, key) = open_demo(&config)?;
        announce(&config, address, key.as_deref()).map_err(CliError::Output)?;
        info!(
            %address, data = %config.data.display(), durability = ?config.durability, "Ready."
        );
        let parts = Parts {
            listener,
            store,
            recovery,
            verifier: Verifier::new(config.auth.keys, config.auth.jwks, config.auth.expected),
            origins: config.auth.origins,
            revocations,
            limits: within_descriptors(config.limits.clone()),
            mode: config.mode,
            stamping: config.stamping,
            demo,
            proxies: config.proxies,
            metrics: config.metrics,
            audit: audit.clone(),
        };
        audit.record(|| Entry::new(Event::ServerStarted));
        let served = server::run(parts, stop).await;
        audit.record(|| {
            let word = if served.is_ok() { "clean" } else { "unclean" };
            Entry::new(Event::ServerStopped).word(word)
        });
        audit.stop(DRAIN);
        served.map_err(CliError::from)
    });
    // Blocking work that never ends, a disk that hangs say, must not keep the process.
    runtime.shutdown_timeout(SHUTDOWN);
    served
}

/// Has the kernel give memory in pages of 4 KiB. What is kept here is small and scattered: in pages
/// of 2 MiB it takes 40 MB more from the start, what is freed is given back late, and clearing them
/// costs more time than they save.
fn no_huge_pages() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        warn!(%error, "Huge pages stay: the server may take more memory.");
    }
}

/// The documents, what is known of those in trouble, and who was revoked.
fn open_store(config: &Config) -> Result<(Arc<dyn Store>, Recovery, Revocations), CliError> {
    if config.durability == Durability::Memory {
        warn!("Documents are kept in memory only and end with this process.");
        return Ok((Arc::new(Memory::new()), Recovery::in_memory(), Revocations::in_memory()));
    }
    let options =
        EmbeddedOptions { durability: config.durability, ..EmbeddedOptions::new(&config.data) };
    let store = Embedded::open(options)?;
    // After the folder is held: the notes are this process's from here on.
    let recovery = Recovery::open(&config.data, config.file.as_deref());
    Ok((Arc::new(store), recovery, Revocations::open(&config.data)?))
}

/// The embedded pages, and in `dev` the key of the link that opens them.
fn open_demo(config: &Config) -> Result<(Option<Demo>, Option<String>), ConfigError> {
    match config.mode {
        Mode::Dev => {
            let signer = config.auth.signer.clone();
            let signs = signer.is_some();
            let demo = Demo::new(signer);
            let key = signs.then(|| demo.invite()).transpose();
            let key = key.map_err(|error| ConfigError::Randomness { reason: error.to_string() })?;
            Ok((Some(demo), key))
        }
        // Who may do what is for tokens to say.
        Mode::Serve => Ok((config.demo.then(|| Demo::new(None)), None)),
    }
}

fn start_logging(filter: &str) -> Result<(), CliError> {
    let filter = EnvFilter::try_new(filter)
        .map_err(|_| CliError::LogFilter { filter: filter.to_owned() })?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let discreet = filter_fn(is_discreet);
    if io::stderr().is_terminal() {
        logs.with_target(false).finish().with(discreet).init();
    } else {
        logs.json().flatten_event(true).finish().with(discreet).init();
    }
    Ok(())
}

/// Whether something may be logged. The crates that carry requests tell all of them at their more
/// verbose levels, tokens in paths and headers included.
fn is_discreet(metadata: &Metadata<'_>) -> bool {
    let crate_name = metadata.target().split("::").next().unwrap_or_default();
    let carries = ["warp", "hyper", "hyper_util", "tungstenite", "tokio_tungstenite", "rustls"];
    *metadata.level() <= Level::INFO || !carries.contains(&crate_name)
}

/// Raises the limit on descriptors as far as it goes, and keeps connections below it: when none is
/// left for its next segment, the journal takes no more updates.
fn within_descriptors(mut limits: Limits) -> Limits {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(descriptors) => {
            let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
            let connections = descriptors.saturating_sub(DESCRIPTORS_RESERVED).max(1);
            if connections < limits.connections {
                warn!(
                    descriptors,
                    wanted = limits.connections,
                    connections,
                    "The system's limit on descriptors (nofile) allows fewer connections."
                );
                limits.connections = connections;
            }
        }
        Err(error) => warn!(%error, "The limit on descriptors (nofile) cannot be read."),
    }
    limits
}

/// Completes at the first SIGTERM or SIGINT. A second one ends the process on the spot.
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            warn!("A second signal: stopping without waiting. What was acknowledged is on disk.");
            std::process::exit(70);
        });
    })
}

/// Has SIGHUP reopen the audit log. Without one it ends the process, as it always did.
fn reopen_at_hangup(audit: &Audit) -> io::Result<()> {
    if audit.is_on() {
        let mut hangup = signal(SignalKind::hangup())?;
        let audit = audit.clone();
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                audit.reopen();
            }
        });
    }
    Ok(())
}

/// One JSON line for a program, a few lines for a person.
fn announce(config: &Config, address: SocketAddr, key: Option<&str>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let version = env!("CARGO_PKG_VERSION");
    // Behind the number sign it is sent to nobody and written to no log.
    let demo = key.map(|key| format!("http://{address}/demo#key={key}"));
    if !out.is_terminal() {
        let mut ready = serde_json::json!({
            "event": "ready",
            "url": format!("http://{address}"),
            "version": version,
            "pid": std::process::id(),
        });
        if let (Some(demo), Some(ready)) = (demo, ready.as_object_mut()) {
            ready.insert("demo".to_owned(), demo.into());
        }
        writeln!(out, "{ready}")?;
        return out.flush();
    }
    let data = config.data.display();
    match config.mode {
        Mode::Dev => writeln!(
            out,
            "syncline {version}  dev mode, not for production\n\n  \
             Demo      {demo}\n\n  \
             Editors   ws://{address}/ws/<document>\n  \
             Status    http://{address}\n  \
             Data      {data}\n  \
             Secret    {data}/dev-secret, unless you set one\n\n  \
             A token for an editor:   syncline token --data {data} --doc demo --access write\n  \
             Then, in a front end:    new WebsocketProvider('ws://{address}/ws', 'demo', doc,\n  \
                                        {{ params: {{ token }} }})\n  \
             For production:          syncline serve --help\n",
            demo = match demo {
                Some(link) =>
                    format!("{link}\n            (opens once, in the browser that you use)"),
                None => format!("http://{address}/demo\n            (asks for a token)"),
            },
        )?,
        Mode::Serve => writeln!(out, "syncline {version}  ws://{address}/ws/<document>")?,
    }
    out.flush()
}

fn token(args: TokenArgs) -> Result<(), CliError> {
    let secret = config::token_secret(&args.keys)?;
    let now = auth::unix_now();
    let claims = Claims {
        exp: now.saturating_add(args.ttl.as_secs()),
        iat: Some(now),
        sub: args.sub,
        name: args.name,
        access: args.doc.into_iter().map(|pattern| (pattern, args.access)).collect(),
        ..Claims::default()
    };
    let token = auth::sign(&secret, &claims).map_err(CliError::Sign)?;
    writeln!(io::stdout(), "{token}").map_err(CliError::Output)
}

fn healthcheck(args: &HealthcheckArgs) -> Result<(), CliError> {
    let mut address = args.listen.unwrap_or_else(config::default_listen);
    // The address to bind is not the address to call.
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    let not_ready = |reason: String| CliError::NotReady { address, reason };
    let answer = ready_answer(address).map_err(|error| not_ready(error.to_string()))?;
    let status = answer.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) == Some("200") { Ok(()) } else { Err(not_ready(status.to_owned())) }
}

/// Asks `/readyz` with nothing but a socket: a container image has no curl.
fn ready_answer(address: SocketAddr) -> io::Result<String> {
    let patience = Duration::from_secs(3);
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    write!(stream, "GET /readyz HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(4_096).read_to_string(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use super::*;

    /// Fills a KiB of stack for each level.
    fn descend(levels: usize) -> u8 {
        let room = black_box([1; 1024]);
        if levels == 0 { room[0] } else { descend(levels - 1).max(room[1023]) }
    }

    #[test]
    fn tool_9_a_tool_has_the_stack_of_the_server() {
        assert!(
            tool(|| {
                // Half of it; a thread has 2 MiB by itself and the first one 8 MiB.
                descend(THREAD_STACK_BYTES / 2 / 4096);
                Ok(())
            })
            .is_ok()
        );
    }

    #[test]
    fn tool_9_a_panic_is_an_error_with_a_code() {
        let error = tool(|| panic!("a test")).unwrap_err();
        assert!(matches!(error, CliError::Panicked));
        assert_eq!(error.exit_code(), 70);
    }
}
