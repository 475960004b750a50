//! Every walk, over the same bytes, and what must hold of what passes.

use bytes::Bytes;
use syncline_protocol::validate::{
    Budget, Fit, ParentIndex, StateVector, Subdocuments, canonical, trim_known, walk_presence,
    walk_state_vector, walk_update,
};

const LIVE: Budget = Budget { subdocuments: Subdocuments::Allowed, ..Budget::LIVE };
const STORED: Budget = Budget { subdocuments: Subdocuments::Allowed, ..Budget::STORED };

/// The first byte says how much of the first client's blocks is known, the rest is the update.
pub(crate) fn run(data: &[u8]) {
    let Some((&overlap, update)) = data.split_first() else { return };
    drop(walk_state_vector(update));
    drop(walk_presence(&Bytes::copy_from_slice(update), &LIVE));
    let Ok(facts) = walk_update(update, &LIVE) else { return };
    assert_eq!(walk_update(update, &STORED).as_ref(), Ok(&facts), "what was accepted must load");
    let one_form = canonical(update).expect("what passes has a canonical form");
    assert_eq!(canonical(&one_form).as_ref(), Ok(&one_form));

    // A document that has all that the update needs, and a little of what it brings.
    let mut known: StateVector = facts.needs.clone();
    for section in &facts.sections {
        known.insert(section.client, section.start);
    }
    if let Some(first) = facts.sections.first() {
        let some = (first.end - first.start).min(u32::from(overlap));
        known.insert(first.client, first.start + some);
    }
    let trimmed = trim_known(update, &known).expect("what passes can be trimmed");
    let rest = walk_update(&trimmed, &STORED).expect("what is trimmed passes");
    assert!(!rest.overlaps(&known) || facts.interrupted);

    if facts.fit(&known) != Fit::Ready {
        return;
    }
    let mut places = ParentIndex::default();
    if let Ok(admitted) = places.admit(&facts, &known, update) {
        let admitted_facts = walk_update(&admitted, &STORED).expect("what is admitted passes");
        assert_ne!(admitted_facts.fit(&known), Fit::Incomplete);
        let (mut before, mut after) = (known.clone(), known);
        facts.advance(&mut before);
        admitted_facts.advance(&mut after);
        assert_eq!(before, after, "nothing is lost");
    } else {
        assert_eq!(format!("{places:?}"), format!("{:?}", ParentIndex::default()), "nothing stays");
    }
}
