use std::collections::BTreeSet;

use syncline_protocol::document::{Delivery, Document};
use syncline_protocol::time::Millis;
use syncline_protocol::wire::{ClientMessage, Dialect};
use syncline_protocol::{Access, SessionId};

use crate::scene::{Got, LAST_CLOCK, Scene, limits};

const HERE: Option<&str> = Some("{}");

fn shown(client: u64, state: &str) -> (u64, Option<String>) {
    (client, Some(state.into()))
}

/// Ann watches as session 1.
fn watched() -> Scene {
    let mut scene = Scene::ready(limits());
    scene.follower(1);
    scene
}

fn join(scene: &mut Scene, session: u64) {
    scene.join(session, Access::Read, Dialect::YWebsocket);
}

/// The clock of the last state that session 1 was sent.
fn clock(scene: &Scene) -> u32 {
    assert!(!scene.seen(1).is_empty());
    LAST_CLOCK.get()
}

#[test]
fn presence_1_a_first_state_with_clock_0_shows_at_once() {
    let mut scene = watched();
    join(&mut scene, 2);
    scene.show(2, &[(20, 0, HERE)]);
    assert_eq!(scene.seen(1), [shown(20, "{}")]);
    assert!(clock(&scene) > 0);
    assert!(scene.deliveries().0.iter().all(|delivery| *delivery == Delivery::Skippable));
}

#[test]
fn presence_2_the_sender_gets_no_reply() {
    let mut scene = watched();
    for clock in [4, 5, 5] {
        scene.show(1, &[(10, clock, HERE)]);
        assert_eq!(scene.seen(1), []);
    }
}

#[test]
fn presence_3_a_session_gets_the_snapshot_after_its_state() {
    let mut scene = watched();
    scene.show(1, &[(10, 1, HERE)]);
    join(&mut scene, 2);
    join(&mut scene, 3);
    join(&mut scene, 4);
    assert_eq!(scene.seen(2), []);
    scene.show(2, &[(20, 0, HERE)]);
    assert_eq!(scene.seen(2).last(), Some(&shown(10, "{}")));
    scene.say(3, ClientMessage::QueryPresence);
    scene.say(3, ClientMessage::QueryPresence);
    assert_eq!(scene.got(3).len(), 2, "every question is answered");
    assert_eq!(scene.seen(4), []);
    scene.pass(Millis::from_secs(2));
    assert_eq!(scene.seen(4).len(), 2, "or has said nothing for a second");
}

#[test]
fn presence_4_a_session_never_gets_its_own_states() {
    let mut scene = watched();
    join(&mut scene, 2);
    scene.show(2, &[(20, 0, Some("1"))]);
    scene.say(2, ClientMessage::QueryPresence);
    assert_eq!(scene.seen(2), []);
}

#[test]
fn presence_5_leaving_ends_exactly_the_states_of_the_session() {
    let mut scene = watched();
    for session in 2..=3 {
        join(&mut scene, session);
        scene.show(session, &[(10 * session, 0, HERE)]);
    }
    scene.show(2, &[(21, 0, HERE)]);
    scene.clear();
    scene.leave(2);
    assert_eq!(scene.seen(1), [(20, None), (21, None)]);
}

#[test]
fn presence_6_a_rejoin_with_the_same_clock_is_visible() {
    let mut scene = watched();
    join(&mut scene, 2);
    scene.show(2, &[(20, 7, HERE)]);
    scene.leave(2);
    let left = clock(&scene);
    scene.clear();
    join(&mut scene, 3);
    scene.show(3, &[(20, 7, HERE)]);
    assert_eq!(scene.seen(1), [shown(20, "{}")]);
    assert!(clock(&scene) > left);
}

#[test]
fn presence_7_a_rejoin_takes_over_from_a_half_open_connection() {
    let mut scene = watched();
    join(&mut scene, 2);
    scene.show(2, &[(20, 7, HERE)]);
    join(&mut scene, 3);
    scene.show(3, &[(20, 7, Some("3"))]);
    scene.clear();
    scene.leave(2);
    assert_eq!(scene.seen(1), [], "it is the new session's");
    scene.leave(3);
    assert_eq!(scene.seen(1), [(20, None)]);
}

#[test]
fn presence_8_an_echo_changes_nothing() {
    let mut scene = watched();
    join(&mut scene, 2);
    scene.show(2, &[(20, 0, HERE)]);
    let heard = clock(&scene);
    scene.clear();
    scene.show(1, &[(20, heard, HERE)]);
    scene.show(1, &[(20, heard, None)]);
    assert_eq!(scene.seen(1), [], "stolen");
    for _ in 0..9 {
        scene.pass(Millis::from_secs(5));
        scene.show(1, &[(20, heard, HERE)]);
    }
    scene.pass(Millis::from_secs(5));
    assert_eq!(scene.seen(1), [(20, None)], "kept alive, or revived");
}

#[test]
fn presence_9_a_state_that_is_not_renewed_expires() {
    let mut scene = watched();
    join(&mut scene, 2);
    scene.show(2, &[(20, 0, HERE)]);
    scene.clear();
    scene.pass(Millis::from_secs(44));
    assert_eq!(scene.seen(1), []);
    scene.pass(Millis::from_secs(6));
    assert_eq!(scene.seen(1), [(20, None)]);
}

#[test]
fn presence_10_a_session_owns_a_bounded_number_of_states() {
    let mut scene = watched();
    join(&mut scene, 2);
    for client in 20..25 {
        scene.show(2, &[(client, 0, HERE)]);
    }
    assert_eq!(scene.seen(1).len(), 3);
    // A throttled tab expires and announces itself again, for any time.
    for turn in 1..10 {
        scene.pass(Millis::from_secs(51));
        scene.clear();
        scene.show(2, &[(20, turn, HERE)]);
        assert_eq!(scene.seen(1), [shown(20, "{}")]);
    }
}

/// Invented clients cost a joining session nothing.
#[test]
fn presence_10_a_flood_of_clients_shows_a_bounded_number() {
    let mut scene = watched();
    join(&mut scene, 2);
    let many: Vec<_> = (1_000..4_000).map(|client| (client, 0, HERE)).collect();
    for flood in many.chunks(100) {
        scene.show(2, flood);
    }
    assert_eq!(scene.seen(1).len(), 3);
    join(&mut scene, 3);
    scene.clear();
    scene.say(3, ClientMessage::QueryPresence);
    let clients: BTreeSet<_> = scene.seen(3).into_iter().map(|(client, _)| client).collect();
    assert_eq!(clients.len(), 3);
    // With the session all of them go.
    scene.clear();
    scene.leave(2);
    assert_eq!(scene.seen(1).len(), 3);
    scene.say(3, ClientMessage::QueryPresence);
    assert!(scene.seen(3).iter().all(|(_, state)| state.is_none()), "{:?}", scene.seen(3));
}

#[test]
fn presence_11_clocks_rise_across_a_restart() {
    let mut scene = watched();
    join(&mut scene, 2);
    scene.show(2, &[(20, 7, HERE)]);
    let before = clock(&scene);
    scene.pass(Millis::from_secs(1));
    scene.document = Document::new(limits());
    scene.deadline();
    scene.load();
    scene.follower(1);
    join(&mut scene, 3);
    scene.show(3, &[(20, 7, HERE)]);
    assert!(clock(&scene) > before);
}

#[test]
fn presence_12_a_returning_client_sees_idle_clients() {
    let mut scene = watched();
    join(&mut scene, 2);
    scene.show(2, &[(20, 7, HERE)]);
    let before = clock(&scene);
    scene.leave(1);
    scene.pass(Millis::from_secs(1));
    scene.clear();
    scene.join(1, Access::Write, Dialect::YWebsocket);
    scene.say(1, ClientMessage::QueryPresence);
    assert!(clock(&scene) > before, "it kept the clock and ignores an equal one");
}

#[test]
fn presence_13_a_client_that_hides_is_gone_until_it_returns() {
    let mut scene = watched();
    join(&mut scene, 2);
    scene.show(2, &[(20, 0, HERE)]);
    scene.show(2, &[(20, 1, None)]);
    scene.show(2, &[(20, 2, Some("2"))]);
    assert_eq!(scene.seen(1), [shown(20, "{}"), (20, None), shown(20, "2")]);
    assert!(!scene.got(1).iter().any(|got| matches!(got, Got::Denied(_))));
    assert_eq!(scene.document.session_count(), 2);
    scene.handle(syncline_protocol::document::Input::Left { session: SessionId::new(2) });
}

#[test]
fn presence_14_a_state_is_published_once_a_tick() {
    let mut scene = watched();
    join(&mut scene, 2);
    scene.show(2, &[(20, 0, Some("1"))]);
    let first = clock(&scene);
    scene.show_now(2, &[(20, 1, Some("2"))]);
    scene.show_now(2, &[(20, 2, Some("3"))]);
    assert_eq!(scene.seen(1), [shown(20, "1")]);
    scene.pass(Millis(64));
    assert_eq!(scene.seen(1), [shown(20, "1"), shown(20, "3")]);
    assert_eq!(clock(&scene), first + 1);
}
