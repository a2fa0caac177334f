//! An application that takes too long: 504 while nothing has come, a response that can be seen to be cut short afterwards.

use std::{thread, time::Instant};

use super::{LIMIT, MILLISECOND, SOON, assert_answer};
use crate::support::{
    Fcgimux, Level, Nginx, PhpFpm, bounded, download,
    fcgi::{Call, End},
    wait_until,
};

/// One worker, and one connection to it.
fn with(timeouts: &'static str, test: impl FnOnce(&Fcgimux, &PhpFpm) + Send + 'static) {
    bounded(LIMIT, move || {
        let php = PhpFpm::pool(1).ini("output_buffering", "0").start();
        let mux = Fcgimux::to(php.address())
            .pool("connections: {per_endpoint: 1, idle_timeout: 200ms, surplus_idle: 100ms}")
            .pool(timeouts)
            .start();
        assert_served(&mux, &php);
        let level = Level::of(&mux);
        test(&mux, &php);
        assert_served(&mux, &php);
        level.assert_back(&mux);
    });
}

#[track_caller]
fn assert_served(mux: &Fcgimux, php: &PhpFpm) {
    let reply = mux.call(&Call::get(&php.script("echo.php")).query("token=1"), SOON).whole();
    assert_eq!(reply.text(), "1\n", "{reply:?}");
}

fn slow(php: &PhpFpm, query: &str) -> Call {
    Call::get(&php.script("slow.php")).query(&format!("token=slow&{query}")).last()
}

fn timed_out(mux: &Fcgimux) -> f64 {
    mux.metrics().sum("fcgimux_requests_total", &[("outcome", "timeout")])
}

/// The place of the worker stays taken until it is known to be free (rule R15): the next request waits for it.
#[test]
fn a_first_byte_that_comes_too_late_is_answered_504_and_its_worker_waited_for() {
    with("timeouts: {first_byte: 300ms}", |mux, php| {
        for _ in 0..2 {
            let (start, before) = (Instant::now(), timed_out(mux));
            let reply = mux.call(&slow(php, "ms=1000"), SOON);
            let took = start.elapsed();
            assert_answer(reply, "504 Gateway Timeout", "(timeouts.first_byte)");
            assert!(took >= 300 * MILLISECOND && took < 900 * MILLISECOND, "after {took:?}");
            let metrics = mux.metrics();
            assert_eq!(timed_out(mux) - before, 1.0);
            assert_eq!(metrics.sum("fcgimux_upstream_connections", &[("state", "settling")]), 1.0, "occupied");
            assert_served(mux, php);
            assert!(start.elapsed() >= 950 * MILLISECOND, "the worker was still busy");
            let line = mux.log().lines().filter(|line| line.contains("timeouts.first_byte")).count();
            assert!(line >= 1, "{}", mux.log());
        }
        // Never sent a second time: the script may have run.
        assert_eq!(mux.metrics().sum("fcgimux_retries_total", &[]), 0.0);
    });
}

#[test]
fn a_response_that_pauses_too_long_is_cut_off_visibly() {
    with("timeouts: {between_bytes: 300ms}", |mux, php| {
        let before = timed_out(mux);
        // A step each 800 ms.
        let reply = mux.call(&slow(php, "ms=1600&steps=2"), SOON);
        assert!(reply.text().starts_with("step 1\n"), "{reply:?}");
        assert!(!reply.ended && matches!(reply.broken, Some(End::Closed | End::Reset)), "{reply:?}");
        assert_eq!(timed_out(mux) - before, 1.0);
        // Slower than that altogether, but never for long.
        let reply = mux.call(&slow(php, "ms=1500&steps=15"), SOON).whole();
        assert!(reply.text().ends_with("slow\n"), "{reply:?}");
    });
}

#[test]
fn a_visitor_sees_that_a_response_was_cut_off() {
    bounded(LIMIT, || {
        let php = PhpFpm::pool(1).ini("output_buffering", "0").start();
        let mux = Fcgimux::to(php.address()).pool("timeouts: {between_bytes: 300ms}").start();
        let nginx = Nginx::site(&php.scripts(), mux.socket()).location("fastcgi_buffering off").start();
        let path = "/slow.php?ms=1600&steps=2";
        let cut = download(nginx.address(), path, 1_000, std::time::Duration::ZERO, SOON);
        assert_eq!(cut.map_err(|error| error.kind()), Err("truncated"));
        let said = "fcgimux: application was too slow (timeouts.between_bytes)";
        assert!(nginx.errors().iter().any(|line| line.contains(said)), "{:?}", nginx.errors());
    });
}

#[test]
fn an_exchange_that_takes_too_long_is_answered_504_or_cut_off() {
    with("timeouts: {exchange: 500ms}", |mux, php| {
        let start = Instant::now();
        let reply = mux.call(&slow(php, "ms=900"), SOON);
        assert_answer(reply, "504 Gateway Timeout", "(timeouts.exchange)");
        assert!(start.elapsed() < 850 * MILLISECOND, "after {:?}", start.elapsed());
        assert_served(mux, php);
        let reply = mux.call(&slow(php, "ms=1500&steps=15"), SOON);
        assert!(!reply.ended && reply.text().starts_with("step 1\n"), "{reply:?}");
        assert_eq!(timed_out(mux), 2.0);
        // The wait for a connection does not count.
        let mut first = mux.connect();
        let mut second = mux.connect();
        first.send(&slow(php, "ms=300").bytes());
        thread::sleep(20 * MILLISECOND);
        second.send(&slow(php, "ms=300").bytes());
        assert!(first.reply(SOON).ended);
        assert_eq!(second.reply(SOON).http_status(), 200);
    });
}

#[test]
fn timeouts_that_are_off_are_off() {
    with("timeouts: {first_byte: off, between_bytes: off}", |mux, php| {
        assert_eq!(mux.call(&slow(php, "ms=1500"), SOON).whole().text(), "slow\n");
        wait_until("it is known to be free", || {
            mux.metrics().sum("fcgimux_upstream_connections", &[("state", "leased")]) == 0.0
        });
    });
}
