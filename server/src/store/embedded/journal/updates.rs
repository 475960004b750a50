//! Where the live updates of one document lie, in a few bytes each.
//!
//! Every stored document has this in memory, whether anybody is in it or not, and between two states
//! lie thousands of updates. A map of positions took a hundred bytes for each.

use std::iter;

use syncline_protocol::Sequence;
use syncline_protocol::wire::varint::{Reader, write_var_uint};

use crate::store::embedded::journal::entry::after;
use crate::store::embedded::journal::index::Position;

/// Updates of one run at most. A change among them writes three runs anew.
const RUN_MAX: u64 = 64;

/// The place of each update, by its sequence.
#[derive(Debug, Default)]
pub(super) struct Updates {
    /// In the order of their sequences, and none of them empty.
    runs: Vec<Run>,
}

impl Updates {
    pub(super) fn iter(&self) -> impl Iterator<Item = (Sequence, Position)> {
        self.runs.iter().flat_map(Run::iter)
    }

    /// Those behind `base`.
    pub(super) fn behind(&self, base: Sequence) -> impl Iterator<Item = (Sequence, Position)> {
        let over = self.runs.partition_point(|run| run.last() <= base);
        let runs = self.runs.iter().skip(over);
        runs.flat_map(Run::iter).skip_while(move |(sequence, _)| *sequence <= base)
    }

    pub(super) fn get(&self, sequence: Sequence) -> Option<Position> {
        let run = self.runs.get(self.runs.partition_point(|run| run.last() < sequence))?;
        run.iter().find(|(each, _)| *each == sequence).map(|(_, at)| at)
    }

    /// Notes where an update lies, and returns where it lay.
    pub(super) fn insert(&mut self, sequence: Sequence, at: Position) -> Option<Position> {
        if self.runs.last().is_some_and(|run| sequence <= run.last()) {
            return self.insert_before_end(sequence, at);
        }
        if !self.runs.last_mut().is_some_and(|run| run.push(sequence, at)) {
            self.begin_run(Run::new(sequence, at));
        }
        None
    }

    /// Forgets those up to `through`, and returns where they lay.
    pub(super) fn remove_through(&mut self, through: Sequence) -> Vec<Position> {
        let touched = self.runs.partition_point(|run| run.first <= through);
        let all = self.runs.iter().take(touched).flat_map(Run::iter);
        let (dead, live): (Vec<_>, Vec<_>) = all.partition(|(sequence, _)| *sequence <= through);
        self.runs.splice(..touched, runs_of(live));
        self.runs.shrink_to_fit();
        dead.into_iter().map(|(_, at)| at).collect()
    }

    /// Copies that cleaning has moved come one by one, and in order. Writing the runs around each
    /// anew puts those that lie together now into one run.
    fn insert_before_end(&mut self, sequence: Sequence, at: Position) -> Option<Position> {
        let next = self.runs.partition_point(|run| run.first <= sequence);
        let around = next.saturating_sub(2)..self.runs.len().min(next + 1);
        let runs = self.runs.iter().take(around.end).skip(around.start);
        let mut places: Vec<_> = runs.flat_map(Run::iter).collect();
        let replaced = match places.binary_search_by_key(&sequence, |(each, _)| *each) {
            Ok(found) => places.get_mut(found).map(|place| std::mem::replace(&mut place.1, at)),
            Err(gap) => {
                places.insert(gap, (sequence, at));
                None
            }
        };
        self.runs.splice(around, runs_of(places));
        replaced
    }

    /// Most documents have few, and a vector that grows by itself begins with four.
    fn begin_run(&mut self, run: Run) {
        if self.runs.len() == self.runs.capacity() {
            self.runs.reserve_exact(1 + self.runs.len() / 4);
        }
        self.runs.push(run);
    }
}

/// Updates with consecutive sequences in one segment, each behind the one before.
#[derive(Debug)]
struct Run {
    first: Sequence,
    count: u64,
    segment: u64,
    /// Where the first of them begins, and the last ends.
    start: u64,
    end: u64,
    /// Of each the bytes between it and the one before, and its own: variable-length integers.
    steps: Vec<u8>,
}

impl Run {
    fn new(first: Sequence, at: Position) -> Self {
        let Position { segment, offset: start, .. } = at;
        let mut run = Self { first, count: 0, segment, start, end: start, steps: Vec::new() };
        run.append(at);
        run
    }

    fn last(&self) -> Sequence {
        Sequence::new(self.first.get() + (self.count - 1))
    }

    /// Adds an update, if it continues the run.
    fn push(&mut self, sequence: Sequence, at: Position) -> bool {
        let continues = sequence == after(self.last())
            && at.segment == self.segment
            && at.offset >= self.end
            && self.count < RUN_MAX;
        if continues {
            self.append(at);
            if self.count == RUN_MAX {
                self.steps.shrink_to_fit();
            }
        }
        continues
    }

    fn append(&mut self, at: Position) {
        write_var_uint(&mut self.steps, at.offset - self.end);
        write_var_uint(&mut self.steps, at.bytes as u64);
        self.end = at.offset + at.bytes as u64;
        self.count += 1;
    }

    fn iter(&self) -> impl Iterator<Item = (Sequence, Position)> {
        let (segment, mut offset, mut sequence) = (self.segment, self.start, self.first);
        let mut steps = Reader::new(&self.steps);
        iter::from_fn(move || {
            offset += steps.var_uint().ok()?;
            let bytes = steps.var_uint().ok()?;
            let place =
                (sequence, Position { segment, offset, bytes: usize::try_from(bytes).ok()? });
            offset += bytes;
            sequence = after(sequence);
            Some(place)
        })
    }
}

fn runs_of(places: Vec<(Sequence, Position)>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (sequence, at) in places {
        if !runs.last_mut().is_some_and(|run| run.push(sequence, at)) {
            runs.push(Run::new(sequence, at));
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        /// Updates that lie one behind the other, most of them with gaps between.
        Append {
            first: u64,
            count: u64,
            segment: u64,
            offset: u64,
        },
        /// Updates are copied to the end of a segment, as cleaning does.
        Move {
            from: u64,
            count: usize,
            segment: u64,
            offset: u64,
        },
        /// One update is met again, or for the first time.
        Again {
            sequence: u64,
            at: Position,
        },
        Forget {
            through: u64,
        },
    }

    fn step() -> impl Strategy<Value = Step> {
        let place = || (1..4_u64, 0..1_u64 << 26);
        prop_oneof![
            4 => (1..900_u64, 1..200_u64, place()).prop_map(|(first, count, (segment, offset))| {
                Step::Append { first, count, segment, offset }
            }),
            2 => (0..900_u64, 1..200_usize, place()).prop_map(|(from, count, (segment, offset))| {
                Step::Move { from, count, segment, offset }
            }),
            2 => (1..900_u64, place(), 1..100_000_usize).prop_map(|(sequence, place, bytes)| {
                let (segment, offset) = place;
                Step::Again { sequence, at: Position { segment, offset, bytes } }
            }),
            1 => (0..900_u64).prop_map(|through| Step::Forget { through }),
        ]
    }

    fn check(updates: &Updates, model: &BTreeMap<Sequence, Position>, base: Sequence) {
        let all: Vec<_> = model.iter().map(|(sequence, at)| (*sequence, *at)).collect();
        assert_eq!(updates.iter().collect::<Vec<_>>(), all);
        let behind: Vec<_> = all.into_iter().filter(|(sequence, _)| *sequence > base).collect();
        assert_eq!(updates.behind(base).collect::<Vec<_>>(), behind);
        assert_eq!(updates.get(base), model.get(&base).copied());
        assert!(updates.runs.iter().all(|run| (1..=RUN_MAX).contains(&run.count)));
    }

    fn take(step: Step, updates: &mut Updates, model: &mut BTreeMap<Sequence, Position>) {
        let mut insert = |sequence, at| {
            assert_eq!(updates.insert(sequence, at), model.insert(sequence, at));
        };
        match step {
            Step::Append { first, count, segment, mut offset } => {
                for sequence in first..first + count {
                    let bytes = 40 + (sequence % 7) as usize * 60;
                    insert(Sequence::new(sequence), Position { segment, offset, bytes });
                    offset += bytes as u64 + sequence % 3 * 1_000;
                }
            }
            Step::Move { from, count, segment, mut offset } => {
                let live = model.range(Sequence::new(from)..).take(count);
                for (sequence, was) in live.map(|(at, was)| (*at, *was)).collect::<Vec<_>>() {
                    let at = Position { segment, offset, ..was };
                    offset += was.bytes as u64;
                    assert_eq!(updates.insert(sequence, at), Some(was));
                    model.insert(sequence, at);
                }
            }
            Step::Again { sequence, at } => insert(Sequence::new(sequence), at),
            Step::Forget { through } => {
                let live = model.split_off(&Sequence::new(through + 1));
                let dead: Vec<_> = std::mem::replace(model, live).into_values().collect();
                assert_eq!(updates.remove_through(Sequence::new(through)), dead);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 400,
            failure_persistence: None,
            ..Default::default()
        })]

        #[test]
        fn store_47_places_are_those_of_a_map(
            steps in prop::collection::vec(step(), 1..30),
            base in 0..900_u64,
        ) {
            let mut updates = Updates::default();
            let mut model = BTreeMap::new();
            for step in steps {
                take(step, &mut updates, &mut model);
                check(&updates, &model, Sequence::new(base));
            }
        }
    }

    #[test]
    fn store_47_an_update_takes_a_few_bytes_also_when_all_have_been_copied() {
        let mut updates = Updates::default();
        let far = |sequence: u64| 40_000 * sequence;
        for sequence in 1..=10_000 {
            let at = Position { segment: 1, offset: far(sequence), bytes: 90 };
            updates.insert(Sequence::new(sequence), at);
        }
        let bytes = |updates: &Updates| {
            let of = |run: &Run| size_of::<Run>() + run.steps.capacity();
            updates.runs.iter().map(of).sum::<usize>()
        };
        assert!(bytes(&updates) < 10_000 * 7, "{}", bytes(&updates));
        for sequence in 1..=10_000 {
            let at = Position { segment: 2, offset: far(sequence), bytes: 90 };
            updates.insert(Sequence::new(sequence), at);
        }
        assert!(bytes(&updates) < 10_000 * 8, "{}", bytes(&updates));
    }
}
