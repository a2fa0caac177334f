//! The document behind the pool page and `fcgimux top`: `GET /overview`.
//!
//! Ages instead of times, so that no two clocks need agree; nothing (`null`) where nothing can be said.

use super::{
    condition::Condition,
    pace::Pace,
    watch::{Watched, is_full},
};
use crate::{
    metrics::{Failed, PoolTotals, SocketCounts},
    mux::{
        label::{ConnectionState, Outcome, Refusal},
        snapshot::{EndpointSnapshot, PoolSnapshot},
    },
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};
use tokio::time::Instant;

pub use super::condition::{Level, spoken};

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Overview {
    pub version: String,
    /// Time that rates and quantiles are taken over.
    pub interval_seconds: f64,
    pub downstream_connections: u64,
    pub sockets: Sockets,
    /// In the order of the configuration.
    pub pools: Vec<Pool>,
}

/// Of this network namespace, not older than a few seconds.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Sockets {
    pub time_wait_upstream: Option<u64>,
    pub time_wait_downstream: Option<u64>,
    pub ephemeral_ports_in_use_ratio: Option<f64>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Pool {
    pub name: String,
    pub condition: Condition,
    pub queue: Queue,
    pub requests_in_flight: usize,
    pub requests_per_second: f64,
    pub p50_seconds: Option<f64>,
    pub p99_seconds: Option<f64>,
    pub queue_wait_p99_seconds: Option<f64>,
    /// Since the start, as `fcgimux_requests_total`.
    pub requests: Requests,
    /// Those that are not zero of `fcgimux_refused_total`, by reason.
    pub refused: BTreeMap<String, u64>,
    pub reuse: Reuse,
    pub failures: Failures,
    /// By name.
    pub endpoints: Vec<Endpoint>,
    pub history: History,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Queue {
    pub depth: usize,
    pub limit: usize,
    pub oldest_wait_seconds: f64,
}

/// By outcome.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Requests {
    pub ok: u64,
    pub refused: u64,
    pub broken: u64,
    pub timeout: u64,
    pub gone: u64,
}

/// Over the endpoints that there are, since each came.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Reuse {
    pub requests: u64,
    pub connections_opened: u64,
    pub requests_per_connection: Option<f64>,
}

/// Requests refused, broken off or not answered in time.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Failures {
    pub per_second: f64,
    /// As far back as the history goes.
    pub recent: u64,
    pub last: Option<LastFailure>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct LastFailure {
    pub ago_seconds: f64,
    /// An outcome, or the reason of a refusal.
    pub what: String,
    pub endpoint: Option<String>,
    /// May hold anything.
    pub why: String,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Endpoint {
    pub endpoint: String,
    pub state: String,
    pub state_for_seconds: f64,
    /// For how long it has had no free worker; nothing while it has.
    pub saturated_for_seconds: Option<f64>,
    /// Every connection that may exist does, and is in use.
    pub full: bool,
    pub held: bool,
    pub near: bool,
    pub connections: Connections,
    pub connections_limit: usize,
    pub requests_in_flight: usize,
    pub requests_per_second: f64,
    pub ejections: u64,
}

/// By state.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Connections {
    pub leased: usize,
    pub settling: usize,
    pub proving: usize,
    pub connecting: usize,
    pub idle: usize,
}

/// One item for each step, the latest last.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct History {
    pub step_seconds: f64,
    pub samples_at_most: usize,
    pub requests_per_second: Vec<f64>,
    pub failures: Vec<u64>,
    pub p50_seconds: Vec<Option<f64>>,
    pub p99_seconds: Vec<Option<f64>>,
    pub queue_wait_p99_seconds: Vec<Option<f64>>,
    pub queue_depth: Vec<usize>,
    pub connections_in_use: Vec<usize>,
}

/// What is known of a pool besides its snapshot.
pub(super) struct Known<'a> {
    pub(super) watched: &'a Watched,
    pub(super) totals: &'a PoolTotals,
    pub(super) pace: Pace,
    /// As far back as the history goes.
    pub(super) failures: u64,
    pub(super) now: Instant,
}

impl Pool {
    pub(super) fn new(name: &str, pool: &PoolSnapshot, known: &Known<'_>) -> Self {
        let Known { watched, totals, pace, now, .. } = known;
        let mut endpoints: Vec<_> = pool.endpoints.iter().map(|endpoint| Endpoint::new(endpoint, known)).collect();
        endpoints.sort_by(|one, other| one.endpoint.cmp(&other.endpoint));
        let refused = Refusal::ALL.iter().map(|reason| (reason.label().to_owned(), totals.refused[*reason as usize]));
        Self {
            name: name.to_owned(),
            condition: Condition::of(pool, watched, *now),
            queue: Queue {
                depth: pool.queue_depth,
                limit: pool.queue_limit,
                oldest_wait_seconds: super::json::seconds(pool.oldest_wait),
            },
            requests_in_flight: pool.endpoints.iter().map(|endpoint| endpoint.in_flight).sum(),
            requests_per_second: rounded(pace.requests_per_second),
            p50_seconds: pace.p50.map(rounded),
            p99_seconds: pace.p99.map(rounded),
            queue_wait_p99_seconds: pace.queue_wait_p99.map(rounded),
            requests: Requests::from(*totals),
            refused: refused.filter(|(_, count)| *count > 0).collect(),
            reuse: Reuse::from(*totals),
            failures: Failures {
                per_second: rounded(pace.failures_per_second),
                recent: known.failures,
                last: totals.last_failure.as_ref().map(LastFailure::from),
            },
            endpoints,
            history: watched.history.show(),
        }
    }
}

impl Endpoint {
    fn new(endpoint: &EndpointSnapshot, known: &Known<'_>) -> Self {
        let (state, saturated) = known.watched.endpoint(&endpoint.name, known.now);
        let whole = |duration: Duration| duration.as_secs_f64().floor();
        let count = |state: ConnectionState| endpoint.connections[state as usize];
        Self {
            endpoint: endpoint.name.clone(),
            state: endpoint.state.label().to_owned(),
            state_for_seconds: whole(state),
            saturated_for_seconds: saturated.map(whole),
            full: is_full(endpoint),
            held: endpoint.held,
            near: endpoint.near,
            connections: Connections {
                leased: count(ConnectionState::Leased),
                settling: count(ConnectionState::Settling),
                proving: count(ConnectionState::Proving),
                connecting: count(ConnectionState::Connecting),
                idle: count(ConnectionState::Idle),
            },
            connections_limit: endpoint.limit,
            requests_in_flight: endpoint.in_flight,
            requests_per_second: rounded(known.pace.endpoints.get(&endpoint.name).copied().unwrap_or_default()),
            ejections: endpoint.ejections,
        }
    }
}

impl From<&PoolTotals> for Requests {
    fn from(totals: &PoolTotals) -> Self {
        let count = |outcome: Outcome| totals.requests[outcome as usize];
        Self {
            ok: count(Outcome::Ok),
            refused: count(Outcome::Refused),
            broken: count(Outcome::Broken),
            timeout: count(Outcome::Timeout),
            gone: count(Outcome::Gone),
        }
    }
}

impl From<&PoolTotals> for Reuse {
    fn from(totals: &PoolTotals) -> Self {
        let requests = totals.endpoints.values().map(|endpoint| endpoint.requests).sum();
        let opened = totals.endpoints.values().map(|endpoint| endpoint.opened).sum();
        let ratio = (opened > 0).then(|| rounded(requests as f64 / opened as f64));
        Self { requests, connections_opened: opened, requests_per_connection: ratio }
    }
}

impl From<&Failed> for LastFailure {
    fn from(failed: &Failed) -> Self {
        Self {
            ago_seconds: failed.ago().as_secs_f64().floor(),
            what: failed.what.to_owned(),
            endpoint: failed.endpoint.clone(),
            why: failed.why.clone(),
        }
    }
}

impl From<SocketCounts> for Sockets {
    fn from(counts: SocketCounts) -> Self {
        Self {
            time_wait_upstream: counts.time_wait.map(|count| count.upstream),
            time_wait_downstream: counts.time_wait.map(|count| count.downstream),
            ephemeral_ports_in_use_ratio: counts.ephemeral_ports_in_use.map(rounded),
        }
    }
}

/// To three digits: more would only be read in vain.
pub(super) fn rounded(number: f64) -> f64 {
    if number == 0.0 || !number.is_finite() {
        return 0.0;
    }
    let places = 2.0 - number.abs().log10().floor();
    let unit = 10f64.powf(places.abs());
    if places >= 0.0 { (number * unit).round() / unit } else { (number / unit).round() * unit }
}

#[cfg(test)]
mod tests {
    use super::rounded;

    #[test]
    fn numbers_have_three_digits() {
        for (number, expected) in [
            (0.0, 0.0),
            (0.123_456, 0.123),
            (12.345, 12.3),
            (1234.5, 1230.0),
            (0.000_012_34, 0.000_012_3),
            (99.96, 100.0),
        ] {
            let found = rounded(number);
            assert!((found - expected).abs() < 1e-12, "{number}: {found}");
        }
        assert_eq!(rounded(f64::INFINITY), 0.0);
    }
}
