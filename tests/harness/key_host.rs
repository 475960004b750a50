//! A server that hands out a key set, or something else in its place.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};

const CERTIFICATE: &[u8] = include_bytes!("tls/server.pem");
const KEY: &[u8] = include_bytes!("tls/server.key");

/// The authority that signed the certificate.
pub const AUTHORITY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/harness/tls/ca.pem");

/// What it answers.
#[derive(Clone, Debug)]
pub enum Answer {
    /// These bytes, as the answer to the request.
    Raw(Vec<u8>),
    /// Nothing, and the connection stays open.
    Silence,
}

impl Answer {
    /// A key set.
    #[must_use]
    pub fn keys(keys: &[Value]) -> Self {
        Self::text(&json!({ "keys": keys }).to_string())
    }

    /// 200 and a text.
    #[must_use]
    pub fn text(body: &str) -> Self {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        Self::Raw((head + body).into_bytes())
    }

    /// Another status.
    #[must_use]
    pub fn status(status: &str) -> Self {
        Self::Raw(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").into_bytes())
    }
}

/// The server. It ends when it is dropped.
#[derive(Debug)]
pub struct KeyHost {
    address: SocketAddr,
    scheme: &'static str,
    answer: Arc<Mutex<Answer>>,
    asked: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl KeyHost {
    /// Serves over http.
    pub async fn start(answer: Answer) -> Self {
        Self::listen(answer, None).await
    }

    /// Serves over https, with a certificate of [`AUTHORITY`].
    pub async fn start_tls(answer: Answer) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(CERTIFICATE).expect("a certificate")],
                PrivateKeyDer::from_pem_slice(KEY).expect("a key"),
            );
        let config = config.expect("they belong together");
        Self::listen(answer, Some(TlsAcceptor::from(Arc::new(config)))).await
    }

    async fn listen(answer: Answer, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let scheme = if tls.is_some() { "https" } else { "http" };
        let answer = Arc::new(Mutex::new(answer));
        let asked = Arc::new(AtomicUsize::new(0));
        let (answers, count) = (Arc::clone(&answer), Arc::clone(&asked));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answers, count, tls) = (Arc::clone(&answers), Arc::clone(&count), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, &answers, &count).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, &answers, &count).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, scheme, answer, asked, task }
    }

    /// Where the key set is.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://localhost:{}/keys", self.scheme, self.address.port())
    }

    /// How often it was asked.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// Answers otherwise from here on.
    pub fn answer(&self, answer: Answer) {
        *self.answer.lock().expect("no panic") = answer;
    }
}

impl Drop for KeyHost {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve<S>(mut stream: S, answer: &Mutex<Answer>, asked: &AtomicUsize)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read_buf(&mut request).await {
            Ok(1..) => {}
            _ => return,
        }
    }
    asked.fetch_add(1, Ordering::SeqCst);
    let answer = answer.lock().expect("no panic").clone();
    match answer {
        Answer::Raw(bytes) => {
            // Whoever has enough hangs up.
            drop(stream.write_all(&bytes).await);
            drop(stream.shutdown().await);
        }
        Answer::Silence => std::future::pending().await,
    }
}
