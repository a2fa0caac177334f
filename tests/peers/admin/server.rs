//! The admin server over real sockets, with a process that is made up.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use fcgimux::{
    admin::{self, AdminState, AdminThread, Limits, Process},
    config::{Config, Verbs},
    metrics::Metrics,
    mux::{
        command::{Command, CommandError},
        label::{ConnectionState, EndpointState, Outcome},
        snapshot::{ConnectionSnapshot, EndpointSnapshot, PoolSnapshot, WaiterSnapshot},
    },
};
use tokio::sync::oneshot;

use super::{
    SECOND,
    client::{Answer, ask, get},
};

#[test]
fn the_index_names_every_path() {
    let server = Server::start(FakeProcess::default());
    let answer = server.get("/");
    assert_eq!(answer.status, 200);
    for path in ["/metrics", "/livez", "/readyz", "/pools", "/pools/POOL/pause"] {
        assert!(answer.body.contains(path), "{}", answer.body);
    }
}

#[test]
fn a_scrape_parses_and_shows_pools_and_counters() {
    let server = Server::start(FakeProcess::default());
    server.metrics.pool("php").exchange(Outcome::Ok, SECOND);
    let answer = server.get("/metrics");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let samples = parse_scrape(&answer.body);
    let value = |series: &str| samples.iter().find(|(name, _)| name == series).map(|(_, value)| *value);
    assert_eq!(value("fcgimux_requests_total{pool=\"php\",outcome=\"ok\"}"), Some(1.0));
    assert_eq!(value("fcgimux_queue_depth{pool=\"php\"}"), Some(7.0));
    assert_eq!(value("fcgimux_endpoint_up{pool=\"php\",endpoint=\"10.0.0.7:9000\"}"), Some(1.0));
    if cfg!(target_os = "linux") {
        assert!(value("fcgimux_time_wait_sockets{side=\"upstream\"}").is_some());
    }
}

#[test]
fn a_process_whose_event_loop_turns_is_alive() {
    let answer = Server::start(FakeProcess::default()).get("/livez");
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok\n"));
}

#[test]
fn a_process_whose_event_loop_does_not_turn_is_not_alive() {
    let server = Server::start(FakeProcess { loop_state: LoopState::Stuck, ..FakeProcess::default() });
    let answer = server.get("/livez");
    assert_eq!((answer.status, answer.body.as_str()), (503, "event loop did not turn within 50ms\n"));
    assert_eq!(server.get("/readyz").status, 200, "the admin thread itself is well");
}

#[test]
fn a_process_whose_event_loop_ended_is_not_alive() {
    let server = Server::start(FakeProcess { loop_state: LoopState::Ended, ..FakeProcess::default() });
    let answer = server.get("/livez");
    assert_eq!((answer.status, answer.body.as_str()), (503, "event loop ended\n"));
}

#[test]
fn a_process_that_drains_is_not_ready() {
    let server = Server::start(FakeProcess::default());
    assert_eq!(server.get("/readyz").status, 200);
    server.process.ready.store(false, Ordering::Relaxed);
    assert_eq!(server.get("/readyz").status, 503);
}

#[test]
fn other_paths_and_other_methods_are_refused() {
    let server = Server::start(FakeProcess::default());
    assert_eq!(server.get("/metrics/").status, 404);
    assert_eq!(server.get("/pools/php").status, 200);
    assert_eq!(server.get("/pools/web").status, 404);
    assert_eq!(server.get("/metrics?debug=1").status, 200);
    let answer = server.ask("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc");
    assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")));
    let answer = server.ask("HEAD /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    assert_eq!(server.ask("nonsense\r\n\r\n").status, 400);
}

#[test]
fn a_head_over_its_limit_is_refused() {
    let server = Server::start(FakeProcess::default());
    let head = format!("GET / HTTP/1.1\r\nHost: x\r\nCookie: {}\r\n\r\n", "a".repeat(64 * 1024));
    let mut stream = server.connect();
    // The server may hang up before it took everything.
    let _ = stream.write_all(head.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(server.get("/readyz").status, 200);
}

#[test]
fn a_connection_carries_several_requests() {
    let server = Server::start(FakeProcess::default());
    let mut stream = server.connect();
    for _ in 0..3 {
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"ok\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            answer.push(byte[0]);
        }
        assert!(answer.starts_with(b"HTTP/1.1 200"));
    }
}

#[test]
fn a_client_that_sends_byte_by_byte_does_not_block_another_and_is_hung_up_on() {
    let limits = Limits { read_head: Duration::from_millis(200), ..limits() };
    let server = Server::start_with(FakeProcess::default(), limits);
    let mut slow = server.connect();
    slow.write_all(b"GET / HT").unwrap();
    assert_eq!(server.get("/readyz").status, 200);
    assert_hung_up(&mut slow);
}

/// Idle ones, and such as ask for much and read nothing.
#[test]
fn clients_that_fill_every_place_do_not_hold_up_a_probe_and_the_oldest_is_hung_up_on() {
    let server = Server::start_with(FakeProcess::default(), Limits { connections: 4, ..limits() });
    let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut all: Vec<_> = (0..4).map(|_| server.connect()).collect();
    all[2].write_all(&request.repeat(100)).unwrap();
    all[3].write_all(&request.repeat(100)).unwrap();
    let begun = Instant::now();
    for _ in 0..3 {
        assert_eq!(server.get("/readyz").status, 200);
    }
    assert!(begun.elapsed() < SECOND, "{:?}", begun.elapsed());
    assert_hung_up(&mut all[0]);
}

#[test]
fn a_connection_over_its_age_is_closed() {
    let limits = Limits { connection_age: Duration::from_millis(50), ..limits() };
    let server = Server::start_with(FakeProcess::default(), limits);
    assert_hung_up(&mut server.connect());
}

#[test]
fn stopping_closes_quiet_connections_and_the_listener() {
    let server = Server::start(FakeProcess::default());
    let mut quiet = server.connect();
    // An answer on a later connection: the quiet one has been accepted.
    assert_eq!(server.get("/readyz").status, 200);
    let address = server.address;
    server.admin.stop();
    assert_hung_up(&mut quiet);
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn an_answer_under_way_is_finished_when_the_server_stops() {
    let limits = Limits { ping: Duration::from_millis(300), ..limits() };
    let server = Server::start_with(FakeProcess { loop_state: LoopState::Stuck, ..FakeProcess::default() }, limits);
    let mut waiting = server.connect();
    waiting.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    while server.process.pings.lock().unwrap().is_empty() {
        std::thread::yield_now();
    }
    server.admin.stop();
    assert_eq!(Answer::read(&mut waiting).status, 503);
}

#[test]
fn a_verb_that_is_waited_for_is_answered_when_the_server_stops_or_the_connection_is_too_old() {
    let request = "POST /pools/php/pause?wait=30s HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let young = Limits { connection_age: 30 * SECOND, ..limits() };
    let server = Server::start_with(FakeProcess::default(), young);
    let mut waiting = server.connect();
    waiting.write_all(request.as_bytes()).unwrap();
    while !server.process.paused.load(Ordering::Relaxed) {
        std::thread::yield_now();
    }
    let begun = Instant::now();
    server.admin.stop();
    let answer = Answer::read(&mut waiting);
    assert_eq!(answer.status, 200);
    assert!(answer.body.contains("\"done\": false"), "{}", answer.body);
    assert!(begun.elapsed() < 10 * SECOND, "{:?}", begun.elapsed());

    let old = Limits { connection_age: Duration::from_millis(300), ..limits() };
    let server = Server::start_with(FakeProcess::default(), old);
    let answer = server.ask(&request.replace("30s", "300ms"));
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(server.ask(request).status, 400, "longer than a connection lasts");
}

#[test]
fn a_client_that_waits_for_a_verb_does_not_hold_up_others_and_may_hang_up() {
    let server = Server::start_with(FakeProcess::default(), Limits { connections: 2, ..limits() });
    let mut waiting = server.connect();
    waiting.write_all(b"POST /pools/php/pause?wait=30s HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut other = server.connect();
    other.write_all(b"POST /pools/php/pause?wait=30s HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    drop(waiting);
    // There are two places: one of them is free again.
    assert_eq!(server.get("/readyz").status, 200);
}

#[test]
fn without_a_listener_the_metrics_are_kept_up_until_the_thread_is_stopped() {
    let metrics = Arc::new(Metrics::new(&config()));
    let upkeep = admin::spawn_upkeep(metrics.clone()).unwrap();
    assert_eq!(Arc::strong_count(&metrics), 2);
    upkeep.stop();
    assert_eq!(Arc::strong_count(&metrics), 1);
}

/// An admin server on a port of its own.
struct Server {
    address: SocketAddr,
    metrics: Arc<Metrics>,
    process: Arc<FakeProcess>,
    admin: AdminThread,
}

impl Server {
    fn start(process: FakeProcess) -> Self {
        Self::start_with(process, limits())
    }

    fn start_with(process: FakeProcess, limits: Limits) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (metrics, process) = (Arc::new(Metrics::new(&config())), Arc::new(process));
        let state = AdminState { metrics: metrics.clone(), process: process.clone() };
        let admin = admin::spawn_with(listener, state, limits).unwrap();
        Self { address, metrics, process, admin }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(10 * SECOND)).unwrap();
        stream
    }

    fn get(&self, path: &str) -> Answer {
        get(self.address, path)
    }

    fn ask(&self, request: &str) -> Answer {
        ask(self.address, request)
    }
}

/// Long enough that only the limit a test sets itself is ever reached; the ping is short, as one test waits for it.
fn limits() -> Limits {
    Limits { read_head: 30 * SECOND, ping: Duration::from_millis(50), ..Limits::default() }
}

#[track_caller]
fn assert_hung_up(stream: &mut TcpStream) {
    match stream.read_to_end(&mut Vec::new()) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

/// Series and values; panics at a line that is neither a comment nor a sample.
fn parse_scrape(text: &str) -> Vec<(String, f64)> {
    let samples = text.lines().filter(|line| !line.is_empty() && !line.starts_with("# "));
    samples
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
            (series.to_owned(), value.parse().unwrap_or_else(|_| panic!("no number: {line}")))
        })
        .collect()
}

#[derive(Clone, Copy, Default)]
enum LoopState {
    #[default]
    Turning,
    Stuck,
    Ended,
}

struct FakeProcess {
    loop_state: LoopState,
    ready: AtomicBool,
    paused: AtomicBool,
    /// Pings that a stuck event loop has not answered.
    pings: Mutex<Vec<oneshot::Sender<()>>>,
}

impl Default for FakeProcess {
    fn default() -> Self {
        let (ready, paused) = (AtomicBool::new(true), AtomicBool::new(false));
        Self { loop_state: LoopState::default(), ready, paused, pings: Mutex::default() }
    }
}

impl Process for FakeProcess {
    fn pools(&self) -> Vec<(String, PoolSnapshot)> {
        let endpoint = EndpointSnapshot {
            name: "10.0.0.7:9000".to_owned(),
            connections: [1; ConnectionState::ALL.len()],
            limit: 8,
            in_flight: 0,
            state: EndpointState::Up,
            ejections: 0,
            weight: 1,
            near: true,
            held: false,
            saturated: false,
        };
        let paused = self.paused.load(Ordering::Relaxed);
        let pool = PoolSnapshot { queue_depth: 7, paused, endpoints: vec![endpoint], ..PoolSnapshot::default() };
        vec![("php".to_owned(), pool)]
    }

    fn connections(&self, _pool: &str) -> Option<Vec<ConnectionSnapshot>> {
        None
    }

    fn waiters(&self, _pool: &str, _at_most: usize) -> Option<(usize, Vec<WaiterSnapshot>)> {
        None
    }

    fn command(&self, _pool: &str, command: &Command) -> Option<Result<(), CommandError>> {
        self.paused.store(*command == Command::Pause, Ordering::Relaxed);
        Some(Ok(()))
    }

    fn verbs(&self) -> Verbs {
        Verbs::Loopback
    }

    fn ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    fn ping(&self) -> oneshot::Receiver<()> {
        let (answer, receiver) = oneshot::channel();
        match self.loop_state {
            LoopState::Turning => answer.send(()).unwrap(),
            LoopState::Stuck => self.pings.lock().unwrap().push(answer),
            LoopState::Ended => drop(answer),
        }
        receiver
    }

    fn ports(&self) -> Vec<u16> {
        Vec::new()
    }
}

/// One pool `php` with one endpoint.
fn config() -> Config {
    Config::from_yaml("pools: {php: {endpoints: [{address: \"10.0.0.7:9000\"}]}}").unwrap()
}
