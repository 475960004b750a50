//! Medians and percentiles.

use std::time::{Duration, Instant};

/// Latencies, each in tenths of a microsecond.
#[derive(Debug, Default)]
pub(crate) struct Latencies(Vec<u32>);

impl Latencies {
    pub(crate) fn add(&mut self, latency: Duration) {
        self.0.push(u32::try_from(latency.as_nanos() / 100).unwrap_or(u32::MAX));
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// The latency, in milliseconds, that a share of all stays within.
    pub(crate) fn percentile_ms(&mut self, share: f64) -> f64 {
        if self.0.is_empty() {
            return f64::NAN;
        }
        let at = ((self.0.len() - 1) as f64 * share).round() as usize;
        let (_, value, _) = self.0.select_nth_unstable(at);
        f64::from(*value) / 10_000.0
    }
}

/// The middle of some values; the mean of the two in the middle where there is no one.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| !value.is_nan()).collect();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => sorted[half],
        _ => f64::midpoint(sorted[half - 1], sorted[half]),
    }
}

/// How long it has been.
pub(crate) fn seconds_since(start: Instant) -> f64 {
    start.elapsed().as_secs_f64()
}

#[test]
fn the_middle_is_found() {
    assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
    assert_eq!(median(&[4.0, 1.0, 2.0, f64::NAN, 3.0]), 2.5);
    assert!(median(&[]).is_nan());
    let mut latencies = Latencies::default();
    (0..=100).for_each(|ms| latencies.add(Duration::from_millis(ms)));
    assert_eq!(latencies.percentile_ms(0.5), 50.0);
    assert_eq!(latencies.percentile_ms(0.99), 99.0);
}
