//! Verbs while requests run: nothing may get lost, whatever is paused, drained or replaced.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;

use super::{
    LIMIT, SECOND, page,
    support::{Before, Exit, Fcgimux, Load, Nginx, PhpFpm, Pod, Pods, Request, Setup, bounded, eventually, wait_until},
    verb,
};

const WORKERS: usize = 4;
/// Requests a second: some always run, and a pause of a few seconds fits into the queue.
const RATE: f64 = 100.0;

/// So many php-fpm, and who asks them.
struct Peers {
    pods: Pods,
    fleet: Vec<Pod>,
    mux: Fcgimux,
    nginx: Nginx,
    before: Before,
}

impl Peers {
    fn new(count: usize, set: impl FnOnce(Setup) -> Setup) -> Self {
        let mut pods = Pods::new();
        let pool = || PhpFpm::pool(WORKERS).global("process_control_timeout", "10s");
        let fleet: Vec<_> = (0..count).map(|_| pods.start(pool())).collect();
        let mut setup = Fcgimux::to(fleet[0].address());
        for pod in &fleet[1..] {
            setup = setup.and(pod.address());
        }
        let mux = set(setup.pool("connections: {per_endpoint: 4}")).start();
        let nginx = Nginx::site(&pods.scripts(), mux.socket()).start();
        let before = Before::of(&mux);
        Self { pods, fleet, mux, nginx, before }
    }

    /// GET and POST, until it is stopped.
    fn load(&self) -> Load {
        let make = |number: u64| match number % 4 {
            0 => Request::echo("POST", 1_000).body(2_000, number).micros(5_000),
            _ => Request::echo("GET", 5_000).micros(10_000),
        };
        Load::on(self.nginx.address(), make).clients(64).rate(RATE).duration(30 * SECOND).patience(20 * SECOND)
    }

    fn endpoint(&self, pod: usize) -> String {
        self.fleet[pod].address().to_string()
    }

    /// Exchanges that an endpoint was given.
    fn given(&self, pod: usize) -> f64 {
        self.mux.metrics().sum("fcgimux_upstream_requests_total", &[("endpoint", &self.endpoint(pod))])
    }

    fn opened(&self, pod: usize) -> f64 {
        self.mux.metrics().sum("fcgimux_upstream_connections_opened_total", &[("endpoint", &self.endpoint(pod))])
    }

    #[track_caller]
    fn assert_nothing_lost(&self) {
        self.pods.journal().assert_posts_once();
        self.before.assert_nothing_left(&self.mux, &[]);
        assert!(self.nginx.errors().is_empty(), "{:?}", self.nginx.errors());
    }
}

#[test]
fn php_fpm_is_replaced_under_a_paused_pool_and_no_request_notices() {
    bounded(LIMIT, || {
        let mut peers = Peers::new(1, |setup| setup);
        let load = peers.load().start();
        wait_until("requests run", || peers.given(0) > 50.0);
        let paused = verb(&peers.mux, "pause?wait=10s");
        assert_eq!((&paused["done"], &paused["paused"]), (&json!(true), &json!(true)), "{paused}");
        assert_eq!((&paused["connections"], &paused["requests_in_flight"]), (&json!(0), &json!(0)), "{paused}");
        let runs = peers.pods.journal().runs;
        assert!(runs.iter().all(|run| run.ended.is_some()), "something runs behind the pause");

        wait_until("requests wait", || page(&peers.mux, "")["queue"]["depth"].as_u64() > Some(10));
        let metrics = peers.mux.metrics();
        assert_eq!(metrics.sum("fcgimux_pool_paused", &[("pool", "default")]), 1.0);
        // With a connection left it would take process_control_timeout.
        peers.fleet[0].signal(Signal::SIGQUIT);
        assert_eq!(peers.fleet[0].wait_exit(2 * SECOND), Some(Exit::Code(0)), "something holds php-fpm up");
        assert_eq!(peers.pods.journal().runs.len(), runs.len(), "something was sent in the pause");
        peers.fleet[0].start_again();
        let resumed = verb(&peers.mux, "resume");
        assert_eq!((&resumed["done"], &resumed["paused"]), (&json!(true), &json!(false)), "{resumed}");
        let runs = runs.len() as f64;
        wait_until("requests run again", || peers.given(0) > runs + 150.0);
        let report = load.stop();
        println!("{report}");
        report.assert_clean();
        assert_eq!(peers.mux.metrics().sum("fcgimux_pool_paused", &[]), 0.0);
        peers.assert_nothing_lost();
    });
}

#[test]
fn a_drained_endpoint_ends_what_it_has_and_gets_nothing_until_it_is_undrained() {
    bounded(LIMIT, || {
        let peers = Peers::new(2, |setup| setup);
        let load = peers.load().start();
        wait_until("both are used", || peers.given(0) > 20.0 && peers.given(1) > 20.0);
        let long = Load::on(peers.nginx.address(), |_| Request::echo("POST", 10).micros(1_500_000));
        let long = long.clients(4).count(4).start();
        let running = format!("/endpoints/{}", peers.endpoint(0));
        let has_long = || {
            let connections = page(&peers.mux, "/connections");
            connections["connections"].as_array().unwrap().iter().any(|connection| {
                connection["endpoint"] == peers.endpoint(0)
                    && connection["state"] == "leased"
                    && connection["state_seconds"].as_f64() > Some(0.2)
            })
        };
        wait_until("the endpoint has a long request", has_long);

        let path = format!("endpoints/{}/drain", peers.endpoint(0));
        let at_once = verb(&peers.mux, &path);
        assert_eq!((&at_once["held"], &at_once["state"]), (&json!(true), &json!("draining")), "{at_once}");
        assert_eq!(at_once["done"], false, "{at_once}");
        let drained = verb(&peers.mux, &format!("{path}?wait=10s"));
        assert_eq!((&drained["done"], &drained["connections"]), (&json!(true), &json!(0)), "{drained}");
        assert!(peers.pods.journal().of(&peers.fleet[0]).all(|run| run.ended.is_some()), "cut off");
        long.finish().assert_clean();

        let (given, opened) = (peers.given(0), peers.opened(0));
        let other = peers.given(1);
        wait_until("the other serves all", || peers.given(1) > other + 60.0);
        assert_eq!((peers.given(0), peers.opened(0)), (given, opened), "a drained endpoint is used");
        let metrics = peers.mux.metrics();
        let held = [("endpoint", &*peers.endpoint(0)), ("state", "draining")];
        assert_eq!(metrics.sum("fcgimux_endpoint_state", &held), 1.0);
        assert_eq!(metrics.sum("fcgimux_endpoint_held", &held[..1]), 1.0);

        let undrained = verb(&peers.mux, &path.replace("/drain", "/undrain"));
        assert_eq!((&undrained["done"], &undrained["held"]), (&json!(true), &json!(false)), "{undrained}");
        wait_until("it is used again", || peers.given(0) > given + 20.0);
        assert_eq!(page(&peers.mux, &running)["state"], "up");
        let report = load.stop();
        println!("{report}");
        report.assert_clean();
        peers.assert_nothing_lost();
    });
}

#[test]
fn a_reconnect_replaces_every_connection_and_loses_nothing() {
    bounded(LIMIT, || {
        let peers = Peers::new(2, |setup| setup);
        let load = peers.load().start();
        wait_until("both are used", || peers.given(0) > 50.0 && peers.given(1) > 50.0);
        for _ in 0..5 {
            let asked = std::time::Instant::now();
            let replaced = verb(&peers.mux, "reconnect?wait=10s");
            assert_eq!((&replaced["done"], &replaced["old_connections"]), (&json!(true), &json!(0)), "{replaced}");
            let connections = page(&peers.mux, "/connections");
            let since = asked.elapsed().as_secs_f64();
            for connection in connections["connections"].as_array().unwrap() {
                assert!(connection["age_seconds"].as_f64().unwrap() <= since, "older than {since} s: {connection}");
            }
            let before = peers.given(0);
            wait_until("requests go on", || peers.given(0) > before + 20.0);
        }
        let replaced = peers.mux.metrics().sum("fcgimux_upstream_connections_closed_total", &[("reason", "reconnect")]);
        assert!(replaced >= 5.0, "{replaced} connections were replaced");
        let report = load.stop();
        println!("{report}");
        report.assert_clean();
        peers.assert_nothing_lost();
    });
}

#[test]
fn who_waits_longer_than_the_queue_allows_is_refused_also_in_a_paused_pool() {
    bounded(LIMIT, || {
        let peers = Peers::new(1, |setup| setup.pool("queue: {timeout: 500ms}"));
        assert_eq!(verb(&peers.mux, "pause?wait=10s")["done"], true);
        let load = |count| Load::on(peers.nginx.address(), |_| Request::echo("GET", 100)).clients(8).count(count).run();
        let report = load(8);
        assert_eq!(report.error_count("status 503"), 8, "{report}");
        let refused = [("reason", "queue_timeout")];
        assert_eq!(peers.mux.metrics().sum("fcgimux_refused_total", &refused), 8.0);
        assert!(peers.pods.journal().runs.is_empty(), "something was sent in the pause");
        verb(&peers.mux, "resume");
        load(50).assert_clean();
    });
}

#[test]
fn an_endpoint_with_a_unix_socket_is_drained_by_its_path() {
    bounded(LIMIT, || {
        let php = PhpFpm::pool(2).unix().start();
        let mux = Fcgimux::to(php.address()).start();
        let encoded = php.address().replace('/', "%2F");
        for endpoint in [encoded, php.address()] {
            let drained = verb(&mux, &format!("endpoints/{endpoint}/drain?wait=5s"));
            assert_eq!((&drained["done"], &drained["endpoint"]), (&json!(true), &json!(php.address())));
            let undrained = verb(&mux, &format!("endpoints/{endpoint}/undrain"));
            assert_eq!((&undrained["done"], &undrained["held"]), (&json!(true), &json!(false)));
        }
    });
}

#[test]
fn every_verb_may_be_repeated() {
    bounded(LIMIT, || {
        let peers = Peers::new(2, |setup| setup);
        let load = peers.load().start();
        wait_until("requests run", || peers.given(0) > 20.0);
        let drain = format!("endpoints/{}/drain?wait=5s", peers.endpoint(1));
        let undrain = format!("endpoints/{}/undrain", peers.endpoint(1));
        for _ in 0..3 {
            for path in ["pause?wait=5s", "pause?wait=5s", &drain, "reconnect?wait=5s", &drain, "resume", "resume"] {
                assert_eq!(verb(&peers.mux, path)["done"], true, "{path}");
            }
            for path in [&undrain, &undrain, "reconnect?wait=5s"] {
                assert_eq!(verb(&peers.mux, path)["done"], true, "{path}");
            }
        }
        let given = peers.given(1);
        assert!(eventually(5 * SECOND, || peers.given(1) > given + 20.0), "it is not used again");
        let report = load.stop();
        println!("{report}");
        report.assert_clean();
        peers.assert_nothing_lost();
        assert!(Duration::ZERO < report.took);
    });
}
