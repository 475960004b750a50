use syncline_protocol::document::{Limits, Stamping};
use syncline_protocol::validate::Budget;
use syncline_protocol::wire::Dialect;
use syncline_protocol::{Access, CloseCode, Grant, Identity};

use crate::scene::{Got, LAST_CLOCK, Scene, grant, limits};

const ADA: &str = r#","syncline":{"sub":"ada","name":"Ada"}}"#;

/// A state of Lexical, as JavaScript writes it.
const LEXICAL: &str = r##"{"anchorPos":null,"color":"#ff0000","focusPos":null,"focusing":true,"name":"Bob","awarenessData":{"x":0.1}}"##;

fn user(sub: &str, name: &str) -> Grant {
    let identity = Identity { sub: sub.into(), name: name.into() };
    Grant { identity: identity.into(), ..grant(Access::Write) }
}

fn by_ada(state: &str) -> String {
    format!("{}{ADA}", state.strip_suffix('}').unwrap())
}

/// Session 1 watches; session 2 is Ada's and owns the state of client 20.
fn scene() -> Scene {
    scene_within(limits())
}

fn scene_within(limits: Limits) -> Scene {
    let mut scene = Scene::ready(limits);
    scene.follower(1);
    scene.join_with(2, user("ada", "Ada"), Dialect::YWebsocket);
    scene
}

fn closed(scene: &Scene, session: u64) -> Option<CloseCode> {
    let close = |got| if let Got::Closed(code) = got { Some(code) } else { None };
    scene.got(session).into_iter().find_map(close)
}

#[test]
fn presence_15_others_are_sent_the_verified_identity() {
    let mut scene = scene();
    scene.show(2, &[(20, 0, Some(LEXICAL))]);
    assert_eq!(scene.seen(1), [(20, Some(by_ada(LEXICAL)))]);
    assert_eq!(scene.seen(2), []);
    scene.clear();
    scene.join(3, Access::Read, Dialect::YWebsocket);
    scene.show(3, &[(30, 0, Some("{}"))]);
    assert!(scene.seen(3).contains(&(20, Some(by_ada(LEXICAL)))), "a newcomer");
    assert_eq!(scene.seen(1), [(30, Some("{}".to_owned()))], "no identity is known");
}

#[test]
fn presence_16_a_claimed_identity_is_dropped() {
    let mut scene = scene();
    scene.show(2, &[(20, 0, Some(r#"{"a":1,"\u0073yncline":{"sub":"root"},"b":2}"#))]);
    assert_eq!(scene.seen(1), [(20, Some(by_ada(r#"{"a":1,"b":2}"#)))]);
    scene.clear();
    scene.join(3, Access::Write, Dialect::YWebsocket);
    scene.show(3, &[(30, 0, Some(r#"{"syncline":{"sub":"ada"}}"#))]);
    assert_eq!(scene.seen(1), [(30, Some("{}".to_owned()))]);
}

#[test]
fn presence_17_a_repeated_stamped_state_is_an_echo() {
    let mut scene = scene();
    scene.show(2, &[(20, 0, Some("{\"a\":1}"))]);
    let stamped = by_ada("{\"a\":1}");
    assert_eq!(scene.seen(1), [(20, Some(stamped.clone()))]);
    let clock = LAST_CLOCK.get();
    scene.clear();
    scene.show(1, &[(20, clock, Some(&stamped))]);
    assert_eq!(scene.seen(1), [], "taken over");
    scene.leave(2);
    scene.clear();
    scene.show(1, &[(20, clock, Some(&stamped))]);
    assert_eq!(scene.seen(1), [], "revived");
}

#[test]
fn presence_17_a_stamped_state_learnt_from_a_tab_goes_on() {
    let mut scene = scene();
    scene.show(2, &[(20, 0, Some("{\"a\":1}"))]);
    let stamped = by_ada("{\"a\":1}");
    assert_eq!(scene.seen(1), [(20, Some(stamped.clone()))]);
    let clock = LAST_CLOCK.get();
    scene.clear();
    scene.show(2, &[(20, clock, Some(&stamped))]);
    assert_eq!(scene.seen(1), [], "published again, it would go in a circle");
    let moved = stamped.replace("\"a\":1", "\"a\":2");
    scene.show(2, &[(20, clock + 1, Some(&moved))]);
    assert_eq!(scene.seen(1), [(20, Some(moved))], "stamped once");
}

#[test]
fn presence_17_a_client_returns_with_its_stamped_state() {
    let mut scene = scene();
    scene.show(2, &[(20, 0, Some("{\"a\":1}"))]);
    let stamped = by_ada("{\"a\":1}");
    assert_eq!(scene.seen(1).len(), 1);
    let clock = LAST_CLOCK.get();
    scene.leave(2);
    scene.clear();
    scene.join_with(3, user("ada", "Ada"), Dialect::YWebsocket);
    scene.show(3, &[(20, clock, Some(&stamped))]);
    assert_eq!(scene.seen(1), [(20, Some(stamped))]);
    assert!(LAST_CLOCK.get() > clock);
}

#[test]
fn presence_18_a_state_stays_with_its_user() {
    let mut scene = scene();
    scene.show(2, &[(20, 3, Some("{\"a\":1}"))]);
    scene.clear();
    scene.join_with(3, user("eve", "Ada"), Dialect::YWebsocket);
    for clock in [3, 4, 1 << 31] {
        scene.show(3, &[(20, clock, Some("{\"a\":\"forged\"}"))]);
        scene.show(3, &[(20, clock, None)]);
    }
    assert_eq!(scene.seen(1), []);
    assert_eq!(closed(&scene, 3), None);
    scene.show(2, &[(20, 4, Some("{\"a\":2}"))]);
    assert_eq!(scene.seen(1), [(20, Some(by_ada("{\"a\":2}")))]);
    scene.clear();
    // Ada herself may: her old connection may be half open.
    scene.join_with(4, user("ada", "Ada"), Dialect::YWebsocket);
    scene.show(4, &[(20, 4, Some("{\"a\":3}"))]);
    assert_eq!(scene.seen(1), [(20, Some(by_ada("{\"a\":3}")))]);
}

#[test]
fn presence_19_the_stamp_does_not_count_for_the_limit() {
    let live = Budget { presence_state_bytes_max: 100, ..Budget::LIVE };
    let mut scene = scene_within(Limits { live, ..limits() });
    let state = |bytes: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(bytes - 8));
    scene.show(2, &[(20, 0, Some(&state(100)))]);
    let stamped = by_ada(&state(100));
    assert_eq!(scene.seen(1), [(20, Some(stamped.clone()))]);
    let clock = LAST_CLOCK.get();
    // Clients echo the states of others.
    scene.show(1, &[(20, clock, Some(&stamped))]);
    scene.show(2, &[(20, clock, Some(&stamped))]);
    assert_eq!((closed(&scene, 1), closed(&scene, 2)), (None, None));
    scene.show(2, &[(20, clock + 1, Some(&state(101)))]);
    assert_eq!(closed(&scene, 2), Some(CloseCode::MessageTooLarge));
    scene.show(1, &[(10, 1, Some(&state(101)))]);
    assert_eq!(closed(&scene, 1), Some(CloseCode::MessageTooLarge));
}

#[test]
fn presence_20_without_stamping_states_are_unchanged() {
    let mut scene = scene_within(Limits { stamping: Stamping::Nothing, ..limits() });
    let state = r#"{"a":1,"syncline":{"sub":"root"}}"#;
    scene.show(2, &[(20, 0, Some(state))]);
    assert_eq!(scene.seen(1), [(20, Some(state.to_owned()))]);
}
