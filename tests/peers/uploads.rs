//! Broken uploads: php-fpm executes a script with whatever part of a body has come when its connection breaks, so a request
//! must reach it whole or not at all, whenever and however the web server goes. A log of side effects tells what ran.
#![allow(clippy::disallowed_methods, reason = "real peers need real time")]

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::support::{
    Fcgimux, PhpFpm, Pool, bounded,
    fcgi::{self, Call, Connection},
    sockets::TimeWait,
    wait_until,
};
use nix::sys::signal::Signal;

const LIMIT: Duration = Duration::from_secs(100);
const SOON: Duration = Duration::from_secs(10);
const MILLISECOND: Duration = Duration::from_millis(1);

/// One worker and one connection to it, unless `pool` says otherwise. A worker that is stopped is asked for no sign of life.
fn with(php: Pool, pool: &'static str, test: impl FnOnce(&PhpFpm, &Fcgimux) + Send + 'static) {
    bounded(LIMIT, move || {
        let php = php.start();
        let mux = Fcgimux::to(php.address()).pool("connections: {per_endpoint: 1, heartbeat: off}").pool(pool).start();
        test(&php, &mux);
        let log = mux.log();
        assert!(!log.contains("panicked"), "{log}");
    });
}

/// How a web server goes, by name.
type Way = (&'static str, fn(Connection));

const WAYS: [Way; 3] = [
    ("close", Connection::close),
    ("abort", |mut connection| {
        // It may have been answered already.
        let _ = connection.try_send(&fcgi::abort(1));
        let _ = connection.reply(SOON);
    }),
    ("abort and close", |mut connection| {
        let _ = connection.try_send(&fcgi::abort(1));
    }),
];

fn log_call(php: &PhpFpm, method: &str, token: &str, size: usize) -> Call {
    let body: Vec<u8> = (0..size).map(|at| b'a' + u8::try_from(at % 26).expect("a letter")).collect();
    let call = Call::new(method, &php.script("log.php")).query(&format!("token={token}"));
    call.body("application/octet-stream", body).last()
}

/// Serves one more request, which comes behind everything that was sent before.
#[track_caller]
fn assert_serves(php: &PhpFpm, mux: &Fcgimux) {
    let reply = mux.call(&Call::get(&php.script("echo.php")).query("token=after"), SOON).whole();
    assert_eq!((reply.http_status(), reply.text().as_str()), (200, "after\n"), "{reply:?}");
}

/// Stops the worker that the one connection rests on.
fn stop_worker(php: &PhpFpm, mux: &Fcgimux) -> u32 {
    assert_serves(php, mux);
    wait_until("the connection rests", || {
        mux.metrics().sum("fcgimux_upstream_connections", &[("state", "idle")]) == 1.0
    });
    // Its fence may still be due, and is sent within some milliseconds.
    thread::sleep(50 * MILLISECOND);
    let worker = php.workers()[0];
    php.signal_worker(worker, Signal::SIGSTOP);
    worker
}

fn gone(mux: &Fcgimux) -> f64 {
    mux.metrics().sum("fcgimux_requests_total", &[("outcome", "gone")])
}

/// Every start of `token` in the log: method and length.
fn starts(php: &PhpFpm, token: &str) -> Vec<String> {
    let prefix = format!("start {token} ");
    php.side_effects().iter().filter_map(|line| line.strip_prefix(&prefix).map(str::to_owned)).collect()
}

#[track_caller]
fn assert_whole_or_not_at_all(php: &PhpFpm, token: &str, method: &str, size: usize) {
    let starts = starts(php, token);
    assert!(starts.is_empty() || starts == [format!("{method} {size}")], "{token}, {size} bytes sent: {starts:?}");
}

#[test]
fn a_request_that_has_not_come_whole_is_never_executed() {
    with(PhpFpm::pool(1), "", |php, mux| {
        for (way, go) in WAYS {
            for (method, size) in [("POST", 5_000), ("PUT", 5_000), ("PATCH", 70_000), ("GET", 100), ("POST", 400_000)]
            {
                let call = log_call(php, method, "never", size);
                let (head, whole) = (call.head().len(), call.bytes());
                let cuts = [
                    1,
                    8,
                    15,
                    16,
                    20,
                    head - 9,
                    head - 8,
                    head - 1,
                    head,
                    head + 8,
                    head + 9,
                    head + 8 + size / 2,
                    head + 8 + size.min(60_000) - 1,
                    whole.len() - 9,
                ];
                for cut in cuts {
                    let mut connection = mux.connect();
                    connection.send(&whole[..cut]);
                    // An ABORT_REQUEST inside a record is content, or the last byte of a header.
                    if way != "close" && ![16, head - 8, head].contains(&cut) {
                        connection.close();
                    } else {
                        go(connection);
                    }
                }
            }
        }
        wait_until("all are gone", || mux.metrics().sum("fcgimux_downstream_connections", &[]) == 0.0);
        assert_serves(php, mux);
        assert_eq!(php.side_effects(), Vec::<String>::new());
    });
}

#[test]
fn a_request_that_waits_in_the_queue_is_never_executed_once_its_web_server_is_gone() {
    with(PhpFpm::pool(1), "", |php, mux| {
        for (way, go) in WAYS {
            let before = gone(mux);
            let slow = Call::get(&php.script("slow.php")).query("token=slow&ms=700").last();
            let mut first = mux.connect();
            first.send(&slow.bytes());
            thread::sleep(50 * MILLISECOND);
            let calls = [("POST", 0), ("POST", 1_000), ("PUT", 100_000), ("GET", 0), ("POST", 2_000_000)];
            let waiting: Vec<Connection> = calls
                .iter()
                .map(|(method, size)| {
                    let mut connection = mux.connect();
                    connection.send(&log_call(php, method, "never", *size).bytes());
                    connection
                })
                .collect();
            wait_until("they wait", || mux.metrics().sum("fcgimux_queue_depth", &[]) == 5.0);
            waiting.into_iter().for_each(go);
            wait_until("they left the queue", || mux.metrics().sum("fcgimux_queue_depth", &[]) == 0.0);
            assert_eq!(first.reply(SOON).whole().text(), "slow\n");
            assert_serves(php, mux);
            assert_eq!(php.side_effects(), Vec::<String>::new(), "{way}");
            assert_eq!(gone(mux) - before, 5.0, "{way}");
        }
    });
}

#[test]
fn a_kept_connection_serves_on_behind_a_request_that_was_taken_back_while_it_waited() {
    with(PhpFpm::pool(1), "", |php, mux| {
        let mut first = mux.connect();
        first.send(&Call::get(&php.script("slow.php")).query("token=slow&ms=400").last().bytes());
        thread::sleep(50 * MILLISECOND);
        let mut connection = mux.connect();
        let mut call = log_call(php, "POST", "never", 1_000);
        call.keep = true;
        connection.send(&call.bytes());
        wait_until("it waits", || mux.metrics().sum("fcgimux_queue_depth", &[]) == 1.0);
        connection.send(&fcgi::abort(1));
        let reply = connection.reply(SOON).whole();
        assert_eq!((reply.status, reply.stdout.len()), ((0, 0), 0));
        let echo = Call::get(&php.script("echo.php")).query("token=next");
        assert_eq!(connection.call(&echo, SOON).whole().text(), "next\n");
        assert_eq!(first.reply(SOON).whole().text(), "slow\n");
        assert_eq!(php.side_effects(), Vec::<String>::new());
    });
}

/// The worker is stopped, so that the request is on its way for as long as the test likes: in the kernel's buffers, or
/// partly still with fcgimux.
fn hang_up_while_it_is_sent(pool: fn() -> Pool, sizes: &'static [usize]) {
    with(pool(), "", move |php, mux| {
        for (index, size) in sizes.iter().enumerate() {
            for (way, go) in WAYS {
                for method in ["POST", "PUT"] {
                    let token = format!("{}{index}{method}", way.replace(' ', ""));
                    let worker = stop_worker(php, mux);
                    let before = gone(mux);
                    let mut connection = mux.connect();
                    connection.send(&log_call(php, method, &token, *size).bytes());
                    wait_until("it is being sent", || {
                        mux.metrics().sum("fcgimux_upstream_connections", &[("state", "leased")]) == 1.0
                    });
                    thread::sleep(20 * MILLISECOND);
                    go(connection);
                    wait_until("the hang-up was seen", || gone(mux) > before);
                    thread::sleep(50 * MILLISECOND);
                    php.signal_worker(worker, Signal::SIGCONT);
                    assert_serves(php, mux);
                    assert_whole_or_not_at_all(php, &token, method, *size);
                }
            }
        }
    });
}

#[test]
fn a_hang_up_while_a_small_request_is_sent_cuts_nothing() {
    hang_up_while_it_is_sent(|| PhpFpm::pool(1), &[0, 1, 1_000, 16_384, 60_000]);
}

#[test]
fn a_hang_up_while_a_large_request_is_sent_cuts_nothing() {
    hang_up_while_it_is_sent(|| PhpFpm::pool(1).ini("post_max_size", "100M"), &[300_000, 3_000_000, 8 << 20, 20 << 20]);
}

#[test]
fn a_hang_up_while_a_request_is_sent_over_a_unix_socket_cuts_nothing() {
    hang_up_while_it_is_sent(|| PhpFpm::pool(1).unix().ini("post_max_size", "100M"), &[1_000, 300_000, 8 << 20]);
}

/// Scripts begin before their body is there where PHP does not read it itself.
#[test]
fn a_hang_up_while_a_script_has_not_read_its_body_yet_cuts_nothing() {
    with(PhpFpm::pool(1), "", |php, mux| {
        let late =
            php.add_script("late.php", "usleep(400000); require __DIR__ . '/log.php'; echo str_repeat('x', 300000);");
        for (way, go) in WAYS {
            for (method, size) in [("PUT", 8 << 20), ("PATCH", 100_000), ("POST", 20 << 20), ("GET", 12 << 20)] {
                let token = format!("{}{method}", way.replace(' ', ""));
                let before = gone(mux);
                let mut connection = mux.connect();
                connection.send(&log_call(php, method, &token, size).param("SCRIPT_FILENAME", &late).bytes());
                thread::sleep(100 * MILLISECOND);
                go(connection);
                wait_until("the hang-up was seen", || gone(mux) > before);
                assert_serves(php, mux);
                assert_whole_or_not_at_all(php, &token, method, size);
            }
        }
    });
}

/// A script that answers while it reads: the answer has nowhere to go, and must not keep the body from arriving.
#[test]
fn a_hang_up_while_a_script_answers_and_reads_cuts_nothing() {
    with(PhpFpm::pool(1), "", |php, mux| {
        let mirror = php.add_script(
            "mirror.php",
            "require __DIR__ . '/side_effects.inc'; ignore_user_abort(true); $n = 0; $in = fopen('php://input', 'rb'); \
             while (($chunk = fread($in, 8192)) !== false && $chunk !== '') { $n += strlen($chunk); echo $chunk; flush(); } \
             side_effect('start ' . $_GET['token'] . ' ' . $_SERVER['REQUEST_METHOD'] . ' ' . $n);",
        );
        for (way, go) in WAYS {
            let size = 24 << 20;
            let token = way.replace(' ', "");
            let before = gone(mux);
            let mut connection = mux.connect();
            connection.send(&log_call(php, "PUT", &token, size).param("SCRIPT_FILENAME", &mirror).bytes());
            // Nobody reads the response: it backs up through fcgimux to the script, and with it the body.
            thread::sleep(300 * MILLISECOND);
            go(connection);
            wait_until("the hang-up was seen", || gone(mux) > before);
            assert_serves(php, mux);
            assert_whole_or_not_at_all(php, &token, "PUT", size);
        }
    });
}

#[test]
fn a_request_that_runs_is_executed_once_whatever_its_web_server_does() {
    with(PhpFpm::pool(1), "", |php, mux| {
        for (way, go) in WAYS {
            for (method, size) in [("POST", 0), ("POST", 5_000), ("PUT", 50_000), ("GET", 0), ("POST", 3_000_000)] {
                php.clear_side_effects();
                let before = gone(mux);
                let mut connection = mux.connect();
                let call = log_call(php, method, "once", size).query("token=once&us=300000");
                connection.send(&call.bytes());
                wait_until("it runs", || !php.side_effects().is_empty());
                go(connection);
                wait_until("the hang-up was seen", || gone(mux) > before);
                assert_serves(php, mux);
                assert_eq!(php.side_effects(), [format!("start once {method} {size}"), "end once".into()], "{way}");
            }
        }
        let port = php.port();
        assert_eq!(TimeWait::of(port).total(), 0);
    });
}

/// A timeout of the application is no reason to cut a body either.
#[test]
fn a_timeout_while_a_request_is_sent_cuts_nothing() {
    let timeouts = "timeouts: {first_byte: 300ms, prove: 1s}";
    with(PhpFpm::pool(1).ini("post_max_size", "100M"), timeouts, |php, mux| {
        for (method, size) in [("POST", 1_000), ("PUT", 300_000), ("POST", 8 << 20), ("PUT", 8 << 20)] {
            let token = format!("{method}{size}");
            let worker = stop_worker(php, mux);
            let reply = mux.call(&log_call(php, method, &token, size), SOON).whole();
            assert_eq!(reply.http_status(), 504);
            thread::sleep(50 * MILLISECOND);
            php.signal_worker(worker, Signal::SIGCONT);
            assert_serves(php, mux);
            assert_whole_or_not_at_all(php, &token, method, size);
        }
    });
}

/// Neither side keeps a socket in TIME_WAIT, whatever the way a web server goes.
#[test]
fn hang_ups_leave_no_time_wait() {
    with(PhpFpm::pool(1).ini("post_max_size", "100M"), "", |php, mux| {
        for (way, go) in WAYS {
            for (method, size) in [("POST", 1_000), ("PUT", 100_000), ("POST", 8 << 20)] {
                let before = gone(mux);
                let mut connection = mux.connect();
                let script = php.script("slow.php");
                let call = log_call(php, method, way, size).param("SCRIPT_FILENAME", &script).query("ms=100");
                connection.send(&call.bytes());
                wait_until("it runs", || {
                    mux.metrics().sum("fcgimux_upstream_connections", &[("state", "leased")]) == 1.0
                });
                thread::sleep(50 * MILLISECOND);
                go(connection);
                let deadline = Instant::now() + SOON;
                while gone(mux) == before && Instant::now() < deadline {
                    thread::sleep(MILLISECOND);
                }
                assert_serves(php, mux);
            }
        }
        assert_eq!(TimeWait::of(php.port()).total(), 0, "{:?}", TimeWait::of(php.port()));
    });
}

/// A connection with a full window is not broken off while its worker lives (TCP_USER_TIMEOUT would do that).
#[test]
#[ignore = "takes 40 seconds"]
fn stress_a_worker_that_takes_nothing_for_long_gets_the_body_whole() {
    with(PhpFpm::pool(1).ini("post_max_size", "100M"), "", |php, mux| {
        let worker = stop_worker(php, mux);
        let mut connection = mux.connect();
        connection.send(&log_call(php, "POST", "late", 8 << 20).bytes());
        thread::sleep(40_000 * MILLISECOND);
        php.signal_worker(worker, Signal::SIGCONT);
        assert_eq!(connection.reply(SOON).whole().text(), "late\n");
        assert_eq!(starts(php, "late"), [format!("POST {}", 8 << 20)]);
    });
}
