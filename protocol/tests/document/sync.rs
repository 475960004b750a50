use bytes::Bytes;
use syncline_protocol::document::Delivery;
use syncline_protocol::time::Millis;
use syncline_protocol::wire::{ClientMessage, Dialect, FrameError, y_websocket};
use syncline_protocol::{Access, CloseCode};

use crate::scene::{Got, Person, Scene, limits};

#[test]
fn sync_1_writers_are_asked_and_readers_are_not() {
    let mut scene = Scene::ready(limits());
    scene.writer(1);
    scene.join(2, Access::Read, Dialect::YWebsocket);
    scene.join(3, Access::Admin, Dialect::YWebsocket);
    assert_eq!(scene.got_sync(1), [Got::Question]);
    assert_eq!(scene.got(2), []);
    assert_eq!(scene.got(3), [Got::Question]);
}

#[test]
fn sync_2_the_answer_holds_the_missing_updates() {
    let mut scene = Scene::ready(limits());
    let (ann, ben) = (Person::new(1), Person::new(2));
    scene.follower(1);
    scene.update(1, &ann.write("hello"));
    let known = ann.everything();
    ben.take(&known);
    let news = ann.write("well, ");
    scene.update(1, &news);
    scene.join(2, Access::Read, Dialect::YWebsocket);
    scene.say(2, ClientMessage::SyncStep1 { state_vector: ben.state_vector() });
    let [Got::Answer(answer)] = &scene.got(2)[..] else { panic!("one answer") };
    assert!(answer.len() < ann.everything().len());
    ben.take(answer);
    assert_eq!(ben.text(), "well, hello");
}

#[test]
fn sync_11_equal_questions_share_one_answer_for_a_while() {
    let mut scene = Scene::ready(limits());
    let ann = Person::new(1);
    scene.follower(1);
    scene.update(1, &ann.write("hello"));
    let mut answers = Vec::new();
    for session in 2..=7 {
        match session {
            4 => scene.update(1, &ann.write("more ")),
            6 => scene.pass(Millis::from_secs(6)),
            _ => {}
        }
        scene.join(session, Access::Read, Dialect::YWebsocket);
        scene.ask(session);
        answers.push(scene.last_frame(session));
        let [Got::Answer(answer)] = &scene.got_sync(session)[..] else { panic!("one answer") };
        let reader = Person::new(100 + session);
        reader.take(answer);
        assert_eq!(reader.text(), ann.text());
    }
    let shared: Vec<_> =
        answers.windows(2).map(|pair| pair[0].as_ptr() == pair[1].as_ptr()).collect();
    assert_eq!(shared, [true, false, true, false, true]);
}

#[test]
fn sync_3_updates_reach_a_session_only_after_its_question() {
    let mut scene = Scene::ready(limits());
    let ann = Person::new(1);
    scene.follower(1);
    scene.join(2, Access::Write, Dialect::YWebsocket);
    scene.update(1, &ann.write("a"));
    assert_eq!(scene.got(2), [Got::Question]);
    scene.ask(2);
    let update = ann.write("b");
    scene.update(1, &update);
    assert_eq!(scene.got(2).last(), Some(&Got::Update(update)));
}

#[test]
fn sync_4_known_update_is_not_relayed() {
    let mut scene = Scene::ready(limits());
    let ann = Person::new(1);
    scene.follower(1);
    scene.follower(2);
    let (update, deletion) = (ann.write("abc"), ann.delete(2));
    for known in [&update, &deletion] {
        scene.update(1, known);
        scene.clear();
        scene.update(1, known);
        scene.answer(1, known);
        assert_eq!((scene.appended(), scene.got(2)), (0, vec![]));
    }
}

#[test]
fn sync_5_received_bytes_are_relayed_to_all_but_the_sender() {
    let mut scene = Scene::ready(limits());
    for session in 1..=3 {
        scene.follower(session);
    }
    let update = Person::new(1).write("a");
    scene.update(2, &update);
    assert_eq!(scene.got(1), [Got::Update(update.clone())]);
    assert_eq!(scene.got(2), []);
    assert_eq!(scene.got(3), [Got::Update(update.clone())]);
    assert_eq!(scene.log.updates[0].update, update);
    assert_eq!(scene.deliveries().1, [Delivery::Required, Delivery::Required]);
}

#[test]
fn sync_6_a_deletion_is_relayed_and_logged() {
    let mut scene = Scene::ready(limits());
    let ann = Person::new(1);
    scene.follower(1);
    scene.follower(2);
    scene.update(1, &ann.write("abc"));
    scene.clear();
    let deletion = ann.delete(2);
    scene.update(1, &deletion);
    assert_eq!(scene.got(2), [Got::Update(deletion)]);
    assert_eq!(scene.text(), "c");
}

#[test]
fn sync_7_a_hole_is_asked_about_once_and_never_applied() {
    let mut scene = Scene::ready(limits());
    let ann = Person::new(1);
    scene.follower(1);
    let (_lost, second, third) = (ann.write("a"), ann.write("b"), ann.write("c"));
    scene.update(1, &second);
    scene.update(1, &third);
    assert_eq!((scene.got(1), scene.appended()), (vec![Got::Question], 0));
    scene.answer(1, &ann.everything());
    assert_eq!(scene.text(), "cba");
}

#[test]
fn sync_8_a_hole_that_stays_open_closes_the_session() {
    let mut scene = Scene::ready(limits());
    let ann = Person::new(1);
    scene.follower(1);
    drop(ann.write("a"));
    scene.update(1, &ann.write("b"));
    scene.pass(Millis::from_secs(29));
    assert_eq!(scene.got_sync(1), [Got::Question]);
    scene.pass(Millis::from_secs(3));
    assert_eq!(scene.got(1), [Got::Question, Got::Closed(CloseCode::Internal)]);
}

#[test]
fn sync_9_a_frame_is_one_message_that_clients_send() {
    let check = |frame: &'static [u8], expected: Option<FrameError>| {
        assert_eq!(y_websocket::decode(&Bytes::from_static(frame)).err(), expected);
    };
    check(&[0, 0, 1, 0], None);
    check(&[3], None);
    check(&[0, 0, 1, 0, 0, 0, 1, 0], Some(FrameError::Trailing { bytes: 4 }));
    check(&[0, 3, 0], Some(FrameError::SyncKind { kind: 3 }));
    check(&[2, 0, 0], Some(FrameError::Kind { kind: 2 }));
    check(&[65, 1], Some(FrameError::Kind { kind: 65 }));
    for cut in [&[][..], &[0], &[0, 0], &[0, 0, 5, 0], &[1, 200]] {
        let error = y_websocket::decode(&Bytes::from_static(cut)).err();
        assert!(matches!(error, Some(FrameError::Read(_))), "{cut:?}");
    }
}

#[test]
fn sync_10_an_invalid_payload_closes_the_session() {
    let mut scene = Scene::ready(limits());
    scene.follower(1);
    scene.follower(2);
    scene.follower(3);
    scene.update(1, &Bytes::from_static(&[9, 9, 9]));
    scene.say(2, ClientMessage::SyncStep1 { state_vector: Bytes::from_static(&[5]) });
    scene.say(3, ClientMessage::Presence { entries: Bytes::from_static(&[5]) });
    for session in 1..=3 {
        assert_eq!(scene.got(session).last(), Some(&Got::Closed(CloseCode::BadFrame)));
    }
}
