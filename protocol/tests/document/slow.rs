use bytes::Bytes;
use syncline_protocol::time::Millis;
use syncline_protocol::wire::Dialect;
use syncline_protocol::{Access, CloseCode, Limit};

use crate::scene::{Got, Person, Scene, limits, poison};

#[test]
fn slow_1_a_session_that_overflowed_is_sent_nothing() {
    let mut scene = Scene::ready(limits());
    scene.follower(1);
    scene.follower(2);
    scene.overflow(2);
    scene.update(1, &Person::new(1).write("a"));
    scene.show(1, &[(1, 0, Some("{}"))]);
    assert_eq!(scene.got(2), []);
}

#[test]
fn slow_2_one_diff_and_presence_replace_dropped_messages() {
    let mut scene = Scene::ready(limits());
    let ann = Person::new(1);
    scene.follower(1);
    scene.follower(2);
    scene.overflow(2);
    scene.update(1, &ann.write("a"));
    scene.update(1, &ann.write("b"));
    scene.show(1, &[(1, 0, Some("{}"))]);
    scene.clear();
    scene.drained(2);
    let here = vec![(1, Some("{}".into()))];
    assert_eq!(scene.got(2), [Got::Answer(ann.everything()), Got::Presence(here)]);
    scene.clear();
    let update = ann.write("c");
    scene.update(1, &update);
    assert_eq!(scene.got(2), [Got::Update(update)]);
}

#[test]
fn slow_3_the_question_and_the_watermark_are_repeated() {
    let mut scene = Scene::ready(limits());
    scene.writer(1);
    scene.update(1, &Person::new(1).write("a"));
    scene.persisted(1);
    scene.overflow(1);
    scene.clear();
    scene.drained(1);
    assert_eq!(scene.got(1), [], "the diff may fill the queue on its own");
    scene.pass(Millis::from_secs(2));
    assert_eq!(scene.got_sync(1), [Got::Saved(1), Got::Question]);
    scene.pass(Millis::from_secs(20));
    assert_eq!(scene.got_sync(1).len(), 2);
}

#[test]
fn slow_4_a_session_that_does_not_drain_in_time_is_closed() {
    let mut scene = Scene::ready(limits());
    scene.follower(1);
    scene.overflow(1);
    scene.pass(Millis::from_secs(29));
    assert_eq!(scene.got(1), []);
    scene.pass(Millis::from_secs(3));
    assert_eq!(scene.got(1), [Got::Closed(CloseCode::SlowReader)]);
    assert_eq!(scene.limits_hit(1), [Limit::LaggingTime]);
}

#[test]
fn slow_5_draining_during_a_rebuild_is_handled_after_it() {
    let mut scene = Scene::ready(limits());
    let ann = Person::new(1);
    scene.follower(1);
    scene.follower(2);
    scene.follower(3);
    scene.overflow(2);
    scene.update(1, &ann.write("a"));
    scene.persisted(1);
    scene.update(3, &poison());
    scene.drained(2);
    scene.clear();
    scene.load();
    assert_eq!(scene.got(2), [Got::Answer(ann.everything())]);
}

#[test]
fn slow_6_before_its_question_a_session_gets_no_diff() {
    let mut scene = Scene::ready(limits());
    scene.join(1, Access::Read, Dialect::YWebsocket);
    scene.overflow(1);
    scene.drained(1);
    assert_eq!(scene.got(1), []);
    scene.ask(1);
    assert_eq!(scene.got(1), [Got::Answer(Bytes::from_static(&[0, 0]))]);
}

#[test]
fn slow_7_sessions_that_lack_the_same_share_one_encoding() {
    let mut scene = Scene::ready(limits());
    let ann = Person::new(1);
    for session in 1..=4 {
        scene.follower(session);
    }
    for session in 2..=4 {
        scene.overflow(session);
    }
    scene.update(1, &ann.write("a"));
    let mut frames = Vec::new();
    for session in 2..=4 {
        if session == 4 {
            scene.update(1, &ann.write("b"));
        }
        scene.drained(session);
        frames.push(scene.last_frame(session));
        assert_eq!(scene.got(session).last(), Some(&Got::Answer(ann.everything())));
    }
    assert_eq!(frames[0].as_ptr(), frames[1].as_ptr());
    assert_ne!(frames[1].as_ptr(), frames[2].as_ptr());
}
