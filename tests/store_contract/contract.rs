//! One suite for every store.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use syncline_protocol::{Epoch, Sequence, Snapshot};
use syncline_server::store::{AppendError, Generation, Health, LoadError, SnapshotError, Store};

use crate::subject::{
    Subject, assert_log, name, newest, previous, record, records, snapshot, update,
};

macro_rules! suite {
    ($($rule:ident)*) => {
        mod memory { $(#[test] fn $rule() { super::$rule(super::Subject::memory()); })* }
        mod faulty { $(#[test] fn $rule() { super::$rule(super::Subject::faulty()); })* }
        mod embedded { $(#[test] fn $rule() { super::$rule(super::Subject::embedded(64 << 20)); })* }
        mod embedded_with_tiny_segments {
            $(#[test] fn $rule() { super::$rule(super::Subject::embedded(crate::subject::TINY)); })*
        }
    };
}

suite! {
    store_1_updates_load_in_order
    store_2_what_was_appended_survives_reopening
    store_3_an_update_out_of_order_is_refused_and_nothing_of_its_batch_stored
    store_4_a_snapshot_stands_for_the_updates_before_it
    store_5_the_previous_snapshot_is_kept
    store_5_before_there_is_a_previous_snapshot_the_log_begins_at_nothing
    store_6_a_snapshot_never_goes_backwards_or_ahead
    store_6_a_snapshot_through_the_same_position_replaces_the_newest
    store_7_documents_are_listed_by_name
    store_8_documents_with_odd_names_do_not_mix
    store_9_large_and_empty_payloads_come_back
    store_10_an_unknown_document_is_empty
    store_16_any_history_reads_like_the_model
    store_24_a_rewrite_takes_the_place_of_everything_before_it
    store_24_a_document_that_was_never_written_can_be_rewritten
    store_25_every_document_has_the_epoch_of_its_history
    store_26_a_document_rewritten_as_nothing_is_listed_when_it_is_written_again
    store_27_what_is_intact_is_salvaged_in_full
    store_39_a_log_is_replaced_in_its_place
}

fn store_1_updates_load_in_order(subject: Subject) {
    let store = subject.store();
    store.append(&records("a", 1..=3)).unwrap();
    store.append(&records("a", 4..=4)).unwrap();
    store.append(&[]).unwrap();
    assert_log(&newest(store, "a"), "a", None, 4);
}

fn store_2_what_was_appended_survives_reopening(mut subject: Subject) {
    for sequence in 1..=100 {
        subject.store().append(&[record("a", sequence), record("b", sequence)]).unwrap();
    }
    subject.reopen();
    assert_log(&newest(subject.store(), "a"), "a", None, 100);
    subject.store().append(&records("a", 101..=110)).unwrap();
    subject.reopen();
    assert_log(&newest(subject.store(), "a"), "a", None, 110);
    assert_log(&newest(subject.store(), "b"), "b", None, 100);
}

fn store_3_an_update_out_of_order_is_refused_and_nothing_of_its_batch_stored(subject: Subject) {
    let store = subject.store();
    store.append(&records("a", 1..=2)).unwrap();
    for wrong in [vec![record("b", 1), record("a", 4)], records("a", [2]), records("a", [3, 5])] {
        let refused = store.append(&wrong);
        assert!(matches!(refused, Err(AppendError::OutOfOrder { .. })), "{refused:?}");
    }
    assert_log(&newest(store, "b"), "b", None, 0);
    assert_eq!(store.health(), Health::Writable);
    store.append(&records("a", [3])).unwrap();
    assert_log(&newest(store, "a"), "a", None, 3);
}

fn store_4_a_snapshot_stands_for_the_updates_before_it(mut subject: Subject) {
    subject.store().append(&records("a", 1..=10)).unwrap();
    let seven = snapshot("a", 7, 100);
    subject.store().write_snapshot(&name("a"), &seven).unwrap();
    assert_log(&newest(subject.store(), "a"), "a", Some(&seven), 10);
    subject.store().append(&records("a", 11..=12)).unwrap();
    assert_log(&newest(subject.store(), "a"), "a", Some(&seven), 12);
    subject.reopen();
    assert_log(&newest(subject.store(), "a"), "a", Some(&seven), 12);
}

fn store_5_the_previous_snapshot_is_kept(mut subject: Subject) {
    let (four, eight, twelve) = (snapshot("a", 4, 50), snapshot("a", 8, 60), snapshot("a", 12, 70));
    subject.store().append(&records("a", 1..=4)).unwrap();
    subject.store().write_snapshot(&name("a"), &four).unwrap();
    subject.store().append(&records("a", 5..=8)).unwrap();
    subject.store().write_snapshot(&name("a"), &eight).unwrap();
    subject.store().append(&records("a", 9..=12)).unwrap();
    assert_log(&previous(subject.store(), "a"), "a", Some(&four), 12);
    subject.store().write_snapshot(&name("a"), &twelve).unwrap();
    subject.reopen();
    assert_log(&previous(subject.store(), "a"), "a", Some(&eight), 12);
    assert_log(&newest(subject.store(), "a"), "a", Some(&twelve), 12);
}

fn store_5_before_there_is_a_previous_snapshot_the_log_begins_at_nothing(mut subject: Subject) {
    subject.store().append(&records("a", 1..=4)).unwrap();
    subject.store().write_snapshot(&name("a"), &snapshot("a", 4, 50)).unwrap();
    assert_log(&previous(subject.store(), "a"), "a", None, 4);
    subject.reopen();
    assert_log(&previous(subject.store(), "a"), "a", None, 4);
}

fn store_6_a_snapshot_never_goes_backwards_or_ahead(subject: Subject) {
    let store = subject.store();
    store.append(&records("a", 1..=5)).unwrap();
    let four = snapshot("a", 4, 50);
    store.write_snapshot(&name("a"), &four).unwrap();
    let older = store.write_snapshot(&name("a"), &snapshot("a", 3, 50));
    assert!(matches!(older, Err(SnapshotError::Outdated { .. })), "{older:?}");
    let ahead = store.write_snapshot(&name("a"), &snapshot("a", 6, 50));
    assert!(matches!(ahead, Err(SnapshotError::Ahead { .. })), "{ahead:?}");
    assert_log(&newest(store, "a"), "a", Some(&four), 5);
}

fn store_6_a_snapshot_through_the_same_position_replaces_the_newest(mut subject: Subject) {
    subject.store().append(&records("a", 1..=9)).unwrap();
    let (four, eight, other) = (snapshot("a", 4, 50), snapshot("a", 8, 60), snapshot("a", 8, 61));
    for snapshot in [&four, &eight, &other] {
        subject.store().write_snapshot(&name("a"), snapshot).unwrap();
    }
    for _ in 0..2 {
        assert_log(&newest(subject.store(), "a"), "a", Some(&other), 9);
        assert_log(&previous(subject.store(), "a"), "a", Some(&four), 9);
        subject.reopen();
    }
}

fn store_7_documents_are_listed_by_name(mut subject: Subject) {
    for document in ["b", "a/z", "a", "c"] {
        subject.store().append(&records(document, 1..=3)).unwrap();
    }
    subject.store().write_snapshot(&name("c"), &snapshot("c", 3, 5000)).unwrap();
    for _ in 0..2 {
        let listed = subject.store().documents();
        let names: Vec<_> = listed.iter().map(|info| info.name.as_str()).collect();
        assert_eq!(names, ["a", "a/z", "b", "c"]);
        assert!(listed.iter().all(|info| info.last == Sequence::new(3)));
        let bytes: Vec<_> = listed.iter().map(|info| info.bytes).collect();
        assert!(bytes[3] >= 5000 && bytes[0] < 500, "{bytes:?}");
        subject.reopen();
    }
}

fn store_8_documents_with_odd_names_do_not_mix(mut subject: Subject) {
    let long = "x".repeat(255);
    let mut names =
        vec!["a", "ab", "a/b", "a b", "ä", "📄/🗂", "..a", "%2e%2e", "\u{202e}rtl", &long];
    let numbered: Vec<_> = (0..300).map(|number| format!("doc-{number}")).collect();
    names.extend(numbered.iter().map(String::as_str));
    for sequence in 1..=3 {
        let batch: Vec<_> = names.iter().map(|name| record(name, sequence)).collect();
        subject.store().append(&batch).unwrap();
    }
    for document in &names {
        subject.store().write_snapshot(&name(document), &snapshot(document, 2, 40)).unwrap();
    }
    subject.reopen();
    assert_eq!(subject.store().documents().len(), names.len());
    for document in names {
        let expected = snapshot(document, 2, 40);
        assert_log(&newest(subject.store(), document), document, Some(&expected), 3);
    }
}

fn store_9_large_and_empty_payloads_come_back(mut subject: Subject) {
    let mut large = record("a", 1);
    large.update = snapshot("update", 1, 1 << 20).state;
    let mut empty = record("a", 2);
    empty.update = bytes::Bytes::new();
    subject.store().append(&[large.clone(), empty, record("a", 3)]).unwrap();
    let log = newest(subject.store(), "a");
    assert!(log.updates[0].update == large.update && log.updates[1].update.is_empty());
    for bytes in [3 << 20, 0, (3 << 20) + 1] {
        let state = snapshot("a", 3, bytes);
        subject.store().write_snapshot(&name("a"), &state).unwrap();
        assert_log(&newest(subject.store(), "a"), "a", Some(&state), 3);
        subject.reopen();
        assert_log(&newest(subject.store(), "a"), "a", Some(&state), 3);
    }
}

fn store_10_an_unknown_document_is_empty(subject: Subject) {
    assert_log(&newest(subject.store(), "a"), "a", None, 0);
    assert_log(&previous(subject.store(), "a"), "a", None, 0);
    assert!(subject.store().documents().is_empty());
    let nothing = snapshot("a", 0, 2);
    subject.store().write_snapshot(&name("a"), &nothing).unwrap();
    assert_log(&newest(subject.store(), "a"), "a", Some(&nothing), 0);
}

fn store_24_a_rewrite_takes_the_place_of_everything_before_it(mut subject: Subject) {
    let (four, eight) = (snapshot("a", 4, 50), snapshot("a", 8, 60));
    let store = subject.store();
    store.append(&records("a", 1..=9)).unwrap();
    store.write_snapshot(&name("a"), &four).unwrap();
    store.write_snapshot(&name("a"), &eight).unwrap();
    let ten = snapshot("a", 10, 70);
    let at = store.rewrite(&name("a"), Epoch::new(7), ten.state.clone()).unwrap();
    assert_eq!(at, Sequence::new(10), "positions go on rising");
    for _ in 0..2 {
        assert_log(&newest(subject.store(), "a"), "a", Some(&ten), 10);
        let none = subject.store().load(&name("a"), Generation::Previous);
        assert!(matches!(none, Err(LoadError::NoPrevious { .. })), "{none:?}");
        subject.reopen();
    }
    let store = subject.store();
    let refused = store.append(&records("a", [10]));
    assert!(matches!(refused, Err(AppendError::OutOfOrder { .. })), "{refused:?}");
    store.append(&records("a", 11..=12)).unwrap();
    assert_log(&newest(store, "a"), "a", Some(&ten), 12);
    let twelve = snapshot("a", 12, 80);
    store.write_snapshot(&name("a"), &twelve).unwrap();
    for _ in 0..2 {
        assert_log(&newest(subject.store(), "a"), "a", Some(&twelve), 12);
        assert_log(&previous(subject.store(), "a"), "a", Some(&ten), 12);
        subject.reopen();
    }
}

fn store_24_a_document_that_was_never_written_can_be_rewritten(mut subject: Subject) {
    let one = snapshot("a", 1, 50);
    let at = subject.store().rewrite(&name("a"), Epoch::NONE, one.state.clone()).unwrap();
    assert_eq!(at, Sequence::new(1));
    subject.reopen();
    assert_log(&newest(subject.store(), "a"), "a", Some(&one), 1);
    subject.store().append(&records("a", [2])).unwrap();
    assert_log(&newest(subject.store(), "a"), "a", Some(&one), 2);
}

fn store_39_a_log_is_replaced_in_its_place(mut subject: Subject) {
    let (four, nine) = (snapshot("a", 4, 50), snapshot("a", 9, 60));
    let store = subject.store();
    store.append(&records("a", 1..=9)).unwrap();
    store.write_snapshot(&name("a"), &four).unwrap();
    let epoch = newest(store, "a").epoch;
    let ahead = store.replace_log(&name("a"), &snapshot("a", 10, 60));
    assert!(matches!(ahead, Err(SnapshotError::Ahead { .. })), "{ahead:?}");
    let back = store.replace_log(&name("a"), &snapshot("a", 3, 60));
    assert!(matches!(back, Err(SnapshotError::Outdated { .. })), "{back:?}");
    store.write_snapshot(&name("a"), &nine).unwrap();
    store.replace_log(&name("a"), &nine).unwrap();
    for _ in 0..2 {
        let none = subject.store().load(&name("a"), Generation::Previous);
        assert!(matches!(none, Err(LoadError::NoPrevious { .. })), "{none:?}");
        assert_log(&newest(subject.store(), "a"), "a", Some(&nine), 9);
        subject.reopen();
    }
    assert_eq!(newest(subject.store(), "a").epoch, epoch);
    subject.store().append(&records("a", 10..=11)).unwrap();
    subject.reopen();
    assert_log(&newest(subject.store(), "a"), "a", Some(&nine), 11);
}

fn store_25_every_document_has_the_epoch_of_its_history(mut subject: Subject) {
    let keeps_epochs = subject.store().epoch() != Epoch::NONE;
    let store_epoch = subject.store().epoch();
    let kept = |epoch| if keeps_epochs { epoch } else { Epoch::NONE };
    let other = kept(Epoch::new(0xfeed));
    assert_eq!(newest(subject.store(), "unwritten").epoch, store_epoch);
    subject.store().append(&records("a", 1..=3)).unwrap();
    subject.store().append(&records("b", 1..=3)).unwrap();
    let state = || snapshot("b", 4, 30).state;
    subject.store().rewrite(&name("b"), Epoch::new(0xfeed), state()).unwrap();
    // The same history goes on from another state.
    subject.store().rewrite(&name("b"), Epoch::NONE, state()).unwrap();
    subject.store().append(&records("b", 6..=9)).unwrap();
    for through in [7, 9] {
        subject.store().write_snapshot(&name("b"), &snapshot("b", through, 30)).unwrap();
        for _ in 0..2 {
            assert_eq!(newest(subject.store(), "a").epoch, store_epoch);
            assert_eq!(newest(subject.store(), "b").epoch, other);
            assert_eq!(subject.store().salvage(&name("b")).unwrap().log.epoch, other);
            let epochs: Vec<_> =
                subject.store().documents().iter().map(|info| info.epoch).collect();
            assert_eq!(epochs, [store_epoch, other]);
            subject.reopen();
            assert_eq!(subject.store().epoch(), store_epoch);
        }
    }
}

fn store_26_a_document_rewritten_as_nothing_is_listed_when_it_is_written_again(
    mut subject: Subject,
) {
    let listed = |subject: &Subject| subject.store().documents().len();
    subject.store().append(&records("a", 1..=3)).unwrap();
    let nothing = Snapshot { through: Sequence::new(4), state: vec![0, 0].into() };
    subject.store().rewrite(&name("a"), Epoch::new(7), nothing.state.clone()).unwrap();
    for _ in 0..2 {
        assert_eq!(listed(&subject), 0);
        assert_log(&newest(subject.store(), "a"), "a", Some(&nothing), 4);
        subject.reopen();
    }
    subject.store().append(&records("a", [5])).unwrap();
    assert_eq!(listed(&subject), 1);
    subject.reopen();
    assert_eq!(listed(&subject), 1);
}

fn store_27_what_is_intact_is_salvaged_in_full(mut subject: Subject) {
    subject.store().append(&records("a", 1..=9)).unwrap();
    subject.store().write_snapshot(&name("a"), &snapshot("a", 4, 50)).unwrap();
    for _ in 0..2 {
        for document in ["a", "unwritten"] {
            let salvaged = subject.store().salvage(&name(document)).unwrap();
            assert_eq!(salvaged.log, newest(subject.store(), document));
            assert_eq!((salvaged.last, salvaged.reason), (salvaged.log.last(), None));
        }
        subject.reopen();
    }
}

/// What a document should hold.
#[derive(Default)]
struct Model {
    last: u64,
    newest: Option<Snapshot>,
    previous: Option<Snapshot>,
    epoch: Option<Epoch>,
}

fn store_16_any_history_reads_like_the_model(mut subject: Subject) {
    let mut models: BTreeMap<String, Model> = BTreeMap::new();
    let mut random = 0x5eed_u64;
    for step in 0..3000_u64 {
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let document = format!("d{}", (random >> 33) % 7);
        let model = models.entry(document.clone()).or_default();
        match (random >> 45) % 100 {
            0..80 => {
                let count = 1 + (random >> 55) % 3;
                let batch = records(&document, model.last + 1..=model.last + count);
                until_there_is_room(|| {
                    subject
                        .store()
                        .append(&batch)
                        .map_err(|source| SnapshotError::Journal { source })
                });
                model.last += count;
            }
            80..83 => {
                let epoch = Epoch::new(step + 1);
                let state = snapshot(&document, model.last + 1, (step % 300) as usize + 3);
                let rewrite =
                    || subject.store().rewrite(&name(&document), epoch, state.state.clone());
                assert_eq!(until_there_is_room(rewrite), state.through);
                let last = model.last + 1;
                *model = Model { last, newest: Some(state), previous: None, epoch: Some(epoch) };
            }
            83..99 => {
                let state = snapshot(&document, model.last, ((random >> 50) % 900) as usize);
                let write = || subject.store().write_snapshot(&name(&document), &state);
                until_there_is_room(write);
                let before = model.newest.replace(state);
                if before.as_ref().is_some_and(|before| before.through.get() < model.last) {
                    model.previous = before;
                }
            }
            _ => {
                if step % 3 == 0 {
                    subject.reopen();
                }
                for (document, model) in &models {
                    check(subject.store(), document, model);
                }
            }
        }
    }
}

/// Tries again what finds no room, as the writer does.
#[track_caller]
fn until_there_is_room<T>(mut write: impl FnMut() -> Result<T, SnapshotError>) -> T {
    let mut outcome = write();
    for _ in 0..5 {
        if matches!(outcome, Err(SnapshotError::Journal { source: AppendError::Stalled { .. } })) {
            outcome = write();
        }
    }
    outcome.unwrap()
}

#[test]
fn store_31_any_history_that_finds_no_room_now_and_then_reads_like_the_model() {
    let (subject, stalls) = Subject::cramped();
    store_16_any_history_reads_like_the_model(subject);
    assert!(stalls.load(Ordering::Relaxed) > 100, "{stalls:?} stalls");
}

fn check(store: &dyn Store, document: &str, model: &Model) {
    assert_log(&newest(store, document), document, model.newest.as_ref(), model.last);
    if model.epoch.is_some() && model.previous.is_none() {
        let none = store.load(&name(document), Generation::Previous);
        assert!(matches!(none, Err(LoadError::NoPrevious { .. })), "{none:?}");
    } else {
        assert_log(&previous(store, document), document, model.previous.as_ref(), model.last);
    }
    let log = store.load(&name(document), Generation::Newest).unwrap();
    assert_eq!(log.last(), Sequence::new(model.last));
    let epoch = model.epoch.filter(|_| store.epoch() != Epoch::NONE);
    assert_eq!(log.epoch, epoch.unwrap_or(store.epoch()));
    assert!(log.updates.iter().all(|one| one.update == update(document, one.sequence.get())));
}
