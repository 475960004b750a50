use std::time::Duration;

use syncline_protocol::document::Stamping;
use syncline_protocol::{Access, Durability};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::audit::Audit;
use crate::auth::revocation::{Revocation, Revocations};
use crate::auth::tickets::Tickets;
use crate::auth::{self, Secret, Verifier, unix_now};
use crate::config::limits::Limits;
use crate::config::{MetricsFor, Mode};
use crate::document::hub::Hub;
use crate::metrics::expose::Exposition;
use crate::net::origin::OriginPolicy;
use crate::net::proxy::TrustedProxies;
use crate::net::quota::Quotas;
use crate::net::socket_writer::SocketWriter;
use crate::quarantine::recovery::Recovery;
use crate::services::Services;
use crate::store::Store;
use crate::store::memory::Memory;
use crate::store::writer::{StoreWriter, WriterLimits};

const SECRET: [u8; 32] = [7; 32];

fn app(limits: Limits) -> App {
    auth::install_crypto();
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    assert_eq!(store.durability(), Durability::Memory);
    let (writer, _) = StoreWriter::start(Arc::clone(&store), WriterLimits::DEFAULT);
    let quotas = Quotas::new(&limits);
    let services = Services::new(store, writer, Recovery::in_memory(), limits, Stamping::Identity);
    let services = Arc::new(services);
    App {
        hub: Arc::new(Hub::new(Arc::clone(&services))),
        services,
        sessions: Arc::default(),
        verifier: Verifier::hs256(&Secret::new(&SECRET).unwrap()),
        origins: OriginPolicy::default(),
        tickets: Tickets::default(),
        revocations: Revocations::in_memory(),
        mode: Mode::Serve,
        demo: None,
        proxies: TrustedProxies::default(),
        quotas,
        metrics: Exposition::default(),
        metrics_for: MetricsFor::All,
        audit: Audit::default(),
    }
}

fn credential(sub: &str, document: &str) -> Credential {
    let now = unix_now();
    let access = std::iter::once((document.to_owned(), Access::Write)).collect();
    let claims = Claims {
        exp: now + 60,
        iat: Some(now),
        sub: Some(sub.to_owned()),
        access,
        ..Claims::default()
    };
    Credential::Token(auth::sign(&Secret::new(&SECRET).unwrap(), &claims).unwrap())
}

async fn admitted(app: &App, sub: &str, document: &str) -> Result<Admitted, Refusal> {
    let client =
        Client { dialect: Dialect::YWebsocket, epoch: None, address: "192.0.2.1".to_owned() };
    admit(app, credential(sub, "*"), document.parse().unwrap(), client).await
}

/// A send queue, and the socket's other end.
async fn send_queue() -> (SendQueue, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (_, writing) = listener.accept().await.unwrap().0.into_split();
    (SocketWriter::new(writing, 1024).first_lane(), peer)
}

fn revoke(app: &App, sub: &str) {
    let revocation = Revocation {
        sub: sub.to_owned(),
        document: "*".to_owned(),
        issued_before: unix_now() + 1,
        access: None,
        until: None,
    };
    app.revocations.put(revocation, unix_now()).unwrap();
}

#[tokio::test]
async fn a_lane_holds_a_session_and_its_permits() {
    let app = app(Limits { connections_per_user: 1, ..Limits::default() });
    let (queue, _peer) = send_queue().await;
    let lane = admitted(&app, "ada", "a").await.unwrap().open_lane(&app, queue).await.unwrap();
    assert_eq!((app.sessions.count(), app.hub.document_count()), (1, 1));
    let (queue, _peer) = send_queue().await;
    let second = admitted(&app, "ada", "b").await.unwrap().open_lane(&app, queue).await;
    let Err(refusal) = second else { panic!("the user has as many sessions as allowed") };
    assert_eq!(refusal.close.limit, Some(Limit::ConnectionsPerUser));
    assert_eq!(app.hub.document_count(), 1, "a refused client loads no document");
    lane.leave().await;
    assert_eq!(app.sessions.count(), 0);
    let (queue, _peer) = send_queue().await;
    assert!(admitted(&app, "ada", "b").await.unwrap().open_lane(&app, queue).await.is_ok());
}

#[tokio::test]
async fn revoke_4_a_revocation_between_token_and_session_counts() {
    let app = app(Limits::default());
    let before = admitted(&app, "ada", "a").await.unwrap();
    revoke(&app, "ada");
    let (queue, _peer) = send_queue().await;
    let Err(refusal) = before.open_lane(&app, queue).await else { panic!("it was revoked") };
    assert_eq!(refusal.close.code, CloseCode::Revoked);
    assert_eq!(app.sessions.count(), 0, "the refused session is not listed");
    let refusal = admitted(&app, "ada", "a").await.unwrap_err();
    assert_eq!(refusal.close.code, CloseCode::Revoked);
    assert!(admitted(&app, "bob", "a").await.is_ok());
}

#[tokio::test]
async fn a_renewal_is_bound_to_the_session_and_its_rate() {
    let app = app(Limits::default());
    let (queue, _peer) = send_queue().await;
    let mut lane = admitted(&app, "ada", "a").await.unwrap().open_lane(&app, queue).await.unwrap();
    let token = |sub: &str| match credential(sub, "a") {
        Credential::Token(token) | Credential::Ticket(token) => token,
    };
    assert!(lane.renew(&app, token("ada")).await.is_continue());
    assert!(lane.renew(&app, token("eve")).await.is_break(), "another user");
    let renewals = async { while lane.renew(&app, token("ada")).await.is_continue() {} };
    tokio::time::timeout(Duration::from_secs(5), renewals).await.expect("the rate is bounded");
}
