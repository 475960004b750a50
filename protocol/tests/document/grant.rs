use syncline_protocol::time::Millis;
use syncline_protocol::wire::{ClientMessage, Dialect};
use syncline_protocol::{Access, CloseCode, Grant, PresenceRight};

use crate::scene::{Got, Person, Scene, grant, limits};

const HERE: Option<&str> = Some("{}");

fn with_presence(presence: PresenceRight) -> Grant {
    Grant { presence, ..grant(Access::Write) }
}

/// Ann is here as session 1 and watches; session 2 has that right on presence, and speaks and asks.
fn beside_ann(presence: PresenceRight) -> Scene {
    let mut scene = Scene::ready(limits());
    scene.follower(1);
    scene.show(1, &[(10, 1, HERE)]);
    scene.clear();
    scene.join_with(2, with_presence(presence), Dialect::YWebsocket);
    scene.ask(2);
    scene.answer(2, &Person::new(2).everything());
    scene.show(2, &[(20, 1, HERE)]);
    scene.say(2, ClientMessage::QueryPresence);
    scene.pass(Millis::from_secs(5));
    scene.show(1, &[(10, 2, Some("2"))]);
    scene
}

#[test]
fn grant_1_nothing_is_done_after_its_end() {
    let mut scene = Scene::ready(limits());
    let ends = Grant { expires_at: scene.now, ..grant(Access::Write) };
    scene.join_with(1, ends, Dialect::SynclineV1);
    scene.follower(2);
    let person = Person::new(1);
    scene.pass(Millis(29_999));
    scene.update(1, &person.write("in time"));
    assert_eq!(scene.text(), "in time");
    scene.pass(Millis(1));
    scene.clear();
    scene.update(1, &person.write(", too late"));
    scene.ask(1);
    assert_eq!(scene.got(1), [Got::Closed(CloseCode::TokenExpired)]);
    assert_eq!(scene.got_sync(2), []);
    assert_eq!(scene.text(), "in time");
}

#[test]
fn grant_2_who_is_hidden_sees_and_is_not_seen() {
    let scene = beside_ann(PresenceRight::Hidden);
    assert!(scene.seen(2).contains(&(10, Some("{}".into()))));
    assert_eq!(scene.seen(2).last(), Some(&(10, Some("2".into()))));
    assert!(scene.seen(1).iter().all(|(client, _)| *client == 10), "{:?}", scene.seen(1));
    assert!(!scene.got(2).iter().any(|got| matches!(got, Got::Closed(_) | Got::Denied(_))));
}

#[test]
fn grant_2_who_is_hidden_leaves_unseen() {
    let mut scene = beside_ann(PresenceRight::Hidden);
    scene.clear();
    scene.leave(2);
    scene.pass(Millis::from_secs(5));
    assert_eq!(scene.seen(1), []);
}

#[test]
fn grant_3_who_has_no_presence_neither_sees_nor_is_seen() {
    let mut scene = beside_ann(PresenceRight::None);
    scene.overflow(2);
    scene.drained(2);
    scene.pass(Millis::from_secs(5));
    assert_eq!(scene.seen(2), []);
    assert!(scene.seen(1).iter().all(|(client, _)| *client == 10), "{:?}", scene.seen(1));
    let person = Person::new(2);
    scene.update(2, &person.write("but it writes"));
    assert_eq!(scene.text(), "but it writes");
}

#[test]
fn grant_3_who_has_no_presence_keeps_no_timer_running() {
    let mut scene = Scene::ready(limits());
    scene.join_with(2, with_presence(PresenceRight::None), Dialect::YWebsocket);
    scene.pass(Millis::from_secs(5));
    assert_eq!(scene.document.next_deadline(), None);
}

#[test]
fn grant_4_a_reader_is_seen() {
    let mut scene = Scene::ready(limits());
    scene.follower(1);
    scene.join(2, Access::Read, Dialect::YWebsocket);
    scene.show(2, &[(20, 1, HERE)]);
    assert_eq!(scene.seen(1), [(20, Some("{}".into()))]);
}
