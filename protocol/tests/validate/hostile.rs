//! Updates that no real client writes: random bytes, damaged updates, and well-formed nonsense.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use syncline_protocol::ClientId;
use syncline_protocol::validate::{
    Budget, StateVector, walk_presence, walk_state_vector, walk_update,
};
use syncline_protocol::wire::varint::{write_buffer, write_var_uint};

use crate::pipeline::{Outcome, Replica, isolated};
use crate::random::{Rng, honest_session};

/// The same cases in every run; `PROPTEST_CASES` and `PROPTEST_RNG_SEED` look further.
fn config(cases: u32) -> ProptestConfig {
    let mut config = ProptestConfig::default();
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = cases;
    }
    if std::env::var_os("PROPTEST_RNG_SEED").is_none() {
        config.rng_seed = RngSeed::Fixed(1);
    }
    ProptestConfig { failure_persistence: None, ..config }
}

proptest! {
    #![proptest_config(config(4_000))]

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        let bytes = Bytes::from(bytes);
        drop(walk_update(&bytes, &Budget::STORED));
        drop(walk_state_vector(&bytes));
        drop(walk_presence(&bytes, &Budget::LIVE));
    }

    /// Small bytes get further than random ones: most are counts, clocks and kinds.
    #[test]
    fn small_bytes_never_panic(bytes in vec(0_u8..12, 0..60)) {
        let bytes = Bytes::from(bytes);
        drop(walk_update(&bytes, &Budget::STORED));
        drop(walk_state_vector(&bytes));
        drop(walk_presence(&bytes, &Budget::LIVE));
    }

    /// Validation and yrs accept the same JSON.
    #[test]
    fn the_gate_and_yrs_agree_on_json(
        json in prop_oneof![
            r#"[\[\]{}",:0-9a-z.eE+\\-]{0,12}"#,
            r#""(\\u[dD][89a-f][0-9a-f]{2}|[a-z]|\\[nt"]){0,4}""#,
            r"-?[0-9]{1,22}(\.[0-9]{1,3})?([eE][+-]?[0-9]{1,3})?",
            r#"(\{"[a-c]":\[?(null|true|[0-9]{1,20})\]?,?\}|\[[a-z0-9",]*\])"#,
        ]
    ) {
        let mut update = vec![1, 1, 1, 0, 5, 1, 1, b't'];
        write_buffer(&mut update, json.as_bytes());
        update.push(0);
        let passes = walk_update(&update, &Budget::LIVE).is_ok();
        prop_assert_eq!(passes, yrs::Any::from_json(&json).is_ok(), "{}", json);
    }
}

proptest! {
    #![proptest_config(config(400))]

    /// A real session in which one update in three is damaged.
    #[test]
    fn a_damaged_update_leaves_the_document_whole(seed in any::<u64>()) {
        let updates = honest_session(seed % 50, 20);
        let mut rng = Rng::new(seed);
        let whole = isolated(|| {
            let mut replica = Replica::new(Budget::LIVE);
            for update in &updates {
                if rng.below(3) == 0 && !goes_on(&replica.deliver(&damage(&mut rng, update))) {
                    return;
                }
                if !goes_on(&replica.deliver(update)) {
                    return;
                }
            }
            replica.check();
        });
        prop_assert!(whole.is_some());
    }

    /// Well-formed updates whose references, parents, keys and deletions make no sense. Before the
    /// locations of blocks were checked, one session in 10,000 broke yrs, some without end.
    #[test]
    fn well_formed_nonsense_leaves_the_document_whole(seed in any::<u64>()) {
        let mut rng = Rng::new(seed);
        let whole = isolated(|| {
            let mut replica = Replica::new(Budget::LIVE);
            for _ in 0..16 {
                let update = nonsense(&mut rng, &replica.known);
                if !goes_on(&replica.deliver(&update)) {
                    return;
                }
            }
            replica.check();
        });
        prop_assert!(whole.is_some());
    }
}

/// Whether the document is still usable; after an error of yrs its caller rebuilds it.
fn goes_on(outcome: &Outcome) -> bool {
    !matches!(outcome, Outcome::Failed(_))
}

fn damage(rng: &mut Rng, update: &[u8]) -> Vec<u8> {
    let mut bytes = update.to_vec();
    for _ in 0..=rng.below(2) {
        let at = rng.index(bytes.len());
        match rng.below(6) {
            0 => bytes[at] = bytes[at].wrapping_add(1),
            1 => bytes[at] = bytes[at].wrapping_sub(1),
            2 => bytes[at] = rng.byte(),
            3 => bytes[at] ^= 1 << rng.below(8),
            4 => bytes.insert(at, rng.byte()),
            _ if bytes.len() > 1 => drop(bytes.remove(at)),
            _ => {}
        }
    }
    bytes
}

const CLIENTS: u64 = 3;
const ROOTS: [&str; 3] = ["t", "m", "a"];
const KEYS: [&str; 2] = ["k", "l"];

fn nonsense(rng: &mut Rng, known: &StateVector) -> Vec<u8> {
    let clock = |client: u64| known.get(&ClientId::new(client).unwrap()).copied().unwrap_or(0);
    let mut bytes = Vec::new();
    let writers: Vec<u64> = (1..=CLIENTS).filter(|_| rng.below(2) == 0).collect();
    write_var_uint(&mut bytes, writers.len() as u64);
    for &client in &writers {
        let blocks = 1 + rng.below(4);
        write_var_uint(&mut bytes, blocks);
        write_var_uint(&mut bytes, client);
        let mut next = clock(client).saturating_sub(u32::from(rng.below(4) == 0) * 2);
        write_var_uint(&mut bytes, u64::from(next));
        for _ in 0..blocks {
            next += block(rng, &mut bytes, (client, next), &clock);
        }
    }
    let deleters: Vec<u64> = (1..=CLIENTS).filter(|_| rng.below(3) == 0).collect();
    write_var_uint(&mut bytes, deleters.len() as u64);
    for client in deleters {
        let ranges = 1 + rng.below(2);
        write_var_uint(&mut bytes, client);
        write_var_uint(&mut bytes, ranges);
        let mut at = 0;
        for _ in 0..ranges {
            at += rng.below(u64::from(clock(client)) + 3);
            let len = 1 + rng.below(4);
            write_var_uint(&mut bytes, at);
            write_var_uint(&mut bytes, len);
            at += len;
        }
    }
    bytes
}

fn block(
    rng: &mut Rng,
    bytes: &mut Vec<u8>,
    (client, at): (u64, u32),
    clock: &impl Fn(u64) -> u32,
) -> u32 {
    let kind = [0, 1, 3, 4, 4, 4, 5, 6, 7, 7, 8][rng.index(11)];
    if kind == 0 {
        let len = 1 + rng.below(3);
        bytes.push(0);
        write_var_uint(bytes, len);
        return u32::try_from(len).unwrap();
    }
    let id = |rng: &mut Rng, bytes: &mut Vec<u8>| {
        let other = 1 + rng.below(CLIENTS);
        let end = if other == client { at } else { clock(other) + u32::from(rng.below(8) == 0) };
        write_var_uint(bytes, other);
        write_var_uint(bytes, rng.below(u64::from(end).max(1)));
    };
    let flags = [0, 0, 0x20, 0x20, 0x80, 0x80, 0x40, 0xc0][rng.index(8)];
    bytes.push(kind | flags);
    if flags & 0x80 != 0 {
        id(rng, bytes);
    }
    if flags & 0x40 != 0 {
        id(rng, bytes);
    }
    if flags & 0xc0 == 0 {
        if rng.below(3) == 0 {
            bytes.push(0);
            id(rng, bytes);
        } else {
            bytes.push(1);
            write_buffer(bytes, ROOTS[rng.index(ROOTS.len())].as_bytes());
        }
        if flags & 0x20 != 0 {
            write_buffer(bytes, KEYS[rng.index(KEYS.len())].as_bytes());
        }
    }
    content(rng, bytes, kind)
}

fn content(rng: &mut Rng, bytes: &mut Vec<u8>, kind: u8) -> u32 {
    match kind {
        1 => {
            let len = 1 + rng.below(3);
            write_var_uint(bytes, len);
            return u32::try_from(len).unwrap();
        }
        3 => write_buffer(bytes, &[0xff, 0]),
        4 => {
            let text = ["x", "ab", "\u{1f600}", "h\u{e9}llo"][rng.index(4)];
            write_buffer(bytes, text.as_bytes());
            return u32::try_from(text.encode_utf16().count()).unwrap();
        }
        5 => write_buffer(bytes, br#"{"image":[1,null]}"#),
        6 => {
            write_buffer(bytes, b"bold");
            write_buffer(bytes, [&b"true"[..], b"null"][rng.index(2)]);
        }
        7 => {
            let tag = [0, 1, 2, 3, 4, 6][rng.index(6)];
            bytes.push(tag);
            if tag == 3 {
                write_buffer(bytes, b"p");
            }
        }
        _ => {
            let len = 1 + rng.below(3);
            write_var_uint(bytes, len);
            for _ in 0..len {
                bytes.extend_from_slice([&[126][..], &[125, 5], &[117, 1, 120]][rng.index(3)]);
            }
            return u32::try_from(len).unwrap();
        }
    }
    1
}
