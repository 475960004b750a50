//! One GET for a key set, over https or, where that is allowed, http. Small on purpose: no
//! redirects, no proxies, no cookies, a bounded body, and the same crypto backend as the tokens.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

use crate::auth::jwks::SET_BYTES_MAX;

/// The URL of a key set.
#[derive(Clone)]
pub(super) struct Address {
    uri: Uri,
    host: String,
    port: u16,
    /// `None` for plain HTTP.
    tls: Option<Arc<ClientConfig>>,
}

impl std::fmt::Debug for Address {
    /// Without the query, which may be a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}{}", self.host, self.port, self.uri.path())
    }
}

/// Why a URL cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AddressError {
    /// It is not a URL.
    #[error("it is not a URL of the form https://host/path")]
    Form,
    /// It has a user name or password, which would end up in logs.
    #[error("it has a user name in it, which is not supported")]
    UserInfo,
    /// It is plain HTTP to another host, so the network could replace the keys.
    #[error(
        "over plain http the network could replace the keys: use https, or allow it with \
         --auth-jwks-plain-http (auth.jwks_plain_http)"
    )]
    Plain,
    /// The system has no root certificates.
    #[error(
        "the system has no certificates of authorities; install ca-certificates or set \
         SSL_CERT_FILE"
    )]
    Roots,
    /// The TLS library refuses its own defaults.
    #[error("TLS cannot be used: {0}")]
    Tls(String),
}

/// Why a key set could not be fetched.
#[derive(Debug, Error)]
pub(super) enum FetchError {
    #[error("the server cannot be reached: {0}")]
    Connect(#[from] io::Error),
    #[error("the connection broke: {0}")]
    Http(#[from] hyper::Error),
    #[error("the answer is {0}")]
    Status(StatusCode),
    #[error("the answer is {0}; redirects are not followed, name the last address")]
    Redirect(StatusCode),
    #[error("the answer is longer than {SET_BYTES_MAX} bytes")]
    TooLong,
}

impl Address {
    pub(super) fn parse(url: &str, plain_http: bool) -> Result<Self, AddressError> {
        let uri: Uri = url.parse().map_err(|_| AddressError::Form)?;
        let authority = uri.authority().ok_or(AddressError::Form)?;
        if authority.as_str().contains('@') {
            return Err(AddressError::UserInfo);
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let is_here = host == "localhost"
            || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
        let (tls, port) = match uri.scheme_str() {
            Some("https") => (Some(tls()?), 443),
            Some("http") if is_here || plain_http => (None, 80),
            Some("http") => return Err(AddressError::Plain),
            _ => return Err(AddressError::Form),
        };
        let port = authority.port_u16().unwrap_or(port);
        Ok(Self { uri, host, port, tls })
    }

    /// The body at this address.
    pub(super) async fn fetch(&self) -> Result<Vec<u8>, FetchError> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        let Some(tls) = &self.tls else { return self.ask(stream).await };
        let name = ServerName::try_from(self.host.clone()).map_err(io::Error::other)?;
        self.ask(TlsConnector::from(Arc::clone(tls)).connect(name, stream).await?).await
    }

    async fn ask<S>(&self, stream: S) -> Result<Vec<u8>, FetchError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let request = Request::get(self.uri.path_and_query().map_or("/", |path| path.as_str()))
            .header(header::HOST, self.uri.authority().map_or("", |authority| authority.as_str()))
            .header(header::ACCEPT, "application/jwk-set+json, application/json")
            .header(header::USER_AGENT, concat!("syncline/", env!("CARGO_PKG_VERSION")))
            .header(header::CONNECTION, "close")
            .body(NoBody)
            .map_err(io::Error::other)?;
        let answer = async {
            let answer = sender.send_request(request).await?;
            match answer.status() {
                StatusCode::OK => body(answer.into_body()).await,
                status if status.is_redirection() => Err(FetchError::Redirect(status)),
                status => Err(FetchError::Status(status)),
            }
        };
        // The connection is driven concurrently with the request, and ends with it.
        let mut answer = std::pin::pin!(answer);
        tokio::select! {
            biased;
            answered = &mut answer => answered,
            ended = connection => {
                ended?;
                answer.await
            }
        }
    }
}

async fn body(mut body: Incoming) -> Result<Vec<u8>, FetchError> {
    let mut bytes = Vec::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        if let Ok(data) = frame?.into_data() {
            bytes.extend_from_slice(&data);
        }
        if bytes.len() > SET_BYTES_MAX {
            return Err(FetchError::TooLong);
        }
    }
    Ok(bytes)
}

/// The body of a GET: empty.
struct NoBody;

impl Body for NoBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
        std::task::Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        true
    }
}

/// TLS that trusts the root certificates of the system, or those in `SSL_CERT_FILE`.
fn tls() -> Result<Arc<ClientConfig>, AddressError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(AddressError::Roots);
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| AddressError::Tls(error.to_string()))?;
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
