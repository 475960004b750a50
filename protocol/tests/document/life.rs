use syncline_protocol::CloseCode;
use syncline_protocol::document::{Input, SnapshotOutcome};
use syncline_protocol::time::Millis;

use crate::scene::{Got, Person, Scene, limits};

#[test]
fn life_1_an_unused_document_is_dropped_after_a_while() {
    let mut scene = Scene::ready(limits());
    scene.follower(1);
    scene.leave(1);
    scene.pass(Millis::from_secs(29));
    assert_eq!(scene.unloads(), 0);
    scene.pass(Millis::from_secs(2));
    assert_eq!(scene.unloads(), 1);
}

#[test]
fn life_2_a_join_restarts_the_wait() {
    let mut scene = Scene::ready(limits());
    scene.pass(Millis::from_secs(20));
    scene.follower(1);
    scene.pass(Millis::from_secs(60));
    scene.leave(1);
    scene.pass(Millis::from_secs(29));
    assert_eq!(scene.unloads(), 0);
}

#[test]
fn life_3_it_stays_until_everything_is_on_disk() {
    let mut scene = Scene::ready(limits());
    scene.follower(1);
    scene.update(1, &Person::new(1).write("a"));
    scene.leave(1);
    scene.pass(Millis::from_secs(100));
    scene.deadline();
    assert_eq!(scene.unloads(), 0);
    scene.persisted(1);
    assert_eq!(scene.unloads(), 1);
}

#[test]
fn life_4_a_long_tail_is_written_as_a_snapshot_first() {
    for (updates, snapshots) in [(99, 0), (100, 1)] {
        let mut scene = Scene::ready(limits());
        let ann = Person::new(1);
        scene.follower(1);
        for _ in 0..updates {
            scene.update(1, &ann.write("a"));
        }
        scene.persisted(updates);
        scene.leave(1);
        scene.pass(Millis::from_secs(31));
        assert_eq!((scene.snapshots().len(), scene.unloads()), (snapshots, 1 - snapshots));
        if snapshots == 1 {
            scene.snapshot_ended(SnapshotOutcome::Failed);
            assert_eq!(scene.unloads(), 1, "a failure does not keep it");
        }
    }
}

#[test]
fn life_5_a_drain_closes_sessions_then_waits_for_the_disk() {
    let mut scene = Scene::ready(limits());
    scene.follower(1);
    scene.update(1, &Person::new(1).write("a"));
    scene.clear();
    scene.handle(Input::Drain);
    scene.writer(2);
    assert_eq!(scene.got(1), [Got::Closed(CloseCode::Draining)]);
    assert_eq!(scene.got(2), [Got::Closed(CloseCode::Draining)]);
    assert_eq!(scene.unloads(), 0);
    scene.persisted(1);
    assert_eq!(scene.unloads(), 1);
}

#[test]
fn life_6_a_drain_while_loading_ends_after_the_load() {
    let mut scene = Scene::new(limits());
    scene.writer(1);
    scene.handle(Input::Drain);
    assert_eq!((scene.got(1), scene.unloads()), (vec![Got::Closed(CloseCode::Draining)], 0));
    scene.load();
    assert_eq!((scene.got(1).len(), scene.unloads()), (1, 1));
}

#[test]
fn life_7_a_closed_session_is_not_addressed_again() {
    let mut scene = Scene::ready(limits());
    scene.follower(1);
    scene.follower(2);
    scene.update(1, &[9, 9][..].into());
    scene.clear();
    scene.update(2, &Person::new(2).write("a"));
    scene.ask(1);
    scene.overflow(1);
    scene.drained(1);
    scene.leave(1);
    scene.pass(Millis::from_secs(40));
    assert_eq!(scene.got(1), []);
}

#[test]
fn life_8_an_unused_document_makes_room_once_on_disk() {
    let mut scene = Scene::ready(limits());
    scene.follower(1);
    scene.handle(Input::MakeRoom);
    assert_eq!(scene.unloads(), 0, "it has a session");
    scene.update(1, &Person::new(1).write("a"));
    scene.leave(1);
    scene.pass(Millis::from_secs(1));
    assert_eq!(scene.unloads(), 0, "who was in it may come back");
    scene.handle(Input::MakeRoom);
    assert_eq!(scene.unloads(), 0, "its update is not on disk");
    scene.persisted(1);
    assert_eq!(scene.unloads(), 1);
    // The caller kept it, because a session was about to join.
    scene.pass(Millis::from_secs(1));
    assert_eq!(scene.unloads(), 1);
}

#[test]
fn life_8_a_join_keeps_a_document_asked_to_make_room() {
    let mut scene = Scene::ready(limits());
    scene.follower(1);
    scene.update(1, &Person::new(1).write("a"));
    scene.leave(1);
    scene.handle(Input::MakeRoom);
    scene.follower(2);
    scene.persisted(1);
    scene.leave(2);
    scene.pass(Millis::from_secs(1));
    assert_eq!(scene.unloads(), 0);
}
