//! A pool as tasks share it: the core's decisions carried out, and leases that cannot get lost.

mod leased;
mod reports;

use super::{
    channel::{Channel, Place},
    clock,
    discovery::{Discovery, Surroundings},
    join,
    observe::observe,
    settle,
    target::Target,
    upstream::Upstream,
};
use crate::{
    config::{self, Application},
    metrics::PoolMetrics,
    mux::{
        budget::RetryBudget,
        command::{Command, CommandError},
        label::{Closed, Refusal},
        policy::Policy,
        pool::{Arrival, Claim, Directive, Handshake, Lease, Member, Pool, Settling, Share, SlotKey, WaiterKey},
        snapshot::{ConnectionSnapshot, PoolSnapshot, WaiterSnapshot},
    },
};
use arc_swap::{ArcSwap, Guard};
use std::{
    collections::HashMap,
    future::poll_fn,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU16, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Instant,
};
use tokio::sync::{oneshot, watch};

pub(super) use leased::{Facts, Leased, Settled};

/// What a waiter is told.
type Grant = Result<Granted, Refusal>;

#[derive(Debug)]
enum Granted {
    Lease(Lease<Upstream>, Arc<Target>),
    Share(Share, Arc<Channel>),
}

/// One pool of the process; shared by every task that serves it.
pub(super) struct SharedPool {
    pub(super) name: String,
    pub(super) application: Application,
    config: ArcSwap<config::Pool>,
    policy: ArcSwap<Policy>,
    pub(super) metrics: PoolMetrics,
    ticker: Arc<clock::Ticker>,
    /// Changes with the settings.
    settings: watch::Sender<()>,
    discovery: Mutex<Option<Discovery>>,
    inner: Mutex<Inner>,
    next_id: AtomicU16,
}

#[derive(Debug)]
struct Inner {
    core: Pool<oneshot::Sender<Grant>, Upstream>,
    budget: RetryBudget,
    /// Shared connections; of these the core only counts the places.
    channels: HashMap<SlotKey, Arc<Channel>>,
    /// By the core's index.
    targets: HashMap<usize, Arc<Target>>,
    /// The keeper's, once it runs.
    keeper: Waker,
    /// When the keeper wakes by itself.
    armed: Option<Instant>,
}

impl SharedPool {
    /// To be called inside a runtime. The keeper must be run for the pool to work: [`SharedPool::keep`].
    pub(super) fn new(
        config: &config::Pool,
        surroundings: &Surroundings,
        metrics: PoolMetrics,
        ticker: &Arc<clock::Ticker>,
    ) -> Arc<Self> {
        let core = Pool::new(config, rand_seed(), clock::now());
        let budget = RetryBudget::new(config.retry.budget);
        let (channels, targets) = (HashMap::new(), HashMap::new());
        let inner = Inner { core, budget, channels, targets, keeper: Waker::noop().clone(), armed: None };
        let pool = Arc::new(Self {
            name: config.name.clone(),
            application: config.application,
            config: ArcSwap::from_pointee(config.clone()),
            policy: ArcSwap::from_pointee(Policy::new(config)),
            metrics,
            ticker: ticker.clone(),
            settings: watch::Sender::new(()),
            discovery: Mutex::new(None),
            inner: Mutex::new(inner),
            next_id: AtomicU16::new(1),
        });
        pool.discover(config, surroundings);
        pool
    }

    /// Other settings, from now on; what runs goes on, and no connection closes that need not. The name and the kind of
    /// application stay.
    pub(super) fn reconfigure(self: &Arc<Self>, config: &config::Pool, surroundings: &Surroundings) {
        let before = self.config.swap(Arc::new(config.clone()));
        self.policy.store(Arc::new(Policy::new(config)));
        self.change(|inner| {
            if before.retry != config.retry {
                inner.budget = RetryBudget::new(config.retry.budget);
            }
            inner.core.reconfigure(config, clock::now());
        });
        self.settings.send_replace(());
        self.discover(config, surroundings);
    }

    /// Has the endpoints looked for as configured. Sources that stay go on with what they have found.
    fn discover(self: &Arc<Self>, config: &config::Pool, surroundings: &Surroundings) {
        let pool = Arc::downgrade(self);
        let told = move |members: Vec<Member>| {
            if let Some(pool) = pool.upgrade() {
                pool.change(|inner| inner.core.set_members(&members, clock::now()));
            }
        };
        let mut discovery = self.discovery.lock().expect("no panic under this lock");
        *discovery = Some(Discovery::start(config, surroundings, &self.metrics, discovery.take(), told));
    }

    /// The settings of this moment. Not to be kept for longer than a step.
    pub(super) fn config(&self) -> Guard<Arc<config::Pool>> {
        self.config.load()
    }

    pub(super) fn policy(&self) -> Arc<Policy> {
        self.policy.load_full()
    }

    // ---------------------------------------------------------------- for exchanges

    /// A request id for one exchange: not that of the exchange before it on any connection.
    pub(super) fn next_id(&self) -> u16 {
        loop {
            match self.next_id.fetch_add(1, Ordering::Relaxed) {
                0 => {} // the id of management records
                id => return id,
            }
        }
    }

    /// A connection at once, or a place in the queue.
    ///
    /// # Errors
    /// The exchange is refused.
    pub(super) fn arrive(self: &Arc<Self>, claim: Claim) -> Result<Wanted, Refusal> {
        let mut receiver = None;
        let waiter = || {
            let (sender, waiting) = oneshot::channel();
            receiver = Some(waiting);
            sender
        };
        let granted = self.change(|inner| {
            if !claim.again {
                inner.budget.request();
            }
            inner.core.arrive(claim, waiter, clock::now()).map(|arrival| match arrival {
                Arrival::Lease(lease) => Ok(inner.granted_lease(lease)),
                Arrival::Share(share) => Ok(inner.granted(share)),
                Arrival::Wait(key) => Err(key),
            })
        })?;
        Ok(match (granted, receiver) {
            (Ok(granted), _) => Wanted::Granted(self.carrier(granted)),
            (Err(key), receiver) => Wanted::Waiting(Waiting { pool: self.clone(), key, receiver }),
        })
    }

    /// This application, which is not php-fpm, answers GET_VALUES.
    pub(super) fn answers(&self, endpoint: usize) -> bool {
        self.lock().core.answers(endpoint)
    }

    /// What went in front of a request was not answered at once.
    pub(super) fn fence_late(&self, endpoint: usize) {
        self.lock().core.fence_late(endpoint, clock::now());
    }

    /// What went in front of a request met a connection that the application had closed.
    pub(super) fn fence_unanswered(&self, endpoint: usize) {
        self.lock().core.fence_unanswered(endpoint);
    }

    /// There is another endpoint than these to which an exchange may be sent.
    pub(super) fn has_other(&self, than: &[usize]) -> bool {
        self.lock().core.has_other(than)
    }

    /// May one more exchange that may have been executed be sent again?
    pub(super) fn may_repeat(&self) -> bool {
        self.lock().budget.retry()
    }

    // ---------------------------------------------------------------- for the process

    /// Idle connections close, others behind their exchange; requests are served on.
    pub(super) fn drain(self: &Arc<Self>) {
        self.change(|inner| inner.core.drain(clock::now()));
    }

    /// Why nobody has been served for as long as a request may wait.
    pub(super) fn hold_up(&self) -> &'static str {
        match &self.lock().core {
            core if core.is_paused() => "it is paused, and was not resumed",
            core if core.is_empty() => "no endpoint was found",
            _ => "no worker became free",
        }
    }

    /// Exchanges that wait, run or settle.
    pub(super) fn busy(&self) -> usize {
        self.lock().core.busy()
    }

    pub(super) fn snapshot(&self) -> PoolSnapshot {
        self.lock().core.snapshot(std_now())
    }

    pub(super) fn connections(&self) -> Vec<ConnectionSnapshot> {
        self.lock().core.connections(std_now())
    }

    /// The first `at_most` that wait, and how many there are in all.
    pub(super) fn waiters(&self, at_most: usize) -> (usize, Vec<WaiterSnapshot>) {
        self.lock().core.waiters(at_most, std_now())
    }

    /// To be called inside the data plane's runtime.
    ///
    /// # Errors
    /// It names what is not there.
    pub(super) fn command(self: &Arc<Self>, command: &Command) -> Result<(), CommandError> {
        self.change(|inner| inner.core.command(command, clock::now()))
    }

    /// Watches idle connections and the clock, for as long as the pool lives.
    pub(super) async fn keep(self: Arc<Self>) {
        let mut alarm = self.alarm();
        poll_fn(|context| {
            let deadline = self.change(|inner| {
                if !inner.keeper.will_wake(context.waker()) {
                    inner.keeper = context.waker().clone();
                }
                self.close_lost(inner, context);
                inner.core.tick(clock::now());
                inner.armed = inner.core.next_deadline();
                inner.armed
            });
            if alarm.poll(context, deadline).is_ready() {
                // Time has passed meanwhile; others get their turn before the next look.
                context.waker().wake_by_ref();
            }
            Poll::<()>::Pending
        })
        .await;
    }

    /// An idle connection on which anything comes is over, and is closed at once: the worker's successor is not started
    /// before (fact 3.1).
    fn close_lost(&self, inner: &mut Inner, context: &mut Context<'_>) {
        let idle = inner.core.idle_mut();
        let lost: Vec<_> = idle
            .filter_map(|(key, upstream)| upstream.socket.poll_anything(context).is_ready().then_some(key))
            .collect();
        for key in lost {
            if let Some((upstream, endpoint)) = inner.core.lost(key, clock::now()) {
                drop(upstream);
                inner.closed(endpoint, Closed::Application);
            }
        }
    }

    // ---------------------------------------------------------------- private

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic under this lock is a defect of the core; its state is not to be trusted after it.
        self.inner.lock().expect("the pool's core does not panic")
    }

    /// Changes the core and carries out what it directs.
    fn change<T>(self: &Arc<Self>, change: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner = self.lock();
        let result = change(&mut inner);
        let mut tasks = vec![];
        while let Some(directive) = inner.core.poll_directive() {
            tasks.extend(self.carry_out(&mut inner, directive));
        }
        let deadline = inner.core.next_deadline();
        if deadline.is_some_and(|at| inner.armed.is_none_or(|armed| at < armed)) {
            inner.armed = deadline;
            inner.keeper.wake_by_ref();
        }
        drop(inner);
        // Not under the lock: a runtime that is shutting down drops a task at once, and what it holds comes back here.
        tasks.into_iter().for_each(|task| task.start(self));
        result
    }

    /// Returns what takes a task of its own.
    fn carry_out(&self, inner: &mut Inner, directive: Directive<oneshot::Sender<Grant>, Upstream>) -> Option<Task> {
        match directive {
            Directive::Found { endpoint, address } => {
                tracing::info!(pool = self.name, endpoint = %address, "endpoint found");
                let metrics = self.metrics.endpoint(&address.to_string());
                let target = Arc::new(Target::new(endpoint, address, metrics));
                inner.targets.insert(endpoint, target.clone());
                let watched = self.application == Application::PhpFpm;
                return watched.then_some(Task::Observe { target });
            }
            Directive::Ejected { endpoint, why } => {
                let endpoint = inner.target(endpoint);
                endpoint.ejected.store(true, Ordering::Relaxed);
                self.metrics.failed("ejected", Some(&endpoint), &why);
                tracing::warn!(pool = self.name, %endpoint, "endpoint is left alone: {why}; it is tried again now and then");
            }
            Directive::Returned { endpoint } => {
                let endpoint = inner.target(endpoint);
                endpoint.ejected.store(false, Ordering::Relaxed);
                tracing::info!(pool = self.name, %endpoint, "endpoint is used again");
            }
            Directive::Forget { endpoint } => {
                tracing::info!(pool = self.name, endpoint = %inner.target(endpoint), "endpoint has left");
                inner.targets.remove(&endpoint).into_iter().for_each(|target| target.gone.cancel());
            }
            Directive::Open { key, endpoint, handshake } => {
                let target = inner.target(endpoint);
                target.metrics.opened();
                return Some(Task::Open { key, target, handshake });
            }
            Directive::Grant { waiter, lease } => {
                let granted = inner.granted_lease(lease);
                if let Err(Ok(granted)) = waiter.send(Ok(granted)) {
                    inner.take_back(granted);
                }
            }
            Directive::GrantShare { waiter, share } => {
                let granted = inner.granted(share);
                if let Err(Ok(granted)) = waiter.send(Ok(granted)) {
                    inner.take_back(granted);
                }
            }
            Directive::CloseShared { key, endpoint, reason } => {
                inner.channels.remove(&key).into_iter().for_each(|channel| channel.close());
                inner.closed(endpoint, reason);
            }
            // A waiter that has gone meanwhile needs no answer.
            Directive::Refuse { waiter, refusal } => _ = waiter.send(Err(refusal)),
            Directive::Close { connection, endpoint, reason } => {
                drop(connection);
                inner.closed(endpoint, reason);
            }
            Directive::Probe { settling, connection } => {
                let target = inner.target(settling.endpoint());
                return Some(Task::Probe { settling, connection, target });
            }
        }
        None
    }

    fn carrier(self: &Arc<Self>, granted: Granted) -> Carrier {
        match granted {
            Granted::Lease(lease, target) => Carrier::Leased(Leased::new(self, lease, target)),
            Granted::Share(share, channel) => Carrier::Place(Place::new(self, channel, share)),
        }
    }

    pub(super) fn alarm(&self) -> clock::Alarm {
        clock::Alarm::new(&self.ticker)
    }
}

impl Inner {
    fn target(&self, endpoint: usize) -> Arc<Target> {
        // The core names no endpoint that it has not said to be there.
        self.targets.get(&endpoint).expect("an endpoint that is used is there").clone()
    }

    /// A connection to it ended.
    fn closed(&self, endpoint: usize, reason: Closed) {
        self.targets.get(&endpoint).into_iter().for_each(|target| target.metrics.closed(reason));
    }

    fn granted_lease(&self, lease: Lease<Upstream>) -> Granted {
        let target = self.target(lease.endpoint);
        target.metrics.leased();
        Granted::Lease(lease, target)
    }

    fn granted(&self, share: Share) -> Granted {
        // The core names no connection that it has been told has gone.
        let channel = self.channels.get(&share.key).expect("a place is on a connection that is there");
        channel.target().metrics.leased();
        Granted::Share(share, channel.clone())
    }

    /// Nobody has used it.
    fn take_back(&mut self, granted: Granted) {
        match granted {
            Granted::Lease(lease, _) => self.core.untouched(lease, clock::now()),
            Granted::Share(share, _) => self.core.release_untouched(share, clock::now()),
        }
    }
}

/// A directive that takes time.
enum Task {
    Observe { target: Arc<Target> },
    Open { key: SlotKey, target: Arc<Target>, handshake: Handshake },
    Probe { settling: Settling, connection: Upstream, target: Arc<Target> },
}

impl Task {
    fn start(self, pool: &Arc<SharedPool>) {
        match self {
            Self::Observe { target } => _ = tokio::spawn(observe(Arc::downgrade(pool), target)),
            Self::Open { key, target, handshake } if pool.application == Application::PhpFpm => {
                tokio::spawn(settle::open(pool.clone(), key, target, handshake));
            }
            Self::Open { key, target, handshake } => {
                tokio::spawn(join::open(pool.clone(), key, target, handshake));
            }
            Self::Probe { settling, connection, target } => {
                let held = Settled::new(pool, target, settling);
                tokio::spawn(settle::probe(held, connection));
            }
        }
    }
}

/// Another number for each pool of each process.
fn rand_seed() -> u64 {
    // The standard library's hash maps are seeded by the system; no crate is needed for pauses that only have to differ.
    RandomState::new().hash_one(0_u8)
}

/// The scrape's clock: it runs on another thread, outside the data plane's runtime.
#[expect(clippy::disallowed_methods, reason = "no runtime, and so no clock of its own, on the thread that scrapes")]
fn std_now() -> Instant {
    Instant::now()
}

/// Lets the keeper hear what comes on a connection that may become idle. Whoever is granted it listens in its place.
fn listen_for(inner: &Inner, upstream: &mut Upstream) {
    // Ready now or later, it is the keeper that looks.
    if upstream.socket.poll_anything(&mut Context::from_waker(&inner.keeper)).is_ready() {
        inner.keeper.wake_by_ref();
    }
}

/// The answer to [`SharedPool::arrive`].
pub(super) enum Wanted {
    Granted(Carrier),
    Waiting(Waiting),
}

/// What carries one exchange.
pub(super) enum Carrier {
    /// A connection of its own.
    Leased(Leased),
    /// A place on one that others share.
    Place(Place),
}

/// A place in the queue; left when dropped.
pub(super) struct Waiting {
    pool: Arc<SharedPool>,
    key: WaiterKey,
    receiver: Option<oneshot::Receiver<Grant>>,
}

impl Waiting {
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Carrier, Refusal>> {
        let Some(receiver) = &mut self.receiver else { return Poll::Pending };
        let Poll::Ready(grant) = std::pin::Pin::new(receiver).poll(context) else { return Poll::Pending };
        self.receiver = None;
        // The core drops no waiter without a word; an end of the process might.
        Poll::Ready(grant.unwrap_or(Err(Refusal::NoEndpoint)).map(|granted| self.pool.carrier(granted)))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let Some(mut receiver) = self.receiver.take() else { return };
        receiver.close();
        let granted = receiver.try_recv();
        self.pool.change(|inner| {
            inner.core.leave(self.key);
            // Granted in the same moment: nobody has used it.
            if let Ok(Ok(granted)) = granted {
                inner.take_back(granted);
            }
        });
    }
}
