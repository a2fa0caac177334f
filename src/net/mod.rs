//! Sockets and timers: what the core decides is done here.
//!
//! One task per connection of a web server ([`serve`]), one per connection being opened ([`settle`]), one per pool
//! ([`pool`]) that watches idle connections and the clock.

mod channel;
mod clock;
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

use crate::{config::Config, metrics::Metrics, mux::snapshot::PoolSnapshot};
use discovery::Surroundings;
use listen::Bound;
use pool::SharedPool;
use serve::Site;
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use webserver::BodyStorage;

pub use listen::ListenError;

/// Without a connection, a waiter or a running exchange for so long, a drain is over.
const QUIET: Duration = Duration::from_secs(1);
/// How often a drain looks.
const LOOK: Duration = Duration::from_millis(50);

/// The data plane: listeners and pools, bound but not yet served.
pub struct Net {
    bound: Vec<(Bound, Arc<Site>)>,
    pools: Vec<Arc<SharedPool>>,
    metrics: Arc<Metrics>,
    drain_deadline: Duration,
    draining: CancellationToken,
    ticker: Arc<clock::Ticker>,
}

/// What may be asked of a data plane from any thread.
#[derive(Clone)]
pub struct View {
    pools: Vec<Arc<SharedPool>>,
    /// Ports of TCP listeners.
    pub ports: Vec<u16>,
}

impl View {
    /// Every pool by name, in the order of the configuration.
    pub fn pools(&self) -> Vec<(String, PoolSnapshot)> {
        self.pools.iter().map(|pool| (pool.name.clone(), pool.snapshot())).collect()
    }
}

impl Net {
    /// Binds every listener.
    ///
    /// # Errors
    /// The first listener that cannot be bound; those before it are given back.
    pub fn bind(config: &Config, metrics: &Arc<Metrics>) -> Result<Self, ListenError> {
        let ticker = Arc::new(clock::Ticker::default());
        let surroundings = Surroundings { zone: config.zone.clone(), dns_servers: config.dns.servers.clone() };
        let pools: HashMap<_, _> = config
            .pools
            .iter()
            .map(|pool| (pool.name.as_str(), SharedPool::new(pool, &surroundings, metrics.pool(&pool.name), &ticker)))
            .collect();
        let draining = CancellationToken::new();
        let mut bound = vec![];
        for listener in &config.listeners {
            // The configuration has been checked: every listener names a pool that is there.
            let pool = pools[listener.pool.as_str()].clone();
            let pool_config = pool.config();
            let body = &pool_config.body;
            // At most 16 MiB: see the configuration.
            let replay = pool_config.connections.buffer as usize;
            let storage = BodyStorage { memory: body.memory, directory: body.directory.clone().into(), replay };
            let access_log = config.log.access;
            let site =
                Arc::new(Site { listener: listener.clone(), pool, storage, access_log, draining: draining.clone() });
            bound.push((Bound::new(listener)?, site));
        }
        let pools = config.pools.iter().map(|pool| pools[pool.name.as_str()].clone()).collect();
        Ok(Self { bound, pools, metrics: metrics.clone(), drain_deadline: config.drain_deadline, draining, ticker })
    }

    pub fn view(&self) -> View {
        let ports = self.bound.iter().filter_map(|(bound, _)| bound.tcp_port()).collect();
        View { pools: self.pools.clone(), ports }
    }

    /// Serves until `stop` is ready, then drains: idle connections close at once, whoever still comes is served, and it
    /// is over when nothing has happened for a second, or at the deadline. `draining` is called in between.
    ///
    /// To be called inside a runtime. Returns how many connections of web servers were still open at the deadline.
    pub async fn serve(self, stop: impl Future<Output = ()>, draining: impl FnOnce()) -> usize {
        let Self { bound, pools, metrics, drain_deadline, draining: begin, ticker } = self;
        tokio::spawn(ticker.run());
        for pool in &pools {
            tokio::spawn(pool.clone().keep());
        }
        let mut listeners = tokio::task::JoinSet::new();
        for (bound, site) in bound {
            listeners.spawn(listen::accept(bound, site, metrics.clone()));
        }
        stop.await;
        draining();
        begin.cancel();
        pools.iter().for_each(SharedPool::drain);
        let left = tokio::time::timeout(drain_deadline, quiet(&pools, &metrics)).await;
        // With the listeners go the files of their sockets.
        listeners.shutdown().await;
        if left.is_ok() { 0 } else { usize::try_from(metrics.downstream_connections().get()).unwrap_or(0) }
    }
}

/// Returns once no web server has been there, and nothing has run, for a while.
async fn quiet(pools: &[Arc<SharedPool>], metrics: &Metrics) {
    let mut quiet_since = None;
    let mut served = metrics.downstream_connections().total();
    loop {
        let total = metrics.downstream_connections().total();
        let busy = metrics.downstream_connections().get() > 0 || pools.iter().any(|pool| pool.busy() > 0);
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
