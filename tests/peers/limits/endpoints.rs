//! More requests than can be served, and endpoints that do not serve.

use std::{thread, time::Instant};

use super::{LIMIT, MILLISECOND, Refusal, SOON, assert_answer, assert_refused, assert_served};
use crate::support::{
    Fcgimux, Folder, Level, PhpFpm, Port, bounded, eventually,
    fcgi::{Application, Call, Connection, End, Unanswering, garbage, polite, silent},
    wait_until,
};

fn get() -> Call {
    Call::get("/srv/app.php").query("token=1").last()
}

/// A php-fpm whose one worker is busy for so long, and how many wait behind it.
fn busy_worker(pool: &'static str, ms: u32, waiting: usize, test: impl FnOnce(&Fcgimux, &Call) + Send + 'static) {
    bounded(LIMIT, move || {
        let php = PhpFpm::pool(1).start();
        let mux = Fcgimux::to(php.address())
            .pool("connections: {per_endpoint: 1, idle_timeout: 200ms, surplus_idle: 100ms}")
            .pool(pool)
            .start();
        let echo = Call::get(&php.script("echo.php")).query("token=1").last();
        assert_eq!(mux.call(&echo, SOON).whole().text(), "1\n");
        let level = Level::of(&mux);
        let slow = Call::get(&php.script("slow.php")).query(&format!("token=slow&ms={ms}")).last();
        let mut running = mux.connect();
        running.send(&slow.bytes());
        wait_until("it runs", || mux.metrics().sum("fcgimux_upstream_connections", &[("state", "leased")]) == 1.0);
        let mut waiters: Vec<Connection> = (0..waiting).map(|_| mux.connect()).collect();
        waiters.iter_mut().for_each(|waiter| waiter.send(&echo.bytes()));
        let depth = waiting as f64;
        wait_until("others wait", || mux.metrics().sum("fcgimux_queue_depth", &[]) == depth);
        test(&mux, &echo);
        assert_eq!(running.reply(SOON).whole().text(), "slow\n");
        drop(running);
        for mut waiter in waiters {
            assert_eq!(waiter.reply(SOON).whole().text(), "1\n");
        }
        assert_eq!(mux.call(&echo, SOON).whole().text(), "1\n");
        level.assert_back(&mux);
    });
}

#[test]
fn one_more_than_may_wait_is_answered_503() {
    busy_worker("queue: {depth: 3, timeout: 20s}", 1_000, 3, |mux, echo| {
        let start = Instant::now();
        let refusal = Refusal {
            status: "503 Service Unavailable",
            reason: "queue_full",
            detail: "3 requests wait already (queue.depth)",
        };
        for _ in 0..3 {
            assert_refused(mux, echo, &refusal);
        }
        assert!(start.elapsed() < 700 * MILLISECOND, "refused at once, not after {:?}", start.elapsed());
    });
}

#[test]
fn a_request_that_waits_too_long_is_answered_503() {
    busy_worker("queue: {depth: 3, timeout: 300ms}", 1_500, 0, |mux, echo| {
        let start = Instant::now();
        let refusal = Refusal { status: "503 Service Unavailable", reason: "queue_timeout", detail: "(queue.timeout)" };
        assert_refused(mux, echo, &refusal);
        let took = start.elapsed();
        assert!(took >= 300 * MILLISECOND && took < 1_200 * MILLISECOND, "after {took:?}");
    });
}

/// Starts before an application that does not serve, asks, and sees to it that it costs nothing that lasts.
fn assert_unserved(endpoint: String, pool: &'static str, refusal: Refusal) {
    let quick = "timeouts: {connect: 200ms, prove: 200ms}";
    let mux = Fcgimux::to(endpoint).pool(Level::SHORT_IDLE).pool(quick).pool(pool).start();
    let level = Level::of(&mux);
    for _ in 0..4 {
        assert_refused(&mux, &get(), &refusal);
    }
    // All at once.
    let mut connections: Vec<Connection> = (0..50).map(|_| mux.connect()).collect();
    connections.iter_mut().for_each(|connection| connection.send(&get().bytes()));
    for mut connection in connections {
        assert_answer(connection.reply(SOON), refusal.status, refusal.detail);
    }
    if refusal.reason == "no_endpoint" {
        let metrics = mux.metrics();
        assert_eq!(metrics.sum("fcgimux_endpoint_up", &[]), 0.0);
        assert!(metrics.sum("fcgimux_endpoint_ejections_total", &[]) >= 1.0);
        // It is tried again from time to time, which is no connection that stays.
        return;
    }
    level.assert_back(&mux);
}

const NO_ENDPOINT: Refusal =
    Refusal { status: "503 Service Unavailable", reason: "no_endpoint", detail: "no endpoint is up" };

#[test]
fn an_endpoint_that_refuses_connections_is_answered_503() {
    bounded(LIMIT, || {
        let port = Port::free();
        assert_unserved(port.address().to_string(), "on_failure: respond", NO_ENDPOINT);
    });
}

/// As php-fpm itself refuses it: what follows is the web server's to decide.
#[test]
fn a_web_server_is_hung_up_on_where_no_endpoint_is_up() {
    bounded(LIMIT, || {
        let port = Port::free();
        let mux = Fcgimux::to(port.address()).start();
        for _ in 0..3 {
            let reply = mux.call(&get(), SOON).hung_up();
            assert!(String::from_utf8_lossy(&reply.stderr).contains("no endpoint is up"), "{reply:?}");
        }
        assert_eq!(mux.metrics().sum("fcgimux_refused_total", &[("reason", "no_endpoint")]), 3.0);
    });
}

#[test]
fn an_endpoint_that_answers_garbage_is_answered_503() {
    bounded(LIMIT, || {
        let application = Application::tcp(garbage);
        assert_unserved(application.address(), "on_failure: respond", NO_ENDPOINT);
    });
}

#[test]
fn an_endpoint_that_accepts_and_stays_silent_is_answered_503() {
    bounded(LIMIT, || {
        let application = Application::tcp(silent);
        let refusal = Refusal { status: "503 Service Unavailable", reason: "queue_timeout", detail: "(queue.timeout)" };
        assert_unserved(application.address(), "queue: {depth: 1000, timeout: 500ms}", refusal);
    });
}

#[test]
fn an_endpoint_whose_backlog_is_full_is_answered_503() {
    bounded(LIMIT, || {
        let application = Unanswering::new();
        // Fills the backlog.
        let _first = Connection::tcp(application.address());
        let mux = Fcgimux::to(application.address())
            .pool("timeouts: {connect: 200ms, prove: 200ms}\n    queue: {depth: 1000, timeout: 1s}\n    on_failure: respond")
            .start();
        let reply = mux.call(&get(), SOON);
        assert_eq!(reply.http_status(), 503, "{reply:?}");
    });
}

#[test]
fn a_name_that_does_not_resolve_is_answered_503() {
    bounded(LIMIT, || {
        let mux = Fcgimux::to("nowhere.invalid:9000").start();
        // Where the resolver itself is slow the queue's timeout may come first.
        let reply = mux.call(&get(), 2 * SOON);
        assert_eq!(reply.http_status(), 503, "{reply:?}");
    });
}

#[test]
fn an_endpoint_that_comes_back_is_used_again() {
    bounded(LIMIT, || {
        let folder = Folder::new();
        let path = folder.join("app.sock");
        let mux = Fcgimux::to(path.display()).pool(Level::SHORT_IDLE).pool("on_failure: respond").start();
        let level = Level::of(&mux);
        assert_refused(&mux, &get(), &NO_ENDPOINT);
        for _ in 0..2 {
            let application = Application::unix(&path, polite);
            // At the latest after the longest pause between two attempts.
            assert!(eventually(5_000 * MILLISECOND, || mux.call(&get(), SOON).http_status() == 200), "{}", mux.log());
            assert_eq!(mux.metrics().sum("fcgimux_endpoint_up", &[]), 1.0);
            assert_served(&mux);
            wait_until("idle connections are gone", || mux.metrics().sum("fcgimux_upstream_connections", &[]) == 0.0);
            drop(application);
            std::fs::remove_file(&path).expect("remove the socket");
            assert!(eventually(SOON, || mux.call(&get(), SOON).http_status() == 503));
        }
        wait_until("nothing is tried", || mux.metrics().sum("fcgimux_upstream_connections", &[]) == 0.0);
        let _application = Application::unix(&path, polite);
        assert!(eventually(5_000 * MILLISECOND, || mux.call(&get(), SOON).http_status() == 200));
        level.assert_back(&mux);
    });
}

#[test]
fn a_web_server_beyond_max_connections_is_answered_503() {
    bounded(LIMIT, || {
        let application = Application::tcp(polite);
        let mux = Fcgimux::to(application.address()).pool(Level::SHORT_IDLE).listener("max_connections: 5").start();
        assert_served(&mux);
        let level = Level::of(&mux);
        let idle: Vec<Connection> = (0..5).map(|_| mux.connect()).collect();
        let open = |count: f64| mux.metrics().sum("fcgimux_downstream_connections", &[]) == count;
        wait_until("they are there", || open(5.0));
        let refusal = Refusal {
            status: "503 Service Unavailable",
            reason: "connections",
            detail: "more than 5 connections (max_connections)",
        };
        for _ in 0..3 {
            assert_refused(&mux, &get(), &refusal);
            assert_refused(&mux, &Call::post("/srv/app.php", vec![b'x'; 1_000_000]), &refusal);
        }
        drop(idle);
        wait_until("they are gone", || open(0.0));
        assert_served(&mux);
        level.assert_back(&mux);
    });
}

/// Refusing costs something as well; far beyond the limit a connection is closed without a word.
#[test]
fn a_flood_of_connections_is_closed_and_those_within_the_limit_are_served() {
    bounded(LIMIT, || {
        let application = Application::tcp(polite);
        let mux = Fcgimux::to(application.address())
            .pool(Level::SHORT_IDLE)
            .listener("max_connections: 10\n    timeouts: {read: 10s}")
            .start();
        let mut within: Vec<Connection> = (0..8).map(|_| mux.connect()).collect();
        wait_until("they are there", || mux.metrics().sum("fcgimux_downstream_connections", &[]) == 8.0);
        let flood: Vec<Connection> = (0..1_500).map(|_| mux.connect()).collect();
        let open = mux.metrics().sum("fcgimux_downstream_connections", &[]);
        assert!(open < 600.0, "{open} connections");
        let mut last = flood;
        assert_eq!(last.pop().map(|mut connection| connection.ending(SOON)), Some(End::Closed));
        for connection in &mut within {
            let reply = connection.call(&get(), SOON).whole();
            assert_eq!(reply.text(), "token=1");
        }
        drop(last);
        thread::sleep(50 * MILLISECOND);
        wait_until("it is served again", || mux.call(&get(), SOON).http_status() == 200);
    });
}
