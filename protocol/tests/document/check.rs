use bytes::Bytes;
use syncline_protocol::document::verify::CompareError;
use syncline_protocol::document::{CheckOutcome, Input, SnapshotOutcome, compare};
use syncline_protocol::time::Millis;
use syncline_protocol::{CloseCode, Sequence, Snapshot};

use crate::scene::{Got, Limits, Person, Scene, limits, poison};

fn written(limits: Limits) -> (Scene, Person) {
    let mut scene = Scene::ready(limits);
    let ann = Person::new(1);
    scene.follower(1);
    scene.update(1, &ann.write("abc"));
    (scene, ann)
}

#[test]
fn check_1_starts_when_everything_is_on_disk() {
    let (mut scene, ann) = written(limits());
    scene.handle(Input::Check);
    scene.handle(Input::Check);
    assert_eq!(scene.compares(), []);
    scene.persisted(1);
    let [(live, known)] = &scene.compares()[..] else { panic!("one comparison") };
    assert_eq!((live.through, &live.state), (Sequence::new(1), &ann.everything()));
    assert_eq!(Some(known), scene.document.state_vector());
    scene.handle(Input::Check);
    assert_eq!(scene.compares().len(), 1, "one at a time");
    scene.handle(Input::Compared(CheckOutcome::Same));
    scene.handle(Input::Check);
    assert_eq!(scene.compares().len(), 2);
}

#[test]
fn check_1_starts_after_the_load() {
    let mut scene = Scene::new(limits());
    scene.handle(Input::Check);
    assert_eq!(scene.compares(), []);
    scene.load();
    assert_eq!(scene.compares().len(), 1);
}

#[test]
fn check_2_excludes_snapshot_load_and_unload() {
    let (mut scene, ann) = written(Limits { snapshot_updates: 2, ..limits() });
    scene.persisted(1);
    scene.handle(Input::Check);
    scene.update(1, &ann.write("d"));
    scene.persisted(2);
    scene.follower(2);
    assert_eq!(scene.snapshots(), []);
    scene.handle(Input::Compared(CheckOutcome::Unknown));
    assert_eq!(scene.snapshots().len(), 1);
    scene.handle(Input::Check);
    assert_eq!(scene.compares(), [], "a snapshot is under way");
    scene.snapshot_ended(SnapshotOutcome::Written);
    assert_eq!(scene.compares().len(), 1);
    scene.update(2, &poison());
    assert_eq!(scene.loads(), 0);
    scene.handle(Input::Compared(CheckOutcome::Same));
    assert_eq!(scene.loads(), 1);
    scene.load();
    scene.snapshot_ended(SnapshotOutcome::Written);
    scene.handle(Input::Check);
    scene.leave(1);
    scene.pass(Millis::from_secs(40));
    assert_eq!(scene.unloads(), 0);
    scene.handle(Input::Compared(CheckOutcome::Same));
    assert_eq!(scene.unloads(), 1);
}

#[test]
fn check_3_a_document_that_differs_is_loaded_again() {
    let (mut scene, ann) = written(limits());
    scene.persisted(1);
    scene.handle(Input::Check);
    scene.clear();
    scene.handle(Input::Compared(CheckOutcome::Different));
    scene.update(1, &ann.write("d"));
    assert_eq!(scene.got(1), [Got::Closed(CloseCode::Internal)]);
    assert_eq!((scene.appended(), scene.unloads() > 0), (0, true));
}

#[test]
fn check_4_every_kind_of_difference_is_found() {
    let (mut scene, ann) = written(limits());
    scene.update(1, &ann.write("d"));
    scene.update(1, &ann.delete(2));
    scene.persisted(3);
    scene.handle(Input::Check);
    let (live, known) = scene.compares().remove(0);
    let limits = limits();
    scene.update(1, &ann.write("later"));
    assert_eq!(compare(&live, &known, &scene.log, &limits), Ok(()), "it ends where it ended");
    let mut undeleted = scene.log.clone();
    undeleted.updates[2].update = Bytes::from_static(&[0, 0]);
    assert!(matches!(compare(&live, &known, &undeleted, &limits), Err(CompareError::Differs(_))));
    let mut short = scene.log.clone();
    short.updates.truncate(2);
    let error = compare(&live, &known, &short, &limits);
    assert!(matches!(error, Err(CompareError::Elsewhere { .. })), "{error:?}");
    let mut broken = scene.log.clone();
    broken.updates[1].update = poison();
    assert!(matches!(compare(&live, &known, &broken, &limits), Err(CompareError::Unreadable(_))));
    let other = Person::new(1);
    drop(other.write("abd"));
    other.write("d");
    other.delete(2);
    let other = Snapshot { state: other.everything(), ..live };
    let error = compare(&other, &known, &scene.log, &limits);
    assert!(matches!(error, Err(CompareError::Differs(_))), "{error:?}");
}
