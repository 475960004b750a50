//! The accept loop. warp routes requests; what it leaves open is closed here: Nagle's algorithm,
//! a timeout and bounds for headers, and a bound on connections.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::http;
use crate::limits::{HEADER_BYTES, HEADER_TIMEOUT, HEADERS};
use crate::server::Context;

/// Who is at the other end, and its place under the connection limit. The place is free again
/// when the last clone is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    address: SocketAddr,
    _place: Arc<OwnedSemaphorePermit>,
}

impl Peer {
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }
}

const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\nconnection: close\r\n\
    content-length: 0\r\n\r\n";

/// How long to wait when no descriptor is left for another socket.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// Accepts connections until the server drains.
pub(crate) async fn accept(listener: TcpListener, context: Arc<Context>) {
    let places = Arc::new(Semaphore::new(context.hub.limits.connections));
    let draining = context.hub.draining.clone();
    loop {
        let accepted = tokio::select! {
            () = draining.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "A connection could not be accepted.");
                tokio::time::sleep(EXHAUSTED).await;
                continue;
            }
        };
        match Arc::clone(&places).try_acquire_owned() {
            Ok(place) => {
                let peer = Peer { address, _place: Arc::new(place) };
                context.hub.tasks.spawn(serve(stream, peer, Arc::clone(&context)));
            }
            Err(_) => {
                warn!(limit = context.hub.limits.connections, "Connection limit reached.");
                context.hub.tasks.spawn(turn_away(stream));
            }
        }
    }
}

async fn turn_away(mut stream: TcpStream) {
    // A peer that does not take even this is dropped.
    drop(timeout(Duration::from_secs(1), stream.write_all(FULL)).await);
}

async fn serve(stream: TcpStream, peer: Peer, context: Arc<Context>) {
    // Without this a second small frame in a row waits 40 ms for the first one's acknowledgement.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "TCP_NODELAY could not be set.");
    }
    let draining = context.hub.draining.clone();
    let routes = TowerToHyperService::new(warp::service(http::routes(context)));
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        answer(&routes, request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_BYTES)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let served = tokio::select! {
        served = connection => served,
        // Upgraded sockets are closed by their documents; what is left here is plain HTTP.
        () = draining.cancelled() => return,
    };
    if let Err(error) = served {
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
