//! Endpoints that a real DNS server or a file names come, go and come back under load, and nobody notices; nor does
//! anybody when the DNS server is gone.
#![expect(clippy::disallowed_methods, reason = "tests against real peers need the real clock")]

mod dns;
mod file;
mod outage;
mod srv;

use std::{net::SocketAddr, time::Duration};

use crate::support::{
    Before, Fcgimux, Load, Measures, Nginx, PhpFpm, Pod, Pods, Pool, Report, Request, Running, eventually,
};

const LIMIT: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);
/// Longer than anything takes that is looked for every second, on a busy machine.
const SOON: Duration = Duration::from_secs(4);

/// fcgimux with one source of endpoints, and nginx before it.
struct Site {
    mux: Fcgimux,
    nginx: Nginx,
    before: Before,
}

impl Site {
    /// `endpoints` are the items of the key, a line each; `{folder}` is the folder of fcgimux. `top`: lines of the top level.
    #[track_caller]
    fn start(pods: &Pods, endpoints: &str, pool: &str, top: &str) -> Self {
        let mux = Fcgimux::yaml(&format!(
            "listeners:\n  - socket: {{socket}}\n    mode: \"0666\"\n    pool: default\npools:\n  default:\n    \
             endpoints:\n      - {endpoints}\n    connections: {{per_endpoint: 4}}\n    {pool}\n\
             admin: {{listen: {{admin}}}}\n{top}\n"
        ));
        let nginx = Nginx::site(&pods.scripts(), mux.socket()).start();
        let before = Before::of(&mux);
        Self { mux, nginx, before }
    }

    /// Short requests, GET and POST, until it is stopped.
    fn load(&self) -> Running {
        let make = |number: u64| match number % 5 {
            0 => Request::echo("POST", 500).body(1_000, number),
            1 => Request::echo("GET", 500).micros(20_000),
            _ => Request::echo("GET", 5_000),
        };
        Load::on(self.nginx.address(), make).clients(6).rate(120.0).duration(90 * SECOND).start()
    }

    /// One request.
    fn request(&self) -> Report {
        Load::on(self.nginx.address(), |_| Request::echo("GET", 100)).count(1).run()
    }

    fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.mux.metrics().sum(name, labels)
    }

    /// Whether an endpoint is one of the pool's.
    fn has(&self, address: SocketAddr) -> bool {
        has(&self.mux.metrics(), address)
    }

    #[track_caller]
    fn wait_until_it_has(&self, addresses: &[SocketAddr]) {
        let mut metrics = Measures::default();
        let right = eventually(SOON, || {
            metrics = self.mux.metrics();
            endpoints(&metrics) == addresses.len() && addresses.iter().all(|address| has(&metrics, *address))
        });
        assert!(right, "not {addresses:?} after {SOON:?}: {metrics:#?}\n{}", self.mux.log());
    }

    /// Fails unless every answer was right, each POST ran once, and nothing is left behind.
    #[track_caller]
    fn assert_clean(&self, report: &Report, pods: &Pods, warnings: &[&str]) {
        println!("{report}");
        report.assert_clean();
        pods.journal().assert_posts_once();
        self.before.assert_nothing_left(&self.mux, warnings);
        assert!(self.nginx.errors().is_empty(), "{:?}", self.nginx.errors());
    }
}

fn has(metrics: &Measures, address: SocketAddr) -> bool {
    metrics.get(&format!("fcgimux_endpoint_up{{pool=\"default\",endpoint=\"{address}\"}}")).is_some()
}

/// How many the pool has.
fn endpoints(metrics: &Measures) -> usize {
    metrics.iter().filter(|(series, _)| series.starts_with("fcgimux_endpoint_up{")).count()
}

/// A pod that waits for its running requests, and would wait for connections that somebody keeps.
fn small() -> Pool {
    PhpFpm::pool(4).global("process_control_timeout", "10s")
}

/// Waits until requests run in a pod.
#[track_caller]
fn wait_until_used(pods: &Pods, pod: &Pod) {
    let before = pods.journal().of(pod).count();
    let used = eventually(SOON, || pods.journal().of(pod).count() > before);
    assert!(used, "nothing runs in {} within {SOON:?}", pod.name);
}
