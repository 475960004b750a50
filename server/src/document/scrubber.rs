//! Compares live documents with what is stored of them, one at a time, for as long as the server
//! runs. Nobody waits for it, and it takes a twentieth of one core at most.

use std::sync::Arc;
use std::time::Duration;

use syncline_protocol::DocumentName;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};
use tracing::debug;

use crate::document::hub::Hub;
use crate::document::mailbox::DocumentCommand;

/// A comparison is followed by a pause of this many times its length.
const PAUSE_FACTOR: u32 = 20;

/// For one comparison. A document that is written to without end is never settled, and the next
/// one is looked at.
const PATIENCE: Duration = Duration::from_secs(30);

/// Compares until the server stops. `every` is the shortest time between two comparisons.
pub(crate) async fn run(hub: Arc<Hub>, every: Duration) {
    let mut last: Option<DocumentName> = None;
    let mut pause = every;
    loop {
        tokio::select! {
            () = sleep(pause) => {}
            () = hub.draining.cancelled() => return,
        }
        let began = Instant::now();
        let next = hub.live_after(last.as_ref());
        if let Some((document, mailbox)) = &next {
            let (done, compared) = oneshot::channel();
            if mailbox.send(DocumentCommand::Check { done }).await.is_ok()
                && let Ok(Ok(outcome)) = timeout(PATIENCE, compared).await
            {
                debug!(%document, ?outcome, "Compared a document with its log.");
            }
        }
        // At the end it begins again with the first.
        last = next.map(|(document, _)| document);
        pause = every.max(began.elapsed() * PAUSE_FACTOR);
    }
}
