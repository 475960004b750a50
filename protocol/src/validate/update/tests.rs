//! One test for each rule of `docs/spec-validation.md` about updates, named after it.

use std::collections::BTreeMap;

use super::*;
use crate::validate::Fit;
use crate::wire::varint::{ReadError, write_buffer, write_var_uint};

const ALLOWED: Budget = Budget { subdocuments: Subdocuments::Allowed, ..Budget::LIVE };

fn walk(bytes: &[u8]) -> Result<UpdateFacts, ValidationError> {
    walk_update(bytes, &Budget::LIVE)
}

fn client(id: u64) -> ClientId {
    ClientId::new(id).unwrap()
}

fn uint(value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_var_uint(&mut bytes, value);
    bytes
}

/// An update of one block, `body`, written by client 1 at clock 0.
fn one(body: &[u8]) -> Vec<u8> {
    at(0, body)
}

fn at(clock: u64, body: &[u8]) -> Vec<u8> {
    [&[1, 1, 1][..], &uint(clock), body, &[0]].concat()
}

/// A string block in the root type `t`.
fn text(content: &str) -> Vec<u8> {
    let mut body = vec![STRING, 1, 1, b't'];
    write_buffer(&mut body, content.as_bytes());
    body
}

/// A block of JSON-like values in the root type `t`.
fn values(count: u64, content: &[u8]) -> Vec<u8> {
    one(&[&[ANY, 1, 1, b't'][..], &uint(count), content].concat())
}

/// An embed whose JSON is `json`.
fn embed(json: &str) -> Vec<u8> {
    let mut body = vec![EMBED, 1, 1, b't'];
    write_buffer(&mut body, json.as_bytes());
    one(&body)
}

fn refuses(bytes: &[u8], is_cause: impl Fn(&ValidationError) -> bool) {
    match walk(bytes) {
        Err(error) if is_cause(&error) => {}
        other => panic!("{bytes:?} gives {other:?}"),
    }
}

#[test]
fn an_ordinary_update_passes() {
    let facts = walk(&one(&text("hi"))).unwrap();
    assert_eq!(facts.sections, [Section { client: client(1), start: 0, end: 2, offset: 4 }]);
    assert_eq!(facts.needs, BTreeMap::new());
    assert!(!facts.deletes && !facts.interrupted && !facts.subdocuments);
    assert_eq!(walk(&[0, 0]), Ok(UpdateFacts { deletions_offset: 1, ..UpdateFacts::default() }));
}

#[test]
fn valid_1_integers_have_8_bytes_and_53_bits() {
    let wide = uint(1 << 53);
    refuses(&[&[1, 1][..], &wide, &[0, 0, 1, 0]].concat(), |error| {
        matches!(error, ValidationError::Unreadable(ReadError::TooLarge { .. }))
    });
    let long = [0x80_u8; 9];
    refuses(&[&[1, 1][..], &long, &[0, 0, 1, 0]].concat(), |error| {
        matches!(error, ValidationError::Unreadable(ReadError::VarintTooLong { offset: 2 }))
    });
    let last = uint((1 << 53) - 1);
    walk(&[&[1, 1][..], &last, &[0, 0, 1, 0]].concat()).unwrap();
    refuses(&[], |error| matches!(error, ValidationError::Unreadable(ReadError::Ended { .. })));
}

#[test]
fn valid_2_a_count_that_the_bytes_cannot_hold_is_refused() {
    let too_many = |error: &ValidationError| {
        matches!(error, ValidationError::Unreadable(ReadError::CountTooLarge { .. }))
    };
    refuses(&[128, 132, 175, 95], too_many);
    refuses(&[2, 1, 1, 0, 0, 1, 0, 0, 0, 0], too_many);
    refuses(&[1, 100, 1, 0, 0, 1, 0], too_many);
    refuses(&[0, 100, 1, 1, 0, 1], too_many);
    refuses(&[0, 1, 1, 100, 0, 1], too_many);
    refuses(&values(100, &[127]), too_many);
    refuses(&values(1, &[117, 100, 127]), too_many);
    refuses(&values(1, &[118, 2, 0, 127]), too_many);
}

#[test]
fn valid_3_clocks_stay_below_their_end() {
    let last = u64::from(CLOCK_END) - 1;
    walk(&at(last - 1, &[GC, 1])).unwrap();
    refuses(&at(last, &[GC, 1]), |error| matches!(error, ValidationError::ClockTooLarge { .. }));
    refuses(&at(1, &[&[GC][..], &uint((1 << 53) - 1)].concat()), |error| {
        matches!(error, ValidationError::ClockTooLarge { clock: 1, .. })
    });
    refuses(&at(last + 1, &[GC, 1]), |error| {
        matches!(error, ValidationError::Unreadable(ReadError::TooLarge { .. }))
    });
    refuses(&[&[0, 1, 1, 1][..], &uint(last), &[1]].concat(), |error| {
        matches!(error, ValidationError::ClockTooLarge { .. })
    });
    refuses(&one(&[&[0x80 | DELETED, 2][..], &uint(last + 1), &[1]].concat()), |error| {
        matches!(error, ValidationError::Unreadable(ReadError::TooLarge { .. }))
    });
}

#[test]
fn valid_4_a_client_is_listed_once() {
    let repeated =
        |error: &ValidationError| *error == ValidationError::RepeatedClient { client: client(1) };
    refuses(&[2, 1, 1, 0, 0, 1, 1, 1, 1, 0, 1, 0], repeated);
    refuses(&[0, 2, 1, 1, 0, 1, 1, 1, 5, 1], repeated);
}

#[test]
fn valid_5_a_listed_client_has_blocks_or_deletions() {
    refuses(&[1, 0, 1, 0, 0, 0], |error| {
        *error == ValidationError::EmptySection { client: client(1) }
    });
    refuses(&[0, 1, 1, 0, 0, 0], |error| {
        *error == ValidationError::EmptyDeletions { client: client(1) }
    });
}

#[test]
fn valid_6_a_block_of_length_zero_is_refused() {
    let bodies: [&[u8]; 5] = [
        &[GC, 0],
        &[SKIP, 0],
        &[DELETED, 1, 1, b't', 0],
        &[STRING, 1, 1, b't', 0],
        &[ANY, 1, 1, b't', 0],
    ];
    for body in bodies {
        refuses(&one(body), |error| *error == ValidationError::EmptyBlock { offset: 4 });
    }
}

#[test]
fn valid_7_only_the_kinds_that_yjs_writes_and_yrs_reads_pass() {
    let bodies: [&[u8]; 6] = [
        &[GC, 3],
        &[DELETED, 1, 1, b't', 3],
        &[BINARY, 1, 1, b't', 2, 0xff, 0],
        &[EMBED, 1, 1, b't', 2, b'{', b'}'],
        &[FORMAT, 1, 1, b't', 1, b'b', 4, b't', b'r', b'u', b'e'],
        &[ANY, 1, 1, b't', 2, 126, 127],
    ];
    for body in bodies {
        walk(&one(body)).unwrap();
    }
    for info in (0..=u8::MAX).filter(|info| {
        let kind = info & KIND_MASK;
        kind == 2 || kind > SKIP || (matches!(kind, GC | SKIP) && *info != kind)
    }) {
        refuses(&one(&[info, 1, 1, b't', 1, b'x']), |error| {
            *error == ValidationError::UnsupportedBlock { offset: 4, info }
        });
    }
}

#[test]
fn valid_8_a_subdocument_passes_only_where_it_is_allowed() {
    let bytes = one(&[SUBDOCUMENT, 1, 1, b't', 2, b'i', b'd', 118, 0]);
    let refused = walk(&bytes).unwrap_err();
    assert_eq!(refused, ValidationError::SubdocumentRefused { offset: 4 });
    assert!(refused.to_string().contains("subdocument"), "{refused}");
    assert!(walk_update(&bytes, &ALLOWED).unwrap().subdocuments);
}

#[test]
fn valid_9_a_skip_interrupts() {
    let facts = walk(&[1, 2, 1, 4, SKIP, 3, GC, 2, 0]).unwrap();
    assert!(facts.interrupted);
    assert_eq!(facts.sections, [Section { client: client(1), start: 4, end: 9, offset: 4 }]);
}

#[test]
fn valid_10_shared_types_are_of_kinds_that_yrs_reads() {
    for tag in [0, 1, 2, 4, 6] {
        walk(&one(&[TYPE, 1, 1, b't', tag])).unwrap();
    }
    walk(&one(&[TYPE, 1, 1, b't', XML_ELEMENT, 1, b'p'])).unwrap();
    for tag in [5, 7, 8, 9, 15, 0x80] {
        refuses(&one(&[TYPE, 1, 1, b't', tag, 1, b'p']), |error| {
            *error == ValidationError::UnsupportedType { offset: 8, tag }
        });
    }
}

#[test]
fn valid_11_text_is_utf_8_and_counts_utf_16() {
    for content in ["a", "\u{e9}", "\u{20ac}", "\u{1f600}", "a\u{1f600}\u{ffff}\u{10000}z"] {
        let units = u32::try_from(content.encode_utf16().count()).unwrap();
        assert_eq!(walk(&one(&text(content))).unwrap().sections[0].end, units, "{content}");
    }
    let not_utf8 = |error: &ValidationError| {
        matches!(error, ValidationError::Unreadable(ReadError::NotUtf8 { .. }))
    };
    refuses(&one(&[STRING, 1, 1, b't', 1, 0xff]), not_utf8);
    refuses(&one(&[STRING, 1, 1, 0xff, 1, b'x']), not_utf8);
    refuses(&one(&[STRING | HAS_PARENT_KEY, 1, 1, b't', 1, 0xff, 1, b'x']), not_utf8);
    refuses(&one(&[STRING, 1, 1, b't', 3, 0xed, 0xa0, 0x80]), not_utf8);
}

#[test]
fn valid_12_embeds_and_formats_are_json_that_yrs_reads() {
    let long = format!("{}1{}", "[".repeat(100), "]".repeat(100));
    for json in ["null", "true", " 1 ", "-0", "1e300", r#"{"a":[1,"\ud83d\ude00",{}]}"#, &long] {
        walk(&embed(json)).unwrap();
    }
    let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
    for json in
        ["", "undefined", "{", "1 2", "NaN", "1e999", r#""\ud83d""#, "9223372036854775808", &deep]
    {
        refuses(&embed(json), |error| matches!(error, ValidationError::BadJson { offset: 8, .. }));
    }
    refuses(&one(&[FORMAT, 1, 1, b't', 1, b'b', 1, b'x']), |error| {
        matches!(error, ValidationError::BadJson { .. })
    });
}

#[test]
fn valid_13_values_are_known_and_not_too_deep() {
    let all: &[u8] = &[
        127, 126, 125, 0x41, 124, 0, 0, 0, 0, 123, 0, 0, 0, 0, 0, 0, 0, 0, 122, 0, 0, 0, 0, 0, 0,
        0, 0, 121, 120, 119, 1, b'x', 118, 1, 1, b'k', 126, 117, 2, 126, 127, 116, 1, 0xff,
    ];
    assert_eq!(walk(&values(12, all)).unwrap().sections[0].end, 12);
    for tag in [0, 115, 128, 255] {
        refuses(&values(1, &[tag]), |error| {
            *error == ValidationError::UnknownValue { offset: 9, tag }
        });
    }
    let nested = |levels: usize| values(1, &[&[117, 1].repeat(levels)[..], &[126]].concat());
    walk(&nested(Budget::LIVE.any_depth_max)).unwrap();
    let error = walk(&nested(Budget::LIVE.any_depth_max + 1)).unwrap_err();
    assert!(matches!(error, ValidationError::ValueTooDeep { max: 32, .. }), "{error}");
    assert!(error.is_budget());
    let unlimited = Budget { any_depth_max: usize::MAX, ..Budget::LIVE };
    assert!(walk_update(&nested(100_000), &unlimited).is_err());
}

#[test]
fn valid_14_a_parent_is_a_name_or_a_block() {
    walk(&at(1, &[STRING, 0, 1, 0, 1, b'x'])).unwrap();
    refuses(&at(1, &[STRING, 2, 1, 0, 1, b'x']), |error| {
        *error == ValidationError::UnknownParent { offset: 5, tag: 2 }
    });
}

#[test]
fn valid_15_references_to_the_own_client_point_backwards() {
    for info in [STRING | HAS_ORIGIN, STRING | HAS_RIGHT_ORIGIN] {
        walk(&at(5, &[info, 1, 4, 1, b'x'])).unwrap();
        for clock in [5, 6] {
            refuses(&at(5, &[info, 1, clock, 1, b'x']), |error| {
                matches!(error, ValidationError::ForwardReference { block: 5, .. })
            });
        }
    }
    refuses(&at(5, &[STRING, 0, 1, 5, 1, b'x']), |error| {
        matches!(error, ValidationError::ForwardReference { .. })
    });
}

#[test]
fn valid_16_blocks_do_not_wait_for_one_another() {
    let block = |client: u8| [STRING | HAS_ORIGIN, client, 0, 1, b'x'];
    let update =
        |first: &[u8], second: &[u8]| [&[2, 1, 2, 0][..], first, &[1, 1, 0], second, &[0]].concat();
    refuses(&update(&block(1), &block(2)), |error| {
        matches!(error, ValidationError::CircularReference { .. })
    });
    walk(&update(&block(1), &block(3))).unwrap();
    walk(&update(&block(1), &text("x"))).unwrap();
}

#[test]
fn valid_17_deletions_are_not_empty_ascend_and_do_not_overlap() {
    assert!(walk(&[0, 1, 1, 2, 0, 2, 2, 1]).unwrap().deletes, "touching ranges pass");
    refuses(&[0, 1, 1, 1, 0, 0], |error| *error == ValidationError::EmptyRange { offset: 4 });
    let unsorted = |error: &ValidationError| matches!(error, ValidationError::UnsortedRange { .. });
    refuses(&[0, 1, 1, 2, 0, 2, 1, 1], unsorted);
    refuses(&[0, 1, 1, 2, 5, 1, 1, 1], unsorted);
}

#[test]
fn valid_18_needs_are_the_highest_referenced_clocks() {
    let update = [
        &[1, 3, 1, 4][..],
        &[STRING | HAS_ORIGIN | HAS_RIGHT_ORIGIN, 2, 7, 3, 1, 1, b'x'],
        &[STRING, 0, 2, 5, 1, b'y'],
        &[STRING | HAS_ORIGIN, 1, 5, 1, b'z'],
        &[1, 4, 2, 0, 1, 8, 2],
    ]
    .concat();
    let needs = walk(&update).unwrap().needs;
    let expected = [(1, 6), (2, 8), (3, 2), (4, 10)].map(|(id, clock)| (client(id), clock));
    assert_eq!(needs, BTreeMap::from(expected));
}

#[test]
fn valid_19_nothing_follows_the_end() {
    refuses(&[0, 0, 7], |error| *error == ValidationError::TrailingBytes { offset: 2, left: 1 });
}

#[test]
fn valid_20_budgets_name_the_limit_and_the_size() {
    let tight = Budget { clients_max: 1, delete_ranges_max: 2, ..Budget::LIVE };
    let check = |bytes: &[u8], expected: ValidationError| {
        assert!(expected.is_budget());
        assert_eq!(walk_update(bytes, &tight), Err(expected), "{bytes:?}");
    };
    let over = ValidationError::ClientsOverBudget { clients: 2, max: 1 };
    assert!(over.to_string().contains("2 clients, at most 1"), "{over}");
    check(&[2, 1, 1, 0, 0, 1, 1, 2, 0, 0, 1, 0], over.clone());
    check(&[0, 2, 1, 1, 0, 1, 2, 1, 0, 1], over);
    let over = ValidationError::DeleteRangesOverBudget { ranges: 3, max: 2 };
    check(&[0, 1, 1, 3, 0, 1, 2, 1, 4, 1], over);
    assert!(!walk(&[0, 0, 7]).unwrap_err().is_budget());
}

#[test]
fn valid_20_client_ids_that_collide_in_yrs_are_refused() {
    let update = |id: &dyn Fn(u64) -> u64| {
        let sections = (0..200).map(|n| [&[1][..], &uint(id(n)), &[0, GC, 1]].concat());
        [uint(200), sections.collect::<Vec<_>>().concat(), vec![0]].concat()
    };
    walk(&update(&|n| n)).unwrap();
    walk(&update(&|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32)).unwrap();
    let error = walk(&update(&|n| n << 36)).unwrap_err();
    assert_eq!(error, ValidationError::CollidingClients { clients: 200, max: 128 });
    assert!(walk_update(&update(&|n| n << 36), &Budget::STORED).is_ok());
}

#[test]
fn valid_21_fit_is_known_ready_or_incomplete() {
    let known = |clock: u32| StateVector::from([(client(1), clock)]);
    let fit = |bytes: &[u8], clock: u32| walk(bytes).unwrap().fit(&known(clock));
    let block = at(4, &[STRING | HAS_ORIGIN, 1, 3, 2, b'x', b'y']);
    assert_eq!(fit(&block, 3), Fit::Incomplete, "a hole");
    assert_eq!(fit(&block, 4), Fit::Ready);
    assert_eq!(fit(&block, 5), Fit::Ready, "half of it is known");
    assert_eq!(fit(&block, 6), Fit::Known);
    assert_eq!(fit(&[0, 0], 0), Fit::Known);

    let deletion = [0, 1, 1, 1, 2, 3];
    assert_eq!(fit(&deletion, 4), Fit::Incomplete);
    assert_eq!(fit(&deletion, 5), Fit::Ready);
    assert!(walk(&deletion).unwrap().is_deletion_only());
    assert!(!walk(&block).unwrap().is_deletion_only());

    let skip = [1, 3, 1, 4, GC, 1, SKIP, 3, GC, 2, 0];
    assert_eq!(fit(&skip, 4), Fit::Incomplete);
    assert_eq!(fit(&skip, 10), Fit::Known);

    let other = one(&[STRING | HAS_ORIGIN, 2, 0, 1, b'x']);
    assert_eq!(fit(&other, 0), Fit::Incomplete, "the origin is nowhere");
    let both = [&[2][..], &other[1..other.len() - 1], &[1, 2, 0, GC, 1, 0]].concat();
    assert_eq!(fit(&both, 0), Fit::Ready, "the origin is in the same update");
}

#[test]
fn valid_22_advance_raises_the_clocks() {
    let facts = walk(&at(4, &[GC, 3])).unwrap();
    let mut known = StateVector::new();
    facts.advance(&mut known);
    assert_eq!(known, StateVector::from([(client(1), 7)]));
    walk(&at(2, &[GC, 3])).unwrap().advance(&mut known);
    assert_eq!(known, StateVector::from([(client(1), 7)]));
}
