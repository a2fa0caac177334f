//! /metrics, /livez and /readyz, the state as JSON and the operator's verbs, on a thread of their own so that a scrape
//! never delays a request.
//!
//! What is asked of the running process comes in as a [`Process`]: this layer knows neither pools nor sockets of the
//! data plane.

mod board;
mod guard;
mod json;
mod page;
mod route;
mod server;
mod show;
mod sockets;
mod verb;

use crate::{
    config::Verbs,
    metrics::{Metrics, SocketCounts},
    mux::{
        command::{Command, CommandError},
        snapshot::{ConnectionSnapshot, PoolSnapshot, WaiterSnapshot},
    },
};
use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};
use tokio::{
    runtime::{Builder, Runtime},
    sync::oneshot,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use board::Board;
use sockets::SocketPorts;

pub use board::overview;

/// How often the data plane is asked for a sign of life: often enough for a lack of CPU to show within a scrape, and seldom
/// enough to cost nothing.
const PING_PERIOD: Duration = Duration::from_millis(250);

/// What the admin server asks of the process it belongs to. Called on the admin thread; nothing here may wait, and a
/// pool's lock is taken for microseconds at most.
pub trait Process: Send + Sync + 'static {
    /// Every pool by name, in an order that stays.
    fn pools(&self) -> Vec<(String, PoolSnapshot)>;

    /// One of them. `None`, here and below: there is no such pool.
    fn pool(&self, name: &str) -> Option<PoolSnapshot> {
        self.pools().into_iter().find_map(|(known, pool)| (known == name).then_some(pool))
    }

    /// The connections of a pool to its applications.
    fn connections(&self, pool: &str) -> Option<Vec<ConnectionSnapshot>>;

    /// How many exchanges wait for a connection, and the first of them, `at_most` so many.
    fn waiters(&self, pool: &str, at_most: usize) -> Option<(usize, Vec<WaiterSnapshot>)>;

    /// Carries out what an operator asks for; what follows from it may take longer than the call.
    fn command(&self, pool: &str, command: &Command) -> Option<Result<(), CommandError>>;

    /// Who may ask for that, as configured now.
    fn verbs(&self) -> Verbs;

    /// All listeners are bound and the process is not draining.
    fn ready(&self) -> bool;

    /// Asks the data plane's event loop for a sign of life, which it gives at its next turn, and measures how long that
    /// takes.
    fn ping(&self) -> oneshot::Receiver<()>;

    /// The TCP ports that listeners are bound to now.
    fn ports(&self) -> Vec<u16>;
}

/// What the admin server serves.
#[derive(Clone)]
pub struct AdminState {
    pub metrics: Arc<Metrics>,
    pub process: Arc<dyn Process>,
}

/// What one client of the admin server may cost the others.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections served at once; one more ends the oldest.
    pub connections: usize,
    /// Of these, so many may wait for what a verb does: the others must find a way in, with the verb that ends the waiting
    /// above all. Further ones are answered at once.
    pub waits: usize,
    /// A client that has not sent the whole head of its next request for so long is hung up on; also bounds how long a
    /// kept connection may be quiet.
    pub read_head: Duration,
    /// A connection takes no new request after so long, and is closed when its last one is answered: one that never
    /// reads its response does not hold a place for ever. Verbs are waited for no longer than this.
    pub connection_age: Duration,
    /// How long running answers may go on after a connection's age or the end of the server.
    pub grace: Duration,
    /// How long /livez waits for the event loop.
    pub ping: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 64,
            waits: 8,
            read_head: Duration::from_secs(5),
            connection_age: Duration::from_secs(60),
            grace: Duration::from_secs(2),
            ping: Duration::from_secs(2),
        }
    }
}

/// A running admin thread. Dropping it asks the thread to end, [`AdminThread::stop`] also waits for that.
#[must_use = "the thread ends when this is dropped"]
pub struct AdminThread {
    stop: DropGuard,
    thread: JoinHandle<()>,
}

impl AdminThread {
    /// Lets running answers end, within [`Limits::grace`], and waits for the thread. Blocks the caller.
    pub fn stop(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("the admin thread panicked");
        }
    }
}

/// Serves `listener` on a new thread, which also keeps the metrics up ([`Metrics::upkeep`]).
///
/// # Errors
/// If the system gives no thread, or no event queue to wait on.
pub fn spawn(listener: TcpListener, state: AdminState) -> io::Result<AdminThread> {
    spawn_with(listener, state, Limits::default())
}

/// [`spawn`] with other limits.
///
/// # Errors
/// As for [`spawn`].
pub fn spawn_with(listener: TcpListener, state: AdminState, limits: Limits) -> io::Result<AdminThread> {
    listener.set_nonblocking(true)?;
    let runtime = runtime()?;
    let listener = {
        let _entered = runtime.enter();
        tokio::net::TcpListener::from_std(listener)?
    };
    start(runtime, move |stop| async move {
        let board = Arc::new(Board::default());
        let upkeep = tokio::spawn(keep_up_with(state.clone(), board.clone()));
        let pings = tokio::spawn(keep_pinging(state.process.clone()));
        server::serve(listener, state, board, limits, stop).await;
        upkeep.abort();
        pings.abort();
    })
}

/// Without `admin.listen`: only calls [`Metrics::upkeep`] each second. One of the two must run, or the memory of the
/// histograms grows with every request.
///
/// # Errors
/// As for [`spawn`].
pub fn spawn_upkeep(metrics: Arc<Metrics>) -> io::Result<AdminThread> {
    start(runtime()?, move |stop| async move {
        stop.run_until_cancelled(keep_up(metrics)).await;
    })
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_io().enable_time().build()
}

fn start<F, W>(runtime: Runtime, work: W) -> io::Result<AdminThread>
where
    F: Future<Output = ()>,
    W: FnOnce(CancellationToken) -> F + Send + 'static,
{
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let thread = thread::Builder::new().name("admin".to_owned()).spawn(move || runtime.block_on(work(stopped)))?;
    Ok(AdminThread { stop: stop.drop_guard(), thread })
}

/// Looks at the pools each second as well.
async fn keep_up_with(state: AdminState, board: Arc<Board>) {
    let metrics = state.metrics.clone();
    each_second(|| {
        metrics.upkeep();
        board.tick(&state);
    })
    .await;
}

async fn keep_up(metrics: Arc<Metrics>) {
    each_second(|| metrics.upkeep()).await;
}

async fn each_second(mut work: impl FnMut()) {
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        seconds.tick().await;
        work();
    }
}

/// How late the event loop turns is measured with each answer: see the metric.
async fn keep_pinging(process: Arc<dyn Process>) {
    loop {
        tokio::time::sleep(PING_PERIOD).await;
        // Without an answer the data plane has ended.
        _ = process.ping().await;
    }
}

impl AdminState {
    fn scrape(&self) -> String {
        let pools = self.process.pools();
        self.metrics.render(&pools, &self.sockets(&pools))
    }

    /// Those of endpoints as they are now: they come and go.
    fn sockets(&self, pools: &[(String, PoolSnapshot)]) -> SocketCounts {
        sockets::count(&SocketPorts::new(upstream_ports(pools), self.process.ports()))
    }
}

/// An endpoint's name is its address, or the path of a socket, which has no port.
fn upstream_ports(pools: &[(String, PoolSnapshot)]) -> Vec<u16> {
    let endpoints = pools.iter().flat_map(|(_, pool)| &pool.endpoints);
    endpoints.filter_map(|endpoint| Some(endpoint.name.parse::<SocketAddr>().ok()?.port())).collect()
}

#[cfg(test)]
mod tests;
