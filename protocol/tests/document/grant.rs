use syncline_protocol::document::Input;
use syncline_protocol::time::Millis;
use syncline_protocol::wire::{ClientMessage, Dialect};
use syncline_protocol::{Access, CloseCode, Grant, Identity, PresenceRight, SessionId};

use crate::scene::{Got, Person, Scene, grant, limits, refused};

const HERE: Option<&str> = Some("{}");

fn with_presence(presence: PresenceRight) -> Grant {
    Grant { presence, ..grant(Access::Write) }
}

/// Ann watches as session 1; session 2 has that right on presence, sends its state and queries.
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
fn grant_1_messages_after_the_end_close_the_session() {
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
fn grant_2_a_hidden_session_sees_and_is_not_seen() {
    let scene = beside_ann(PresenceRight::Hidden);
    assert!(scene.seen(2).contains(&(10, Some("{}".into()))));
    assert_eq!(scene.seen(2).last(), Some(&(10, Some("2".into()))));
    assert!(scene.seen(1).iter().all(|(client, _)| *client == 10), "{:?}", scene.seen(1));
    assert!(!scene.got(2).iter().any(|got| matches!(got, Got::Closed(_) | Got::Denied(_))));
}

#[test]
fn grant_2_a_hidden_session_leaves_unseen() {
    let mut scene = beside_ann(PresenceRight::Hidden);
    scene.clear();
    scene.leave(2);
    scene.pass(Millis::from_secs(5));
    assert_eq!(scene.seen(1), []);
}

#[test]
fn grant_3_a_session_without_presence_sees_nothing() {
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
fn grant_3_a_session_without_presence_sets_no_timer() {
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

fn regrant(scene: &mut Scene, session: u64, grant: Grant) {
    let session = SessionId::new(session);
    scene.handle(Input::Granted { session, grant });
}

fn welcome_access(scene: &Scene, session: u64) -> usize {
    scene.got(session).iter().filter(|got| matches!(got, Got::Welcome(..))).count()
}

#[test]
fn grant_5_after_losing_write_updates_are_refused() {
    let mut scene = Scene::ready(limits());
    scene.writer(1);
    scene.follower(2);
    let person = Person::new(1);
    scene.update(1, &person.write("before"));
    regrant(&mut scene, 1, grant(Access::Read));
    assert_eq!(welcome_access(&scene, 1), 1, "Welcome is sent");
    scene.clear();
    for frame in 2..4 {
        scene.update(1, &person.write("after"));
        assert_eq!(scene.got_sync(1).last(), Some(&refused(frame, "forbidden_write")));
    }
    scene.answer(1, &person.everything());
    assert_eq!(scene.appended(), 0);
    assert_eq!(scene.got_sync(2), []);
    scene.persisted(1);
    assert!(scene.got_sync(1).contains(&Got::Saved(1)), "what was taken before is acknowledged");
    assert_eq!(scene.text(), "before");
    assert_eq!(scene.document.session_count(), 2);
}

#[test]
fn grant_5_a_stock_client_gets_one_refusal_after_the_loss() {
    let mut scene = Scene::ready(limits());
    scene.follower(1);
    regrant(&mut scene, 1, grant(Access::Read));
    assert_eq!(scene.got(1), [], "and not before it tries");
    let person = Person::new(1);
    scene.update(1, &person.write("a"));
    scene.update(1, &person.write("b"));
    assert_eq!(scene.got(1), [Got::Denied("forbidden_write".into())]);
}

#[test]
fn grant_5_a_new_reader_has_no_pending_request() {
    let mut scene = Scene::ready(limits());
    scene.writer(1);
    let person = Person::new(1);
    person.write("missing");
    scene.update(1, &person.write("after a hole"));
    assert_eq!(scene.got_sync(1).last(), Some(&Got::Question));
    regrant(&mut scene, 1, grant(Access::Read));
    scene.clear();
    scene.pass(Millis::from_secs(60));
    assert_eq!(scene.got_sync(1), []);
}

#[test]
fn grant_6_write_gained_counts_from_the_answer_on() {
    let mut scene = Scene::ready(limits());
    scene.join(1, Access::Read, Dialect::SynclineV1);
    let person = Person::new(1);
    scene.update(1, &person.write("refused"));
    scene.clear();
    regrant(&mut scene, 1, grant(Access::Write));
    assert_eq!(welcome_access(&scene, 1), 1);
    assert_eq!(scene.got_sync(1), [Got::Question]);
    let other = Person::new(2);
    scene.update(1, &other.write("new"));
    scene.persisted(1);
    assert_eq!(scene.got_sync(1), [Got::Question], "the first frame is not on disk");
    scene.answer(1, &person.everything());
    scene.persisted(2);
    assert_eq!(scene.got_sync(1).last(), Some(&Got::Saved(3)));
    assert!(scene.text().contains("refused") && scene.text().contains("new"));
}

#[test]
fn grant_6_write_gained_in_a_stall_is_asked_after_it() {
    let mut scene = Scene::ready(limits());
    scene.join(1, Access::Read, Dialect::SynclineV1);
    scene.stall();
    scene.clear();
    regrant(&mut scene, 1, grant(Access::Write));
    assert_eq!(scene.got_sync(1), []);
    scene.resume();
    assert_eq!(scene.got_sync(1), [Got::Question]);
}

#[test]
fn grant_7_deferred_messages_use_the_latest_grant() {
    for (first, then, text) in
        [(Access::Write, Access::Read, ""), (Access::Read, Access::Write, "waited")]
    {
        let mut scene = Scene::new(limits());
        scene.join(1, first, Dialect::SynclineV1);
        scene.update(1, &Person::new(1).write("waited"));
        regrant(&mut scene, 1, grant(then));
        scene.load();
        assert_eq!(scene.text(), text);
        assert_eq!(welcome_access(&scene, 1), 1);
        scene.persisted(1);
        let saved = scene.got_sync(1).contains(&Got::Saved(1));
        assert_eq!(saved, then.may_write());
    }
}

#[test]
fn grant_8_states_end_with_the_right_to_be_seen() {
    let mut scene = Scene::ready(limits());
    for session in 1..=2 {
        scene.follower(session);
        scene.show(session, &[(10 * session, 1, HERE)]);
    }
    scene.clear();
    regrant(&mut scene, 2, with_presence(PresenceRight::Hidden));
    assert_eq!(scene.seen(1), [(20, None)]);
    scene.show(2, &[(20, 2, HERE)]);
    assert_eq!(scene.seen(1), [(20, None)]);
    scene.show(1, &[(10, 2, HERE)]);
    assert_eq!(scene.seen(2).last(), Some(&(10, Some("{}".into()))));
    regrant(&mut scene, 2, with_presence(PresenceRight::None));
    assert_eq!(scene.seen(2).last(), Some(&(10, None)), "what it saw is taken away");
    scene.clear();
    scene.show(1, &[(10, 3, HERE)]);
    scene.pass(Millis::from_secs(5));
    assert_eq!(scene.seen(2), []);
    regrant(&mut scene, 2, grant(Access::Write));
    scene.show(2, &[(20, 3, HERE)]);
    assert_eq!(scene.seen(1).last(), Some(&(20, Some("{}".into()))));
    assert!(scene.seen(2).contains(&(10, Some("{}".into()))));
}

#[test]
fn grant_9_states_are_published_with_the_new_name() {
    let named = |name: &str| Grant {
        identity: Identity { sub: "ada".into(), name: name.into() }.into(),
        ..grant(Access::Write)
    };
    let mut scene = Scene::ready(limits());
    scene.follower(1);
    scene.join_with(2, named("Ada"), Dialect::SynclineV1);
    scene.show(2, &[(20, 1, HERE)]);
    scene.clear();
    scene.pass(Millis(65));
    regrant(&mut scene, 2, named("Countess"));
    let state = r#"{"syncline":{"sub":"ada","name":"Countess"}}"#;
    assert_eq!(scene.seen(1), [(20, Some(state.to_owned()))]);
    assert_eq!(welcome_access(&scene, 2), 0, "its rights are what they were");
}

#[test]
fn grant_9_a_name_changed_while_hidden_is_shown_later() {
    let named = |name: &str, presence| Grant {
        identity: Identity { sub: "u".into(), name: name.into() }.into(),
        ..with_presence(presence)
    };
    let mut scene = beside_ann(PresenceRight::Visible);
    regrant(&mut scene, 2, named("Ada", PresenceRight::Visible));
    scene.show(2, &[(20, 2, Some("{\"a\":1}"))]);
    regrant(&mut scene, 2, named("Bea", PresenceRight::Hidden));
    regrant(&mut scene, 2, named("Bea", PresenceRight::Visible));
    scene.clear();
    scene.show(2, &[(20, 9, Some("{\"a\":2}"))]);
    let seen = scene.seen(1);
    assert!(
        seen.iter().any(|(_, state)| state.as_ref().is_some_and(|it| it.contains("Bea"))),
        "{seen:?}"
    );
    assert!(
        !seen.iter().any(|(_, state)| state.as_ref().is_some_and(|it| it.contains("Ada"))),
        "{seen:?}"
    );
}
