//! What a simulated life draws from the harness's random numbers.

use syncline_tests::Random;

#[derive(Debug)]
pub(crate) struct Rng(Random);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        // Neighbouring seeds would give neighbouring sequences.
        let mut random = Random::new(seed ^ 0x5851_f42d_4c95_7f2d);
        random.next();
        Self(Random::new(random.next()))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0.next()
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0.below(end)
    }

    /// Both ends included.
    pub(crate) fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to - from + 1)
    }

    pub(crate) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap()
    }

    pub(crate) fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.index(from.len())]
    }

    /// A position from 0 to `len`.
    pub(crate) fn at(&mut self, len: u32) -> u32 {
        u32::try_from(self.below(u64::from(len) + 1)).unwrap()
    }
}
