use super::{
    page::{self, Client},
    *,
};
use crate::{
    config::Config,
    mux::{
        label::{ConnectionState, EndpointState},
        snapshot::EndpointSnapshot,
    },
};
use http_body_util::{BodyExt, Empty};
use hyper::{Method, Request, body::Bytes};
use serde_json::{Value, json};
use std::sync::{Mutex, MutexGuard};
use tokio::sync::Semaphore;

const SECOND: Duration = Duration::from_secs(1);
const HERE: &str = "127.0.0.1:40000";

#[tokio::test]
async fn every_pool_is_shown_with_sums_over_its_endpoints() {
    let stage = Stage::new();
    let pools = stage.json("/pools").await;
    assert_eq!(pools["pools"].as_array().unwrap().len(), 2);
    assert_eq!(pools["pools"][1]["name"], "quiet");
    let shown = json!({
        "name": "php", "paused": false,
        "queue": {"depth": 3, "limit": 1024, "oldest_wait_seconds": 1.5},
        "endpoints": {"up": 1, "suspect": 0, "ejected": 1, "draining": 0},
        "connections": {"connecting": 0, "proving": 0, "idle": 1, "leased": 3, "settling": 1},
        "requests_in_flight": 3,
    });
    assert_eq!(pools["pools"][0], shown);
    assert_eq!(stage.json("/pools/php").await, shown);
}

#[tokio::test]
async fn endpoints_are_shown_by_name_one_on_a_line() {
    let stage = Stage::new();
    let (status, text) = stage.get("/pools/php/endpoints").await;
    assert_eq!(status, 200);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[..4], ["{", "  \"pool\": \"php\",", "  \"count\": 2,", "  \"endpoints\": ["]);
    let second = "{\"endpoint\": \"10.0.0.7:9000\", \"state\": \"up\", \"held\": false, \"saturated\": false, \"near\": true, \
                  \"weight\": 1, \"requests_in_flight\": 2, \"connections\": {\"connecting\": 0, \"proving\": 0, \
                  \"idle\": 1, \"leased\": 2, \"settling\": 0}, \"connections_limit\": 8, \"ejections\": 0}";
    assert_eq!(lines[5].trim(), second);
    assert_eq!(lines.len(), 8);
    let one = stage.json("/pools/php/endpoints/10.0.0.7%3A9000").await;
    assert_eq!(one, serde_json::from_str::<Value>(second).unwrap());
}

#[tokio::test]
async fn connections_are_shown_the_oldest_of_an_endpoint_first() {
    let stage = Stage::new();
    let shown = stage.json("/pools/php/connections").await;
    assert_eq!((&shown["pool"], &shown["count"]), (&json!("php"), &json!(3)));
    let all = shown["connections"].as_array().unwrap();
    let ages: Vec<_> = all.iter().map(|one| (one["endpoint"].as_str().unwrap(), one["age_seconds"].as_f64())).collect();
    let (socket, address) = ("/run/php.sock", "10.0.0.7:9000");
    assert_eq!(ages, [(socket, Some(5.0)), (address, Some(60.0)), (address, Some(2.0))]);
    let first = json!({
        "endpoint": "/run/php.sock", "state": "leased", "state_seconds": 0.25, "age_seconds": 5.0, "requests": 7,
        "requests_in_flight": 1,
    });
    assert_eq!(all[0], first);
}

#[tokio::test]
async fn of_many_waiters_the_first_are_shown_and_all_are_counted() {
    let stage = Stage::new();
    stage.lock().waiters = 5000;
    let shown = stage.json("/pools/php/waiters").await;
    assert_eq!((&shown["count"], &shown["listed"]), (&json!(5000), &json!(1000)));
    assert_eq!(shown["waiters"].as_array().unwrap().len(), 1000);
    assert_eq!(shown["waiters"][2], json!({"wait_seconds": 4.998, "again": false}));
}

#[tokio::test]
async fn what_is_not_there_is_answered_with_what_is() {
    let stage = Stage::new();
    for path in ["/pools/web", "/pools/web/endpoints", "/pools/web/connections", "/pools/web/waiters"] {
        let (status, text) = stage.get(path).await;
        let expected = json!({"error": "no pool web", "pools": ["php", "quiet"]});
        assert_eq!((status, serde_json::from_str::<Value>(&text).unwrap()), (404, expected), "{path}");
    }
    assert_eq!(stage.post("/pools/web/pause").await.0, 404);
    let endpoints =
        json!({"error": "no endpoint 10.0.0.8:9000 in pool php", "endpoints": ["/run/php.sock", "10.0.0.7:9000"]});
    let missing = stage.post("/pools/php/endpoints/10.0.0.8:9000/drain").await;
    assert_eq!(missing, (404, endpoints.clone()));
    let (status, text) = stage.get("/pools/php/endpoints/10.0.0.8:9000").await;
    assert_eq!((status, serde_json::from_str(&text).unwrap()), (404, endpoints));
    let nothing = (404, "{\n  \"error\": \"no such page; / lists them\"\n}\n".to_owned());
    assert_eq!(stage.get("/pools/php/nothing").await, nothing);
    assert_eq!(stage.get("/nothing").await, (404, "no such page; / lists them\n".to_owned()));
}

#[tokio::test]
async fn each_path_has_its_methods() {
    let stage = Stage::new();
    for path in ["/pools", "/pools/php", "/pools/php/endpoints", "/pools/php/connections", "/pools/php/waiters"] {
        assert_eq!(stage.ask(Method::HEAD, path, HERE, &[]).await.0, 200, "{path}");
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
            assert_eq!(stage.allowed(method, path).await.as_deref(), Some("GET, HEAD"), "{path}");
        }
    }
    for verb in ["pause", "resume", "reconnect", "endpoints/10.0.0.7:9000/drain", "endpoints/10.0.0.7:9000/undrain"] {
        let path = format!("/pools/php/{verb}");
        for method in [Method::GET, Method::HEAD, Method::PUT, Method::OPTIONS] {
            assert_eq!(stage.allowed(method, &path).await.as_deref(), Some("POST"), "{path}");
        }
    }
    assert_eq!(stage.lock().commands, []);
}

#[tokio::test]
async fn who_may_not_use_a_verb_changes_nothing() {
    let stage = Stage::new();
    let path = "/pools/php/pause";
    let (status, text) = stage.ask(Method::POST, path, "10.0.0.5:40000", &[("host", "127.0.0.1")]).await;
    assert_eq!(
        (status, text.as_str()),
        (403, "{\n  \"error\": \"only clients that come from a loopback address may use verbs (admin.verbs)\"\n}\n")
    );
    for headers in [
        &[("host", "evil.example")][..],
        &[("host", "127.0.0.1"), ("origin", "http://evil.example")],
        &[("host", "127.0.0.1"), ("sec-fetch-site", "cross-site")],
    ] {
        assert_eq!(stage.ask(Method::POST, path, HERE, headers).await.0, 403, "{headers:?}");
    }
    stage.lock().verbs = Verbs::Off;
    assert_eq!(stage.post(path).await.0, 403);
    assert_eq!(stage.lock().commands, []);
    assert_eq!(stage.get("/pools/php").await.0, 200, "who may not change may look");
    stage.lock().verbs = Verbs::On;
    assert_eq!(stage.ask(Method::POST, path, "10.0.0.5:40000", &[("host", "fcgimux")]).await.0, 200);
    assert_eq!(stage.lock().commands, [Command::Pause]);
}

#[tokio::test]
async fn a_query_that_is_not_understood_changes_nothing() {
    let stage = Stage::new();
    for query in ["wait=10", "wait=1h", "wait=61s", "wiat=1s"] {
        let (status, body) = stage.post(&format!("/pools/php/pause?{query}")).await;
        assert_eq!(status, 400, "{query}");
        assert!(body["error"].as_str().unwrap().contains("wait"), "{body}");
    }
    assert_eq!(stage.lock().commands, []);
}

#[tokio::test(start_paused = true)]
async fn a_pause_is_done_when_no_connection_is_left() {
    let stage = Stage::new();
    let (status, at_once) = stage.post("/pools/php/pause").await;
    let expected = json!({
        "pool": "php", "done": false, "paused": true, "requests_in_flight": 3, "connections": 5, "queue_depth": 3,
        "waited_seconds": 0.0,
    });
    assert_eq!((status, at_once), (200, expected));
    // A script that works on behind its response: no request, but still a connection.
    stage.later(SECOND, |state| {
        let endpoints = state.pool.endpoints.iter_mut();
        endpoints.for_each(|endpoint| (endpoint.connections, endpoint.in_flight) = ([0, 0, 0, 0, 1], 0));
    });
    stage.later(3 * SECOND, |state| {
        state.pool.endpoints.iter_mut().for_each(|endpoint| endpoint.connections = [0; ConnectionState::ALL.len()]);
    });
    let (_, short) = stage.post("/pools/php/pause?wait=2s").await;
    assert_eq!(
        (&short["done"], &short["requests_in_flight"], &short["connections"]),
        (&json!(false), &json!(0), &json!(2))
    );
    let (_, long) = stage.post("/pools/php/pause?wait=60s").await;
    assert_eq!((&long["done"], &long["connections"]), (&json!(true), &json!(0)));
    let waited = long["waited_seconds"].as_f64().unwrap();
    assert!((0.9..1.2).contains(&waited), "{waited}");
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_told_when_another_takes_the_verb_back() {
    let stage = Stage::new();
    stage.later(SECOND, |state| state.pool.paused = false);
    let (_, became) = stage.post("/pools/php/pause?wait=60s").await;
    assert_eq!((&became["done"], &became["paused"]), (&json!(false), &json!(false)));
    stage.later(SECOND, |state| state.pool.endpoints[0].held = false);
    let (_, became) = stage.post("/pools/php/endpoints/10.0.0.7:9000/drain?wait=60s").await;
    assert_eq!((&became["done"], &became["held"]), (&json!(false), &json!(false)));
    assert!(became["waited_seconds"].as_f64().unwrap() < 1.2, "{became}");
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_answered_when_the_connection_is_about_to_end() {
    let stage = Stage::new();
    let ending = stage.ending.clone();
    tokio::spawn(async move {
        tokio::time::sleep(SECOND).await;
        ending.cancel();
    });
    let (status, became) = stage.post("/pools/php/pause?wait=60s").await;
    assert_eq!((status, &became["done"]), (200, &json!(false)));
    assert!(became["waited_seconds"].as_f64().unwrap() < 1.2, "{became}");
}

#[tokio::test(start_paused = true)]
async fn who_finds_no_place_to_wait_is_answered_at_once() {
    let stage = Stage::new();
    let place = stage.waits.acquire().await.unwrap();
    let (status, became) = stage.post("/pools/php/pause?wait=60s").await;
    assert_eq!((status, &became["done"], &became["waited_seconds"]), (200, &json!(false), &json!(0.0)));
    assert_eq!(stage.lock().commands, [Command::Pause]);
    drop(place);
    let (_, became) = stage.post("/pools/php/pause?wait=2s").await;
    assert_eq!(became["waited_seconds"], 2.0);
}

#[tokio::test]
async fn a_resume_is_done_at_once() {
    let stage = Stage::new();
    stage.post("/pools/php/pause").await;
    let (_, became) = stage.post("/pools/php/resume?wait=10s").await;
    assert_eq!((&became["done"], &became["paused"], &became["queue_depth"]), (&json!(true), &json!(false), &json!(3)));
    assert_eq!(stage.lock().commands, [Command::Pause, Command::Resume]);
}

#[tokio::test(start_paused = true)]
async fn a_reconnect_is_done_when_every_connection_is_younger_than_it() {
    let stage = Stage::new();
    let (_, at_once) = stage.post("/pools/php/reconnect").await;
    assert_eq!((&at_once["done"], &at_once["old_connections"]), (&json!(false), &json!(3)));
    stage.later(SECOND, |state| state.connections.truncate(1));
    stage.later(2 * SECOND, |state| state.connections[0].age = SECOND);
    let (_, became) = stage.post("/pools/php/reconnect?wait=10s").await;
    assert_eq!((&became["done"], &became["old_connections"]), (&json!(true), &json!(0)));
    let waited = became["waited_seconds"].as_f64().unwrap();
    assert!((1.9..2.2).contains(&waited), "{waited}");
}

#[tokio::test(start_paused = true)]
async fn a_drain_looks_at_its_endpoint_alone() {
    let stage = Stage::new();
    let (_, at_once) = stage.post("/pools/php/endpoints/10.0.0.7:9000/drain").await;
    let expected = json!({
        "pool": "php", "endpoint": "10.0.0.7:9000", "done": false, "state": "draining", "held": true,
        "requests_in_flight": 2, "connections": 3, "queue_depth": 3, "waited_seconds": 0.0,
    });
    assert_eq!(at_once, expected);
    stage.later(SECOND, |state| (state.pool.endpoints[0].connections, state.pool.endpoints[0].in_flight) = ([0; 5], 0));
    let (_, became) = stage.post("/pools/php/endpoints/10.0.0.7:9000/drain?wait=10s").await;
    assert_eq!((&became["done"], &became["connections"]), (&json!(true), &json!(0)));
    let (_, became) = stage.post("/pools/php/endpoints/10.0.0.7:9000/undrain").await;
    assert_eq!((&became["done"], &became["held"], &became["state"]), (&json!(true), &json!(false), &json!("up")));
}

#[tokio::test(start_paused = true)]
async fn a_drain_of_an_endpoint_that_leaves_meanwhile_is_done() {
    let stage = Stage::new();
    stage.later(SECOND, |state| _ = state.pool.endpoints.remove(1));
    let (status, became) = stage.post("/pools/php/endpoints/%2Frun%2Fphp.sock/drain?wait=10s").await;
    assert_eq!((status, &became["done"], &became["requests_in_flight"]), (200, &json!(true), &json!(0)));
    assert_eq!(stage.lock().commands, [Command::Drain("/run/php.sock".to_owned())]);
}

#[test]
fn ports_are_those_of_the_endpoints_that_there_are() {
    let stage = Stage::new();
    assert_eq!(upstream_ports(&stage.state.process.pools()), [9000]);
    stage.lock().pool.endpoints[0].name = "[fd00::7]:9001".to_owned();
    assert_eq!(upstream_ports(&stage.state.process.pools()), [9001]);
}

/// An admin server without sockets, in front of a process that is made up.
pub(super) struct Stage {
    pub(super) state: AdminState,
    process: Arc<FakeProcess>,
    pub(super) board: Board,
    waits: Semaphore,
    ending: CancellationToken,
}

impl Stage {
    pub(super) fn new() -> Self {
        let config = Config::from_yaml("pools: {php: {endpoints: [{socket: /run/php.sock}]}}").unwrap();
        let process = Arc::new(FakeProcess(Mutex::new(State::default())));
        let state = AdminState { metrics: Arc::new(Metrics::new(&config)), process: process.clone() };
        let (board, waits, ending) = (Board::default(), Semaphore::new(1), CancellationToken::new());
        Self { state, process, board, waits, ending }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.process.0.lock().unwrap()
    }

    /// Changes the process after a while.
    fn later(&self, after: Duration, change: impl FnOnce(&mut State) + Send + 'static) {
        let process = self.process.clone();
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            change(&mut process.0.lock().unwrap());
        });
    }

    pub(super) async fn get(&self, path: &str) -> (u16, String) {
        self.ask(Method::GET, path, HERE, &[]).await
    }

    pub(super) async fn json(&self, path: &str) -> Value {
        let (status, text) = self.get(path).await;
        assert_eq!(status, 200, "{path}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    async fn post(&self, path: &str) -> (u16, Value) {
        let (status, text) = self.ask(Method::POST, path, HERE, &[("host", "localhost:9253")]).await;
        (status, serde_json::from_str(&text).unwrap())
    }

    async fn ask(&self, method: Method, path: &str, peer: &str, headers: &[(&str, &str)]) -> (u16, String) {
        let answer = self.answer(method, path, peer, headers).await;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    /// What a refused method is told.
    async fn allowed(&self, method: Method, path: &str) -> Option<String> {
        let answer = self.answer(method, path, HERE, &[("host", "localhost:9253")]).await;
        assert_eq!(answer.status(), 405, "{path}");
        answer.headers().get("allow").map(|value| value.to_str().unwrap().to_owned())
    }

    pub(super) async fn answer(
        &self,
        method: Method,
        path: &str,
        peer: &str,
        headers: &[(&str, &str)],
    ) -> hyper::Response<http_body_util::Full<Bytes>> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let address = peer.parse().unwrap();
        let client = Client { address, waits: &self.waits, ending: &self.ending };
        page::respond(&self.state, &self.board, Limits::default(), &client, &request).await
    }
}

struct FakeProcess(Mutex<State>);

/// Of the pool `php`; the pool `quiet` is empty.
pub(super) struct State {
    pub(super) pool: PoolSnapshot,
    connections: Vec<ConnectionSnapshot>,
    waiters: usize,
    verbs: Verbs,
    commands: Vec<Command>,
}

impl Default for State {
    fn default() -> Self {
        let address = endpoint("10.0.0.7:9000", EndpointState::Up, [0, 0, 1, 2, 0]);
        let socket = endpoint("/run/php.sock", EndpointState::Ejected, [0, 0, 0, 1, 1]);
        let pool = PoolSnapshot {
            queue_depth: 3,
            queue_limit: 1024,
            oldest_wait: Duration::from_millis(1500),
            paused: false,
            endpoints: vec![address, socket],
        };
        let connections = vec![
            connection("10.0.0.7:9000", ConnectionState::Idle, 2),
            connection("10.0.0.7:9000", ConnectionState::Leased, 60),
            connection("/run/php.sock", ConnectionState::Leased, 5),
        ];
        Self { pool, connections, waiters: 0, verbs: Verbs::Loopback, commands: Vec::new() }
    }
}

fn endpoint(name: &str, state: EndpointState, connections: [usize; 5]) -> EndpointSnapshot {
    EndpointSnapshot {
        name: name.to_owned(),
        connections,
        limit: 8,
        in_flight: connections[ConnectionState::Leased as usize],
        state,
        ejections: 0,
        weight: 1,
        near: true,
        held: false,
        saturated: false,
    }
}

fn connection(endpoint: &str, state: ConnectionState, age: u64) -> ConnectionSnapshot {
    ConnectionSnapshot {
        endpoint: endpoint.to_owned(),
        state,
        age: Duration::from_secs(age),
        since: Duration::from_millis(250),
        requests: 7,
        in_flight: u32::from(state == ConnectionState::Leased),
    }
}

impl Process for FakeProcess {
    fn pools(&self) -> Vec<(String, PoolSnapshot)> {
        let php = self.0.lock().unwrap().pool.clone();
        vec![("php".to_owned(), php), ("quiet".to_owned(), PoolSnapshot::default())]
    }

    fn connections(&self, pool: &str) -> Option<Vec<ConnectionSnapshot>> {
        (pool == "php").then(|| self.0.lock().unwrap().connections.clone())
    }

    fn waiters(&self, pool: &str, at_most: usize) -> Option<(usize, Vec<WaiterSnapshot>)> {
        let count = self.0.lock().unwrap().waiters;
        let waiter =
            |place: usize| WaiterSnapshot { waited: Duration::from_millis((count - place) as u64), again: false };
        (pool == "php").then(|| (count, (0..count.min(at_most)).map(waiter).collect()))
    }

    fn command(&self, pool: &str, command: &Command) -> Option<Result<(), CommandError>> {
        let mut state = self.0.lock().unwrap();
        if pool != "php" {
            return None;
        }
        if let Command::Drain(name) | Command::Undrain(name) = command {
            let found = state.pool.endpoints.iter_mut().find(|endpoint| endpoint.name == *name);
            let Some(endpoint) = found else { return Some(Err(CommandError::NoEndpoint(name.clone()))) };
            endpoint.held = matches!(command, Command::Drain(_));
            endpoint.state = if endpoint.held { EndpointState::Draining } else { EndpointState::Up };
        }
        match command {
            Command::Pause => state.pool.paused = true,
            Command::Resume => state.pool.paused = false,
            _ => {}
        }
        state.commands.push(command.clone());
        Some(Ok(()))
    }

    fn verbs(&self) -> Verbs {
        self.0.lock().unwrap().verbs
    }

    fn ready(&self) -> bool {
        true
    }

    fn ping(&self) -> oneshot::Receiver<()> {
        oneshot::channel().1
    }

    fn ports(&self) -> Vec<u16> {
        Vec::new()
    }
}
