//! What became of the requests, in bounded memory.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;

/// A time beyond an hour counts as an hour.
const AT_MOST: Duration = Duration::from_secs(60 * 60);
/// Significant digits of a latency.
const DIGITS: u8 = 3;

/// Counted while they run.
#[derive(Debug)]
pub(super) struct Tally {
    /// Of good answers, in microseconds.
    pub(super) latencies: Histogram<u64>,
    /// By what went wrong, with what was said the first time.
    pub(super) failures: BTreeMap<&'static str, (u64, String)>,
    /// Of every answer that had one.
    pub(super) statuses: BTreeMap<u16, u64>,
    pub(super) opened: u64,
    /// Of bodies.
    pub(super) bytes: u64,
}

impl Tally {
    pub(super) fn new() -> Self {
        // A range from 1 µs to an hour with three digits is one that a histogram can have.
        let latencies = Histogram::new_with_bounds(1, AT_MOST.as_micros() as u64, DIGITS).expect("valid bounds");
        Self { latencies, failures: BTreeMap::new(), statuses: BTreeMap::new(), opened: 0, bytes: 0 }
    }

    pub(super) fn good(&mut self, latency: Duration) {
        // At most an hour, in microseconds.
        self.latencies.saturating_record(latency.min(AT_MOST).as_micros() as u64);
    }

    /// `words` says more, and is asked only the first time.
    pub(super) fn bad(&mut self, kind: &'static str, words: impl FnOnce() -> String) {
        self.failures.entry(kind).or_insert_with(|| (0, words())).0 += 1;
    }

    pub(super) fn answers(&self) -> u64 {
        self.latencies.len()
    }

    pub(super) fn failed(&self) -> u64 {
        self.failures.values().map(|(count, _)| count).sum()
    }

    /// Of good answers.
    pub(super) fn percentile(&self, percent: f64) -> Duration {
        Duration::from_micros(self.latencies.value_at_percentile(percent))
    }

    pub(super) fn max(&self) -> Duration {
        Duration::from_micros(self.latencies.max())
    }

    pub(super) fn mean(&self) -> Duration {
        // Not negative, and not above an hour.
        Duration::from_secs_f64(self.latencies.mean() / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_right_to_three_digits() {
        let mut tally = Tally::new();
        (1..=10_000).for_each(|number| tally.good(Duration::from_micros(number * 10)));
        for (percent, wanted) in [(50.0, 50_000.0), (90.0, 90_000.0), (99.0, 99_000.0), (99.9, 99_900.0)] {
            let is = tally.percentile(percent).as_micros() as f64;
            assert!((is / wanted - 1.0).abs() < 0.002, "{percent}: {is}");
        }
        assert_eq!(tally.answers(), 10_000);
        tally.good(Duration::from_secs(10_000));
        assert!(tally.max() >= AT_MOST.mul_f64(0.99) && tally.max() <= AT_MOST.mul_f64(1.01));
    }

    #[test]
    fn a_failure_is_told_as_it_was_the_first_time() {
        let mut tally = Tally::new();
        tally.bad("closed", || "first".to_owned());
        tally.bad("closed", || unreachable!());
        assert_eq!((tally.failed(), &tally.failures["closed"]), (2, &(2, "first".to_owned())));
    }
}
