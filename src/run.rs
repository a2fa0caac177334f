//! The whole program: listeners bound, the admin thread started, the data plane served until it is told to stop.

use crate::{
    admin::{self, AdminState, AdminThread},
    config::{Config, Verbs},
    metrics::Metrics,
    mux::{
        command::{Command, CommandError},
        snapshot::{ConnectionSnapshot, PoolSnapshot, WaiterSnapshot},
    },
    net::{BACKLOG, ListenError, Net, View},
    reload::{self, ConfigFile},
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::{
    future::Future,
    io,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::{
    runtime::{Builder, Handle, Runtime},
    signal::unix::{SignalKind, signal},
    sync::oneshot,
    task::JoinHandle,
    time::Instant,
};

/// Why the program could not run, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error("cannot listen for /metrics on {address}: {error}; choose another address or off (--admin, admin.listen)")]
    Admin { address: SocketAddr, error: io::Error },
    #[error("cannot start: {0}")]
    Start(#[from] io::Error),
    #[error("{0} connections were still open at drain.deadline and have been cut")]
    Cut(usize),
    #[error("stopped at once by a second signal")]
    Forced,
}

/// Runs until SIGTERM or SIGINT, then drains; a second signal ends it at once. The file of the configuration, if there is
/// one, is read again at SIGHUP and when it has changed.
///
/// # Errors
/// It could not start, or had to cut connections.
pub fn run(config: &Config, file: Option<ConfigFile>) -> Result<(), RunError> {
    let runtime = runtime(config)?;
    let (mut term, mut int, hangup) = {
        let _entered = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?)
    };
    let (first, second) = (oneshot::channel(), oneshot::channel());
    runtime.spawn(async move {
        for told in [first.0, second.0] {
            tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
            tracing::info!("told to stop");
            // Nobody listens any more once the program has ended.
            _ = told.send(());
        }
    });
    let forced = second.1;
    let watch = |running| runtime.spawn(reload::watch(running, file, hangup));
    let done = run_on(&runtime, config, Some(watch), async { _ = first.1.await }, async { _ = forced.await });
    // What is left are tasks of connections that have been cut.
    runtime.shutdown_background();
    done
}

/// Runs on a runtime of its own until `stop` is ready, then drains. For tests that run it in their own process.
///
/// # Errors
/// As for [`run`].
pub fn run_until(config: &Config, stop: impl Future<Output = ()>) -> Result<(), RunError> {
    let never = None::<fn(reload::Running) -> JoinHandle<()>>;
    run_on(&runtime(config)?, config, never, stop, std::future::pending())
}

fn runtime(config: &Config) -> io::Result<Runtime> {
    match config.threads.get() {
        1 => Builder::new_current_thread().enable_all().build(),
        threads => Builder::new_multi_thread().worker_threads(threads as usize).enable_all().build(),
    }
}

/// `watch` begins to watch for other configurations.
fn run_on(
    runtime: &Runtime,
    config: &Config,
    watch: Option<impl FnOnce(reload::Running) -> JoinHandle<()>>,
    stop: impl Future<Output = ()>,
    forced: impl Future<Output = ()>,
) -> Result<(), RunError> {
    raise_file_limit(config);
    note_short_backlog();
    let metrics = Arc::new(Metrics::new(config));
    // Before the sockets of web servers: whoever finds one of those finds this as well.
    let admin = bind_admin(config)?;
    let net = {
        let _entered = runtime.enter();
        Net::start(config, &metrics)?
    };
    let process = Arc::new(Running::new(&net, runtime.handle().clone(), &metrics));
    let admin = start_admin(admin, &metrics, &process)?;
    tracing::info!(config = %config, "fcgimux {} serves", env!("CARGO_PKG_VERSION"));
    let running = reload::Running { net: net.clone(), metrics, config: config.clone() };
    let watch = watch.map(|watch| watch(running));
    let draining = || {
        process.draining.store(true, Ordering::Relaxed);
        watch.iter().for_each(JoinHandle::abort);
    };
    let served = runtime.block_on(async {
        tokio::select! {
            left = net.serve(stop, draining) => Ok(left),
            () = forced => Err(RunError::Forced),
        }
    });
    admin.stop();
    match served? {
        0 => Ok(()),
        left => Err(RunError::Cut(left)),
    }
}

fn bind_admin(config: &Config) -> Result<Option<TcpListener>, RunError> {
    let bind = |address| TcpListener::bind(address).map_err(|error| RunError::Admin { address, error });
    config.admin.listen.map(bind).transpose()
}

fn start_admin(
    listener: Option<TcpListener>,
    metrics: &Arc<Metrics>,
    process: &Arc<Running>,
) -> io::Result<AdminThread> {
    let Some(listener) = listener else { return admin::spawn_upkeep(metrics.clone()) };
    admin::spawn(listener, AdminState { metrics: metrics.clone(), process: process.clone() })
}

/// Each web server's connection is a file, and so is each of ours: takes what the system allows.
fn raise_file_limit(config: &Config) {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    let soft = match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    };
    let downstream: u64 = config.listeners.iter().map(|listener| u64::from(listener.max_connections)).sum();
    let upstream: u64 =
        config.pools.iter().map(|pool| pool.endpoints.len() as u64 * u64::from(pool.connections.per_endpoint)).sum();
    if downstream + upstream + 64 > soft {
        tracing::warn!(
            "{downstream} downstream and {upstream} upstream connections are allowed, but only {soft} open files: \
             raise the limit (ulimit -n, LimitNOFILE) or lower listeners.max_connections"
        );
    }
}

/// The kernel cuts the backlog of a listener to its own limit.
fn note_short_backlog() {
    const LIMIT: &str = "/proc/sys/net/core/somaxconn";
    let limit = std::fs::read_to_string(LIMIT).ok().and_then(|text| text.trim().parse::<i32>().ok());
    if let Some(limit) = limit.filter(|limit| *limit < BACKLOG) {
        tracing::warn!(
            "net.core.somaxconn is {limit}: so many connections, in place of {BACKLOG}, may wait to be accepted, and one \
             more is an error page in nginx at once; raise it (sysctl net.core.somaxconn={BACKLOG})"
        );
    }
}

/// What the admin server may ask.
struct Running {
    view: View,
    data_plane: Handle,
    draining: AtomicBool,
    metrics: Arc<Metrics>,
}

impl Running {
    fn new(net: &Net, data_plane: Handle, metrics: &Arc<Metrics>) -> Self {
        Self { view: net.view(), data_plane, draining: AtomicBool::new(false), metrics: metrics.clone() }
    }
}

impl admin::Process for Running {
    fn pools(&self) -> Vec<(String, PoolSnapshot)> {
        self.view.pools()
    }

    fn pool(&self, name: &str) -> Option<PoolSnapshot> {
        self.view.pool(name)
    }

    fn connections(&self, pool: &str) -> Option<Vec<ConnectionSnapshot>> {
        self.view.connections(pool)
    }

    fn waiters(&self, pool: &str, at_most: usize) -> Option<(usize, Vec<WaiterSnapshot>)> {
        self.view.waiters(pool, at_most)
    }

    fn command(&self, pool: &str, command: &Command) -> Option<Result<(), CommandError>> {
        // Connections that are opened for it belong to the data plane.
        let _entered = self.data_plane.enter();
        self.view.command(pool, command)
    }

    fn verbs(&self) -> Verbs {
        self.view.verbs()
    }

    /// It is asked only once every listener is bound.
    fn ready(&self) -> bool {
        !self.draining.load(Ordering::Relaxed)
    }

    fn ping(&self) -> oneshot::Receiver<()> {
        let (told, answer) = oneshot::channel();
        let (asked, metrics) = (Instant::now(), self.metrics.clone());
        self.data_plane.spawn(async move {
            metrics.event_loop_lag(asked.elapsed());
            // An answer that nobody waits for any more is none.
            _ = told.send(());
        });
        answer
    }

    fn ports(&self) -> Vec<u16> {
        self.view.ports()
    }
}
