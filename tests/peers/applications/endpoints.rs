//! Kinds of endpoints, several of them, and old ones.

use std::thread;

use super::{LIMIT, MILLISECOND, SOON, assert_echoed, closed, get, post, retries, with};
use crate::support::{
    Fcgimux, Level, Load, Nginx, PhpFpm, Port, Request, bounded,
    fcgi::{Application, Call, old_php, polite},
    sockets::TimeWait,
};

const ADVICE: &str = "PHP before 8.2.13";

/// Two connections in a row must close behind their handshake before that is believed: a worker that stops looks the same.
#[test]
fn an_old_php_is_found_out_and_served_with_one_connection_per_request() {
    with("", old_php, |mux, application| {
        for number in 0..30 {
            assert_echoed(mux, &post(&format!("body {number}")));
        }
        let log = mux.log();
        assert_eq!(log.lines().filter(|line| line.contains(ADVICE)).count(), 1, "{log}");
        let handshakes = 2;
        assert_eq!(application.accepted(), 30 + handshakes, "one connection for each request");
        assert_eq!(closed(mux, "not_kept"), 30.0);
        let port = application.address().rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
        let left = TimeWait::of(port);
        assert_eq!(left.total(), 0, "{left:?}");
        assert_eq!(retries(mux, "unproven") + retries(mux, "idempotent"), 0.0);
    });
}

#[test]
fn an_old_php_serves_many_at_once() {
    with("", old_php, |mux, _| {
        let numbers: Vec<u32> = (0..50).collect();
        thread::scope(|scope| {
            for number in &numbers {
                scope.spawn(move || assert_echoed(mux, &post(&format!("body {number}"))));
            }
        });
        assert_eq!(mux.log().lines().filter(|line| line.contains(ADVICE)).count(), 1);
    });
}

#[test]
fn an_endpoint_may_be_a_unix_socket() {
    bounded(LIMIT, || {
        let php = PhpFpm::pool(2).unix().start();
        let mux = Fcgimux::to(php.address()).pool("connections: {per_endpoint: 2}").start();
        let nginx = Nginx::site(&php.scripts(), mux.socket()).start();
        let report = Load::on(nginx.address(), |number| match number % 4 {
            0 => Request::echo("PUT", 10).body(3_000, number),
            1 => Request::echo("POST", 70_000).body(50_000, number),
            _ => Request::echo("GET", 1_000),
        })
        .clients(8)
        .count(1_000)
        .run();
        report.assert_clean();
        // Every second request ends its connection with a body that PHP may leave unread.
        assert!(mux.metrics().sum("fcgimux_upstream_connections_opened_total", &[]) < 700.0);
    });
}

#[test]
fn an_endpoint_may_be_a_name() {
    bounded(LIMIT, || {
        let php = PhpFpm::pool(2).start();
        let mux = Fcgimux::to(format!("localhost:{}", php.port())).start();
        let echo = Call::get(&php.script("echo.php")).query("token=1").last();
        for _ in 0..5 {
            assert_eq!(mux.call(&echo, SOON).whole().text(), "1\n");
        }
        // The endpoints are the addresses that the name stands for.
        let endpoint = format!("127.0.0.1:{}", php.port());
        assert_eq!(mux.metrics().sum("fcgimux_endpoint_up", &[("endpoint", &endpoint)]), 1.0);
    });
}

#[test]
fn several_endpoints_are_all_used() {
    bounded(LIMIT, || {
        let php = [PhpFpm::pool(2).start(), PhpFpm::pool(2).unix().start(), PhpFpm::pool(2).start()];
        // One root for all.
        let mux = Fcgimux::to(php[0].address())
            .and(php[1].address())
            .and(php[2].address())
            .pool("connections: {per_endpoint: 2}")
            .start();
        let nginx = Nginx::site(&php[0].scripts(), mux.socket()).start();
        let report =
            Load::on(nginx.address(), |_| Request::echo("GET", 100).micros(2_000)).clients(12).count(1_500).run();
        report.assert_clean();
        let metrics = mux.metrics();
        for php in &php {
            let address = php.address();
            let opened = metrics.sum("fcgimux_upstream_connections_opened_total", &[("endpoint", &address)]);
            assert!(opened >= 2.0, "{address}: {opened} connections");
            assert_eq!(metrics.sum("fcgimux_endpoint_up", &[("endpoint", &address)]), 1.0);
        }
    });
}

#[test]
fn one_endpoint_of_two_that_is_down_is_no_error() {
    bounded(LIMIT, || {
        let (php, down) = (PhpFpm::pool(2).start(), Port::free());
        let mux = Fcgimux::to(down.address()).and(php.address()).pool("connections: {per_endpoint: 2}").start();
        let nginx = Nginx::site(&php.scripts(), mux.socket()).start();
        let report = Load::on(nginx.address(), |number| {
            if number % 5 == 0 { Request::echo("POST", 9).body(900, number) } else { Request::echo("GET", 100) }
        })
        .clients(8)
        .count(1_000)
        .run();
        report.assert_clean();
        let address = php.address();
        assert_eq!(mux.metrics().sum("fcgimux_endpoint_up", &[("endpoint", &address)]), 1.0);
        assert_eq!(mux.metrics().sum("fcgimux_refused_total", &[]), 0.0);
    });
}

/// The one that stays silent keeps nobody waiting: whichever connection proves first serves.
#[test]
fn one_endpoint_of_two_that_is_silent_is_no_error() {
    bounded(LIMIT, || {
        let silent = Application::tcp(crate::support::fcgi::silent);
        let serving = Application::tcp(polite);
        let mux = Fcgimux::to(silent.address())
            .and(serving.address())
            .pool(Level::SHORT_IDLE)
            .pool("timeouts: {prove: 500ms}")
            .start();
        for number in 0..20 {
            let start = std::time::Instant::now();
            assert_echoed(&mux, &get(&format!("number={number}")));
            assert!(start.elapsed() < 400 * MILLISECOND, "waited {:?}", start.elapsed());
            thread::sleep(30 * MILLISECOND);
        }
    });
}
