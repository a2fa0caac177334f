//! Pods of a Kubernetes Service come, end and go under load, and so does the API server, and no request fails.
#![cfg(feature = "kubernetes")]

mod access;
mod outage;
mod pods;

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use crate::support::{
    Before, Fcgimux, Folder, Load, Nginx, PhpFpm, Pod, Pods, Pool, Request, Running, eventually,
    kubernetes::{KubeApi, Slice},
    wait_until,
};

const LIMIT: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);
/// A change is told at once; this is for a busy machine.
const SOON: Duration = Duration::from_secs(4);

/// Pods behind fcgimux, which watches the Service `shop/php` of an API server, and nginx before it.
struct Site {
    mux: Fcgimux,
    nginx: Nginx,
    before: Before,
    _kubeconfig: Folder,
}

impl Site {
    /// To be called with pods in the slices already.
    #[track_caller]
    fn start(api: &KubeApi, pods: &Pods) -> Self {
        let folder = Folder::new();
        let kubeconfig = folder.write("kubeconfig", &api.kubeconfig("shop"));
        let way = format!("KUBECONFIG={}", kubeconfig.display());
        let mux = Fcgimux::behind(&["env", &way], &configuration("service: shop/php"));
        let nginx = Nginx::site(&pods.scripts(), mux.socket()).start();
        wait_until("it watches", || api.watches() > 0);
        let before = Before::of(&mux);
        Self { mux, nginx, before, _kubeconfig: folder }
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

    fn sum(&self, name: &str) -> f64 {
        self.mux.metrics().sum(name, &[])
    }

    /// The addresses that the pool has, with the state of each.
    fn endpoints(&self) -> BTreeSet<String> {
        endpoints(&self.mux)
    }

    /// `draining 127.0.0.2:9000` for those that leave, `up` for the others.
    #[track_caller]
    fn wait_until_it_has(&self, states: &[(&str, SocketAddr)]) {
        wait_until_it_has(&self.mux, states);
    }

    /// Fails unless every answer was right, each POST ran once, and nothing is left behind.
    #[track_caller]
    fn assert_clean(&self, load: Running, pods: &Pods, warnings: &[&str]) {
        let report = load.stop();
        println!("{report}");
        report.assert_clean();
        pods.journal().assert_posts_once();
        self.before.assert_nothing_left(&self.mux, warnings);
        assert!(self.nginx.errors().is_empty(), "{:?}", self.nginx.errors());
    }
}

fn configuration(endpoint: &str) -> String {
    format!(
        "listeners:\n  - socket: {{socket}}\n    mode: \"0666\"\n    pool: default\npools:\n  default:\n    \
         endpoints:\n      - {endpoint}\n    connections: {{per_endpoint: 4}}\nadmin: {{listen: {{admin}}}}\n"
    )
}

fn endpoints(mux: &Fcgimux) -> BTreeSet<String> {
    let metrics = mux.metrics();
    let state = |(series, value): (&str, f64)| {
        let labels = series.strip_prefix("fcgimux_endpoint_state{").filter(|_| value == 1.0)?;
        let label = |name: &str| labels.split(&format!("{name}=\"")).nth(1)?.split('"').next();
        Some(format!("{} {}", label("state")?, label("endpoint")?))
    };
    metrics.iter().filter_map(state).collect()
}

#[track_caller]
fn wait_until_it_has(mux: &Fcgimux, states: &[(&str, SocketAddr)]) {
    let wanted: BTreeSet<_> = states.iter().map(|(state, address)| format!("{state} {address}")).collect();
    let mut has = BTreeSet::new();
    let right = eventually(SOON, || {
        has = endpoints(mux);
        has == wanted
    });
    assert!(right, "{has:?} and not {wanted:?} after {SOON:?}\n{}", mux.log());
}

/// A pod that waits for its running requests, and would wait for connections that somebody keeps.
fn small() -> Pool {
    PhpFpm::pool(4).global("process_control_timeout", "10s")
}

fn slice(pods: &Pods) -> Slice {
    Slice::of("shop/php", "php-abc").port("fastcgi", pods.port())
}

fn ip(pod: &Pod) -> String {
    pod.address().ip().to_string()
}

/// Waits until requests run in a pod.
#[track_caller]
fn wait_until_used(pods: &Pods, pod: &Pod) {
    let before = pods.journal().of(pod).count();
    let used = eventually(SOON, || pods.journal().of(pod).count() > before);
    assert!(used, "nothing runs in {} within {SOON:?}", pod.name);
}
