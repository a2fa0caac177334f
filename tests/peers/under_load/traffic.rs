//! Traffic through nginx and fcgimux to php-fpm: what it leaves behind, and what is counted of it.

use std::{fs, thread, time::Duration};

use crate::support::{
    Before, Fcgimux, Load, Measures, Nginx, PhpFpm, Request, bounded, in_own_network,
    sockets::{self, Counters, TimeWait},
};

const SECOND: Duration = Duration::from_secs(1);
const KIB: usize = 1024;
const REQUESTS: u64 = 100_000;
const CLIENTS: usize = 32;
/// The default of `reuse_after_body.post_up_to`.
const REUSED_UP_TO: usize = 16 * KIB;

/// 80 % GET, 15 % POST of 1 to 100 KiB, 5 % PUT.
fn mixed(number: u64) -> Request {
    match number % 20 {
        0 => Request::echo("PUT", 100).body(3_000, number),
        1..=3 => Request::echo("POST", 100).body(post_length(number), number),
        _ => Request::echo("GET", 100),
    }
}

/// Spread evenly over 1 to 100 KiB.
fn post_length(number: u64) -> usize {
    KIB + usize::try_from(number.wrapping_mul(7_919) % (99 * 1024 + 1)).expect("at most 99 KiB")
}

/// What the mix comes to.
#[derive(Debug, Default)]
struct Mix {
    /// Bytes of all bodies.
    bodies: u64,
    /// Requests behind which a connection is not used again.
    recycling: u64,
}

impl Mix {
    fn of(count: u64) -> Self {
        let mut mix = Self::default();
        for number in 0..count {
            let (length, kept) = match number % 20 {
                0 => (3_000, false),
                1..=3 => (post_length(number), post_length(number) <= REUSED_UP_TO),
                _ => (0, true),
            };
            mix.bodies += length as u64;
            mix.recycling += u64::from(!kept);
        }
        mix
    }
}

fn closed(metrics: &Measures, reason: &str) -> f64 {
    metrics.sum("fcgimux_upstream_connections_closed_total", &[("reason", reason)])
}

/// Sum of a column that nginx logged.
fn logged_bytes(log: &str, column: usize) -> u64 {
    log.lines().filter_map(|line| line.split(' ').nth(column)?.parse::<u64>().ok()).sum()
}

#[test]
#[expect(clippy::cast_precision_loss, reason = "counts and bytes below 2^52")]
fn a_hundred_thousand_requests_leave_no_time_wait_and_are_counted_exactly() {
    if !in_own_network("under_load::traffic::a_hundred_thousand_requests_leave_no_time_wait_and_are_counted_exactly") {
        return;
    }
    bounded(200 * SECOND, || {
        let php = PhpFpm::pool(8).start();
        let mux = Fcgimux::to(php.address()).start();
        let traffic = php.log_folder().join("traffic");
        let nginx = Nginx::site(&php.scripts(), mux.socket())
            .http("log_format traffic '$upstream_bytes_sent $upstream_bytes_received'")
            .server(&format!("access_log {} traffic buffer=64k flush=1s", traffic.display()))
            // Each client keeps one connection, so that what the kernel counted can be taken apart.
            .server("keepalive_requests 1000000")
            .start();
        let before = Before::of(&mux);
        let counted = Counters::now();
        let running = Load::on(nginx.address(), mixed).clients(CLIENTS).count(REQUESTS).duration(150 * SECOND).start();
        let mut time_wait = 0;
        while running.is_running() {
            time_wait = time_wait.max(TimeWait::of(php.port()).total());
            thread::sleep(SECOND);
        }
        let report = running.finish();
        println!("{report}");
        report.assert_clean();
        time_wait = time_wait.max(TimeWait::of(php.port()).total());
        assert_eq!(time_wait, 0, "sockets in TIME_WAIT on the port of php-fpm");

        // The one page of metrics in these numbers is the last connection that is opened.
        let metrics = mux.metrics();
        let now = Counters::now();
        let opened = metrics.sum("fcgimux_upstream_connections_opened_total", &[]);
        let kernel = now.since(&counted, "ActiveOpens") - CLIENTS as u64 - 1;
        assert_eq!(opened, kernel as f64, "connections opened, by the metrics and by the kernel");
        let ended = metrics.sum("fcgimux_upstream_connections_closed_total", &[]);
        let established = sockets::established(php.port());
        println!("opened {opened}, closed {ended}, established {established}");
        for (name, value) in metrics.iter().filter(|(name, value)| name.contains("closed_total") && *value > 0.0) {
            println!("  {name} {value}");
        }
        let mix = Mix::of(REQUESTS);
        assert_eq!(closed(&metrics, "body"), mix.recycling as f64, "connections that ended with a body");
        let recycled = ["body", "yield", "max_age", "max_requests"].map(|reason| closed(&metrics, reason));
        let recycled: f64 = recycled.iter().sum();
        let keepable = (REQUESTS - mix.recycling) as f64;
        println!("opened beyond the recycled ones: {} for {keepable} keepable requests", opened - recycled);
        assert!(opened - recycled <= keepable / 1_000.0, "{opened} opened, {recycled} recycled");

        let requests = metrics.sum("fcgimux_requests_total", &[("pool", "default")]);
        let ok = metrics.sum("fcgimux_requests_total", &[("outcome", "ok")]);
        assert_eq!((requests, ok), (REQUESTS as f64, report.ok as f64));
        let retries = |reason| metrics.sum("fcgimux_retries_total", &[("reason", reason)]);
        let refused = metrics.sum("fcgimux_refused_total", &[]);
        assert_eq!((retries("unproven"), retries("idempotent"), refused), (0.0, 0.0, 0.0));
        // A machine that pauses for 20 ms looks like a worker that is at work still.
        assert!(retries("busy") <= 10.0, "{} went to another worker", retries("busy"));
        thread::sleep(SECOND + SECOND / 2);
        let log = fs::read_to_string(&traffic).expect("nginx's log");
        assert_eq!(log.lines().count() as u64, REQUESTS);
        let [sent, received] = [0, 1].map(|column| logged_bytes(&log, column) as f64);
        let [to, from] = ["request", "response"].map(|way| metrics.sum("fcgimux_bytes_total", &[("direction", way)]));
        println!("bytes: nginx sent {sent}, passed on {to}; passed back {from}, nginx received {received}");
        assert_eq!(from, received, "bytes of responses");
        // Framed anew, params and all: what differs is headers of records and pairs that are taken out.
        assert!(to >= mix.bodies as f64 && (to - sent).abs() <= 100.0 * requests, "bytes of requests");
        before.assert_nothing_left(&mux, &[]);
        let metrics = mux.metrics();
        let open = metrics.sum("fcgimux_upstream_connections", &[]);
        assert_eq!(open, sockets::established(php.port()) as f64);
        assert_eq!(TimeWait::of(php.port()).total(), 0);
        assert!(nginx.errors().is_empty(), "{:?}", nginx.errors());
    });
}

#[test]
#[expect(clippy::cast_precision_loss, reason = "counts below 2^52")]
fn traffic_to_a_unix_socket_keeps_its_connections_as_well() {
    const FEWER: u64 = 10_000;
    bounded(60 * SECOND, || {
        let php = PhpFpm::pool(8).unix().start();
        let mux = Fcgimux::to(php.address()).start();
        let nginx = Nginx::site(&php.scripts(), mux.socket()).start();
        let before = Before::of(&mux);
        let report = Load::on(nginx.address(), mixed).clients(CLIENTS).count(FEWER).duration(40 * SECOND).run();
        println!("{report}");
        report.assert_clean();
        let metrics = mux.metrics();
        let opened = metrics.sum("fcgimux_upstream_connections_opened_total", &[]);
        let mix = Mix::of(FEWER);
        assert_eq!(closed(&metrics, "body"), mix.recycling as f64);
        let beyond = opened - mix.recycling as f64 - closed(&metrics, "yield");
        assert!(
            beyond <= (FEWER - mix.recycling) as f64 / 1_000.0,
            "{opened} opened, {beyond} beyond the recycled ones"
        );
        before.assert_nothing_left(&mux, &[]);
        assert!(nginx.errors().is_empty(), "{:?}", nginx.errors());
    });
}
