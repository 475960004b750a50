//! A Syncline server inside another program: `cargo run --example embedded -- 127.0.0.1:4000`.
//!
//! Documents are kept in memory and end with the process. `Embedded::open` in place of `Memory`
//! keeps them in a folder.

#![expect(clippy::print_stdout, reason = "an example shows what it does on standard output")]

use std::error::Error;
use std::sync::Arc;

use syncline_protocol::Access;
use syncline_protocol::document::Stamping;
use syncline_server::audit::Audit;
use syncline_server::auth::revocation::Revocations;
use syncline_server::auth::{self, Claims, Secret, Verifier};
use syncline_server::config::limits::Limits;
use syncline_server::config::{MetricsFor, Mode};
use syncline_server::net::origin::OriginPolicy;
use syncline_server::net::proxy::TrustedProxies;
use syncline_server::quarantine::recovery::Recovery;
use syncline_server::server::{self, Parts};
use syncline_server::store::memory::Memory;
use tokio::net::TcpListener;

const DOCUMENT: &str = "notes/today";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Selects the crypto backend; it has to happen before the first token is verified.
    auth::install_crypto();
    // A real secret comes from a file or a variable, and is shared with whatever signs tokens.
    let secret = Secret::new(b"an example secret of 32 bytes or more")?;

    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("ws://{}/ws/{DOCUMENT}?token={}", listener.local_addr()?, token(&secret)?);
    println!("Ctrl-C stops the server.");

    let parts = Parts {
        listener,
        store: Arc::new(Memory::new()),
        recovery: Recovery::in_memory(),
        verifier: Verifier::hs256(&secret),
        origins: OriginPolicy::default(),
        revocations: Revocations::in_memory(),
        limits: Limits::default(),
        mode: Mode::Serve,
        stamping: Stamping::Identity,
        demo: None,
        proxies: TrustedProxies::default(),
        metrics: MetricsFor::All,
        audit: Audit::default(),
    };
    // Returns when every session is closed and every accepted update is stored.
    server::run(parts, async {
        if let Err(error) = tokio::signal::ctrl_c().await {
            println!("cannot wait for Ctrl-C: {error}");
        }
    })
    .await?;
    Ok(())
}

/// A token for `DOCUMENT` that is valid for an hour.
fn token(secret: &Secret) -> Result<String, Box<dyn Error>> {
    let now = auth::unix_now();
    let claims = Claims {
        exp: now.saturating_add(3_600),
        iat: Some(now),
        sub: Some("ada".to_owned()),
        name: Some("Ada".to_owned()),
        access: [(DOCUMENT.to_owned(), Access::Write)].into(),
        ..Claims::default()
    };
    Ok(auth::sign(secret, &claims)?)
}
