//! Bytes that no real client sends, and a document that is not affected by them.

use bytes::Bytes;
use syncline_protocol::CloseCode;
use syncline_protocol::document::{LoadedDocument, verify_snapshot};
use syncline_protocol::validate::TYPE_DEPTH_MAX;
use syncline_protocol::wire::ClientMessage;
use syncline_protocol::wire::varint::write_var_uint;

use crate::listed::{Expect, ON_BASE, ON_EMPTY, base64};
use crate::scene::{Got, Limits, Person, Scene, limits};

/// Two sections of client 1, as yrs writes the document that the seeds were found on.
const BASE: &[u8] = &[
    1, 5, 1, 0, 4, 1, 1, b't', 5, b'h', b'e', b'l', b'l', b'o', 40, 1, 1, b'm', 1, b'k', 1, 125, 1,
    8, 1, 1, b'a', 1, 125, 1, 132, 1, 0, 1, b'!', 132, 1, 7, 1, b'?', 1, 1, 1, 1, 2,
];

fn roomy() -> Limits {
    Limits { update_bytes_max: 8 << 20, ..limits() }
}

/// Joins late, takes a snapshot, restarts and goes on: all that a poisoned document cannot do.
fn assert_whole(scene: &mut Scene) {
    scene.clear();
    scene.follower(90);
    scene.ask(90);
    let [Got::Answer(state)] = &scene.got_sync(90)[..] else { panic!("{:?}", scene.effects) };
    let late = Person::new(90);
    late.take(state);
    let mut reloaded = LoadedDocument::decode(&scene.log, &scene.limits).unwrap();
    let through = scene.log.last();
    let snapshot = syncline_protocol::Snapshot { through, state: reloaded.state().unwrap().into() };
    let known = scene.document.state_vector().unwrap().clone();
    verify_snapshot(&snapshot, &known, &scene.limits).unwrap();
    assert_eq!(late.text(), scene.text());
    scene.update(90, &late.write("on "));
    assert_eq!(scene.text(), late.text());
    scene.leave(90);
    assert_eq!(scene.loads(), 0);
}

#[test]
fn hostile_1_seeds_do_no_harm() {
    let seeds = ON_EMPTY.iter().map(|seed| (None, seed));
    for (base, (name, expect, seed)) in seeds.chain(ON_BASE.iter().map(|seed| (Some(BASE), seed))) {
        let mut scene = Scene::ready(limits());
        scene.follower(1);
        scene.follower(2);
        if let Some(base) = base {
            scene.update(1, &Bytes::from_static(base));
            assert_eq!(scene.log.updates.len(), 1);
        }
        scene.clear();
        scene.update(2, &base64(seed).into());
        if *expect == Expect::Refused {
            let closed =
                [Got::Closed(CloseCode::BadFrame), Got::Closed(CloseCode::MessageTooLarge)];
            assert!(scene.got(2).iter().any(|got| closed.contains(got)), "{name}");
        }
        assert!(!scene.got(1).iter().any(|got| matches!(got, Got::Closed(_))), "{name}");
        assert_whole(&mut scene);
    }
}

#[test]
fn hostile_2_updates_after_a_gap_are_not_kept() {
    let mut scene = Scene::ready(limits());
    scene.follower(1);
    scene.follower(2);
    scene.update(1, &Person::new(1).write("hello"));
    scene.clear();
    for clock in (10_u32..).step_by(2).take(20_000) {
        let mut update = vec![1, 1, 7];
        write_var_uint(&mut update, u64::from(clock));
        update.extend([0, 1, 0]);
        scene.update(2, &update.into());
    }
    assert_eq!(scene.got(2), [Got::Question]);
    assert_eq!(scene.document.state_vector().unwrap().len(), 1);
    assert_eq!(scene.appended(), 0);
    assert_whole(&mut scene);
}

#[test]
fn hostile_3_deletions_of_unknown_blocks_are_not_kept() {
    let bomb = |ranges: u64| {
        let mut update = vec![0, 1, 9];
        write_var_uint(&mut update, ranges);
        for range in 0..ranges {
            write_var_uint(&mut update, range * 2);
            update.push(1);
        }
        Bytes::from(update)
    };
    let mut scene = Scene::ready(roomy());
    scene.follower(1);
    scene.follower(2);
    scene.update(1, &Person::new(1).write("hello"));
    scene.clear();
    scene.update(2, &bomb(100_000));
    assert_eq!(scene.got(2), [Got::Question]);
    scene.update(2, &bomb(1_000_000));
    assert_eq!(scene.got(2).last(), Some(&Got::Closed(CloseCode::MessageTooLarge)));
    assert_eq!(scene.appended(), 0);
    assert_whole(&mut scene);
}

#[test]
fn hostile_4_unknown_clients_in_a_state_vector_are_dropped() {
    let mut scene = Scene::ready(roomy());
    scene.follower(1);
    scene.update(1, &Person::new(1).write("hello"));
    let mut state_vector = Vec::new();
    write_var_uint(&mut state_vector, 80_000);
    for id in 1..=80_000 {
        write_var_uint(&mut state_vector, id << 36);
        state_vector.push(1);
    }
    scene.clear();
    scene.ask(1);
    scene.say(1, ClientMessage::SyncStep1 { state_vector: state_vector.into() });
    let [Got::Answer(to_nobody), Got::Answer(to_many)] = &scene.got(1)[..] else {
        panic!("two answers")
    };
    assert_eq!(to_nobody, to_many);
}

/// Without the limit, 16,000 levels (96 KiB) overflow a stack of 2 MiB as soon as they are deleted.
#[test]
fn hostile_5_the_deepest_nesting_that_passes_fits_a_small_stack() {
    let nest = |levels: u32| {
        let mut update = vec![1];
        write_var_uint(&mut update, u64::from(levels));
        update.extend([1, 0, 7, 1, 1, b't', 1]);
        for clock in 1..levels {
            update.extend([7, 0, 1]);
            write_var_uint(&mut update, u64::from(clock - 1));
            update.push(1);
        }
        update.push(0);
        Bytes::from(update)
    };
    let small = std::thread::Builder::new().stack_size(512 << 10).spawn(move || {
        for levels in [TYPE_DEPTH_MAX + 1, 16_000] {
            let mut scene = Scene::ready(roomy());
            scene.follower(1);
            scene.update(1, &nest(levels));
            assert_eq!(scene.got(1), [Got::Closed(CloseCode::MessageTooLarge)]);
        }
        let mut scene = Scene::ready(roomy());
        scene.follower(1);
        scene.update(1, &nest(TYPE_DEPTH_MAX));
        assert_whole(&mut scene);
        scene.update(1, &Bytes::from_static(&[0, 1, 1, 1, 0, 1]));
        assert_whole(&mut scene);
    });
    small.unwrap().join().unwrap();
}
