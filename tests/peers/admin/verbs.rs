//! Verbs while requests run: nothing may get lost, whatever is paused, drained or replaced.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use nix::sys::signal::Signal;
use serde_json::json;

use super::{LIMIT, SECOND, page, verb};
use crate::support::{
    Before, Exit, Fcgimux, Load, Nginx, PhpFpm, Pod, Pods, Request, Setup, bounded, eventually,
    fcgi::{Call, Errand, Multiplexer, Random, WebServer},
    wait_until, warnings,
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
        // Its admin server may come a little later than its socket, with descriptors of its own.
        wait_until("its admin server is there", || mux.page("/livez").0 == 200);
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

    /// It has something that runs for longer than the load's requests do.
    fn has_long(&self, pod: usize) -> bool {
        let connections = page(&self.mux, "/connections");
        connections["connections"].as_array().unwrap().iter().any(|connection| {
            connection["endpoint"] == self.endpoint(pod)
                && connection["state"] == "leased"
                && connection["state_seconds"].as_f64() > Some(0.2)
        })
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
        let mut drained = None;
        wait_until("an endpoint has a long request", || {
            drained = (0..2).find(|pod| peers.has_long(*pod));
            drained.is_some()
        });
        let (pod, other) = if drained == Some(0) { (0, 1) } else { (1, 0) };

        let path = format!("endpoints/{}/drain", peers.endpoint(pod));
        let at_once = verb(&peers.mux, &path);
        assert_eq!((&at_once["held"], &at_once["state"]), (&json!(true), &json!("draining")), "{at_once}");
        assert_eq!(at_once["done"], false, "{at_once}");
        let drained = verb(&peers.mux, &format!("{path}?wait=10s"));
        assert_eq!((&drained["done"], &drained["connections"]), (&json!(true), &json!(0)), "{drained}");
        assert!(peers.pods.journal().of(&peers.fleet[pod]).all(|run| run.ended.is_some()), "cut off");
        long.finish().assert_clean();

        let (given, opened) = (peers.given(pod), peers.opened(pod));
        let before = peers.given(other);
        wait_until("the other serves all", || peers.given(other) > before + 60.0);
        assert_eq!((peers.given(pod), peers.opened(pod)), (given, opened), "a drained endpoint is used");
        let metrics = peers.mux.metrics();
        let held = [("endpoint", &*peers.endpoint(pod)), ("state", "draining")];
        assert_eq!(metrics.sum("fcgimux_endpoint_state", &held), 1.0);
        assert_eq!(metrics.sum("fcgimux_endpoint_held", &held[..1]), 1.0);

        let undrained = verb(&peers.mux, &path.replace("/drain", "/undrain"));
        assert_eq!((&undrained["done"], &undrained["held"]), (&json!(true), &json!(false)), "{undrained}");
        wait_until("it is used again", || peers.given(pod) > given + 20.0);
        assert_eq!(page(&peers.mux, &format!("/endpoints/{}", peers.endpoint(pod)))["state"], "up");
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
        // Some go for other reasons, a worker that somebody waits for for instance.
        assert!(replaced >= 1.0, "{replaced} connections were replaced");
        let report = load.stop();
        println!("{report}");
        report.assert_clean();
        peers.assert_nothing_lost();
    });
}

#[test]
fn a_pause_is_done_when_work_behind_a_response_is_done_as_well() {
    bounded(LIMIT, || {
        let php = PhpFpm::pool(2).start();
        let mux = Fcgimux::to(php.address()).start();
        let works_on = Call::get(&php.script("finish.php")).query("token=a&us=1500000&log=1");
        assert_eq!(mux.call(&works_on, SECOND.saturating_mul(10)).whole().http_status(), 200);
        let short = verb(&mux, "pause?wait=100ms");
        assert_eq!((&short["done"], &short["requests_in_flight"]), (&json!(false), &json!(0)), "{short}");
        assert_eq!((&short["paused"], &short["connections"]), (&json!(true), &json!(1)), "{short}");
        assert_eq!(php.side_effects(), ["start a"]);
        assert_eq!(verb(&mux, "pause?wait=10s")["done"], true);
        assert_eq!(php.side_effects(), ["start a", "end a"]);
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
        assert!(peers.mux.log().contains("it is paused, and was not resumed within"), "{}", peers.mux.log());
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
fn every_verb_may_be_repeated_with_several_threads() {
    bounded(LIMIT, || {
        let peers = Peers::new(2, |setup| setup.top("threads: 2"));
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
    });
}

#[test]
fn exchanges_that_share_a_connection_are_waited_for_as_well() {
    bounded(LIMIT, || {
        let application = Multiplexer::start();
        let mux = Fcgimux::to(application.address())
            .pool("application: generic")
            .pool("connections: {per_endpoint: 2, max_requests_in_flight: 16}")
            .start();
        let (socket, over) = (mux.socket().display().to_string(), Arc::new(AtomicBool::new(false)));
        let (ended, until) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&over));
        let count = Arc::clone(&ended);
        let web_server = thread::spawn(move || {
            let mut web_server = WebServer::connect(&socket);
            let errands = (0..).map(|number| Errand::post(number, 2_000, 20_000).and("delay=5"));
            let errands = errands.take_while(|_| !until.load(Ordering::Relaxed));
            web_server.run(40, errands, |errand, done| {
                assert_eq!(done.verdict(errand), Ok(()));
                count.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(web_server.defects(), Vec::<String>::new());
        });
        let more = || {
            let before = ended.load(Ordering::Relaxed);
            wait_until("exchanges end", || ended.load(Ordering::Relaxed) > before + 100 || web_server.is_finished());
        };
        let drain = format!("endpoints/{}/drain?wait=10s", application.address());
        more();
        for _ in 0..3 {
            for path in ["pause?wait=10s", &drain] {
                let quiet = verb(&mux, path);
                assert_eq!((&quiet["done"], &quiet["connections"]), (&json!(true), &json!(0)), "{quiet}");
                assert_eq!(application.tally().open_ids, 0, "something runs there");
            }
            verb(&mux, "resume");
            assert_eq!(page(&mux, "")["requests_in_flight"], 0, "its only endpoint is drained");
            verb(&mux, &drain.replace("/drain?wait=10s", "/undrain"));
            more();
            let replaced = verb(&mux, "reconnect?wait=10s");
            assert_eq!((&replaced["done"], &replaced["old_connections"]), (&json!(true), &json!(0)), "{replaced}");
            more();
        }
        over.store(true, Ordering::Relaxed);
        web_server.join().expect("every exchange is right");
        application.assert_undisturbed();
        assert_eq!(warnings(&mux), Vec::<String>::new());
    });
}

#[test]
fn what_an_operator_has_asked_for_outlives_a_reload() {
    bounded(LIMIT, || {
        let text = |timeout| {
            format!(
                "listeners: [{{socket: {{socket}}, mode: \"0666\", pool: default}}]\nadmin: {{listen: {{admin}}}}\n\
                 pools: {{default: {{endpoints: [{{address: \"127.0.0.1:1\"}}], queue: {{timeout: {timeout}}}}}}}\n"
            )
        };
        let mux = Fcgimux::yaml(&text("5s"));
        assert_eq!(verb(&mux, "pause")["paused"], true);
        assert_eq!(verb(&mux, "endpoints/127.0.0.1:1/drain")["held"], true);
        mux.rewrite(&text("6s"));
        mux.signal(Signal::SIGHUP);
        wait_until("it is reloaded", || mux.log().contains("configuration reloaded"));
        assert_eq!(page(&mux, "")["paused"], true);
        assert_eq!(page(&mux, "/endpoints/127.0.0.1:1")["held"], true);
    });
}

#[test]
#[ignore = "a minute of verbs at random"]
fn stress_verbs_at_random() {
    bounded(3 * LIMIT, || {
        let peers = Peers::new(3, |setup| setup);
        let load = peers.load().rate(3.0 * RATE).duration(60 * SECOND).start();
        let mut random = Random::seeded(4);
        let mut done = 0;
        while load.is_running() {
            let pod = random.below(3);
            let endpoint = format!("endpoints/{}", peers.endpoint(pod));
            match random.below(4) {
                0 => assert_eq!(verb(&peers.mux, "pause?wait=5s")["done"], true),
                1 => assert_eq!(verb(&peers.mux, "reconnect?wait=5s")["done"], true),
                2 => assert_eq!(verb(&peers.mux, &format!("{endpoint}/drain?wait=5s"))["done"], true),
                _ => {}
            }
            verb(&peers.mux, "resume");
            verb(&peers.mux, &format!("{endpoint}/undrain"));
            done += 1;
        }
        let report = load.finish();
        println!("{done} verbs\n{report}");
        report.assert_clean();
        assert!(done > 200, "{done} verbs");
        peers.assert_nothing_lost();
    });
}
