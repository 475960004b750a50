//! What is counted, in atomics that anybody may add to without waiting.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A label with a closed set of values: nothing that a stranger sends becomes a series.
pub(crate) trait Label: Copy + 'static {
    /// Its name.
    const KEY: &'static str;
    /// Every value, each at its [`index`](Self::index).
    const ALL: &'static [Self];

    /// The value as it is shown.
    fn word(self) -> &'static str;

    /// Its place in [`ALL`](Self::ALL).
    fn index(self) -> usize;
}

/// A number that only grows.
#[derive(Debug)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    pub(crate) fn add(&self, more: u64) {
        if more > 0 {
            self.0.fetch_add(more, Ordering::Relaxed);
        }
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One [`Count`] for each value of a label. `N` is how many there are.
#[derive(Debug)]
pub(crate) struct Counts<L, const N: usize> {
    counts: [Count; N],
    label: PhantomData<fn(L)>,
}

impl<L: Label, const N: usize> Counts<L, N> {
    pub(crate) const fn new() -> Self {
        Self { counts: [const { Count::new() }; N], label: PhantomData }
    }

    pub(crate) fn add(&self, label: L, more: u64) {
        if let Some(count) = self.counts.get(label.index()) {
            count.add(more);
        }
    }

    pub(crate) fn get(&self, label: L) -> u64 {
        self.counts.get(label.index()).map_or(0, Count::get)
    }
}

/// How often which sizes were seen. Sizes are whole numbers of a small unit, shown as multiples of
/// `1 / scale` of it.
#[derive(Debug)]
pub(crate) struct Histogram<const N: usize> {
    /// The largest size that each bucket counts, ascending.
    bounds: [u64; N],
    counts: [Count; N],
    beyond: Count,
    sum: Count,
    scale: u64,
}

impl<const N: usize> Histogram<N> {
    /// Of times, shown in seconds.
    pub(crate) const fn of_micros(bounds: [u64; N]) -> Self {
        Self::new(bounds, 1_000_000)
    }

    /// Of numbers, shown as they are.
    pub(crate) const fn of_numbers(bounds: [u64; N]) -> Self {
        Self::new(bounds, 1)
    }

    const fn new(bounds: [u64; N], scale: u64) -> Self {
        let counts = [const { Count::new() }; N];
        Self { bounds, counts, beyond: Count::new(), sum: Count::new(), scale }
    }

    /// Counts one time.
    pub(crate) fn time(&self, time: Duration) {
        self.times(time, 1);
    }

    /// Counts the same time `times` times.
    pub(crate) fn times(&self, time: Duration, times: u64) {
        self.add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), times);
    }

    /// Counts a size `times` times.
    pub(crate) fn add(&self, size: u64, times: u64) {
        let bucket = self.bounds.partition_point(|bound| *bound < size);
        self.counts.get(bucket).unwrap_or(&self.beyond).add(times);
        self.sum.add(size.saturating_mul(times));
    }

    /// The upper bound and the count of each bucket, the last without a bound.
    pub(crate) fn buckets(&self) -> Vec<(f64, u64)> {
        let bounds = self.bounds.iter().map(|bound| self.shown(*bound));
        let counts = self.counts.iter().map(Count::get);
        bounds.zip(counts).chain([(f64::INFINITY, self.beyond.get())]).collect()
    }

    /// The sum of everything.
    pub(crate) fn sum(&self) -> f64 {
        self.shown(self.sum.get())
    }

    fn shown(&self, size: u64) -> f64 {
        size as f64 / self.scale as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metric_6_a_time_is_counted_in_the_first_bucket_that_holds_it() {
        let times = Histogram::of_micros([1_000, 5_000]);
        for (micros, count) in [(1_000, 1), (1_001, 2), (5_000, 1), (5_001, 4)] {
            times.times(Duration::from_micros(micros), count);
        }
        assert_eq!(times.buckets(), [(0.001, 1), (0.005, 3), (f64::INFINITY, 4)]);
        let micros = 1_000 + 2 * 1_001 + 5_000 + 4 * 5_001;
        assert_eq!(times.sum(), f64::from(micros) / 1e6);
        let sizes = Histogram::of_numbers([1, 64]);
        sizes.add(64, 1);
        assert_eq!(sizes.buckets(), [(1.0, 0), (64.0, 1), (f64::INFINITY, 0)]);
    }
}
