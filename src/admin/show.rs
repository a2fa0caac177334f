//! The state of pools as JSON.

use super::{Process, json::seconds, route::Shown};
use crate::mux::{
    label::{ConnectionState, EndpointState},
    snapshot::{ConnectionSnapshot, EndpointSnapshot, PoolSnapshot, WaiterSnapshot},
};
use serde::{Serialize, Serializer};

/// A queue may hold a hundred thousand; the first are those of interest.
const WAITERS_LISTED: usize = 1000;

/// What was asked for is not there; these are.
#[derive(Debug, Serialize)]
pub(super) struct Missing {
    error: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pools: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoints: Option<Vec<String>>,
}

impl Missing {
    pub(super) fn pool(process: &dyn Process, name: &str) -> Self {
        let pools = process.pools().into_iter().map(|(name, _)| name).collect();
        Self { error: format!("no pool {name}"), pools: Some(pools), endpoints: None }
    }

    pub(super) fn endpoint(process: &dyn Process, pool: &str, name: &str) -> Self {
        let Some(snapshot) = process.pool(pool) else { return Self::pool(process, pool) };
        let mut endpoints: Vec<String> = snapshot.endpoints.into_iter().map(|endpoint| endpoint.name).collect();
        endpoints.sort();
        Self { error: format!("no endpoint {name} in pool {pool}"), pools: None, endpoints: Some(endpoints) }
    }
}

/// As text, whatever it is.
pub(super) fn show(process: &dyn Process, shown: &Shown) -> Result<String, Missing> {
    match shown {
        Shown::Pools => {
            let pools = process.pools();
            let pools = pools.iter().map(|(name, pool)| Summary::of(name, pool)).collect();
            Ok(super::json::text(&Pools { pools }))
        }
        Shown::Pool(name) => with_pool(process, name, |pool| super::json::text(&Summary::of(name, pool))),
        Shown::Endpoints(name) => with_pool(process, name, |pool| endpoints(name, pool)),
        Shown::Endpoint { pool: name, endpoint } => {
            let text = with_pool(process, name, |pool| {
                let found = pool.endpoints.iter().find(|found| found.name == *endpoint)?;
                Some(super::json::text(&Endpoint::of(found)))
            })?;
            text.ok_or_else(|| Missing::endpoint(process, name, endpoint))
        }
        Shown::Connections(name) => {
            let all = process.connections(name).ok_or_else(|| Missing::pool(process, name))?;
            Ok(connections(name, &all))
        }
        Shown::Waiters(name) => {
            let (count, listed) = process.waiters(name, WAITERS_LISTED).ok_or_else(|| Missing::pool(process, name))?;
            Ok(waiters(name, count, &listed))
        }
    }
}

fn with_pool<T>(process: &dyn Process, name: &str, show: impl FnOnce(&PoolSnapshot) -> T) -> Result<T, Missing> {
    process.pool(name).map(|pool| show(&pool)).ok_or_else(|| Missing::pool(process, name))
}

/// Numbers by the words that metrics have for them.
#[derive(Clone, Debug, Default)]
struct ByWord(Vec<(&'static str, usize)>);

impl Serialize for ByWord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().copied())
    }
}

impl ByWord {
    fn connections(counts: impl Fn(ConnectionState) -> usize) -> Self {
        Self(ConnectionState::ALL.iter().map(|state| (state.label(), counts(*state))).collect())
    }
}

#[derive(Serialize)]
struct Pools<'a> {
    pools: Vec<Summary<'a>>,
}

#[derive(Serialize)]
struct Summary<'a> {
    name: &'a str,
    paused: bool,
    queue: Queue,
    endpoints: ByWord,
    connections: ByWord,
    requests_in_flight: usize,
}

#[derive(Serialize)]
struct Queue {
    depth: usize,
    limit: usize,
    oldest_wait_seconds: f64,
}

impl<'a> Summary<'a> {
    fn of(name: &'a str, pool: &PoolSnapshot) -> Self {
        let in_state = |state| pool.endpoints.iter().filter(|endpoint| endpoint.state == state).count();
        let connections = |state| pool.endpoints.iter().map(|endpoint| endpoint.connections[state as usize]).sum();
        Self {
            name,
            paused: pool.paused,
            queue: Queue {
                depth: pool.queue_depth,
                limit: pool.queue_limit,
                oldest_wait_seconds: seconds(pool.oldest_wait),
            },
            endpoints: ByWord(EndpointState::ALL.iter().map(|state| (state.label(), in_state(*state))).collect()),
            connections: ByWord::connections(connections),
            requests_in_flight: pool.endpoints.iter().map(|endpoint| endpoint.in_flight).sum(),
        }
    }
}

#[derive(Serialize)]
struct Endpoint<'a> {
    endpoint: &'a str,
    state: &'static str,
    held: bool,
    saturated: bool,
    near: bool,
    weight: u32,
    requests_in_flight: usize,
    connections: ByWord,
    connections_limit: usize,
    ejections: u64,
}

impl<'a> Endpoint<'a> {
    fn of(snapshot: &'a EndpointSnapshot) -> Self {
        Self {
            endpoint: &snapshot.name,
            state: snapshot.state.label(),
            held: snapshot.held,
            saturated: snapshot.saturated,
            near: snapshot.near,
            weight: snapshot.weight,
            requests_in_flight: snapshot.in_flight,
            connections: ByWord::connections(|state| snapshot.connections[state as usize]),
            connections_limit: snapshot.limit,
            ejections: snapshot.ejections,
        }
    }
}

fn endpoints(name: &str, pool: &PoolSnapshot) -> String {
    #[derive(Serialize)]
    struct List<'a> {
        pool: &'a str,
        count: usize,
        endpoints: Vec<Endpoint<'a>>,
    }
    let mut all: Vec<_> = pool.endpoints.iter().collect();
    all.sort_by(|one, other| one.name.cmp(&other.name));
    let endpoints = all.into_iter().map(Endpoint::of).collect();
    super::json::text(&List { pool: name, count: pool.endpoints.len(), endpoints })
}

fn connections(name: &str, all: &[ConnectionSnapshot]) -> String {
    #[derive(Serialize)]
    struct Connection<'a> {
        endpoint: &'a str,
        state: &'static str,
        state_seconds: f64,
        age_seconds: f64,
        requests: u64,
        requests_in_flight: u32,
    }
    #[derive(Serialize)]
    struct List<'a> {
        pool: &'a str,
        count: usize,
        connections: Vec<Connection<'a>>,
    }
    let mut sorted: Vec<_> = all.iter().collect();
    // The oldest of an endpoint first.
    sorted.sort_by(|one, other| one.endpoint.cmp(&other.endpoint).then(other.age.cmp(&one.age)));
    let shown = sorted.into_iter().map(|connection| Connection {
        endpoint: &connection.endpoint,
        state: connection.state.label(),
        state_seconds: seconds(connection.since),
        age_seconds: seconds(connection.age),
        requests: connection.requests,
        requests_in_flight: connection.in_flight,
    });
    super::json::text(&List { pool: name, count: all.len(), connections: shown.collect() })
}

fn waiters(name: &str, count: usize, listed: &[WaiterSnapshot]) -> String {
    #[derive(Serialize)]
    struct Waiter {
        wait_seconds: f64,
        again: bool,
    }
    #[derive(Serialize)]
    struct List<'a> {
        pool: &'a str,
        count: usize,
        listed: usize,
        waiters: Vec<Waiter>,
    }
    let shown = listed.iter().map(|waiter| Waiter { wait_seconds: seconds(waiter.waited), again: waiter.again });
    super::json::text(&List { pool: name, count, listed: listed.len(), waiters: shown.collect() })
}
