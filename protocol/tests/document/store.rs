use bytes::Bytes;
use syncline_protocol::document::{Effect, Input, SnapshotOutcome, verify_snapshot};
use syncline_protocol::{CloseCode, Sequence, Snapshot};

use crate::scene::{Got, Limits, Person, Scene, limits};

fn written(updates: u64, limits: Limits) -> (Scene, Person) {
    let mut scene = Scene::ready(limits);
    let ann = Person::new(1);
    scene.follower(1);
    for _ in 0..updates {
        scene.update(1, &ann.write("ab"));
    }
    (scene, ann)
}

#[test]
fn log_1_sequences_have_no_gap() {
    let (scene, _) = written(3, limits());
    let sequences: Vec<u64> =
        scene.log.updates.iter().map(|logged| logged.sequence.get()).collect();
    assert_eq!(sequences, [1, 2, 3]);
}

#[test]
fn log_2_a_snapshot_is_due_after_so_many_updates_or_bytes() {
    let (three, _) = written(3, limits());
    let bytes: usize = three.log.updates.iter().map(|logged| logged.update.len()).sum();
    for limits in [
        Limits { snapshot_updates: 3, ..limits() },
        Limits { snapshot_bytes: bytes as u64, ..limits() },
    ] {
        let (mut scene, _) = written(3, limits);
        assert_eq!(scene.snapshots(), [], "not all of it is on disk");
        scene.persisted(2);
        assert_eq!(scene.snapshots(), []);
        scene.persisted(3);
        let [(snapshot, known)] = &scene.snapshots()[..] else { panic!("one snapshot") };
        assert_eq!(snapshot.through, Sequence::new(3));
        assert_eq!(Some(known), scene.document.state_vector());
    }
}

#[test]
fn log_2_a_long_document_waits_for_more() {
    let after = |length: usize| {
        let limits = Limits { snapshot_updates: 2, ..limits() };
        let (_, snapshots) = snapshots_of(&"a".repeat(length), limits);
        snapshots.iter().map(|snapshot| snapshot.through.get()).collect::<Vec<_>>()
    };
    assert_eq!(after(1_000), [2, 4, 6, 8]);
    assert_eq!(after(150 << 10), [2, 4, 6, 8]);
    assert_eq!(after(165 << 10), [2, 6]);
    assert_eq!(after(245 << 10), [2, 8]);
}

#[test]
fn log_2_the_log_outweighs_the_last_snapshot_three_times() {
    let (logged, snapshots) = snapshots_of("abc", Limits { snapshot_bytes: 1, ..limits() });
    let [first, second] = &snapshots[..] else { panic!("{} snapshots", snapshots.len()) };
    assert_eq!(first.through, Sequence::new(1));
    // After the first snapshot, which is through 1.
    let tail = |to: u64| (1..=to).zip(&logged).skip(1).map(|(_, bytes)| bytes).sum::<usize>();
    let to = second.through.get();
    let weight = 3 * first.state.len();
    assert!(tail(to - 1) < weight && weight <= tail(to), "{} {weight} {}", tail(to - 1), tail(to));
}

/// Writes a text and seven more letters, each on disk at once, and every snapshot too. The lengths of
/// the updates, and the snapshots.
fn snapshots_of(text: &str, limits: Limits) -> (Vec<usize>, Vec<Snapshot>) {
    let limits = Limits { message_bytes_max: 1 << 20, update_bytes_max: 1 << 20, ..limits };
    let (mut scene, ann) = written(0, limits);
    let mut snapshots = 0;
    for (through, words) in (1..=8).zip([text].into_iter().chain(["b"; 7])) {
        scene.update(1, &ann.write(words));
        scene.persisted(through);
        if scene.snapshots().len() > snapshots {
            snapshots += 1;
            scene.snapshot_ended(SnapshotOutcome::Written);
        }
    }
    let logged = scene.log.updates.iter().map(|logged| logged.update.len()).collect();
    (logged, scene.snapshots().into_iter().map(|(snapshot, _)| snapshot).collect())
}

#[test]
fn log_3_a_snapshot_reads_back_and_a_damaged_one_does_not() {
    let (mut scene, ann) = written(3, Limits { snapshot_updates: 4, ..limits() });
    scene.update(1, &ann.delete(1));
    scene.persisted(4);
    let (snapshot, known) = scene.snapshots().remove(0);
    assert_eq!(verify_snapshot(&snapshot, &known, &scene.limits), Ok(()));
    let damaged = |state: Bytes| {
        let damaged = Snapshot { state, ..snapshot.clone() };
        assert!(verify_snapshot(&damaged, &known, &scene.limits).is_err());
    };
    damaged(snapshot.state.slice(..snapshot.state.len() - 1));
    damaged(Bytes::from_static(&[0, 0]));
    damaged(Person::new(1).write("abababab"));
}

#[test]
fn log_4_a_failed_snapshot_is_tried_again_after_as_many_updates() {
    let (mut scene, ann) = written(3, Limits { snapshot_updates: 3, ..limits() });
    scene.persisted(3);
    scene.snapshot_ended(SnapshotOutcome::Failed);
    for through in 4..=6 {
        assert_eq!(scene.snapshots().len(), 1);
        scene.update(1, &ann.write("c"));
        scene.persisted(through);
    }
    assert_eq!(scene.snapshots().len(), 2);
    scene.snapshot_ended(SnapshotOutcome::Written);
    assert_eq!(scene.snapshots().len(), 2);
}

#[test]
fn log_5_a_refused_update_closes_all_and_ends_writing() {
    let (mut scene, ann) = written(3, Limits { snapshot_updates: 3, ..limits() });
    scene.clear();
    scene.handle(Input::PersistFailed);
    scene.update(1, &ann.write("c"));
    scene.persisted(3);
    assert_eq!(scene.got(1), [Got::Closed(CloseCode::StoreUnavailable)]);
    assert_eq!((scene.appended(), scene.snapshots().len()), (0, 0));
    assert!(matches!(scene.effects.last(), Some(Effect::Unload)));
}
