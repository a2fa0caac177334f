//! What stands between fcgimux and php-fpm: proxies of TCP, which answer for php-fpm what only its kernel could, and break off when
//! they like. A request that may not be repeated runs once, whatever they do.
#![expect(clippy::disallowed_methods, reason = "tests against real peers need the real clock")]

mod proxy;

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::support::{
    Fcgimux, Load, Nginx, PhpFpm, Pods, Report, Request, bounded,
    fcgi::{Call, Connection},
    in_three_attempts,
};
use proxy::{Breaking, Kind, Proxy};

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

/// Each that was answered ran once, and none ran twice.
#[track_caller]
fn assert_once(pods: &Pods, report: &Report) {
    let journal = pods.journal();
    journal.assert_posts_once();
    let executions = journal.executions("POST");
    let answered =
        executions.keys().filter(|token| !report.failed_tokens.iter().any(|failed| failed == *token)).count();
    assert_eq!(answered as u64, report.ok, "{report}");
    report.assert_not_mixed_up();
}

/// `least`: bytes of a piece that may be the last of its connection.
fn break_off(enable_post_data_reading: &str, least: usize) -> (Report, u64, String) {
    let mut pods = Pods::new();
    let pod = pods.start(PhpFpm::pool(4).set("php_admin_flag[enable_post_data_reading]", enable_post_data_reading));
    let proxy = Breaking::start(pod.address(), 5, least);
    let mux = Fcgimux::to(proxy.address()).pool("connections: {per_endpoint: 4}").start();
    let nginx = Nginx::site(&pods.scripts(), mux.socket()).start();
    let make = |number: u64| Request::echo("POST", 100).body(1 + (number as usize % 3) * 9_000, number).micros(1_000);
    let report = Load::on(nginx.address(), make).clients(3).count(200).run();
    let broken = proxy.broken();
    println!("{report}broke off {broken} times");
    assert!(broken >= 20, "{broken}");
    assert_once(&pods, &report);
    (report, broken, mux.log())
}

#[test]
fn a_post_that_a_proxy_has_passed_on_before_it_breaks_off_runs_once() {
    bounded(120 * SECOND, || {
        for enable_post_data_reading in ["on", "off"] {
            // Never in a question: what is longer is a request.
            let (report, broken, log) = break_off(enable_post_data_reading, 100);
            assert_eq!(report.statuses.get(&502).copied().unwrap_or_default(), broken, "as without fcgimux: {report}");
            assert!(!log.contains("not executed"), "{log}");
        }
    });
}

#[test]
fn a_question_that_a_proxy_answers_with_its_end_costs_no_post() {
    bounded(120 * SECOND, || {
        let mut pods = Pods::new();
        let pod = pods.start(PhpFpm::pool(4));
        let proxy = Breaking::start(pod.address(), 7, 1);
        let mux = Fcgimux::to(proxy.address()).pool("connections: {per_endpoint: 4}").start();
        let nginx = Nginx::site(&pods.scripts(), mux.socket()).start();
        let report = Load::on(nginx.address(), |_| Request::echo("POST", 100)).clients(3).count(200).run();
        println!("{report}broke off {} times", proxy.broken());
        assert_once(&pods, &report);
        // Those that were sent to their end, and no more: what breaks in a question is not seen.
        assert!((report.failed_tokens.len() as u64) < proxy.broken(), "{report}");
    });
}

/// Two HAProxy before one php-fpm, of which one at a time is killed and started again.
fn kill_proxies(posts: u64, time: Duration) {
    let mut pods = Pods::new();
    let pod = pods.start(PhpFpm::pool(12));
    let mut proxies = [(); 2].map(|()| Proxy::start(Kind::Haproxy, pod.address()));
    let [first, second] = proxies.each_ref().map(Proxy::address);
    let mux = Fcgimux::to(first).and(second).pool("connections: {per_endpoint: 4}").start();
    let nginx = Nginx::site(&pods.scripts(), mux.socket()).start();
    let make = |number: u64| Request::echo("POST", 100).body(64, number).micros(2_000);
    let load = Load::on(nginx.address(), make).clients(6).count(posts).duration(time).start();
    let mut kills = 0;
    while load.is_running() {
        // 0.3 to 0.9 s, never the same twice in a row.
        thread::sleep(MILLISECOND * (300 + kills * 137 % 600));
        let proxy = &mut proxies[kills as usize % 2];
        proxy.kill();
        proxy.start_again();
        kills += 1;
    }
    let report = load.finish();
    println!("{report}{kills} kills");
    assert!(kills >= 5 && report.ok > 1_000, "{report}");
    assert_once(&pods, &report);
}

#[test]
fn posts_through_proxies_that_are_killed_run_once() {
    bounded(60 * SECOND, || kill_proxies(1_000_000, 8 * SECOND));
}

#[test]
#[ignore = "a minute or two"]
fn stress_twenty_thousand_posts_through_proxies_that_are_killed_run_once() {
    bounded(600 * SECOND, || kill_proxies(20_000, 500 * SECOND));
}

/// The median of so many, each on a connection that has rested.
fn median(mux: &Fcgimux, calls: [&Call; 2]) -> [Duration; 2] {
    let mut took = [vec![], vec![]];
    for _ in 0..40 {
        for (call, took) in calls.iter().zip(&mut took) {
            thread::sleep(5 * MILLISECOND);
            let start = Instant::now();
            Connection::unix(&mux.socket()).call(call, 5 * SECOND).whole();
            took.push(start.elapsed());
        }
    }
    took.map(|mut took| {
        took.sort_unstable();
        took[took.len() / 2]
    })
}

#[test]
fn a_post_takes_hardly_longer_than_a_get_whatever_stands_between() {
    bounded(60 * SECOND, || {
        let php = PhpFpm::pool(4).start();
        let (address, script) = (php.address().parse().expect("an address"), php.script("echo.php"));
        // What a small script takes.
        let query = "token=a&us=500";
        let (get, post) = (Call::get(&script).query(query).last(), Call::post(&script, "body").query(query).last());
        let proxies = [Kind::NginxStream, Kind::Haproxy, Kind::Socat].map(|kind| (kind, Proxy::start(kind, address)));
        let ways = std::iter::once(("direct".to_owned(), address))
            .chain(proxies.iter().map(|(kind, proxy)| (format!("{kind:?}"), proxy.address())));
        for (name, address) in ways {
            let mux = Fcgimux::to(address).start();
            in_three_attempts(|| {
                let [get, post] = median(&mux, [&get, &post]);
                // What is to be seen is the delayed ACK, of 40 ms, also where a machine is slow to run each of them.
                let limit = get.mul_f64(1.5).max(get + 20 * MILLISECOND);
                let words = format!("{name}: p50 of GET {get:.2?}, of POST {post:.2?}");
                println!("{words}");
                if post <= limit { Ok(()) } else { Err(words) }
            });
        }
    });
}
