use syncline_protocol::wire::Dialect;
use syncline_protocol::{Access, CloseCode};

use crate::scene::{Got, Limits, Person, Scene, limits, refused};

#[test]
fn read_1_a_reader_changes_nothing() {
    let mut scene = Scene::ready(limits());
    scene.follower(1);
    scene.join(2, Access::Read, Dialect::YWebsocket);
    let ben = Person::new(2);
    scene.update(2, &ben.write("a"));
    scene.answer(2, &ben.everything());
    assert_eq!((scene.appended(), scene.got(1), scene.text()), (0, vec![], String::new()));
}

#[test]
fn read_2_a_stock_reader_gets_one_refusal() {
    let mut scene = Scene::ready(limits());
    scene.join(1, Access::Read, Dialect::YWebsocket);
    let ben = Person::new(2);
    for _ in 0..3 {
        scene.update(1, &ben.write("a"));
    }
    assert_eq!(scene.got(1), [Got::Denied("forbidden_write".into())]);
}

#[test]
fn read_3_a_syncline_reader_gets_a_refusal_for_each_frame() {
    let mut scene = Scene::ready(limits());
    scene.join(1, Access::Read, Dialect::SynclineV1);
    let ben = Person::new(2);
    for _ in 0..3 {
        scene.update(1, &ben.write("a"));
    }
    assert_eq!(scene.got_sync(1), [1, 2, 3].map(|frame| refused(frame, "forbidden_write")));
}

#[test]
fn write_1_saved_waits_for_the_disk() {
    let mut scene = Scene::ready(limits());
    let ann = Person::new(1);
    scene.writer(1);
    scene.clear();
    scene.update(1, &ann.write("a"));
    scene.update(1, &ann.write("b"));
    assert_eq!(scene.got(1), []);
    scene.persisted(1);
    assert_eq!(scene.got(1), [Got::Saved(1)]);
    scene.persisted(2);
    assert_eq!(scene.got(1), [Got::Saved(1), Got::Saved(2)]);
}

#[test]
fn write_2_a_group_is_acknowledged_once() {
    let mut scene = Scene::ready(limits());
    let ann = Person::new(1);
    scene.writer(1);
    scene.writer(2);
    scene.clear();
    for _ in 0..5 {
        scene.update(1, &ann.write("a"));
    }
    scene.persisted(5);
    scene.persisted(5);
    assert_eq!((scene.got(1), scene.got(2)), (vec![Got::Saved(5)], vec![]));
}

#[test]
fn write_3_a_known_update_is_saved_once_the_log_is() {
    let mut scene = Scene::ready(limits());
    let update = Person::new(1).write("a");
    scene.writer(1);
    scene.writer(2);
    scene.clear();
    scene.update(1, &update);
    scene.update(2, &update);
    assert_eq!(scene.got(2), [], "the first copy is still on its way");
    scene.persisted(1);
    assert_eq!(scene.got(2), [Got::Saved(1)]);
    scene.answer(2, &update);
    assert_eq!(scene.got(2), [Got::Saved(1), Got::Saved(2)]);
}

#[test]
fn write_4_behind_a_hole_nothing_is_saved_until_it_is_filled() {
    let mut scene = Scene::ready(limits());
    let ann = Person::new(1);
    scene.writer(1);
    let first = ann.write("a");
    drop(ann.write("b"));
    let third = ann.write("c");
    scene.update(1, &first);
    scene.update(1, &third);
    scene.update(1, &first);
    scene.clear();
    scene.persisted(1);
    assert_eq!(scene.got(1), [Got::Saved(1)]);
    scene.answer(1, &ann.everything());
    scene.persisted(2);
    assert_eq!(scene.got(1), [Got::Saved(1), Got::Saved(4)]);
}

#[test]
fn write_5_stock_clients_get_no_acknowledgement() {
    let mut scene = Scene::ready(limits());
    scene.follower(1);
    scene.update(1, &Person::new(1).write("a"));
    scene.persisted(1);
    assert_eq!(scene.got(1), []);
}

#[test]
fn write_6_a_live_update_is_bounded_a_first_sync_is_not() {
    let mut scene = Scene::ready(limits());
    let ann = Person::new(1);
    let large = ann.write(&"x".repeat(2_000));
    scene.follower(1);
    scene.follower(2);
    scene.update(1, &large);
    assert_eq!(scene.got(1), [Got::Closed(CloseCode::MessageTooLarge)]);
    scene.answer(2, &large);
    assert_eq!(scene.appended(), 1);
}

#[test]
fn write_7_a_full_document_accepts_deletions_and_known() {
    let mut scene = Scene::ready(Limits { document_bytes_max: 100, ..limits() });
    let ann = Person::new(1);
    let text = ann.write(&"x".repeat(70));
    for session in 1..=3 {
        scene.follower(session);
    }
    scene.update(1, &text);
    // Deletions alone bring it over its limit.
    while scene.log.updates.iter().map(|logged| logged.update.len()).sum::<usize>() <= 200 {
        scene.update(1, &ann.delete(1));
    }
    scene.clear();
    scene.update(1, &ann.delete(1));
    scene.answer(2, &text);
    scene.answer(2, &[0, 0][..].into());
    assert_eq!(
        (scene.got_sync(1), scene.got_sync(2)),
        (vec![], vec![Got::Update(scene.log.updates.last().unwrap().update.clone())])
    );
    scene.update(3, &Person::new(3).write("y"));
    assert_eq!(scene.got(3).last(), Some(&Got::Closed(CloseCode::DocumentTooLarge)));
}
