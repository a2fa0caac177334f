//! The configuration changes a hundred times under load, and nobody notices.
#![expect(clippy::disallowed_methods, reason = "tests against real peers need the real clock")]

use std::{
    collections::HashMap,
    thread,
    time::{Duration, Instant},
};

use crate::support::{Before, Fcgimux, Load, Nginx, PhpFpm, Report, Request, bounded, eventually};
use nix::sys::signal::Signal;

const SECOND: Duration = Duration::from_secs(1);
const RELOADS: usize = 100;
const WORKERS: usize = 4;
/// Between two reloads; with what a reload takes there are about eight in a second.
const PAUSE: Duration = Duration::from_millis(100);

/// Scripts that log what they do; every third a POST, some too large to keep the connection, some that take longer than
/// the time between two reloads.
fn logged(number: u64) -> Request {
    match number % 12 {
        0 => Request::new("POST", "/log.php").body(30_000, number),
        3 | 6 | 9 => Request::new("POST", "/log.php").body(500, number),
        7 => Request::new("GET", "/log.php").micros(150_000),
        _ => Request::new("GET", "/log.php"),
    }
}

/// Four configurations, each of which differs from the others in endpoints, limits and listeners; that of 0 is the first
/// and the last one.
fn configuration(number: usize, first: &str, second: &str) -> String {
    let both = format!("{{address: \"{first}\"}}, {{address: \"{second}\", weight: 2}}");
    let (pool, endpoints, more, listener, extra) = match number % 4 {
        0 => ("php", both, "connections: {per_endpoint: 4}", "", ""),
        1 => (
            "php",
            format!("{{address: \"{first}\"}}"),
            "connections: {per_endpoint: 3, fence: always}, queue: {depth: 500}",
            ", max_connections: 500",
            "  - {socket: {folder}/other.sock, pool: php}\n",
        ),
        2 => {
            ("php", both, "slow_start: off, body: {memory: 1KiB}, params: {set: {NUMBER: two}}", ", mode: \"0666\"", "")
        }
        _ => (
            "next",
            format!("{{address: \"{second}\"}}"),
            "connections: {per_endpoint: 4, idle_timeout: 2s}",
            ", timeouts: {read: 30s}",
            "  - {socket: {folder}/third.sock, pool: next}\n",
        ),
    };
    let listener = if listener.contains("mode") { listener.to_owned() } else { format!(", mode: \"0666\"{listener}") };
    format!(
        "listeners:\n  - {{socket: {{socket}}, pool: {pool}{listener}}}\n{extra}pools:\n  \
         {pool}: {{endpoints: [{endpoints}], {more}}}\nadmin: {{listen: {{admin}}}}\n"
    )
}

/// How often each POST was begun.
fn posts(php: &PhpFpm) -> HashMap<String, u32> {
    let mut posts = HashMap::new();
    for line in php.side_effects() {
        let words: Vec<_> = line.split(' ').collect();
        if let ["start", token, "POST", ..] = words[..] {
            *posts.entry(token.to_owned()).or_default() += 1;
        }
    }
    posts
}

fn reloads(mux: &Fcgimux) -> usize {
    mux.log().lines().filter(|line| line.contains("\"configuration reloaded\"")).count()
}

fn assert_clean(report: &Report, nginx: &Nginx) {
    println!("{report}");
    report.assert_clean();
    assert!(nginx.errors().is_empty(), "{:?}", nginx.errors());
}

#[test]
fn a_hundred_reloads_under_load_cost_nobody_an_error() {
    bounded(60 * SECOND, || {
        let (first, second) = (PhpFpm::pool(WORKERS).start(), PhpFpm::pool(WORKERS).start());
        let file = |number| configuration(number, &first.address(), &second.address());
        let mux = Fcgimux::yaml(&file(0));
        // One nginx with a connection for each request, and one that keeps them.
        let short = Nginx::site(&first.scripts(), mux.socket()).start();
        // The directive behind the block takes the semicolon that ends one.
        let keep = format!("upstream mux {{ server unix:{}; keepalive 8; }} tcp_nodelay on", mux.socket().display());
        let kept = Nginx::site(&first.scripts(), "mux").http(&keep).location("fastcgi_keep_conn on").start();
        let before = Before::of(&mux);
        let load =
            |nginx: &Nginx| Load::on(nginx.address(), logged).clients(8).rate(120.0).duration(40 * SECOND).start();
        let (of_short, of_kept) = (load(&short), load(&kept));
        let began = Instant::now();
        for number in 1..=RELOADS {
            mux.rewrite(&file(number));
            mux.signal(Signal::SIGHUP);
            let done = eventually(5 * SECOND, || reloads(&mux) >= number);
            assert!(done, "reload {number}: {}", mux.log().lines().last().unwrap_or_default());
            thread::sleep(PAUSE);
        }
        let took = began.elapsed();
        let (of_short, of_kept) = (of_short.stop(), of_kept.stop());
        let ended = mux.log().lines().filter(|line| line.contains("\"pool ended\"")).count();
        println!("{RELOADS} reloads in {took:.1?}, {ended} pools ended; {} retries", {
            mux.metrics().sum("fcgimux_retries_total", &[])
        });
        assert_clean(&of_short, &short);
        assert_clean(&of_kept, &kept);
        let posts = posts(&first);
        assert!(posts.values().all(|times| *times == 1), "a POST was executed twice");
        // Of both kinds, one in four requests each; what is first and last is the same configuration.
        assert_eq!(posts.len() as u64, (0..of_short.sent).chain(0..of_kept.sent).filter(|n| n % 3 == 0).count() as u64);
        assert!(eventually(5 * SECOND, || mux.log().matches("\"pool ended\"").count() == RELOADS / 2), "{ended} ended");
        drop((short, kept));
        before.assert_nothing_left(&mux, &[]);
        assert!(took < 25 * SECOND, "{took:?}");
    });
}
