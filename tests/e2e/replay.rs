//! Recorded sessions, typed again by clients over real sockets.

use std::collections::BTreeMap;

use syncline_protocol::Access;
use syncline_tests::client::{Client, doc_of};
use syncline_tests::server::{Server, token};
use syncline_tests::trace::{self, Trace};

const NAME: &str = "recorded/session";

/// Two people's session, in causal order and with its real concurrency: each of them has, before
/// each edit, seen exactly what they had seen when they made it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replay_1_a_recorded_concurrent_session_ends_in_the_recorded_text() {
    let trace = trace::load("friendsforever-concurrent");
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let url = server.url(NAME, &token(NAME, Access::Write));

    let mut players = Vec::new();
    // Both join before either types. Where they type at one spot, the lower id's text goes first.
    let mut clients = Vec::new();
    for id in [1, 2] {
        clients.push(Client::join_as(&url, doc_of(id), Some("syncline.v1")).await);
    }
    for (client, script) in clients.into_iter().zip(scripts(&trace)) {
        players.push(tokio::spawn(play(client, script)));
    }
    for player in players {
        assert_eq!(player.await.unwrap(), trace.end);
    }
    assert_eq!(Client::join(&url).await.content(), trace.end, "somebody who joins late");

    let server = server.kill_and_restart();
    let url = server.url(NAME, &token(NAME, Access::Write));
    assert_eq!(Client::join(&url).await.content(), trace.end, "somebody who joins after a restart");
}

/// What one person does.
struct Script {
    /// Their edits, each with the number of the other's edits they had seen by then.
    edits: Vec<(usize, (u32, u32, String))>,
    /// How many edits the other makes.
    others: usize,
}

fn scripts(trace: &Trace) -> Vec<Script> {
    let mut seen: Vec<[usize; 2]> = Vec::with_capacity(trace.txns.len());
    let mut edits: BTreeMap<usize, Vec<_>> = BTreeMap::new();
    for txn in &trace.txns {
        let mut sees = txn.parents.iter().fold([0, 0], |sees, &parent| {
            [sees[0].max(seen[parent][0]), sees[1].max(seen[parent][1])]
        });
        for patch in &txn.patches {
            edits.entry(txn.agent).or_default().push((sees[1 - txn.agent], patch.clone()));
        }
        sees[txn.agent] += 1;
        seen.push(sees);
    }
    let others = |agent| trace.txns.iter().filter(|txn| txn.agent != agent).count();
    edits.into_iter().map(|(agent, edits)| Script { edits, others: others(agent) }).collect()
}

async fn play(mut client: Client, script: Script) -> String {
    client.held = Some(std::collections::VecDeque::new());
    let mut heard = 0;
    for (sees, (at, deleted, inserted)) in script.edits {
        while heard < sees {
            client.until("the other's edit", Client::holds_one).await;
            client.apply_held();
            heard += 1;
        }
        client.splice(at, deleted, &inserted).await;
    }
    while heard < script.others {
        client.until("the other's last edits", Client::holds_one).await;
        client.apply_held();
        heard += 1;
    }
    client.until("everything is on disk", |client| client.saved == client.sent).await;
    client.content()
}

/// A writer who streams one update for each keystroke, and somebody who watches.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replay_2_a_recorded_paper_reaches_a_watcher_keystroke_by_keystroke() {
    let trace = trace::load("automerge-paper");
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let url = server.url(NAME, &token(NAME, Access::Write));
    let mut watcher = Client::join(&url).await;
    let expected = trace.end.clone();
    let watching = tokio::spawn(async move {
        let length = u32::try_from(expected.len()).unwrap();
        let marker = format!("{expected}\u{1}");
        // The marker is typed last, so its arrival means that everything before it is here.
        let patience = std::time::Duration::from_secs(120);
        watcher
            .until_within(patience, "the whole paper", |watcher| {
                watcher.length() == length + 1 && watcher.content() == marker
            })
            .await;
    });
    let mut writer = Client::join_v1(&url).await;
    for (index, txn) in trace.txns.iter().enumerate() {
        for (at, deleted, inserted) in &txn.patches {
            writer.splice_lazily(*at, *deleted, inserted).await;
        }
        if index % 64 == 0 {
            writer.flush().await;
        }
    }
    let end = u32::try_from(trace.end.len()).unwrap();
    writer.splice(end, 0, "\u{1}").await;
    assert_eq!(writer.content(), format!("{}\u{1}", trace.end));
    watching.await.unwrap();
    writer.until("everything is on disk", |writer| writer.saved == writer.sent).await;
}
