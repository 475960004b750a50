use syncline_protocol::document::{Effect, Input, LoadedDocument};
use syncline_protocol::wire::Dialect;
use syncline_protocol::{Access, CloseCode, Limit, SessionId};

use crate::scene::{Got, Person, Scene, limits, poison};

#[test]
fn load_1_the_log_is_requested_once() {
    let mut scene = Scene::new(limits());
    scene.writer(1);
    scene.writer(2);
    scene.ask(1);
    scene.deadline();
    assert_eq!(scene.loads(), 1);
}

#[test]
fn load_2_early_messages_are_answered_in_order() {
    let mut scene = Scene::new(limits());
    let ann = Person::new(1);
    let update = ann.write("a");
    scene.writer(1);
    scene.ask(1);
    scene.writer(2);
    scene.ask(2);
    scene.update(2, &update);
    assert_eq!(
        (scene.got(1), scene.got(2)),
        (vec![], vec![]),
        "a blank document answers no session"
    );
    scene.load();
    let nothing = || Got::Answer([0, 0][..].into());
    assert_eq!(scene.got_sync(1), [Got::Question, nothing(), Got::Update(update)]);
    assert_eq!(scene.got_sync(2), [Got::Question, nothing()]);
}

#[test]
fn load_2_deferred_messages_are_answered_one_by_one() {
    let mut scene = Scene::new(limits());
    scene.writer(1);
    scene.ask(1);
    scene.writer(2);
    scene.ask(2);
    let (document, effects) = (&mut scene.document, &mut scene.effects);
    let load = || LoadedDocument::decode(&scene.log, &scene.limits).unwrap();
    document.handle(scene.now, Input::Loaded(Box::new(load())), effects);
    let mut next = || {
        let session = document.next_deferred();
        document.handle(scene.now, Input::Continue, effects);
        session.map(SessionId::get)
    };
    assert_eq!([next(), next(), next()], [Some(1), Some(1), Some(2)]);
    assert_eq!(scene.got_sync(2), [Got::Question], "not answered yet");
    // Any other input comes after it.
    scene.document.handle(scene.now, Input::Deadline, &mut scene.effects);
    assert_eq!(scene.got_sync(2), [Got::Question, Got::Answer([0, 0][..].into())]);
}

#[test]
fn load_3_a_failed_load_closes_all_and_writes_nothing() {
    let mut scene = Scene::new(limits());
    scene.writer(1);
    scene.writer(2);
    scene.update(1, &Person::new(1).write("a"));
    scene.handle(Input::LoadFailed);
    assert_eq!(scene.got(1), [Got::Closed(CloseCode::StoreUnavailable)]);
    assert_eq!(scene.got(2), [Got::Closed(CloseCode::StoreUnavailable)]);
    scene.writer(3);
    scene.update(3, &Person::new(3).write("a"));
    assert_eq!(scene.got(3), [Got::Closed(CloseCode::StoreUnavailable)]);
    assert_eq!(scene.appended(), 0);
    assert!(scene.unloads() > 0);
}

#[test]
fn load_4_too_many_early_messages_close_the_session() {
    let mut scene = Scene::new(limits());
    scene.writer(1);
    scene.writer(2);
    scene.ask(2);
    for _ in 0..5 {
        scene.ask(1);
    }
    assert_eq!(scene.got(1), [Got::Closed(CloseCode::Overloaded)]);
    assert_eq!(scene.limits_hit(1), [Limit::WaitingBytes]);
    scene.load();
    assert_eq!(scene.got_sync(2).len(), 2, "the others are answered");
}

#[test]
fn load_5_a_poisonous_update_closes_its_sender_alone() {
    let mut scene = Scene::ready(limits());
    let ann = Person::new(1);
    scene.follower(1);
    scene.follower(2);
    scene.update(1, &ann.write("a"));
    scene.persisted(1);
    scene.clear();
    scene.update(2, &poison());
    assert_eq!(scene.got(2), [Got::Closed(CloseCode::BadFrame)]);
    assert_eq!((scene.loads(), scene.appended()), (1, 0));
    scene.update(1, &ann.write("b"));
    scene.writer(3);
    scene.ask(3);
    assert_eq!(scene.got(3), []);
    scene.load();
    assert_eq!(scene.got(1), []);
    assert_eq!(scene.got_sync(3), [Got::Question, Got::Answer(ann.everything())]);
    assert_eq!(scene.text(), "ba");
}

#[test]
fn load_6_a_rebuild_waits_for_appends_and_snapshots_under_way() {
    let mut scene = Scene::ready(crate::scene::Limits { snapshot_updates: 1, ..limits() });
    let ann = Person::new(1);
    scene.follower(1);
    scene.follower(2);
    scene.update(1, &ann.write("a"));
    scene.update(2, &poison());
    assert_eq!(scene.loads(), 0, "an append is under way");
    scene.persisted(1);
    assert_eq!((scene.loads(), scene.snapshots().len()), (1, 0), "one thing at a time");
    scene.load();
    assert_eq!(scene.snapshots().len(), 1);
    scene.follower(3);
    scene.update(3, &poison());
    assert_eq!(scene.loads(), 0, "a snapshot is under way");
    scene.snapshot_ended(syncline_protocol::document::SnapshotOutcome::Written);
    assert_eq!(scene.loads(), 1);
}

#[test]
fn load_7_a_rebuild_while_answering_keeps_the_rest() {
    let mut scene = Scene::new(limits());
    scene.writer(1);
    scene.update(1, &poison());
    scene.writer(2);
    scene.ask(2);
    scene.load();
    assert_eq!(scene.got_sync(1), [Got::Question, Got::Closed(CloseCode::BadFrame)]);
    assert_eq!((scene.got(2), scene.loads()), (vec![], 2));
    scene.load();
    assert_eq!(scene.got_sync(2), [Got::Question, Got::Answer([0, 0][..].into())]);
}

#[test]
fn load_8_a_document_that_keeps_failing_is_given_up() {
    let mut scene = Scene::ready(limits());
    scene.follower(1);
    for vandal in 2..=7 {
        scene.follower(vandal);
        scene.update(vandal, &poison());
        if vandal < 7 {
            scene.load();
        }
    }
    assert!(scene.effects.iter().any(|effect| matches!(effect, Effect::Unload)));
    assert_eq!(scene.got(1), [Got::Closed(CloseCode::Internal)]);
    scene.writer(8);
    assert_eq!(scene.got(8), [Got::Closed(CloseCode::StoreUnavailable)]);
}

#[test]
fn load_9_a_log_that_lost_updates_is_rejected() {
    let mut scene = Scene::ready(limits());
    scene.follower(1);
    scene.update(1, &Person::new(1).write("a"));
    scene.persisted(1);
    scene.join(2, Access::Write, Dialect::YWebsocket);
    scene.update(2, &poison());
    scene.log.updates.clear();
    scene.clear();
    scene.load();
    assert_eq!(scene.got(1), [Got::Closed(CloseCode::StoreUnavailable)]);
}
