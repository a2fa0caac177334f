//! Keep-alive HTTP clients that check every answer and would notice one that belongs to somebody else.

mod report;
mod request;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::{
    io::BufReader,
    net::TcpStream,
    task::JoinSet,
    time::{sleep_until, timeout},
};

pub use self::{
    report::{Failure, Report},
    request::Request,
};
use super::http::{Answer, HttpError, block_on, connect, read_answer, send};

/// How much, at which pace, of what; see [`Load::on`].
pub struct Load {
    shared: Shared,
    clients: usize,
}

struct Shared {
    address: SocketAddr,
    make: Box<dyn Fn(u64) -> Request + Send + Sync>,
    count: u64,
    duration: Duration,
    /// Requests per second over all clients; none: each client sends when it has its answer.
    rate: Option<f64>,
    /// For one request.
    patience: Duration,
    /// Requests that take longer are listed in the report.
    late: Duration,
    /// Between a client's answer and its next request.
    pause: Duration,
    next: AtomicU64,
    stopped: AtomicBool,
    /// First part of every token, so that two loads have none in common.
    name: String,
}

/// A load on a thread of its own.
pub struct Running {
    shared: Arc<Shared>,
    thread: JoinHandle<Report>,
}

impl Load {
    /// One client, ten seconds at most, at most a million requests; `make` gives the request of each number.
    pub fn on(address: SocketAddr, make: impl Fn(u64) -> Request + Send + Sync + 'static) -> Self {
        static LOADS: AtomicU64 = AtomicU64::new(0);
        let shared = Shared {
            address,
            make: Box::new(make),
            count: 1_000_000,
            duration: Duration::from_secs(10),
            rate: None,
            patience: Duration::from_secs(30),
            late: Duration::MAX,
            pause: Duration::ZERO,
            next: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            name: format!("t{}x{}", std::process::id(), LOADS.fetch_add(1, Ordering::Relaxed)),
        };
        Self { shared, clients: 1 }
    }

    pub fn clients(mut self, clients: usize) -> Self {
        self.clients = clients;
        self
    }

    /// Ends after so many requests.
    pub fn count(mut self, count: u64) -> Self {
        self.shared.count = count;
        self
    }

    /// Starts no request after so long; what is missing from `count` is then an error.
    pub fn duration(mut self, duration: Duration) -> Self {
        self.shared.duration = duration;
        self
    }

    /// Requests per second over all clients; latency then counts from the moment a request was due.
    pub fn rate(mut self, rate: f64) -> Self {
        self.shared.rate = Some(rate);
        self
    }

    /// One request may take so long (30 s by default).
    pub fn patience(mut self, patience: Duration) -> Self {
        self.shared.patience = patience;
        self
    }

    /// Lists the requests that take longer than this, right ones too: [`Report::late`].
    pub fn late_after(mut self, late: Duration) -> Self {
        self.shared.late = late;
        self
    }

    /// Each client rests so long after an answer.
    pub fn pause(mut self, pause: Duration) -> Self {
        self.shared.pause = pause;
        self
    }

    pub fn run(self) -> Report {
        self.start().finish()
    }

    pub fn start(self) -> Running {
        let shared = Arc::new(self.shared);
        let (ours, clients) = (Arc::clone(&shared), self.clients);
        let thread = thread::spawn(move || block_on(run(ours, clients)));
        Running { shared, thread }
    }
}

impl Running {
    /// Requests begun so far.
    pub fn begun(&self) -> u64 {
        self.shared.next.load(Ordering::Relaxed).min(self.shared.count)
    }

    pub fn is_running(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Waits to the end.
    pub fn finish(self) -> Report {
        self.thread.join().expect("the load")
    }

    /// Lets the running requests end and starts no other.
    pub fn stop(self) -> Report {
        self.shared.stopped.store(true, Ordering::Relaxed);
        self.finish()
    }
}

async fn run(shared: Arc<Shared>, clients: usize) -> Report {
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..clients {
        tasks.spawn(client(Arc::clone(&shared), start));
    }
    let mut report = Report::default();
    while let Some(part) = tasks.join_next().await {
        report.add(part.expect("a client of the load"));
    }
    report.took = start.elapsed();
    let counted = shared.count < 1_000_000 && !shared.stopped.load(Ordering::Relaxed);
    if counted && report.sent < shared.count {
        let missing = format!("{} of {} requests", report.sent, shared.count);
        report.fail("the time was over".to_owned(), missing);
    }
    report
}

async fn client(shared: Arc<Shared>, start: Instant) -> Report {
    let mut report = Report::default();
    let mut stream = None;
    loop {
        let number = shared.next.fetch_add(1, Ordering::Relaxed);
        if number >= shared.count || start.elapsed() >= shared.duration || shared.stopped.load(Ordering::Relaxed) {
            return report;
        }
        let mut due = Instant::now();
        if let Some(rate) = shared.rate {
            #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 requests")]
            let offset = Duration::from_secs_f64(number as f64 / rate);
            due = start + offset;
            sleep_until(due.into()).await;
        }
        let request = (shared.make)(number);
        let token = format!("{}n{number}", shared.name);
        report.sent += 1;
        let answered = timeout(shared.patience, exchange(&shared, &mut stream, &request, &token)).await;
        let took = due.elapsed();
        report.settle(&request, &token, answered.unwrap_or(Err(HttpError::TimedOut)), took);
        if took > shared.late {
            report.late.push((token, took));
        }
        if !shared.pause.is_zero() {
            tokio::time::sleep(shared.pause).await;
        }
    }
}

async fn exchange(
    shared: &Shared,
    slot: &mut Option<BufReader<TcpStream>>,
    request: &Request,
    token: &str,
) -> Result<Answer, HttpError> {
    // Kept only when the answer allows it; an error or a timeout leaves the slot empty.
    let mut stream = match slot.take() {
        Some(stream) => stream,
        None => connect(shared.address).await?,
    };
    send(&mut stream, &request.bytes(token)).await?;
    let answer = read_answer(&mut stream).await?;
    if answer.keeps {
        *slot = Some(stream);
    }
    Ok(answer)
}
