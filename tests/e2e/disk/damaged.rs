//! What a disk brings back is not what was written: the documents that are hit say so, others are
//! served.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use syncline_protocol::Access;
use syncline_tests::Random;
use syncline_tests::client::Client;
use syncline_tests::server::{Server, token};

use crate::disk::{Pair, text_of};

const DOCUMENTS: [&str; 4] = ["ada", "ben", "cleo", "dora"];
const MARKS: u64 = 8;

/// What lies behind this is the last batch: damage there cannot be told from a torn one.
const LAST: &str = "the last batch";

/// A folder in which each of [`DOCUMENTS`] holds its marks.
struct Folder {
    data: tempfile::TempDir,
}

impl Folder {
    async fn write() -> Self {
        let data = tempfile::tempdir().unwrap();
        let mut server = Server::start(data.path());
        for mark in 0..MARKS {
            for document in DOCUMENTS {
                let text = format!("{document}-{mark};");
                Pair::join(&server, document).await.save(&text).await;
            }
        }
        Pair::join(&server, "last").await.save(LAST).await;
        server.kill();
        Self { data }
    }

    /// The only segment.
    fn journal(&self) -> PathBuf {
        let mut files = fs::read_dir(self.data.path().join("journal")).unwrap();
        let path = files.next().unwrap().unwrap().path();
        assert!(files.next().is_none(), "one segment is enough for this");
        path
    }

    /// Where `text` lies in the journal.
    fn find(&self, text: &str) -> usize {
        let bytes = fs::read(self.journal()).unwrap();
        let mut places = bytes.windows(text.len());
        places.position(|bytes| bytes == text.as_bytes()).expect("texts are stored as they are")
    }

    /// A copy that may be damaged.
    fn copy(&self) -> Self {
        let data = tempfile::tempdir().unwrap();
        copy(self.data.path(), data.path());
        Self { data }
    }

    fn flip(&self, byte: usize, bit: u64) {
        let path = self.journal();
        let mut bytes = fs::read(&path).unwrap();
        bytes[byte] ^= 1 << bit;
        fs::write(path, bytes).unwrap();
    }

    fn server(&self) -> Server {
        Server::start(self.data.path())
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&to).unwrap();
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn text(document: &str) -> String {
    (0..MARKS).map(|mark| format!("{document}-{mark};")).collect()
}

/// Whether a document is as it was. If it is not, it says so: to whoever joins, or to whoever
/// writes to what is still there.
async fn is_whole(server: &Server, document: &str) -> bool {
    let url = server.url(document, &token(document, Access::Write));
    let mut client = match Client::join_or_end(&url).await {
        Ok(client) => client,
        Err(ended) => {
            let word = ended.reason.split(':').next().unwrap_or_default();
            let words = ["store_unavailable", "document_quarantined"];
            assert!(words.contains(&word), "{document}: {ended:?}");
            return false;
        }
    };
    let found = client.content();
    if found == text(document) {
        return true;
    }
    assert!(text(document).starts_with(&found), "{document} is {found:?}");
    let at = client.length();
    client.splice(at, 0, "more").await;
    let is_refused =
        |client: &Client| client.denied.iter().any(|it| it.starts_with("document_quarantined"));
    client.until("a refusal", is_refused).await;
    assert_eq!(client.saved, 0, "{document} is not written to");
    false
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disk_6_a_damaged_document_says_so_and_others_are_served() {
    let folder = Folder::write().await;
    for (mark, bit) in [(0, 0), (3, 5), (MARKS - 1, 7)] {
        let damaged = folder.copy();
        damaged.flip(damaged.find(&format!("ben-{mark};")), bit);
        let server = damaged.server();
        for document in DOCUMENTS {
            let is_hit = document == "ben";
            assert_eq!(is_whole(&server, document).await, !is_hit, "{document}, mark {mark}");
        }
        assert_eq!(text_of(&server, "last").await, LAST);
        assert_eq!(server.get("/readyz").await.0, 200);
    }
}

/// Wherever a bit changes, at most one document is not what it was, and never in silence.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disk_6_a_changed_bit_anywhere_is_never_silent() {
    let folder = Folder::write().await;
    let end = folder.find(&format!("{}-{};", DOCUMENTS[3], MARKS - 1));
    let mut random = Random::new(6);
    let anywhere = (0..10).map(|_| random.below(end as u64) as usize);
    // The first bytes are the head of the file, which is there twice.
    for byte in anywhere.chain([0, 8, 40]).collect::<Vec<_>>() {
        let damaged = folder.copy();
        damaged.flip(byte, byte as u64 % 8);
        let server = damaged.server();
        let mut hit = 0;
        for document in DOCUMENTS {
            hit += u64::from(!is_whole(&server, document).await);
        }
        assert!(hit <= 1, "{hit} documents are hit by one bit of byte {byte}");
    }
}

/// The end of the last segment may be torn: what is cut off is missing, and nothing else is there
/// instead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disk_7_a_journal_that_was_cut_short_serves_what_is_left() {
    let folder = Folder::write().await;
    let whole = fs::metadata(folder.journal()).unwrap().len();
    for left in [whole - 1, whole - 60, whole / 2, whole / 3, 64, 0] {
        let cut = folder.copy();
        File::options().write(true).open(cut.journal()).unwrap().set_len(left).unwrap();
        let server = cut.server();
        for document in DOCUMENTS {
            let found = text_of(&server, document).await;
            assert!(text(document).starts_with(&found), "{left} of {whole}: {document} {found:?}");
            assert!(left < whole - 60 || found == text(document), "{document} was not cut");
        }
        Pair::join(&server, "new").await.save("goes on").await;
    }
}

/// The cache of snapshots is only that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disk_8_a_damaged_cache_costs_nothing() {
    let folder = Folder::write().await;
    let damages: [fn(&Path); 3] = [
        |cache| fs::remove_dir_all(cache).unwrap(),
        |cache| File::options().write(true).open(cache.join("db")).unwrap().set_len(1_000).unwrap(),
        |cache| fs::write(cache.join("db"), b"something else").unwrap(),
    ];
    for damage in damages {
        let damaged = folder.copy();
        damage(&damaged.data.path().join("sled"));
        let server = damaged.server();
        for document in DOCUMENTS {
            assert_eq!(text_of(&server, document).await, text(document));
        }
    }
}
