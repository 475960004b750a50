//! A disk that fails, stalls, is full, or brings back something else.

mod damaged;
mod descriptors;
mod failing;
mod full;
mod slow;
mod strace;

use syncline_protocol::Access;
use syncline_tests::client::Client;
use syncline_tests::server::{Server, token};

/// A writer and a reader of one document.
struct Pair {
    document: &'static str,
    writer: Client,
    reader: Client,
    /// How often the writer has said something of itself.
    said: u64,
}

impl Pair {
    async fn join(server: &Server, document: &'static str) -> Self {
        let url = |access| server.url(document, &token(document, access));
        let writer = Client::join_v1(&url(Access::Write)).await;
        let reader = Client::join(&url(Access::Read)).await;
        Self { document, writer, reader, said: 0 }
    }

    /// Writes at the end, without waiting.
    async fn write(&mut self, text: &str) {
        let at = self.writer.length();
        self.writer.splice(at, 0, text).await;
    }

    async fn save(&mut self, text: &str) {
        self.write(text).await;
        self.writer.until("saved", |writer| writer.saved == writer.sent).await;
    }

    /// Writes until the store takes no more, and returns what was acknowledged and why it ended.
    async fn write_until_refused(&mut self, server: &Server, text: &str) -> (String, String) {
        loop {
            let acknowledged = self.writer.content();
            self.write(text).await;
            while self.writer.saved < self.writer.sent {
                let (status, told) = server.get("/readyz").await;
                if status == 503 {
                    return (acknowledged, told);
                }
                self.writer.flush().await;
            }
        }
    }

    /// The document is there for whoever comes, presence goes on, and writing is refused by name.
    async fn reads_but_does_not_write(&mut self, server: &Server, acknowledged: &str) {
        let saved = self.writer.saved;
        self.write("refused").await;
        let is_refused = |writer: &Client| writer.denied.iter().any(|it| is_unavailable(it));
        self.writer.until("a refusal", is_refused).await;
        assert_eq!(self.writer.saved, saved, "nothing is acknowledged any more");
        self.said += 1;
        let state = format!("{{\"said\":{}}}", self.said);
        self.writer.announce(self.said, &state).await;
        let stamped = state.replace('}', r#","syncline":{"sub":"tester"}}"#);
        let is_seen = |reader: &Client| reader.present.values().any(|it| *it == stamped);
        self.reader.until("the writer's presence", is_seen).await;
        let url = server.url(self.document, &token(self.document, Access::Read));
        let text = Client::join(&url).await.content();
        assert!(text.starts_with(acknowledged), "{} acknowledged, {text}", acknowledged.len());
        assert!(!text.contains("refused"), "what is refused is not shown to others");
    }
}

fn is_unavailable(told: &str) -> bool {
    told.starts_with("store_unavailable")
}

/// What a newcomer reads.
async fn text_of(server: &Server, document: &str) -> String {
    Client::join(&server.url(document, &token(document, Access::Read))).await.content()
}

#[expect(clippy::print_stderr, reason = "whoever runs the tests has to know what was skipped")]
fn skip(reason: &str) {
    eprintln!("SKIPPED: {reason}");
}
