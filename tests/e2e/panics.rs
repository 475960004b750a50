//! A document whose task panics. The server runs in this process, where there are failpoints.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use syncline_protocol::Access;
use syncline_protocol::document::Stamping;
use syncline_protocol::document::replica::PANIC_POINT;
use syncline_server::audit::Audit;
use syncline_server::auth::revocation::Revocations;
use syncline_server::auth::{Secret, Verifier, install_crypto};
use syncline_server::config::limits::Limits;
use syncline_server::config::{MetricsFor, Mode};
use syncline_server::net::origin::OriginPolicy;
use syncline_server::net::proxy::TrustedProxies;
use syncline_server::quarantine::QuarantineState;
use syncline_server::quarantine::recovery::Recovery;
use syncline_server::server::{self, Parts};
use syncline_server::store::embedded::{Embedded, EmbeddedOptions};
use syncline_tests::client::Client;
use syncline_tests::server::{SECRET, token};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A server in this process.
struct Inside {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

impl Inside {
    async fn start(data: &Path) -> Self {
        install_crypto();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let store = Embedded::open(EmbeddedOptions::new(data)).unwrap();
        let parts = Parts {
            listener,
            store: Arc::new(store),
            recovery: Recovery::open(data, None),
            verifier: Verifier::hs256(&Secret::new(SECRET.as_bytes()).unwrap()),
            origins: OriginPolicy::parse(&[]).unwrap(),
            revocations: Revocations::in_memory(),
            limits: Limits::default(),
            mode: Mode::Serve,
            stamping: Stamping::Identity,
            demo: None,
            proxies: TrustedProxies::parse(None).unwrap(),
            metrics: MetricsFor::All,
            audit: Audit::default(),
        };
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(async {
            let stopped = async { drop(stopped.await) };
            server::run(parts, stopped).await.unwrap();
        });
        Self { address, stop, served }
    }

    fn url(&self, document: &str) -> String {
        let token = token(document, Access::Write);
        format!("ws://{}/ws/{document}?token={token}", self.address)
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.served.await.unwrap();
    }
}

async fn write(client: &mut Client, text: &str) {
    let end = client.length();
    client.splice(end, 0, text).await;
    client.until("saved", |client| client.saved == client.sent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trouble_7_a_panic_ends_its_own_document_and_nothing_that_was_saved() {
    let folder = tempfile::tempdir().unwrap();
    let server = Inside::start(folder.path()).await;
    let mut elsewhere = Client::join_v1(&server.url("elsewhere")).await;
    let mut victim = Client::join_v1(&server.url("doomed")).await;
    let mut culprit = Client::join_v1(&server.url("doomed")).await;
    write(&mut elsewhere, "one.").await;
    write(&mut victim, "saved").await;
    culprit.try_splice(0, PANIC_POINT).await.unwrap();
    for client in [&mut victim, &mut culprit] {
        let ended = client.until_ended().await;
        assert_eq!(ended.code, 1011, "{ended:?}");
    }
    // Whoever was elsewhere is still connected, and others come in.
    write(&mut elsewhere, "two.").await;
    assert_eq!(Client::join(&server.url("elsewhere")).await.content(), "one.two.");
    // Back at once: all that was acknowledged is shown, and nothing is taken.
    let mut back = Client::join_v1(&server.url("doomed")).await;
    assert_eq!(back.content(), "saved");
    back.splice(0, 0, "more ").await;
    back.until("a refusal", |back| back.denied == ["document_quarantined"]).await;
    drop(back);
    server.stop().await;

    // It is still so after a restart.
    let listed = syncline_server::quarantine::Quarantine::in_folder(folder.path()).list().unwrap();
    let [entry] = &listed[..] else { panic!("{listed:?}") };
    assert_eq!((entry.document.as_str(), &entry.standing), ("doomed", &QuarantineState::ReadOnly));
    let server = Inside::start(folder.path()).await;
    assert_eq!(Client::join(&server.url("doomed")).await.content(), "saved");
    write(&mut Client::join_v1(&server.url("elsewhere")).await, "three.").await;
    server.stop().await;
}
