//! Every metric name once, its handles resolved once, and what happened turned into increments.
//!
//! Events are counted where they happen ([`PoolMetrics`]); what is a state, such as the depth of a queue, is looked at
//! when somebody asks ([`Metrics::render`]). Knows no runtime and no sockets.

pub mod definition;
mod pool;
mod process;
mod registry;

use crate::{config::Config, mux::snapshot::PoolSnapshot};
use metrics::Gauge;
use registry::Registry;
use std::{
    sync::{
        OnceLock,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

pub use pool::PoolMetrics;

/// All metrics of one running instance.
pub struct Metrics {
    registry: Registry,
    /// In the order of the configuration.
    pools: Vec<PoolMetrics>,
    downstream: ConnectionCount,
    downstream_gauge: Gauge,
    reload_success: Gauge,
    reload_timestamp: Gauge,
    /// Absent until the system's tables could be read once.
    time_wait: OnceLock<[Gauge; 2]>,
    /// As above.
    ephemeral_ports: OnceLock<Gauge>,
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
        let limit: f64 = config.listeners.iter().map(|listener| f64::from(listener.max_connections)).sum();
        registry.gauge(&definition::DOWNSTREAM_LIMIT, &[]).set(limit);
        let metrics = Self {
            pools: config.pools.iter().map(|pool| PoolMetrics::new(&registry, pool)).collect(),
            downstream: ConnectionCount::default(),
            downstream_gauge: registry.gauge(&definition::DOWNSTREAM, &[]),
            reload_success: registry.gauge(&definition::RELOAD_SUCCESS, &[]),
            reload_timestamp: registry.gauge(&definition::RELOAD_TIMESTAMP, &[]),
            time_wait: OnceLock::new(),
            ephemeral_ports: OnceLock::new(),
            registry,
        };
        metrics.config_loaded(true);
        metrics
    }

    /// The configuration was read again; on `false` it was bad and changed nothing.
    pub fn config_loaded(&self, success: bool) {
        self.reload_success.set(u8::from(success));
        if success {
            self.reload_timestamp.set(unix_time());
        }
    }

    /// Moves measured times into their buckets. To be called each second, or the memory of histograms grows with
    /// every request until the next scrape.
    pub fn upkeep(&self) {
        self.registry.upkeep();
    }

    /// Everything, in the text format 0.0.4 of Prometheus. A pool that the configuration does not have is left out.
    pub fn render(&self, pools: &[(String, PoolSnapshot)], sockets: &SocketCounts) -> String {
        for (name, snapshot) in pools {
            if let Some(pool) = self.pools.iter().find(|pool| pool.name() == name) {
                pool.look_at(snapshot);
            }
        }
        self.downstream_gauge.set(self.downstream.get() as f64);
        self.look_at_sockets(sockets);
        let mut text = self.registry.render();
        process::render(&mut text);
        text
    }

    /// # Panics
    /// If the configuration has no pool of this name; listeners only name pools that exist.
    pub fn pool(&self, name: &str) -> PoolMetrics {
        let found = self.pools.iter().find(|pool| pool.name() == name);
        found.unwrap_or_else(|| panic!("the configuration has no pool {name}")).clone()
    }

    /// Connections from web servers, over all listeners.
    pub fn downstream_connections(&self) -> &ConnectionCount {
        &self.downstream
    }

    fn look_at_sockets(&self, sockets: &SocketCounts) {
        if let Some(TimeWait { upstream, downstream }) = sockets.time_wait {
            let gauges = self.time_wait.get_or_init(|| {
                ["upstream", "downstream"].map(|side| self.registry.gauge(&definition::TIME_WAIT, &[side]))
            });
            gauges[0].set(upstream as f64);
            gauges[1].set(downstream as f64);
        } else if let Some(gauges) = self.time_wait.get() {
            // Once there, a series cannot be taken away; NaN keeps the last value from looking current.
            gauges.iter().for_each(|gauge| gauge.set(f64::NAN));
        }
        if let Some(ratio) = sockets.ephemeral_ports_in_use {
            self.ephemeral_ports.get_or_init(|| self.registry.gauge(&definition::EPHEMERAL_PORTS, &[])).set(ratio);
        } else if let Some(gauge) = self.ephemeral_ports.get() {
            gauge.set(f64::NAN);
        }
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
