//! How a pool has been for a quarter of an hour.

use super::{overview, pace::Pace};
use crate::mux::{label::ConnectionState, snapshot::PoolSnapshot};
use std::collections::VecDeque;

/// Samples that are kept, one each [`super::STEP`]: 15 minutes of 5 s.
const KEPT: usize = 180;

/// Of one pool; as large as it gets after [`KEPT`] samples.
#[derive(Debug, Default)]
pub(super) struct History {
    samples: VecDeque<Sample>,
}

/// Rates and times are those of the whole step; the others those of its end.
#[derive(Clone, Copy, Debug)]
struct Sample {
    requests_per_second: f32,
    failures: u64,
    p50: Option<f32>,
    p99: Option<f32>,
    queue_wait_p99: Option<f32>,
    queue_depth: usize,
    /// Connections that are not idle.
    in_use: usize,
}

impl History {
    pub(super) fn add(&mut self, pace: &Pace, pool: &PoolSnapshot) {
        if self.samples.len() == KEPT {
            self.samples.pop_front();
        }
        let small = |number: Option<f64>| number.map(|number| number as f32);
        self.samples.push_back(Sample {
            requests_per_second: pace.requests_per_second as f32,
            failures: pace.failures,
            p50: small(pace.p50),
            p99: small(pace.p99),
            queue_wait_p99: small(pace.queue_wait_p99),
            queue_depth: pool.queue_depth,
            in_use: in_use(pool),
        });
    }

    pub(super) fn failures(&self) -> u64 {
        self.samples.iter().map(|sample| sample.failures).sum()
    }

    pub(super) fn show(&self) -> overview::History {
        fn all<T>(samples: &VecDeque<Sample>, what: impl Fn(&Sample) -> T) -> Vec<T> {
            samples.iter().map(what).collect()
        }
        let rounded = |number: Option<f32>| number.map(|number| overview::rounded(f64::from(number)));
        overview::History {
            step_seconds: super::STEP.as_secs_f64(),
            samples_at_most: KEPT,
            requests_per_second: all(&self.samples, |sample| overview::rounded(f64::from(sample.requests_per_second))),
            failures: all(&self.samples, |sample| sample.failures),
            p50_seconds: all(&self.samples, |sample| rounded(sample.p50)),
            p99_seconds: all(&self.samples, |sample| rounded(sample.p99)),
            queue_wait_p99_seconds: all(&self.samples, |sample| rounded(sample.queue_wait_p99)),
            queue_depth: all(&self.samples, |sample| sample.queue_depth),
            connections_in_use: all(&self.samples, |sample| sample.in_use),
        }
    }
}

pub(super) fn in_use(pool: &PoolSnapshot) -> usize {
    let of = |connections: &[usize]| connections.iter().sum::<usize>() - connections[ConnectionState::Idle as usize];
    pool.endpoints.iter().map(|endpoint| of(&endpoint.connections)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(requests_per_second: f64, failures: u64) -> Pace {
        Pace { requests_per_second, failures, ..Pace::default() }
    }

    #[test]
    fn the_oldest_sample_makes_room_for_the_latest() {
        let mut history = History::default();
        for number in 0..1000 {
            history.add(&pace(f64::from(number), 1), &PoolSnapshot { queue_depth: 7, ..PoolSnapshot::default() });
        }
        let shown = history.show();
        assert_eq!(shown.requests_per_second.len(), KEPT);
        assert_eq!((shown.requests_per_second[0], shown.requests_per_second[KEPT - 1]), (820.0, 999.0));
        assert!(history.samples.capacity() < 2 * KEPT, "{}", history.samples.capacity());
        assert_eq!(history.failures(), KEPT as u64);
        assert_eq!(shown.queue_depth, [7; KEPT]);
    }

    #[test]
    fn what_did_not_happen_leaves_a_gap() {
        let mut history = History::default();
        history.add(&pace(0.0, 0), &PoolSnapshot::default());
        history.add(&Pace { p99: Some(0.25), ..pace(1.0, 0) }, &PoolSnapshot::default());
        assert_eq!(history.show().p99_seconds, [None, Some(0.25)]);
    }
}
