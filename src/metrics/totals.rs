//! What has been counted of each pool so far, for whoever looks at it within the process.
//!
//! The recorder lets nobody look at its counters and buckets but as text: that is read back here, so that what is shown
//! elsewhere is what a scrape says.

use super::{Metrics, definition, failed::Failed};
use crate::mux::{
    label::{Outcome, Refusal},
    snapshot::PoolSnapshot,
};
use std::collections::{BTreeMap, HashMap};

/// Of one pool.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PoolTotals {
    /// Indexed by [`Outcome`] as usize.
    pub requests: [u64; Outcome::ALL.len()],
    /// Indexed by [`Refusal`] as usize.
    pub refused: [u64; Refusal::ALL.len()],
    pub request_duration: Buckets,
    pub queue_wait: Buckets,
    /// By name; those that there are.
    pub endpoints: BTreeMap<String, EndpointTotals>,
    pub last_failure: Option<Failed>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndpointTotals {
    /// Exchanges that were given a connection to it.
    pub requests: u64,
    /// Attempts to open a connection.
    pub opened: u64,
}

/// How often a time was at most so long: upper bounds in seconds, and the count up to each.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Buckets(Vec<(f64, u64)>);

impl Metrics {
    /// By the names of pools; of those that the snapshots show.
    pub fn totals(&self, pools: &[(String, PoolSnapshot)]) -> HashMap<String, PoolTotals> {
        let known = self.known(pools);
        let mut totals = read(&self.registry.render(|_| true));
        totals.retain(|name, _| known.iter().any(|(pool, _)| pool.name() == name));
        for (pool, snapshot) in known {
            let totals = totals.entry(pool.name().to_owned()).or_default();
            totals.last_failure = pool.last_failure();
            for endpoint in &snapshot.endpoints {
                let counts = pool.endpoint_counts(&endpoint.name).unwrap_or_default();
                let counts = EndpointTotals { requests: counts.requests(), opened: counts.opened() };
                totals.endpoints.insert(endpoint.name.clone(), counts);
            }
        }
        totals
    }
}

type Put = fn(&mut PoolTotals, &str, u64);

/// The series that are looked at: those with a second label, by its value.
const READ: [(&str, Put); 4] = [
    (definition::REQUESTS.name, |totals, word, count| {
        put(&mut totals.requests, Outcome::ALL.iter().map(|outcome| outcome.label()), word, count);
    }),
    (definition::REFUSED.name, |totals, word, count| {
        put(&mut totals.refused, Refusal::ALL.iter().map(|refusal| refusal.label()), word, count);
    }),
    // Of a histogram, the text of which has more names than one.
    ("fcgimux_request_duration_seconds_bucket", |totals, bound, count| totals.request_duration.push(bound, count)),
    ("fcgimux_queue_wait_seconds_bucket", |totals, bound, count| totals.queue_wait.push(bound, count)),
];

fn read(text: &str) -> HashMap<String, PoolTotals> {
    let mut pools = HashMap::<String, PoolTotals>::new();
    for line in text.lines() {
        let Some((name, pool, word, value)) = sample(line) else { continue };
        let Some(read) = READ.iter().find(|(known, _)| *known == name).map(|(_, read)| read) else { continue };
        read(pools.entry(pool.to_owned()).or_default(), word, value as u64);
    }
    pools
}

/// Name, pool, the value of the second label and the value of `name{pool="php",outcome="ok"} 5`. Neither label's value has a
/// character that is escaped.
fn sample(line: &str) -> Option<(&str, &str, &str, f64)> {
    let (name, rest) = line.split_once("{pool=\"")?;
    let (pool, rest) = rest.split_once('"')?;
    let (_, rest) = rest.split_once("=\"")?;
    let (word, value) = rest.split_once("\"} ")?;
    Some((name, pool, word, value.parse().ok()?))
}

fn put<'a>(counts: &mut [u64], mut words: impl Iterator<Item = &'a str>, word: &str, count: u64) {
    if let Some(counted) = words.position(|known| known == word).and_then(|place| counts.get_mut(place)) {
        *counted = count;
    }
}

impl Buckets {
    fn push(&mut self, bound: &str, count: u64) {
        // `+Inf` is a number, too.
        self.0.extend(bound.parse().ok().map(|bound: f64| (bound, count)));
    }

    /// What has been counted since `earlier`, of which it goes on.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let before = earlier.0.iter().map(|(_, count)| *count).chain(std::iter::repeat(0));
        Self(self.0.iter().zip(before).map(|((bound, count), before)| (*bound, count.saturating_sub(before))).collect())
    }

    /// The time in seconds below which `share` (0.0 to 1.0) of the counts stayed, taken to lie evenly within a bucket, as
    /// Prometheus' histogram_quantile() does. None: nothing was counted.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let total = self.0.last().map(|(_, count)| *count).filter(|count| *count > 0)?;
        let rank = share * total as f64;
        let place = self.0.iter().position(|(_, count)| *count as f64 >= rank)?;
        let (bound, count) = self.0[place];
        let (below, before) = place.checked_sub(1).map_or((0.0, 0), |place| self.0[place]);
        if bound.is_infinite() {
            return Some(below);
        }
        let inside = (rank - before as f64) / (count - before).max(1) as f64;
        Some(below + (bound - below) * inside.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Config,
        mux::{label::EndpointState, snapshot::EndpointSnapshot},
    };
    use std::time::Duration;

    fn pools() -> Vec<(String, PoolSnapshot)> {
        let endpoint = EndpointSnapshot {
            name: "10.0.0.7:9000".to_owned(),
            connections: [0; 5],
            limit: 8,
            in_flight: 0,
            state: EndpointState::Up,
            ejections: 0,
            weight: 1,
            near: true,
            held: false,
            saturated: false,
        };
        vec![("php".to_owned(), PoolSnapshot { endpoints: vec![endpoint], ..PoolSnapshot::default() })]
    }

    #[test]
    fn totals_are_what_was_counted() {
        let config = "pools: {php: {endpoints: [{socket: /run/a}]}, other: {endpoints: [{socket: /run/b}]}}\n\
                      listeners: [{socket: /run/f, pool: php}]";
        let metrics = Metrics::new(&Config::from_yaml(config).unwrap());
        let pool = metrics.pool("php");
        (0..3).for_each(|_| pool.exchange(Outcome::Ok, Duration::from_millis(30)));
        pool.exchange(Outcome::Refused, Duration::ZERO);
        pool.refused(Refusal::QueueFull);
        pool.queue_wait(Duration::from_secs(3));
        metrics.pool("other").exchange(Outcome::Broken, Duration::ZERO);
        let endpoint = pool.endpoint("10.0.0.7:9000");
        endpoint.opened();
        (0..3).for_each(|_| endpoint.leased());

        let totals = metrics.totals(&pools());
        assert_eq!(totals.keys().collect::<Vec<_>>(), ["php"], "of those that are shown");
        let php = &totals["php"];
        assert_eq!(php.requests, [3, 1, 0, 0, 0]);
        assert_eq!((php.refused[0], php.refused[1..].iter().sum::<u64>()), (1, 0));
        assert_eq!(php.endpoints["10.0.0.7:9000"], EndpointTotals { requests: 3, opened: 1 });
        let half = php.queue_wait.quantile(0.5).unwrap();
        assert!((2.5..=5.0).contains(&half), "{half}");
        assert_eq!(php.last_failure, None);
    }

    #[test]
    fn a_pool_without_traffic_has_no_quantiles() {
        let metrics = Metrics::new(&Config::from_yaml("pools: {php: {endpoints: [{socket: /run/a}]}}").unwrap());
        let totals = metrics.totals(&pools());
        assert_eq!(totals["php"].request_duration.quantile(0.5), None);
        assert_eq!(totals["php"].requests, [0; 5]);
    }

    #[test]
    fn a_quantile_lies_within_its_bucket() {
        let buckets = Buckets(vec![(0.1, 50), (0.2, 90), (f64::INFINITY, 100)]);
        let close = |share: f64, seconds: f64| {
            let quantile = buckets.quantile(share).unwrap();
            assert!((quantile - seconds).abs() < 1e-9, "{share}: {quantile}");
        };
        close(0.25, 0.05);
        close(0.5, 0.1);
        close(0.7, 0.15);
        close(0.9, 0.2);
        close(0.99, 0.2); // beyond the last bound no more is known
    }

    #[test]
    fn what_came_since_is_what_counts() {
        let (earlier, later) = (Buckets(vec![(0.1, 50), (0.2, 50)]), Buckets(vec![(0.1, 50), (0.2, 60)]));
        let since = later.since(&earlier);
        assert_eq!(since, Buckets(vec![(0.1, 0), (0.2, 10)]));
        assert!(since.quantile(0.5).unwrap() > 0.1);
        assert_eq!(later.since(&Buckets::default()), later);
        assert_eq!(later.since(&later).quantile(0.5), None);
    }
}
