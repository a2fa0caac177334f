//! What serves, and may be another at any time: listeners and pools, changed without closing what need not close.
//!
//! A new configuration is prepared first ([`Plane::prepare`]): whatever can fail is done then, and taken back where
//! something does. Then it is applied ([`Plane::apply`]), which cannot fail. The start is a change from nothing.

use super::{
    access::Sampling,
    clock::Ticker,
    discovery::Surroundings,
    listen::{self, Bound, ListenError, Place},
    pool::SharedPool,
    serve::{Site, Sites},
    spool::BodyStorage,
    webserver::Lingering,
};
use crate::{
    config::{Config, ListenAddress, Listener, Verbs},
    metrics::Metrics,
};
use std::{
    sync::{Arc, Mutex, MutexGuard, Weak},
    time::Duration,
};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

/// How often it is seen whether something has come to its end.
pub(super) const LOOK: Duration = Duration::from_millis(50);

/// See the [module](self).
pub(super) struct Plane {
    pub(super) metrics: Arc<Metrics>,
    ticker: Arc<Ticker>,
    lingering: Arc<Lingering>,
    /// Cancelled when the process begins to stop.
    draining: CancellationToken,
    state: Mutex<State>,
}

struct State {
    /// In force.
    config: Option<Config>,
    listeners: Vec<Listening>,
    /// In the order of the configuration.
    pools: Vec<Running>,
    /// Removed, with exchanges that still run.
    leaving: Vec<Arc<SharedPool>>,
    /// Sites that have been replaced, or whose listeners have been removed, while connections of theirs may be open.
    former: Vec<Weak<Site>>,
    /// One for each listener.
    accepting: JoinSet<()>,
}

struct Listening {
    config: Listener,
    place: Arc<Place>,
    sites: Arc<Sites>,
    stop: CancellationToken,
}

struct Running {
    pool: Arc<SharedPool>,
    keeper: AbortHandle,
}

/// A configuration that can be applied. Dropped, it leaves nothing behind.
pub struct Prepared {
    config: Config,
    /// Those that are new.
    bound: Vec<(Listener, Bound)>,
    adapted: Vec<Adapted>,
}

/// The file of a socket whose permission bits or group have been changed.
struct Adapted {
    place: Arc<Place>,
    from: ListenAddress,
    to: ListenAddress,
}

impl Drop for Adapted {
    fn drop(&mut self) {
        if self.from != self.to
            && let Err(error) = self.place.adapt(&self.to, &self.from)
        {
            tracing::warn!("cannot take back what was changed: {error}");
        }
    }
}

impl Plane {
    pub(super) fn new(metrics: &Arc<Metrics>) -> Arc<Self> {
        let state = State {
            config: None,
            listeners: vec![],
            pools: vec![],
            leaving: vec![],
            former: vec![],
            accepting: JoinSet::new(),
        };
        let draining = CancellationToken::new();
        let (ticker, lingering) = (Arc::default(), Arc::default());
        Arc::new(Self { metrics: metrics.clone(), ticker, lingering, draining, state: Mutex::new(state) })
    }

    pub(super) fn lingering(&self) -> Arc<Lingering> {
        self.lingering.clone()
    }

    pub(super) fn ticker(&self) -> Arc<Ticker> {
        self.ticker.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under this lock is a defect, and what it left cannot be served on.
        self.state.lock().expect("no panic under this lock")
    }

    /// Binds what is new and adapts the files of sockets. Takes system calls that may wait, of the group database for
    /// instance: not for a thread that carries exchanges.
    ///
    /// # Errors
    /// The first listener that cannot be as it should; everything is then as before.
    pub(super) fn prepare(&self, config: &Config) -> Result<Prepared, ListenError> {
        let mut open: Vec<_> =
            self.lock().listeners.iter().map(|open| (open.config.address.clone(), open.place.clone())).collect();
        let (mut bound, mut adapted) = (vec![], vec![]);
        for listener in &config.listeners {
            let found = open.iter().position(|(address, _)| is_same_place(address, &listener.address));
            let Some((from, place)) = found.map(|found| open.swap_remove(found)) else {
                bound.push((listener.clone(), Bound::new(listener)?));
                continue;
            };
            let to = listener.address.clone();
            if from != to {
                place.adapt(&from, &to)?;
                adapted.push(Adapted { place, from, to });
            }
        }
        Ok(Prepared { config: config.clone(), bound, adapted })
    }

    /// Puts a configuration in force. To be called inside the runtime of the data plane.
    pub(super) fn apply(self: &Arc<Self>, prepared: Prepared) {
        let Prepared { config, bound, adapted } = prepared;
        for mut adapted in adapted {
            adapted.from = adapted.to.clone();
        }
        let mut state = self.lock();
        let before = state.config.take();
        let removed = self.change_pools(&mut state, &config, before.as_ref());
        self.change_listeners(&mut state, &config, before.as_ref(), bound);
        state.former.retain(|site| site.strong_count() > 0);
        for gone in removed {
            state.leaving.push(gone.pool.clone());
            let is_of = |site: &&Weak<Site>| site.upgrade().is_some_and(|site| Arc::ptr_eq(&site.pool, &gone.pool));
            let sites = state.former.iter().filter(is_of).cloned().collect();
            tokio::spawn(self.clone().leave(gone, sites));
        }
        state.config = Some(config);
        while state.accepting.try_join_next().is_some() {}
    }

    /// Returns those that are no longer there.
    fn change_pools(&self, state: &mut State, config: &Config, before: Option<&Config>) -> Vec<Running> {
        let around = surroundings(config);
        let mut running = Vec::with_capacity(config.pools.len());
        for pool in &config.pools {
            let is_same = |other: &Running| other.pool.name == pool.name && other.pool.application == pool.application;
            running.push(match state.pools.iter().position(is_same) {
                Some(place) => {
                    let known = state.pools.swap_remove(place);
                    let same = before.is_some_and(|before| surroundings(before) == around);
                    if !same || **known.pool.config() != *pool {
                        known.pool.reconfigure(pool, &around);
                    }
                    known
                }
                None => {
                    let pool = SharedPool::new(pool, &around, self.metrics.add_pool(pool), &self.ticker);
                    let keeper = tokio::spawn(pool.clone().keep()).abort_handle();
                    Running { pool, keeper }
                }
            });
        }
        std::mem::replace(&mut state.pools, running)
    }

    fn change_listeners(
        &self,
        state: &mut State,
        config: &Config,
        before: Option<&Config>,
        mut bound: Vec<(Listener, Bound)>,
    ) {
        let mut open = std::mem::take(&mut state.listeners);
        for listener in &config.listeners {
            // The configuration has been checked: every listener names a pool that is there.
            let named = state.pools.iter().find(|running| running.pool.name == listener.pool);
            let Some(pool) = named.map(|running| running.pool.clone()) else { continue };
            let site = || Arc::new(self.site(listener, &pool, config));
            let known = open.iter().position(|open| is_same_place(&open.config.address, &listener.address));
            if let Some(known) = known {
                let mut known = open.swap_remove(known);
                if known.config != *listener || !is_served_alike(&known, &pool, config, before) {
                    state.former.push(replace(&known.sites, site()));
                    known.config = listener.clone();
                }
                state.listeners.push(known);
            } else if let Some(new) = bound.iter().position(|(new, _)| new.address == listener.address) {
                let (config, Bound { socket, place }) = bound.swap_remove(new);
                let (sites, stop) = (Arc::new(Sites::new(site())), CancellationToken::new());
                state.accepting.spawn(listen::accept(socket, sites.clone(), stop.clone(), self.metrics.clone()));
                state.listeners.push(Listening { config, place: Arc::new(place), sites, stop });
            }
        }
        for gone in open {
            state.former.push(gone.close());
        }
    }

    fn site(&self, listener: &Listener, pool: &Arc<SharedPool>, config: &Config) -> Site {
        let settings = pool.config();
        // At most 16 MiB: see the configuration.
        let replay = settings.connections.buffer as usize;
        let body = &settings.body;
        let storage = BodyStorage { memory: body.memory, directory: body.directory.clone().into(), replay };
        Site {
            listener: listener.clone(),
            pool: pool.clone(),
            storage,
            access: config.log.access.map(Sampling::new),
            over: self.draining.child_token(),
            lingering: self.lingering.clone(),
        }
    }

    /// Ends a pool with its last exchange.
    async fn leave(self: Arc<Self>, gone: Running, mut sites: Vec<Weak<Site>>) {
        let Running { pool, keeper } = gone;
        pool.drain();
        while !sites.is_empty() || pool.busy() > 0 {
            tokio::time::sleep(LOOK).await;
            sites.retain(|site| site.strong_count() > 0);
        }
        keeper.abort();
        self.lock().leaving.retain(|other| !Arc::ptr_eq(other, &pool));
        tracing::info!(pool = pool.name, "pool ended");
    }

    // ---------------------------------------------------------------- the end

    /// Connections close when nothing runs on them; whoever still comes is served.
    pub(super) fn drain(&self) {
        self.draining.cancel();
        self.pools().iter().for_each(SharedPool::drain);
    }

    /// Stops listening.
    pub(super) async fn close(&self) {
        let mut accepting = {
            let mut state = self.lock();
            state.listeners.drain(..).for_each(|gone| _ = gone.close());
            std::mem::take(&mut state.accepting)
        };
        while accepting.join_next().await.is_some() {}
    }

    // ---------------------------------------------------------------- what there is

    /// Those of the configuration, in its order, and behind them those that are on their way out.
    pub(super) fn pools(&self) -> Vec<Arc<SharedPool>> {
        let state = self.lock();
        state.pools.iter().map(|running| &running.pool).chain(&state.leaving).cloned().collect()
    }

    pub(super) fn drain_deadline(&self) -> Duration {
        self.lock().config.as_ref().map_or(Duration::ZERO, |config| config.drain_deadline)
    }

    pub(super) fn verbs(&self) -> Verbs {
        self.lock().config.as_ref().map_or(Verbs::Off, |config| config.admin.verbs)
    }

    /// Ports of TCP listeners.
    pub(super) fn ports(&self) -> Vec<u16> {
        self.lock().listeners.iter().filter_map(|open| open.place.tcp_port()).collect()
    }
}

impl Listening {
    /// Nobody finds it any more, and its connections close when nothing runs on them.
    fn close(self) -> Weak<Site> {
        self.place.remove();
        self.stop.cancel();
        let site = self.sites.load_full();
        site.over.cancel();
        Arc::downgrade(&site)
    }
}

/// Connections that rest go over to the new site.
fn replace(sites: &Sites, site: Arc<Site>) -> Weak<Site> {
    let former = sites.swap(site);
    former.over.cancel();
    Arc::downgrade(&former)
}

fn surroundings(config: &Config) -> Surroundings {
    Surroundings { zone: config.zone.clone(), dns_servers: config.dns.servers.clone() }
}

/// Besides the listener's own settings, its connections have those of the pool and of the log.
fn is_served_alike(open: &Listening, pool: &Arc<SharedPool>, config: &Config, before: Option<&Config>) -> bool {
    let Some(before) = before else { return false };
    let pool_of = |config: &Config| config.pools.iter().find(|pool| pool.name == open.config.pool).cloned();
    Arc::ptr_eq(&open.sites.load().pool, pool)
        && before.log.access == config.log.access
        && pool_of(before) == pool_of(config)
}

/// A listener is the same as long as web servers find it at the same place.
fn is_same_place(left: &ListenAddress, right: &ListenAddress) -> bool {
    match (left, right) {
        (ListenAddress::Unix { path: left, .. }, ListenAddress::Unix { path: right, .. }) => left == right,
        (ListenAddress::Tcp(left), ListenAddress::Tcp(right)) => left == right,
        _ => false,
    }
}
