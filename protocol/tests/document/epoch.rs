use syncline_protocol::document::Input;
use syncline_protocol::wire::Dialect;
use syncline_protocol::{Access, CloseCode, Epoch};

use crate::scene::{Got, Person, Scene, limits, poison};

const V1: Dialect = Dialect::SynclineV1;

fn with_epoch(epoch: u64) -> Scene {
    let mut scene = Scene::new(limits());
    scene.log.epoch = Epoch::new(epoch);
    scene.deadline();
    scene.load();
    scene.clear();
    scene
}

fn welcome(epoch: u64) -> Got {
    Got::Welcome(Epoch::new(epoch).to_string(), false)
}

#[test]
fn epoch_1_welcome_is_the_first_message() {
    let mut scene = with_epoch(7);
    scene.writer(1);
    scene.join(2, Access::Read, V1);
    assert_eq!(scene.got(1), [welcome(7), Got::Question]);
    assert_eq!(scene.got(2), [welcome(7)]);
    let mut scene = Scene::new(limits());
    scene.writer(1);
    scene.ask(1);
    scene.follower(2);
    assert_eq!(scene.got(1), []);
    scene.load();
    assert_eq!(scene.got(1)[..2], [Got::Welcome(String::new(), false), Got::Question]);
    assert!(scene.got(2).iter().all(|got| !matches!(got, Got::Welcome(..))), "a stock client");
}

#[test]
fn epoch_1_a_dropped_welcome_is_repeated() {
    let mut scene = with_epoch(7);
    scene.writer(1);
    scene.overflow(1);
    scene.clear();
    scene.drained(1);
    scene.pass(syncline_protocol::time::Millis::from_secs(2));
    assert_eq!(scene.got(1), [welcome(7), Got::Question]);
}

#[test]
fn epoch_2_a_session_with_another_epoch_is_closed() {
    let mut scene = with_epoch(7);
    scene.join_holding(1, Access::Write, V1, Some(8));
    scene.join_holding(2, Access::Read, Dialect::YWebsocket, Some(8));
    scene.update(1, &Person::new(1).write("old"));
    scene.ask(2);
    for session in 1..=2 {
        assert_eq!(scene.got(session), [Got::Closed(CloseCode::EpochMismatch)]);
    }
    assert_eq!((scene.appended(), scene.document.session_count()), (0, 0));
    scene.join_holding(3, Access::Write, V1, Some(7));
    assert_eq!(scene.got(3), [welcome(7), Got::Question]);
}

#[test]
fn epoch_3_sessions_that_wait_for_the_load_are_checked() {
    let mut scene = Scene::new(limits());
    scene.log.epoch = Epoch::new(7);
    let ann = Person::new(1);
    scene.join_holding(1, Access::Write, V1, Some(8));
    scene.ask(1);
    scene.update(1, &ann.write("old"));
    scene.join_holding(2, Access::Write, V1, Some(7));
    scene.load();
    assert_eq!(scene.got(1), [Got::Closed(CloseCode::EpochMismatch)]);
    assert_eq!(scene.got(2), [welcome(7), Got::Question]);
    assert_eq!(scene.appended(), 0);
}

#[test]
fn epoch_4_a_reload_with_another_epoch_closes_sessions() {
    let mut scene = with_epoch(7);
    scene.follower(1);
    scene.writer(2);
    scene.update(2, &poison());
    scene.join_holding(3, Access::Write, V1, Some(8));
    scene.writer(4);
    scene.update(1, &Person::new(1).write("old"));
    scene.log.epoch = Epoch::new(8);
    scene.clear();
    scene.load();
    assert_eq!(scene.got(1), [Got::Closed(CloseCode::EpochMismatch)], "it said no epoch");
    assert_eq!(scene.got(3), [welcome(8), Got::Question]);
    assert_eq!(scene.got(4), [welcome(8), Got::Question], "it waited, and holds nothing yet");
    assert_eq!(scene.appended(), 0);
}

#[test]
fn epoch_4_a_shorter_history_closes_with_epoch_mismatch() {
    let mut scene = with_epoch(7);
    scene.follower(1);
    scene.update(1, &Person::new(1).write("old"));
    scene.persisted(1);
    scene.writer(2);
    scene.update(2, &poison());
    scene.log.updates.clear();
    scene.log.epoch = Epoch::new(8);
    scene.clear();
    scene.load();
    assert_eq!(scene.got(1), [Got::Closed(CloseCode::EpochMismatch)]);
}

#[test]
fn epoch_5_epoch_zero_is_never_compared() {
    for (document, client) in [(0, Some(8)), (7, Some(0)), (7, None)] {
        let mut scene = with_epoch(document);
        scene.join_holding(1, Access::Write, V1, client);
        assert_eq!(scene.got_sync(1), [Got::Question]);
        scene.handle(Input::Drain);
    }
    let mut scene = with_epoch(0);
    scene.follower(1);
    scene.writer(2);
    scene.update(2, &poison());
    scene.log.epoch = Epoch::new(8);
    scene.clear();
    scene.load();
    assert_eq!(scene.got(1), []);
}
