//! One test for each rule of `docs/spec-validation.md` about locations, named after it.

use super::*;
use crate::validate::Fit;
use crate::validate::update::{ANY, HAS_ORIGIN, HAS_PARENT_KEY, HAS_RIGHT_ORIGIN, STRING};
use crate::wire::varint::write_var_uint;

/// A document without content: only its clocks and locations.
#[derive(Default)]
struct Scene {
    places: ParentIndex,
    known: StateVector,
}

impl Scene {
    /// Admits an update of one section for each client in `sections`: its first clock, its blocks.
    fn admit(&mut self, sections: &[(u8, u8, &[&[u8]])]) -> Result<Vec<u8>, ValidationError> {
        let update = update(sections);
        let facts = walk_update(&update, &Budget::LIVE)?;
        assert_eq!(facts.fit(&self.known), Fit::Ready, "{update:?}");
        let admitted = self.places.admit(&facts, &self.known, &update)?.into_owned();
        facts.advance(&mut self.known);
        Ok(admitted)
    }

    fn passes(&mut self, sections: &[(u8, u8, &[&[u8]])]) {
        assert_eq!(self.admit(sections), Ok(update(sections)));
    }

    fn is_torn(&mut self, sections: &[(u8, u8, &[&[u8]])]) {
        let refused = self.admit(sections);
        assert!(
            matches!(refused, Err(ValidationError::TornBlock { .. })),
            "{sections:?}: {refused:?}"
        );
    }
}

fn update(sections: &[(u8, u8, &[&[u8]])]) -> Vec<u8> {
    let mut bytes = vec![u8::try_from(sections.len()).unwrap()];
    for (client, clock, blocks) in sections {
        bytes.extend([u8::try_from(blocks.len()).unwrap(), *client, *clock]);
        bytes.extend(blocks.concat());
    }
    bytes.push(0);
    bytes
}

/// Two characters in the root type `root`.
fn text(root: u8) -> Vec<u8> {
    vec![STRING, 1, 1, root, 2, b'x', b'y']
}

/// The value of the key `k` in the root type `root`.
fn entry(root: u8) -> Vec<u8> {
    vec![ANY | HAS_PARENT_KEY, 1, 1, root, 1, b'k', 1, 126]
}

/// One character between two others.
fn between(left: (u8, u8), right: (u8, u8)) -> Vec<u8> {
    vec![STRING | HAS_ORIGIN | HAS_RIGHT_ORIGIN, left.0, left.1, right.0, right.1, 1, b'z']
}

fn right_of(left: (u8, u8)) -> Vec<u8> {
    vec![STRING | HAS_ORIGIN, left.0, left.1, 1, b'z']
}

/// A map in the root type `t`.
const MAP: [u8; 5] = [TYPE, 1, 1, b't', 1];

/// A map in the list of the type at `parent`.
fn map_in(parent: (u8, u8)) -> Vec<u8> {
    vec![TYPE, 0, parent.0, parent.1, 1]
}

#[test]
fn valid_29_neighbours_have_one_location() {
    let mut scene = Scene::default();
    scene.passes(&[(1, 0, &[&text(b't'), &text(b'u'), &entry(b't'), &entry(b'u')])]);
    scene.passes(&[(2, 0, &[&between((1, 0), (1, 1)), &between((1, 2), (1, 3))])]);
    scene.passes(&[(2, 2, &[&between((1, 4), (1, 4))])]);
    for (left, right) in [((1, 0), (1, 2)), ((1, 1), (1, 4)), ((1, 4), (1, 5)), ((2, 0), (2, 1))] {
        scene.is_torn(&[(2, 3, &[&between(left, right)])]);
        scene.is_torn(&[(2, 3, &[&between(right, left)])]);
    }
    let other_key = [ANY | HAS_PARENT_KEY, 1, 1, b't', 1, b'l', 1, 126];
    scene.is_torn(&[(2, 3, &[&other_key, &between((1, 4), (2, 3))])]);
}

#[test]
fn valid_29_a_location_is_inherited_from_neighbours_and_types() {
    let mut scene = Scene::default();
    scene.passes(&[(1, 0, &[&MAP, &MAP, &map_in((1, 0)), &map_in((1, 1))])]);
    scene.passes(&[(2, 0, &[&right_of((1, 2)), &right_of((1, 3)), &right_of((2, 0))])]);
    scene.passes(&[(3, 0, &[&between((2, 2), (1, 2)), &between((1, 0), (1, 1))])]);
    scene.is_torn(&[(3, 2, &[&between((2, 1), (2, 2))])]);
    scene.is_torn(&[(3, 2, &[&between((1, 0), (1, 2))])]);
}

#[test]
fn valid_29_locations_do_not_depend_on_section_order() {
    let a = right_of((2, 1));
    let b = right_of((1, 0));
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut scene = Scene::default();
        let sections: [(u8, u8, &[&[u8]]); 3] =
            [(1, 0, &[&text(b't'), &a]), (2, 0, &[&b, &b]), (3, 0, &[&between((1, 2), (2, 0))])];
        scene.passes(&order.map(|index| sections[index]));
        scene.is_torn(&[(4, 0, &[&text(b'u'), &between((3, 0), (4, 0))])]);
        scene.passes(&[(4, 0, &[&between((3, 0), (1, 0))])]);
    }
}

#[test]
fn valid_29_the_known_part_is_cut_off_first() {
    let mut scene = Scene::default();
    scene.passes(&[(1, 0, &[&text(b't')]), (2, 0, &[&text(b'u')])]);
    let named_elsewhere = [STRING, 1, 1, b'u', 3, b'x', b'y', b'z'];
    assert_eq!(
        scene.admit(&[(1, 0, &[&named_elsewhere])]),
        Ok(update(&[(1, 2, &[&right_of((1, 1))])]))
    );
    let other_neighbour = [STRING | HAS_RIGHT_ORIGIN, 2, 0, 4, b'x', b'y', b'z', b'!'];
    scene.is_torn(&[(1, 0, &[&other_neighbour])]);
}

#[test]
fn valid_30_blocks_attached_to_garbage_are_garbage() {
    let mut scene = Scene::default();
    scene.passes(&[(1, 0, &[&[GC, 2], &text(b't'), &[DELETED, 1, 1, b't', 3], &MAP])]);
    let gc: &[u8] = &[GC, 1];
    let in_text = [TYPE, 0, 1, 2, 1];
    for attached in [
        &right_of((1, 1))[..],
        &between((1, 0), (1, 2)),
        &between((1, 2), (1, 1)),
        &between((1, 0), (1, 1)),
        &map_in((1, 0)),
        &map_in((1, 5)),
        &in_text,
    ] {
        let mut scene = Scene { places: scene.places.clone(), known: scene.known.clone() };
        let after = right_of((1, 2));
        let own = right_of((2, 1));
        let admitted = scene.admit(&[(2, 0, &[&after, attached, &own])]);
        assert_eq!(admitted, Ok(update(&[(2, 0, &[&after, gc, gc])])), "{attached:?}");
        scene.passes(&[(2, 3, &[&between((2, 0), (1, 3))])]);
    }
    scene.passes(&[(2, 0, &[&map_in((1, 7))])]);
}

#[test]
fn valid_30_text_that_becomes_garbage_keeps_its_length() {
    let mut scene = Scene::default();
    scene.passes(&[(1, 0, &[&[GC, 1]])]);
    let long = [&[STRING | HAS_ORIGIN, 1, 0, 8][..], "a\u{1f600}b\u{e9}".as_bytes()].concat();
    let several = [ANY | HAS_ORIGIN, 1, 0, 2, 126, 125, 5];
    let named = [6 | HAS_ORIGIN, 1, 0, 1, b'b', 4, b't', b'r', b'u', b'e'];
    let embed = [5 | HAS_ORIGIN, 1, 0, 2, b'{', b'}'];
    let element = [TYPE | HAS_ORIGIN, 1, 0, 3, 1, b'p'];
    let blocks: [&[u8]; 5] = [&long, &several, &named, &embed, &element];
    let gc: [&[u8]; 5] = [&[GC, 5], &[GC, 2], &[GC, 1], &[GC, 1], &[GC, 1]];
    assert_eq!(
        scene.admit(&[(3, 0, &[&text(b't')]), (2, 0, &blocks)]),
        Ok(update(&[(3, 0, &[&text(b't')]), (2, 0, &gc)]))
    );
}

#[test]
fn valid_31_types_are_not_nested_too_deeply() {
    let mut scene = Scene::default();
    scene.passes(&[(1, 0, &[&MAP])]);
    let deepen = |scene: &mut Scene, clock: u32| {
        let mut update = vec![1, 1, 1];
        write_var_uint(&mut update, u64::from(clock));
        update.extend([TYPE, 0, 1]);
        write_var_uint(&mut update, u64::from(clock - 1));
        update.extend([1, 0]);
        let facts = walk_update(&update, &Budget::LIVE).unwrap();
        let admitted = scene.places.admit(&facts, &scene.known, &update).map(drop);
        facts.advance(&mut scene.known);
        admitted
    };
    for clock in 1..TYPE_DEPTH_MAX {
        assert_eq!(deepen(&mut scene, clock), Ok(()));
    }
    let error = deepen(&mut scene, TYPE_DEPTH_MAX).unwrap_err();
    assert!(
        matches!(error, ValidationError::TypesTooDeep { max: TYPE_DEPTH_MAX, .. }),
        "{error:?}"
    );
    assert!(error.is_budget());
}

#[test]
fn valid_32_a_refused_update_leaves_nothing() {
    let mut scene = Scene::default();
    scene.passes(&[(1, 0, &[&text(b't'), &entry(b't')])]);
    let before = format!("{:?}", scene.places);
    let new_key = [ANY | HAS_PARENT_KEY, 1, 1, b'n', 1, b'n', 1, 126];
    let torn = between((1, 0), (1, 2));
    scene.is_torn(&[(1, 3, &[&MAP, &new_key, &torn])]);
    scene.is_torn(&[(1, 3, &[&MAP, &new_key]), (2, 0, &[&new_key, &torn]), (3, 0, &[&MAP])]);
    assert_eq!(format!("{:?}", scene.places), before);
}

#[test]
fn valid_33_a_stretch_with_one_location_is_one_run() {
    let mut scene = Scene::default();
    scene.passes(&[(1, 0, &[&text(b't')])]);
    for clock in 2..100 {
        scene.passes(&[(1, clock, &[&right_of((1, clock - 1))])]);
    }
    let runs = |scene: &Scene| scene.places.runs.values().map(Vec::len).sum::<usize>();
    assert_eq!(runs(&scene), 1);
    scene.passes(&[(1, 100, &[&entry(b't'), &entry(b't'), &right_of((1, 99))])]);
    assert_eq!(runs(&scene), 3);
}

#[test]
fn valid_34_several_values_under_one_key_must_be_deleted() {
    let values = [ANY | HAS_PARENT_KEY, 1, 1, b't', 1, b'k', 3, 126, 126, 126];
    let after = [ANY | HAS_ORIGIN, 2, 0, 2, 126, 126];
    let check = |block: &[u8], deletions: &[u8]| {
        let mut update = update(&[(1, 1, &[block]), (2, 0, &[&entry(b't')])]);
        update.pop();
        update.extend(deletions);
        let facts = walk_update(&update, &Budget::LIVE).unwrap();
        let known = StateVector::from([(ClientId::new(1).unwrap(), 1)]);
        ParentIndex::default().admit(&facts, &known, &update).map(drop)
    };
    let deleted: [&[u8]; 4] =
        [&[1, 1, 1, 1, 3], &[1, 1, 1, 0, 9], &[1, 1, 2, 1, 1, 2, 2], &[2, 2, 1, 0, 1, 1, 1, 1, 3]];
    let alive: [&[u8]; 5] =
        [&[0], &[1, 2, 1, 0, 1], &[1, 1, 1, 1, 2], &[1, 1, 1, 2, 2], &[1, 1, 2, 1, 1, 3, 1]];
    for deletions in deleted {
        assert_eq!(check(&values, deletions), Ok(()), "{deletions:?}");
        assert_eq!(check(&after, deletions), Ok(()), "{deletions:?}");
    }
    for deletions in alive {
        let refused = check(&values, deletions);
        assert!(matches!(refused, Err(ValidationError::SeveralValues { .. })), "{deletions:?}");
    }
    assert!(check(&after, &[0]).is_err());
    assert_eq!(check(&[DELETED | HAS_PARENT_KEY, 1, 1, b't', 1, b'k', 3], &[0]), Ok(()));
    assert_eq!(check(&entry(b't'), &[0]), Ok(()));
}
