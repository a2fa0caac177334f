//! Sockets and timers: what the core decides is done here.
//!
//! One task per connection of a web server ([`serve`]), one per connection being opened ([`settle`]), one per pool
//! ([`pool`]) that watches idle connections and the clock.

mod access;
mod channel;
mod clock;
mod course;
mod delivery;
mod discovery;
mod dispatch;
mod exchange;
mod exchanges;
mod join;
mod listen;
mod observe;
mod outgoing;
mod ping;
mod plane;
mod pool;
mod scratch;
mod serve;
mod settle;
mod sharing;
mod socket;
mod spool;
mod status;
mod target;
mod upload;
mod upstream;
mod webserver;

use crate::{
    config::{Config, Verbs},
    metrics::Metrics,
    mux::{
        command::{Command, CommandError},
        snapshot::{ConnectionSnapshot, PoolSnapshot, WaiterSnapshot},
    },
};
use plane::{LOOK, Plane};
use pool::SharedPool;
use std::{future::Future, sync::Arc, time::Duration};

pub use listen::{BACKLOG, ListenError};
pub use plane::Prepared;

/// Without a connection, a waiter or a running exchange for so long, a drain is over.
const QUIET: Duration = Duration::from_secs(1);

/// The data plane: listeners and pools, served.
#[derive(Clone)]
pub struct Net {
    plane: Arc<Plane>,
}

/// What may be asked of a data plane from any thread.
#[derive(Clone)]
pub struct View {
    plane: Arc<Plane>,
}

impl View {
    /// Every pool by name, in the order of the configuration; behind them those that have been removed and in which
    /// exchanges still run, unless another has that name now.
    pub fn pools(&self) -> Vec<(String, PoolSnapshot)> {
        let mut pools: Vec<(String, PoolSnapshot)> = vec![];
        for pool in self.plane.pools() {
            if pools.iter().all(|(other, _)| *other != pool.name) {
                pools.push((pool.name.clone(), pool.snapshot()));
            }
        }
        pools
    }

    /// One of them. `None`, here and below: there is no such pool.
    pub fn pool(&self, name: &str) -> Option<PoolSnapshot> {
        Some(self.find(name)?.snapshot())
    }

    /// Its upstream connections.
    pub fn connections(&self, pool: &str) -> Option<Vec<ConnectionSnapshot>> {
        Some(self.find(pool)?.connections())
    }

    /// How many wait, and the first `at_most` of them.
    pub fn waiters(&self, pool: &str, at_most: usize) -> Option<(usize, Vec<WaiterSnapshot>)> {
        Some(self.find(pool)?.waiters(at_most))
    }

    /// To be called inside the data plane's runtime.
    pub fn command(&self, pool: &str, command: &Command) -> Option<Result<(), CommandError>> {
        Some(self.find(pool)?.command(command))
    }

    /// Those of the configuration come first.
    fn find(&self, name: &str) -> Option<Arc<SharedPool>> {
        self.plane.pools().into_iter().find(|pool| pool.name == name)
    }

    /// Who may use them, as configured now.
    pub fn verbs(&self) -> Verbs {
        self.plane.verbs()
    }

    /// Ports of TCP listeners.
    pub fn ports(&self) -> Vec<u16> {
        self.plane.ports()
    }
}

impl Net {
    /// Binds every listener and serves. To be called inside a runtime.
    ///
    /// # Errors
    /// The first listener that cannot be bound; those before it are given back.
    pub fn start(config: &Config, metrics: &Arc<Metrics>) -> Result<Self, ListenError> {
        let net = Self { plane: Plane::new(metrics) };
        let prepared = net.prepare(config)?;
        tokio::spawn(net.plane.ticker().run());
        tokio::spawn(net.plane.lingering().run());
        net.apply(prepared);
        Ok(net)
    }

    /// The first step to another configuration, in which everything is done that can fail. It may wait for the system:
    /// not for a thread of the data plane. Between it and [`Net::apply`] no other may be prepared.
    ///
    /// # Errors
    /// The first listener that cannot be as it should; nothing has changed then.
    pub fn prepare(&self, config: &Config) -> Result<Prepared, ListenError> {
        self.plane.prepare(config)
    }

    /// The second step: what is new, changed or removed is so for whoever comes from now on; what runs goes on. To be
    /// called inside the runtime.
    pub fn apply(&self, prepared: Prepared) {
        self.plane.apply(prepared);
    }

    pub fn view(&self) -> View {
        View { plane: self.plane.clone() }
    }

    /// Serves until `stop` is ready, then drains: idle connections close at once, whoever still comes is served, and it
    /// is over when nothing has happened for a second, or at the deadline. `draining` is called in between.
    ///
    /// Returns how many connections of web servers were still open at the deadline.
    pub async fn serve(&self, stop: impl Future<Output = ()>, draining: impl FnOnce()) -> usize {
        stop.await;
        draining();
        self.plane.drain();
        let left = tokio::time::timeout(self.plane.drain_deadline(), self.quiet()).await;
        self.plane.close().await;
        if left.is_ok() { 0 } else { usize::try_from(self.plane.metrics.downstream_connections().get()).unwrap_or(0) }
    }

    /// Returns once no web server has been there, and nothing has run, for a while.
    async fn quiet(&self) {
        let connections = self.plane.metrics.downstream_connections();
        let mut quiet_since = None;
        let mut served = connections.total();
        loop {
            let total = connections.total();
            let busy = connections.get() > 0 || self.plane.pools().iter().any(|pool| pool.busy() > 0);
            let moved = total != served;
            served = total;
            if busy || moved {
                quiet_since = None;
            } else if clock::now() - *quiet_since.get_or_insert_with(clock::now) >= QUIET {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}
