//! Background scrub: compares live documents with their logs, one at a time, for as long as the server
//! runs. It takes at most a twentieth of one core.

use std::sync::Arc;
use std::time::Duration;

use syncline_protocol::DocumentName;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::document::hub::Hub;
use crate::document::mailbox::DocumentCommand;

/// A comparison is followed by a pause of this many times its length.
const PAUSE_FACTOR: u32 = 20;

/// For one comparison. A document that is written to without end never settles; after this time the
/// next document is compared.
const PATIENCE: Duration = Duration::from_secs(30);

/// Compares until the server drains. `every` is the shortest time between two comparisons.
pub(crate) async fn run(hub: Arc<Hub>, draining: CancellationToken, every: Duration) {
    let mut last: Option<DocumentName> = None;
    let mut pause = every;
    loop {
        tokio::select! {
            () = sleep(pause) => {}
            () = draining.cancelled() => return,
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
        // Past the last document the scrub starts again with the first.
        last = next.map(|(document, _)| document);
        pause = every.max(began.elapsed() * PAUSE_FACTOR);
    }
}
