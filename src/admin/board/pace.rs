//! How fast a pool was between two moments.

use crate::{
    metrics::{EndpointTotals, PoolTotals},
    mux::label::Outcome,
};
use std::{collections::BTreeMap, time::Duration};

/// Zeros and nothing where nothing is known.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Pace {
    /// Exchanges that ended.
    pub(super) requests: u64,
    /// Of these, those without an answer of the application that were not given up by the web server.
    pub(super) failures: u64,
    pub(super) requests_per_second: f64,
    pub(super) failures_per_second: f64,
    pub(super) p50: Option<f64>,
    pub(super) p99: Option<f64>,
    pub(super) queue_wait_p99: Option<f64>,
    /// Exchanges that went to an endpoint, per second.
    pub(super) endpoints: BTreeMap<String, f64>,
}

/// What is not as it should be. A visitor who goes away is nobody's failure.
const FAILURES: [Outcome; 3] = [Outcome::Refused, Outcome::Broken, Outcome::Timeout];

impl Pace {
    /// A pool that was not there before may have counts from long ago: of it nothing is known yet. An endpoint counts from 0
    /// when it comes.
    pub(super) fn between(earlier: Option<&PoolTotals>, later: Option<&PoolTotals>, lasted: Duration) -> Self {
        let (Some(earlier), Some(later)) = (earlier, later) else { return Self::default() };
        let ended =
            |outcome: Outcome| later.requests[outcome as usize].saturating_sub(earlier.requests[outcome as usize]);
        let requests = Outcome::ALL.iter().copied().map(ended).sum();
        let failures = FAILURES.into_iter().map(ended).sum();
        let duration = later.request_duration.since(&earlier.request_duration);
        let to_endpoint = |(name, counts): (&String, &EndpointTotals)| {
            let before = earlier.endpoints.get(name).map_or(0, |before| before.requests);
            (name.clone(), per_second(counts.requests.saturating_sub(before), lasted))
        };
        Self {
            requests,
            failures,
            requests_per_second: per_second(requests, lasted),
            failures_per_second: per_second(failures, lasted),
            p50: duration.quantile(0.5),
            p99: duration.quantile(0.99),
            queue_wait_p99: later.queue_wait.since(&earlier.queue_wait).quantile(0.99),
            endpoints: later.endpoints.iter().map(to_endpoint).collect(),
        }
    }
}

fn per_second(count: u64, lasted: Duration) -> f64 {
    if lasted.is_zero() { 0.0 } else { count as f64 / lasted.as_secs_f64() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(requests: [u64; 5], endpoint: u64) -> PoolTotals {
        let counts = EndpointTotals { requests: endpoint, opened: 1 };
        let endpoints = BTreeMap::from([("a".to_owned(), counts)]);
        PoolTotals { requests, endpoints, ..PoolTotals::default() }
    }

    #[test]
    fn rates_are_over_the_time_between() {
        let (earlier, later) = (totals([100, 1, 1, 1, 1], 90), totals([150, 3, 2, 2, 11], 130));
        let pace = Pace::between(Some(&earlier), Some(&later), Duration::from_secs(5));
        assert_eq!((pace.requests, pace.failures), (64, 4), "who went away has not failed");
        assert_eq!(pace.requests_per_second, 12.8);
        assert_eq!(pace.endpoints["a"], 8.0);
        assert_eq!(pace.p99, None);
    }

    #[test]
    fn an_endpoint_that_came_meanwhile_or_came_again_counts_from_zero() {
        let came = Pace::between(Some(&PoolTotals::default()), Some(&totals([0; 5], 10)), Duration::from_secs(5));
        assert_eq!(came.endpoints["a"], 2.0);
        let again = Pace::between(Some(&totals([0; 5], 10)), Some(&totals([0; 5], 4)), Duration::from_secs(5));
        assert_eq!(again.endpoints["a"], 0.0);
    }

    #[test]
    fn without_an_earlier_moment_nothing_is_known() {
        assert_eq!(Pace::between(None, Some(&totals([9; 5], 9)), Duration::from_secs(5)), Pace::default());
        let moment = totals([9; 5], 9);
        assert_eq!(Pace::between(Some(&moment), Some(&moment), Duration::ZERO).requests_per_second, 0.0);
    }
}
