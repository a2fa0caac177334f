//! Workers that go while requests come: recycled by php-fpm, or killed.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use crate::support::{Before, Fcgimux, Load, Nginx, PhpFpm, Request, bounded};
use nix::sys::signal::Signal;

const SECOND: Duration = Duration::from_secs(1);

/// How often each request was begun, by method and token, as the script logged it.
fn executions(php: &PhpFpm) -> HashMap<(String, String), u32> {
    let mut executions = HashMap::new();
    for line in php.side_effects() {
        let mut words = line.split(' ');
        if let (Some("start"), Some(token), Some(method)) = (words.next(), words.next(), words.next()) {
            *executions.entry((method.to_owned(), token.to_owned())).or_default() += 1;
        }
    }
    executions
}

fn most(executions: &HashMap<(String, String), u32>, method: &str) -> u32 {
    let of_method = executions.iter().filter(|((each, _), _)| each == method);
    of_method.map(|(_, count)| *count).max().unwrap_or_default()
}

/// Every third a POST, some too large to keep the connection; scripts that log what they do.
fn logged(number: u64) -> Request {
    match number % 12 {
        0 => Request::new("POST", "/log.php").body(30_000, number),
        3 | 6 | 9 => Request::new("POST", "/log.php").body(500, number),
        _ => Request::new("GET", "/log.php"),
    }
}

#[test]
fn workers_that_are_recycled_after_fifty_requests_cost_nobody_an_error() {
    const REQUESTS: u64 = 20_000;
    bounded(120 * SECOND, || {
        let php = PhpFpm::pool(4).set("pm.max_requests", "50").start();
        let mux = Fcgimux::to(php.address()).pool("connections: {per_endpoint: 4}").start();
        let nginx = Nginx::site(&php.scripts(), mux.socket()).start();
        let before = Before::of(&mux);
        let report = Load::on(nginx.address(), logged).clients(16).count(REQUESTS).duration(90 * SECOND).run();
        let metrics = mux.metrics();
        let closed = |reason| metrics.sum("fcgimux_upstream_connections_closed_total", &[("reason", reason)]);
        println!(
            "{report}closed by the application {}, broken {}, behind a body {}; retries {}",
            closed("application"),
            closed("broken"),
            closed("body"),
            metrics.sum("fcgimux_retries_total", &[])
        );
        report.assert_clean();
        let executions = executions(&php);
        let posts = executions.keys().filter(|(method, _)| method == "POST").count() as u64;
        assert_eq!(posts, REQUESTS.div_ceil(3), "POSTs that were executed");
        assert_eq!(executions.len() as u64, REQUESTS, "requests that were executed");
        assert_eq!(most(&executions, "POST"), 1, "executions of one POST");
        assert!(closed("application") + closed("body") >= 300.0, "workers were recycled");
        before.assert_nothing_left(&mux, &[]);
        assert!(nginx.errors().is_empty(), "{:?}", nginx.errors());
    });
}

#[test]
#[expect(clippy::cast_precision_loss, reason = "small counts")]
fn killed_workers_cost_no_post_a_second_execution_and_failures_say_why() {
    bounded(60 * SECOND, || {
        // What may have been executed is sent again to another endpoint only.
        let [php, other] = [(); 2].map(|()| PhpFpm::pool(8).start());
        let mux = Fcgimux::to(php.address()).and(other.address()).start();
        let nginx = Nginx::site(&php.scripts(), mux.socket()).start();
        let before = Before::of(&mux);
        let over = AtomicBool::new(false);
        let (report, kills) = thread::scope(|scope| {
            let killer = scope.spawn(|| {
                let mut kills = 0_usize;
                while !over.load(Ordering::Relaxed) {
                    thread::sleep(Duration::from_millis(20));
                    let workers = php.workers();
                    // Any of them, by a step that has no common divisor with their number.
                    if let Some(worker) = workers.get((kills * 5 + kills / 7) % workers.len().max(1)) {
                        php.signal_worker(*worker, Signal::SIGKILL);
                        kills += 1;
                    }
                }
                kills
            });
            let load = Load::on(nginx.address(), |number| logged(number).micros(3_000)).clients(32);
            let report = load.duration(10 * SECOND).run();
            over.store(true, Ordering::Relaxed);
            (report, killer.join().expect("the killer"))
        });
        let metrics = mux.metrics();
        let retries = |reason| metrics.sum("fcgimux_retries_total", &[("reason", reason)]);
        println!(
            "{report}{kills} workers killed; sent again: {} unproven, {} idempotent; statuses {:?}",
            retries("unproven"),
            retries("idempotent"),
            report.statuses
        );
        let executions = executions(&php);
        let [posts, gets] = ["POST", "GET"].map(|method| most(&executions, method));
        println!("executions of one POST {posts}, of one GET {gets}");
        assert_eq!(posts, 1, "executions of one POST");
        assert!((1..=2).contains(&gets), "{gets} executions of one GET");
        report.assert_not_mixed_up();
        let failed = report.sent - report.ok;
        assert!(kills >= 200 && failed > 0 && retries("idempotent") > 0.0, "the workers died in vain");
        assert_eq!(report.error_count("status 502"), failed, "{report}");
        assert_eq!(metrics.sum("fcgimux_requests_total", &[("outcome", "broken")]), failed as f64);
        let told = nginx.error_log().lines().filter(|line| line.contains("in stderr: \"fcgimux: ")).count() as u64;
        assert_eq!(told, failed, "failures with a reason in nginx's log");
        before.assert_nothing_left(&mux, &["exchange broke: ", "connection did not prove itself: "]);
    });
}
