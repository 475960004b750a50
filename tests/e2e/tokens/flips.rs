//! A good token of which one bit is another.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use syncline_protocol::Access;
use syncline_tests::door::Outcome;
use syncline_tests::server::{Server, token};

use super::attempt;

/// Bits between two that are tried of the header and the claims; odd, so that each of a byte is met.
const STRIDE: usize = 13;
const TICKET: &str = r#"{"document":"notes"}"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn token_3_one_flipped_bit_opens_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let good = token("notes", Access::Write);
    assert!(!matches!(attempt(&server, &good).await, Outcome::Closed { .. }), "it is good");
    let (status, said) = server.post("/api/v1/tickets", &good, TICKET).await;
    assert!((200..300).contains(&status), "{status} {said}");
    let parts: Vec<&str> = good.split('.').collect();
    for (part, stride) in [(0, STRIDE), (1, STRIDE), (2, 1)] {
        let bytes = URL_SAFE_NO_PAD.decode(parts[part]).unwrap();
        for bit in (0..bytes.len() * 8).step_by(stride) {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let flipped = URL_SAFE_NO_PAD.encode(flipped);
            let mut parts = parts.clone();
            parts[part] = &flipped;
            let bad = parts.join(".");
            let outcome = attempt(&server, &bad).await;
            assert_eq!(outcome.number(), 4401, "bit {bit} of part {part}: {outcome:?}");
            let (status, said) = server.post("/api/v1/tickets", &bad, TICKET).await;
            assert_eq!(status, 401, "bit {bit} of part {part}: {said}");
        }
    }
}
