//! Whether the blocks of an update can be integrated one after another.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::id::ClientId;
use crate::validate::Section;

/// A reference from one client's block to another client's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) from: ClientId,
    pub(super) from_clock: u32,
    pub(super) to: ClientId,
    pub(super) to_clock: u32,
}

/// Simulates the integration of `sections` (ascending by client), and returns a client whose blocks wait
/// for one another. yrs would keep such blocks as pending for ever.
///
/// `links` are in the order in which the update carries them. References to blocks that the
/// update does not carry are taken as satisfied: whether they are is for `fit` to say.
pub(super) fn circular_client(sections: &[Section], mut links: Vec<Link>) -> Option<ClientId> {
    let carried = |client: ClientId, clock: u32| {
        find(sections, client)
            .and_then(|index| sections.get(index).map(|section| (index, section)))
            .filter(|(_, section)| (section.start..section.end).contains(&clock))
            .map(|(index, _)| index)
    };
    links.retain(|link| carried(link.to, link.to_clock).is_some());
    if links.is_empty() {
        return None;
    }
    links.sort_by_key(|link| (link.from, link.from_clock));

    let mut tracks: Vec<Track<'_>> = Vec::with_capacity(sections.len());
    let mut rest = links.as_slice();
    for section in sections {
        let own = rest.partition_point(|link| link.from == section.client);
        let (own, others) = rest.split_at_checked(own)?;
        rest = others;
        tracks.push(Track { section, links: own, waiting: BinaryHeap::new() });
    }

    let mut ready: Vec<usize> = (0..tracks.len()).collect();
    while let Some(index) = ready.pop() {
        while let Some(link) = tracks.get(index).and_then(|track| track.links.first()).copied() {
            let target = find(sections, link.to).and_then(|target| tracks.get_mut(target))?;
            if link.to_clock >= target.reached() {
                target.waiting.push(Reverse((link.to_clock, index)));
                break;
            }
            let track = tracks.get_mut(index)?;
            track.links = track.links.get(1..)?;
        }
        let track = tracks.get_mut(index)?;
        let reached = track.reached();
        while let Some(&Reverse((clock, waiter))) = track.waiting.peek()
            && clock < reached
        {
            track.waiting.pop();
            ready.push(waiter);
        }
    }
    tracks.iter().find(|track| !track.links.is_empty()).map(|track| track.section.client)
}

/// One section during the simulated integration.
struct Track<'a> {
    section: &'a Section,
    /// References that are not yet satisfied, by clock.
    links: &'a [Link],
    /// Tracks that wait for a clock of this one.
    waiting: BinaryHeap<Reverse<(u32, usize)>>,
}

impl Track<'_> {
    /// Blocks below this clock are integrated.
    fn reached(&self) -> u32 {
        self.links.first().map_or(self.section.end, |link| link.from_clock)
    }
}

fn find(sections: &[Section], client: ClientId) -> Option<usize> {
    sections.binary_search_by_key(&client, |section| section.client).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(id: u64) -> ClientId {
        ClientId::new(id).unwrap()
    }

    /// Three clients with clocks 0..10 each, and links `(from, clock, to, clock)`.
    fn check(links: &[(u64, u32, u64, u32)]) -> Option<u64> {
        let sections =
            [1, 2, 3].map(|id| Section { client: client(id), start: 0, end: 10, offset: 0 });
        let links = links
            .iter()
            .map(|&(from, from_clock, to, to_clock)| Link {
                from: client(from),
                from_clock,
                to: client(to),
                to_clock,
            })
            .collect();
        circular_client(&sections, links).map(ClientId::get)
    }

    #[test]
    fn alternating_references_are_an_order() {
        assert_eq!(check(&[]), None);
        assert_eq!(check(&[(1, 0, 2, 0), (2, 1, 1, 0), (1, 1, 2, 1), (3, 0, 1, 9)]), None);
        assert_eq!(check(&[(1, 0, 2, 9), (2, 0, 3, 9)]), None);
        assert_eq!(check(&[(1, 0, 2, 10), (2, 0, 1, 0)]), None, "2:10 is not carried");
    }

    #[test]
    fn a_circle_is_found() {
        assert!(check(&[(1, 0, 2, 0), (2, 0, 1, 0)]).is_some());
        assert!(check(&[(1, 5, 2, 5), (2, 5, 3, 5), (3, 5, 1, 5)]).is_some());
        assert!(check(&[(1, 3, 2, 7), (2, 4, 1, 3)]).is_some(), "2:7 comes after 2:4");
    }
}
