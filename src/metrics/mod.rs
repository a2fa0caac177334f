//! Every metric name once, its handles resolved once, and what happened turned into increments.
//!
//! Events are counted where they happen ([`PoolMetrics`]); what is a state, such as the depth of a queue, is looked at
//! when somebody asks ([`Metrics::render`]). Knows no runtime and no sockets.

pub mod definition;
mod discovery;
mod endpoint;
mod failed;
mod fleet;
mod living;
mod pool;
mod process;
mod registry;
mod text;
mod totals;
mod workers;

use crate::{
    config::{self, Config},
    mux::snapshot::PoolSnapshot,
};
use metrics::{Gauge, Histogram};
use registry::Registry;
use std::{
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use text::Family;

pub use discovery::DiscoveryMetrics;
pub use endpoint::EndpointMetrics;
pub use failed::Failed;
pub use pool::PoolMetrics;
pub use totals::{Buckets, EndpointTotals, PoolTotals};

/// All metrics of one running instance.
pub struct Metrics {
    registry: Registry,
    /// In the order in which they came.
    pools: RwLock<Vec<PoolMetrics>>,
    downstream: ConnectionCount,
    downstream_gauge: Gauge,
    downstream_limit: Gauge,
    loop_lag: Histogram,
    reload_success: Gauge,
    reload_timestamp: Gauge,
}

/// What the system's socket tables say; `None` where they cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SocketCounts {
    pub time_wait: Option<TimeWait>,
    /// 0.0 to 1.0.
    pub ephemeral_ports_in_use: Option<f64>,
}

/// Sockets in TIME_WAIT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeWait {
    /// Between us and applications.
    pub upstream: u64,
    /// Between web servers and us.
    pub downstream: u64,
}

impl Metrics {
    /// Creates every series of every pool, so that a counter is seen to go from 0 to 1.
    pub fn new(config: &Config) -> Self {
        let longest_wait = config.pools.iter().map(|pool| pool.queue.timeout).max().unwrap_or_default();
        let registry = Registry::new(longest_wait);
        registry.gauge(&definition::BUILD_INFO, &[env!("CARGO_PKG_VERSION")]).set(1);
        let metrics = Self {
            pools: RwLock::default(),
            downstream: ConnectionCount::default(),
            downstream_gauge: registry.gauge(&definition::DOWNSTREAM, &[]),
            downstream_limit: registry.gauge(&definition::DOWNSTREAM_LIMIT, &[]),
            loop_lag: registry.histogram(&definition::LOOP_LAG, &[]),
            reload_success: registry.gauge(&definition::RELOAD_SUCCESS, &[]),
            reload_timestamp: registry.gauge(&definition::RELOAD_TIMESTAMP, &[]),
            registry,
        };
        config.pools.iter().for_each(|pool| _ = metrics.add_pool(pool));
        metrics.set_listeners(&config.listeners);
        metrics.config_loaded(true);
        metrics
    }

    /// A pool that the configuration has since it was loaded again. One that was there before goes on counting.
    pub fn add_pool(&self, pool: &config::Pool) -> PoolMetrics {
        let mut pools = self.pools.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = pools.iter().find(|known| known.name() == pool.name) {
            return known.clone();
        }
        let added = PoolMetrics::new(&self.registry, &pool.name);
        pools.push(added.clone());
        added
    }

    /// The listeners that there are now.
    pub fn set_listeners(&self, listeners: &[config::Listener]) {
        let limit: f64 = listeners.iter().map(|listener| f64::from(listener.max_connections)).sum();
        self.downstream_limit.set(limit);
    }

    /// The configuration was read again; on `false` it was bad and changed nothing.
    pub fn config_loaded(&self, success: bool) {
        self.reload_success.set(u8::from(success));
        if success {
            self.reload_timestamp.set(unix_time());
        }
    }

    /// The event loop of the data plane took so long to turn to something new.
    pub fn event_loop_lag(&self, lag: Duration) {
        self.loop_lag.record(lag);
    }

    /// Moves measured times into their buckets. To be called each second, or the memory of histograms grows with
    /// every request until the next scrape.
    pub fn upkeep(&self) {
        self.registry.upkeep();
    }

    /// Everything, in the text format 0.0.4 of Prometheus. Of pools and endpoints only those of the snapshots: what is no
    /// longer there leaves no series behind.
    pub fn render(&self, pools: &[(String, PoolSnapshot)], sockets: &SocketCounts) -> String {
        let known = self.known(pools);
        self.downstream_gauge.set(self.downstream.get() as f64);
        let mut text = self.registry.render(|pool| known.iter().any(|(known, _)| known.name() == pool));
        fleet::render(&mut text, &known);
        render_sockets(&mut text, sockets);
        process::render(&mut text);
        text
    }

    fn known<'a>(&self, pools: &'a [(String, PoolSnapshot)]) -> Vec<(PoolMetrics, &'a PoolSnapshot)> {
        let known = self.pools.read().unwrap_or_else(PoisonError::into_inner);
        let find = |name: &str| known.iter().find(|pool| pool.name() == name).cloned();
        pools.iter().filter_map(|(name, snapshot)| Some((find(name)?, snapshot))).collect()
    }

    /// # Panics
    /// If the configuration has no pool of this name; listeners only name pools that exist.
    pub fn pool(&self, name: &str) -> PoolMetrics {
        let pools = self.pools.read().unwrap_or_else(PoisonError::into_inner);
        let found = pools.iter().find(|pool| pool.name() == name);
        found.unwrap_or_else(|| panic!("the configuration has no pool {name}")).clone()
    }

    /// Connections from web servers, over all listeners.
    pub fn downstream_connections(&self) -> &ConnectionCount {
        &self.downstream
    }
}

/// What could not be read is left out.
fn render_sockets(text: &mut String, sockets: &SocketCounts) {
    if let Some(TimeWait { upstream, downstream }) = sockets.time_wait {
        let mut family = Family::new(text, &definition::TIME_WAIT);
        family.sample(&["upstream"], upstream);
        family.sample(&["downstream"], downstream);
    }
    if let Some(ratio) = sockets.ephemeral_ports_in_use {
        Family::new(text, &definition::EPHEMERAL_PORTS).sample(&[], ratio);
    }
}

/// How many connections are open. Increments and decrements may come from different threads and in any order.
#[derive(Debug, Default)]
pub struct ConnectionCount {
    open: AtomicI64,
    /// Ever opened.
    total: AtomicU64,
}

impl ConnectionCount {
    pub fn inc(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.total.fetch_add(1, Ordering::Relaxed);
    }

    pub fn dec(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    pub fn get(&self) -> i64 {
        self.open.load(Ordering::Relaxed)
    }

    /// Ever opened: while it does not change, nobody has come.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }
}

#[expect(clippy::disallowed_methods, reason = "a timestamp for people, on which nothing is decided")]
fn unix_time() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests;
