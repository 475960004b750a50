use bytes::Bytes;
use syncline_protocol::document::{Input, SnapshotOutcome};
use syncline_protocol::time::Millis;
use syncline_protocol::wire::Dialect;
use syncline_protocol::{Access, CloseCode};

use crate::scene::{Got, Limits, Person, Scene, limits, poison, refused};

const WORD: &str = "store_unavailable";

fn denied() -> Got {
    Got::Denied(WORD.into())
}

/// Ann follows as session 1, and "a" of hers is on disk.
fn stalled(limits: Limits) -> (Scene, Person) {
    let mut scene = Scene::ready(limits);
    let ann = Person::new(1);
    scene.writer(1);
    scene.ask(1);
    scene.update(1, &ann.write("a"));
    scene.persisted(1);
    scene.stall();
    scene.clear();
    (scene, ann)
}

#[test]
fn stall_1_nothing_new_is_accepted() {
    let (mut scene, ann) = stalled(limits());
    scene.follower(2);
    scene.update(1, &ann.write("b"));
    scene.update(1, &ann.delete(1));
    scene.answer(1, &ann.everything());
    assert_eq!((scene.appended(), scene.got(2)), (0, vec![]));
    assert_eq!(scene.text(), "a");
    scene.clear();
    scene.join(3, Access::Read, Dialect::YWebsocket);
    scene.ask(3);
    let kept = Person::new(9);
    let [Got::Answer(answer)] = &scene.got(3)[..] else { panic!("readers are served") };
    kept.take(answer);
    assert_eq!(kept.text(), "a");
}

#[test]
fn stall_1_a_deletion_alone_is_not_accepted() {
    let (mut scene, ann) = stalled(limits());
    scene.follower(2);
    scene.update(1, &ann.delete(1));
    assert_eq!((scene.appended(), scene.got(2)), (0, vec![]));
    assert_eq!(scene.got(1), [refused(2, WORD)]);
    scene.resume();
    scene.answer(1, &ann.everything());
    assert_eq!(scene.text(), "");
}

#[test]
fn stall_2_a_stock_client_gets_one_refusal_for_each_stall() {
    let mut scene = Scene::ready(limits());
    let ann = Person::new(1);
    scene.follower(1);
    for _ in 0..2 {
        scene.stall();
        scene.clear();
        for _ in 0..3 {
            scene.update(1, &ann.write("a"));
        }
        assert_eq!(scene.got(1), [denied()]);
        scene.resume();
        scene.answer(1, &ann.everything());
    }
}

#[test]
fn stall_2_a_syncline_client_gets_a_refusal_for_each_frame() {
    let (mut scene, ann) = stalled(limits());
    scene.update(1, &ann.write("b"));
    scene.update(1, &ann.write("c"));
    scene.answer(1, &ann.everything());
    assert_eq!(scene.got(1), [2, 3, 4].map(|frame| refused(frame, WORD)));
}

#[test]
fn stall_3_sessions_stay_and_presence_goes_on() {
    let (mut scene, ann) = stalled(limits());
    scene.follower(2);
    scene.show(1, &[(10, 1, Some("{}"))]);
    assert_eq!(scene.seen(2), [(10, Some("{}".into()))]);
    for _ in 0..40 {
        scene.update(1, &ann.write("b"));
        scene.pass(Millis::from_secs(1));
    }
    assert_eq!(scene.document.session_count(), 2);
    assert!(scene.got_sync(1).iter().all(|got| matches!(got, Got::Refused(..))));
}

#[test]
fn stall_4_earlier_updates_are_acknowledged_once_on_disk() {
    let mut scene = Scene::ready(limits());
    let ann = Person::new(1);
    scene.writer(1);
    scene.update(1, &ann.write("a"));
    scene.update(1, &ann.write("b"));
    scene.stall();
    scene.clear();
    scene.update(1, &ann.write("c"));
    scene.persisted(1);
    scene.resume();
    scene.persisted(2);
    let saved = |frames| Got::Saved(frames);
    assert_eq!(scene.got(1), [refused(3, WORD), saved(1), Got::Question, saved(2)]);
}

#[test]
fn stall_5_a_refused_session_is_asked_and_its_answer_counts() {
    let (mut scene, ann) = stalled(limits());
    scene.follower(2);
    let first = ann.write("b");
    scene.update(1, &first);
    scene.clear();
    scene.resume();
    assert_eq!(scene.got_sync(1), [Got::Question]);
    assert_eq!(scene.got_sync(2), [Got::Question], "it joined meanwhile");
    scene.clear();
    scene.update(1, &ann.write("c"));
    assert_eq!((scene.appended(), scene.got(1)), (0, vec![]), "asked already");
    scene.answer(1, &ann.everything());
    assert_eq!((scene.appended(), scene.text()), (1, "cba".into()));
    assert_eq!(scene.got(1), []);
    scene.persisted(2);
    assert_eq!(scene.got(1), [Got::Saved(4)]);
    scene.resume();
    assert_eq!(scene.got(1), [Got::Saved(4)], "nothing is pending");
}

#[test]
fn stall_5_a_refused_frame_is_not_covered_by_what_follows_it() {
    let (mut scene, ann) = stalled(limits());
    let known = ann.everything();
    drop(ann.write("b"));
    scene.update(1, &ann.delete(2));
    // Known, so it is not refused, but it comes after one that was.
    scene.update(1, &known);
    assert_eq!(scene.got(1), [refused(2, WORD)]);
    scene.resume();
    scene.update(1, &known);
    let ben = Person::new(2);
    scene.update(1, &ben.write("independent"));
    scene.persisted(2);
    assert_eq!(scene.got(1), [refused(2, WORD), Got::Question]);
    scene.answer(1, &ann.everything());
    scene.persisted(3);
    assert_eq!(scene.got(1).last(), Some(&Got::Saved(6)));
}

#[test]
fn stall_5_a_refused_answer_is_asked_for_again() {
    let mut scene = Scene::ready(limits());
    let ann = Person::new(1);
    scene.writer(1);
    drop(ann.write("a"));
    scene.update(1, &ann.write("b"));
    scene.stall();
    scene.answer(1, &ann.everything());
    scene.clear();
    scene.pass(Millis::from_secs(60));
    assert_eq!(scene.got(1), [], "it has answered");
    scene.resume();
    assert_eq!(scene.got(1), [Got::Question]);
    scene.pass(Millis::from_secs(33));
    assert_eq!(scene.got(1).last(), Some(&Got::Closed(CloseCode::Internal)), "as for any hole");
}

#[test]
fn stall_6_a_join_in_a_stall_is_asked_at_its_end() {
    let (mut scene, _) = stalled(limits());
    scene.writer(2);
    scene.join(3, Access::Read, Dialect::SynclineV1);
    assert_eq!((scene.got_sync(2), scene.got_sync(3)), (vec![], vec![]));
    scene.overflow(2);
    scene.drained(2);
    scene.pass(Millis::from_secs(2));
    assert_eq!(scene.got_sync(2), [], "nor is the question repeated");
    scene.clear();
    scene.resume();
    assert_eq!((scene.got(2), scene.got(3)), (vec![Got::Question], vec![]));
}

#[test]
fn stall_6_a_load_that_ends_in_a_stall_asks_no_session() {
    let mut scene = Scene::new(limits());
    let ann = Person::new(1);
    scene.writer(1);
    scene.update(1, &ann.write("a"));
    scene.stall();
    scene.load();
    assert_eq!((scene.got_sync(1), scene.appended()), (vec![refused(1, WORD)], 0));
    scene.clear();
    scene.resume();
    assert_eq!(scene.got(1), [Got::Question]);
}

#[test]
fn stall_6_a_stall_that_ends_in_a_load_asks_after_it() {
    let mut scene = Scene::ready(limits());
    let (ann, ben) = (Person::new(1), Person::new(2));
    scene.writer(1);
    scene.writer(2);
    scene.stall();
    scene.update(1, &ann.write("a"));
    scene.resume();
    scene.stall();
    scene.update(1, &ann.write("b"));
    scene.resume();
    scene.update(2, &poison());
    scene.stall();
    scene.update(1, &ben.write("c"));
    scene.clear();
    scene.resume();
    assert_eq!(scene.got(1), [], "it is loading");
    scene.load();
    scene.answer(1, &ann.everything());
    assert_eq!(scene.text().len(), 3);
}

#[test]
fn stall_7_known_updates_are_not_refused() {
    let (mut scene, ann) = stalled(limits());
    scene.resume();
    let deletion = ann.delete(1);
    scene.update(1, &deletion);
    scene.persisted(2);
    scene.stall();
    scene.clear();
    scene.update(1, &deletion);
    scene.answer(1, &ann.everything());
    scene.answer(1, &Bytes::from_static(&[0, 0]));
    assert_eq!(scene.got(1), [Got::Saved(3), Got::Saved(4), Got::Saved(5)]);
}

#[test]
fn stall_8_no_snapshot_is_begun() {
    let few = Limits { snapshot_updates: 2, ..limits() };
    let (mut scene, ann) = stalled(few);
    scene.resume();
    scene.update(1, &ann.write("b"));
    scene.stall();
    scene.persisted(2);
    assert_eq!(scene.snapshots(), []);
    scene.resume();
    assert_eq!(scene.snapshots().len(), 1, "it is due still");
    scene.stall();
    scene.snapshot_ended(SnapshotOutcome::Failed);
    assert_eq!(scene.snapshots().len(), 1);
}

#[test]
fn stall_9_a_document_on_disk_is_dropped_others_stay() {
    let (mut scene, ann) = stalled(limits());
    scene.resume();
    for _ in 0..100 {
        scene.update(1, &ann.write("b"));
    }
    scene.persisted(101);
    scene.stall();
    scene.leave(1);
    scene.pass(Millis::from_secs(31));
    assert_eq!((scene.unloads(), scene.snapshots().len()), (1, 0));
    for end in [Input::Drain, Input::Deadline] {
        let mut scene = Scene::ready(limits());
        scene.follower(1);
        scene.update(1, &Person::new(1).write("a"));
        scene.stall();
        scene.leave(1);
        scene.handle(end);
        scene.pass(Millis::from_secs(100));
        assert_eq!(scene.unloads(), 0);
        scene.persisted(1);
        assert_eq!(scene.unloads(), 1);
    }
}
