//! Updates that broke yrs 0.28.1 when it read them without validation.

use syncline_protocol::validate::{Budget, walk_state_vector, walk_update};
use yrs::{Array, Map, Text, Transact};

use crate::listed::{Expect, ON_BASE, ON_EMPTY, base64};
use crate::pipeline::{Outcome, Replica, WITH_SUBDOCUMENTS, doc, encode, isolated};

/// Client 1: text `t` = "hello" with 1..3 deleted, map `m` = {k: 1}, array `a` = [1].
fn base() -> Vec<u8> {
    let doc = doc(1);
    let (text, map, array) =
        (doc.get_or_insert_text("t"), doc.get_or_insert_map("m"), doc.get_or_insert_array("a"));
    let mut txn = doc.transact_mut();
    text.insert(&mut txn, 0, "hello");
    text.remove_range(&mut txn, 1, 2);
    map.insert(&mut txn, "k", 1);
    array.push_back(&mut txn, 1);
    drop(txn);
    encode(&doc)
}

fn check(name: &str, base: Option<&[u8]>, updates: &[Vec<u8>], expect: Expect) {
    let outcomes = isolated(|| {
        let mut replica = Replica::new(WITH_SUBDOCUMENTS);
        if let Some(base) = base {
            assert_eq!(replica.deliver(base), Outcome::Applied, "{name}: the base document");
        }
        let outcomes: Vec<Outcome> = updates.iter().map(|update| replica.deliver(update)).collect();
        replica.check();
        outcomes
    });
    let outcomes = outcomes.unwrap_or_else(|| panic!("{name}: panicked"));
    let last = match outcomes.last() {
        Some(Outcome::Refused(_)) => Expect::Refused,
        Some(Outcome::Applied | Outcome::Known) => Expect::Harmless,
        other => panic!("{name}: {other:?}"),
    };
    assert_eq!(last, expect, "{name}: {outcomes:?}");
}

/// Updates for an empty document, found with a generator of decodable updates.
#[test]
fn vectors_for_an_empty_document_do_not_reach_yrs() {
    let encode_panics_for_ever = [
        1, 2, 1, 255, 255, 255, 255, 15, 9, 1, 3, 120, 109, 108, 4, 103, 117, 105, 100, 118, 0, 0,
        1, 0,
    ];
    let abort = [
        2, 0, 100, 11, 3, 7, 255, 255, 255, 255, 15, 0, 4, 0, 4, 69, 7, 2, 7, 123, 34, 97, 34, 58,
        49, 125, 2, 102, 2, 136, 1, 9, 240, 255, 255, 255, 15, 211, 2, 1, 1, 1, 194, 237, 3,
    ];
    let segmentation_fault = [
        vec![2, 3, 1, 1, 0, 5, 135, 100, 22, 0, 132, 100, 37, 1, 120, 0, 7, 20, 0],
        vec![
            2, 1, 1, 0, 132, 1, 5, 5, 104, 101, 108, 108, 111, 3, 101, 162, 2, 36, 1, 3, 109, 97,
            112, 1, 97, 0, 227, 100, 20, 103, 26, 2, 1, 2, 132, 101, 27, 2, 97, 98, 1, 101, 2, 3,
            25, 140, 3, 196, 1,
        ],
    ];
    let encode_panics = [
        1, 4, 103, 7, 135, 1, 24, 5, 1, 112, 0, 1, 8, 1, 3, 109, 97, 112, 2, 126, 126, 36, 1, 4,
        116, 101, 120, 116, 1, 98, 1, 120, 0,
    ];
    check("V1", None, &[encode_panics_for_ever.to_vec()], Expect::Refused);
    check("V2", None, &[abort.to_vec()], Expect::Refused);
    check("V3", None, &segmentation_fault, Expect::Refused);
    check("V4", None, &[encode_panics.to_vec()], Expect::Refused);
    check("V6", None, &[vec![128, 132, 175, 95]], Expect::Refused);
    assert!(walk_state_vector(&[128, 132, 175, 95]).is_err());
}

#[test]
fn nested_values_do_not_overflow_a_small_stack() {
    for levels in [7_000, 8_000, 1_000_000] {
        let nested = [117, 1].repeat(levels);
        let update = [&[1, 1, 77, 0, 40, 1, 1, b't', 1, b'k', 1][..], &nested, &[126, 0]].concat();
        assert!(walk_update(&update, &Budget::LIVE).unwrap_err().is_budget());
        assert!(walk_update(&update, &Budget::STORED).unwrap_err().is_budget());
    }
}

/// Found by fuzzing; each with its effect without validation.
#[test]
fn fuzzed_seeds_do_not_harm_a_document() {
    for (name, expect, seed) in ON_EMPTY {
        check(name, None, &[base64(seed)], expect);
    }

    let base = base();
    for (name, expect, seed) in ON_BASE {
        check(name, Some(&base), &[base64(seed)], expect);
    }
}

#[test]
fn an_honest_subdocument_is_refused_by_name() {
    let set = base64("AQEFACkBAW0Dc3ViAWF2AAA=");
    let error = walk_update(&set, &Budget::LIVE).unwrap_err();
    assert!(error.to_string().contains("subdocuments are not enabled"), "{error}");
}
