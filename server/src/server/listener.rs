//! The accept loop. warp routes requests; what it does not bound is bounded here: the time and size of
//! headers, and connections, in all and per address. Nagle's algorithm is off.

use std::convert::Infallible;
use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::json;
#[cfg(target_os = "linux")]
use socket2::SockRef;
use syncline_protocol::{Close, CloseCode, Limit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::app::App;
use crate::audit::{Entry, Event};
#[cfg(target_os = "linux")]
use crate::config::limits::UNSENT_BYTES;
use crate::config::limits::{HEADER_BYTES, HEADER_TIMEOUT, HEADERS};
use crate::http;
use crate::metrics::METRICS;
use crate::net::peer::Peer;

const FULL: &str = "503 Service Unavailable";
const TOO_MANY: &str = "429 Too Many Requests";

/// How long to wait when no descriptor is left for another socket.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// Rejected connections whose input is read until they close, at a time.
const LINGERING: usize = 64;

/// Accepts connections until the server drains.
pub(crate) async fn accept(listener: TcpListener, app: Arc<App>) {
    let draining = app.services.draining.clone();
    let lingering = Arc::new(Semaphore::new(LINGERING));
    loop {
        let accepted = tokio::select! {
            () = draining.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if is_out_of_descriptors(&error) {
                    METRICS.hit(Limit::Descriptors);
                }
                warn!(%error, "A connection could not be accepted.");
                tokio::time::sleep(EXHAUSTED).await;
                continue;
            }
        };
        let Some(permit) = app.quotas.for_connection() else {
            let close = Close::at_limit(Limit::Connections, CloseCode::Overloaded, "");
            report_rejected(&app, address, &close);
            warn!(limit = app.services.limits.connections, "Connection limit reached.");
            let linger = Arc::clone(&lingering).try_acquire_owned().ok();
            let text = "as many connections as there may be";
            app.services.tasks.spawn(reject(stream, FULL, text, linger));
            continue;
        };
        // The clients of a proxy are counted one by one: http/upgrade.rs.
        let is_client = app.proxies.is_client(address.ip());
        let of_address = is_client.then(|| app.quotas.for_address(address.ip())).transpose();
        match of_address {
            Ok(of_address) => {
                METRICS.connections.add(1);
                let peer = Peer::new(address, permit, of_address);
                app.services.tasks.spawn(serve(stream, peer, Arc::clone(&app)));
            }
            Err(close) => {
                debug!(%address, text = close.text, "Rejected a connection.");
                report_rejected(&app, address, &close);
                let linger = Arc::clone(&lingering).try_acquire_owned().ok();
                let rejected = reject(stream, TOO_MANY, close.text, linger);
                app.services.tasks.spawn(async move {
                    rejected.await;
                    drop(permit);
                });
            }
        }
    }
}

fn report_rejected(app: &App, address: SocketAddr, close: &Close) {
    METRICS.request_refused(close);
    let entry = || Entry::new(Event::ConnectionRefused).peer(&address.to_string()).close(close);
    app.audit.record(entry);
}

/// Whether a socket could not be accepted because there is no descriptor for it.
fn is_out_of_descriptors(error: &std::io::Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    matches!(error.raw_os_error(), Some(ENFILE | EMFILE))
}

/// Answers with `status` and closes. With a `linger` permit it first reads and drops the input:
/// closing with unread input sends a reset, which can overtake the answer.
async fn reject(
    mut stream: TcpStream,
    status: &str,
    text: impl Display,
    linger: Option<OwnedSemaphorePermit>,
) {
    let body = json!({ "code": CloseCode::Overloaded.name(), "text": text.to_string() });
    let body = body.to_string();
    let answer = format!(
        "HTTP/1.1 {status}\r\nretry-after: 5\r\nconnection: close\r\n\
         content-type: application/problem+json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let sending = async {
        stream.write_all(answer.as_bytes()).await?;
        if linger.is_some() {
            stream.shutdown().await?;
            tokio::io::copy(&mut stream.take(HEADER_BYTES as u64), &mut tokio::io::sink()).await?;
        }
        Ok::<_, std::io::Error>(())
    };
    // A peer that does not take even this is dropped.
    drop(timeout(Duration::from_secs(1), sending).await);
}

/// Sets the socket options.
fn prepare(stream: &TcpStream) {
    // Without this a second small frame in a row waits 40 ms for the first one's acknowledgement.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "TCP_NODELAY could not be set.");
    }
    #[cfg(target_os = "linux")]
    if let Err(error) = SockRef::from(stream).set_tcp_notsent_lowat(UNSENT_BYTES) {
        debug!(%error, "TCP_NOTSENT_LOWAT could not be set.");
    }
}

async fn serve(stream: TcpStream, peer: Peer, app: Arc<App>) {
    prepare(&stream);
    let draining = app.services.draining.clone();
    let routes = TowerToHyperService::new(warp::service(http::routes(app)));
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        answer(&routes, request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_BYTES)
        .max_headers(HEADERS)
        // Reads nothing ahead while a request is answered, not even to detect that the client left.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let served = tokio::select! {
        served = connection => served,
        // Upgraded sockets are closed by their documents; what is left here is plain HTTP.
        () = draining.cancelled() => return,
    };
    if let Err(error) = served {
        if error.is_timeout() {
            METRICS.hit(Limit::HeaderTime);
        } else if error.is_parse_too_large() {
            METRICS.hit(Limit::HeaderBytes);
        }
        debug!(%error, "A connection ended early.");
    }
}

fn answer<S>(
    routes: &S,
    request: hyper::Request<Incoming>,
) -> impl Future<Output = Result<S::Response, Infallible>> + use<S>
where
    S: Service<hyper::Request<Incoming>, Error = Infallible>,
{
    routes.call(request)
}
