//! Facts 6 to 10: how requests, workers and connections end, and what it costs to keep them.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::{SECOND, SOON, milliseconds, wait_free, with};
use crate::support::{
    PhpFpm, Pool,
    fcgi::{self, Call, Connection, End},
    sockets::TimeWait,
    wait_until,
};

// 6. fastcgi_finish_request().

#[test]
fn fact_06_finish_request_ends_the_request_and_the_worker_stays_busy() {
    with(PhpFpm::pool(1), |php| {
        let mut connection = php.proven();
        let finish = Call::get(&php.script("finish.php")).query("us=1000000");
        let reply = connection.call(&finish, SOON).whole();
        assert!(reply.took < milliseconds(600), "END_REQUEST came after {:?}", reply.took);
        let next = connection.call(&Call::get(&php.script("echo.php")).id(2), 5 * SECOND).whole();
        assert!(next.took > milliseconds(700), "the next request was served after {:?} (11.1)", next.took);
    });
}

#[test]
fn fact_06_output_after_finish_request_follows_end_request_with_the_old_id() {
    with(PhpFpm::pool(1), |php| {
        for query in ["echo=20000", "flush=2"] {
            let mut connection = php.proven();
            connection.call(&Call::get(&php.script("finish.php")).query(query).id(5), SOON).whole();
            let stray = connection.fence(SOON).expect("an answer");
            let all_old = stray.iter().all(|record| (record.kind, record.id) == (fcgi::STDOUT, 5));
            assert!(!stray.is_empty() && all_old, "{query}: {stray:?} (11.2)");
            let next = connection.call(&Call::get(&php.script("echo.php")).id(6), SOON).whole();
            assert_eq!(next.ids, [6]);
            connection.reset();
        }
    });
}

// 7. request_terminate_timeout.

fn terminating() -> Pool {
    PhpFpm::pool(1).set("request_terminate_timeout", "3s")
}

#[test]
fn fact_07_request_terminate_timeout_kills_an_idle_worker() {
    with(terminating(), |php| {
        let mut connection = php.proven();
        let start = Instant::now();
        assert_eq!(connection.ending(8 * SECOND), End::Closed);
        let took = start.elapsed();
        assert!(took > milliseconds(2_000) && took < milliseconds(6_000), "after {took:?} (4.1)");
        assert!(php.error_log().contains("execution timed out"), "{}", php.error_log());
    });
}

#[test]
fn fact_07_idle_time_counts_against_the_next_request() {
    with(terminating(), |php| {
        let slow = Call::get(&php.script("slow.php")).query("ms=2600");
        let mut connection = php.proven();
        assert_eq!(connection.ending(milliseconds(1_900)), End::TimedOut);
        let reply = connection.call(&slow, 8 * SECOND);
        assert!(matches!(reply.broken, Some(End::Closed | End::Reset)), "it lives on: {reply:?} (4.2)");
        assert!(reply.took < milliseconds(2_600), "killed after {:?}", reply.took);
    });
}

#[test]
fn fact_07_get_values_resets_the_clock() {
    with(terminating(), |php| {
        let slow = Call::get(&php.script("slow.php")).query("ms=2000");
        let mut connection = php.proven();
        for _ in 0..4 {
            assert_eq!(connection.ending(SECOND), End::TimedOut);
            assert_eq!(connection.fence(SOON), Ok(vec![]), "killed although it was asked each second (4.4)");
        }
        assert_eq!(connection.ending(milliseconds(1_700)), End::TimedOut);
        connection.send(&[fcgi::get_values(), slow.bytes()].concat());
        connection.reply(8 * SECOND).whole();
    });
}

// 8. Stalls.

/// The median time of a response of several writes.
fn median_of_responses(php: &PhpFpm, quickack: bool) -> Duration {
    let call = Call::get(&php.script("big.php")).query("bytes=16000");
    let mut connection = php.proven();
    if !quickack {
        connection = connection.without_quickack();
    }
    let mut times: Vec<Duration> = (0..41).map(|_| connection.call(&call, SOON).whole().took).collect();
    times.sort();
    times[times.len() / 2]
}

#[test]
fn fact_08_kept_connections_stall_for_40_ms_unless_quickack_is_set_after_each_send() {
    with(PhpFpm::pool(2), |php| {
        let (with, without) = (median_of_responses(php, true), median_of_responses(php, false));
        assert!(without > milliseconds(30), "no stall any more: {without:?} (17.2)");
        assert!(with < milliseconds(25), "TCP_QUICKACK does not help: {with:?} (17.3)");
    });
}

// 9. The unread end of STDIN.

/// What arrives of a large response when its worker leaves at the end, and the reader is late.
fn late_reader(php: &PhpFpm, call: &Call) -> fcgi::Reply {
    let mut connection = php.proven();
    connection.send(&call.bytes());
    wait_until("the script runs", || !php.side_effects().is_empty());
    let worker = php.workers()[0];
    php.signal(Signal::SIGQUIT);
    wait_until("the worker left", || !php.workers().contains(&worker));
    connection.reply(5 * SECOND)
}

fn stopping() -> Pool {
    PhpFpm::pool(1).global("process_control_timeout", "10s")
}

/// Writes 400 kB some time after the log says that it runs; less than what fits in the sockets.
fn large_and_slow(php: &PhpFpm) -> Call {
    let text = "require __DIR__ . '/side_effects.inc'; side_effect('runs');\
                $end = microtime(true) + 0.5; while (microtime(true) < $end) { usleep(1000); }\
                echo str_repeat('x', 400000);";
    Call::get(&php.add_script("large_and_slow.php", text))
}

#[test]
fn fact_09_an_unread_stdin_end_truncates_the_response_of_a_stopping_worker() {
    with(stopping(), |php| {
        let reply = late_reader(php, &large_and_slow(php));
        assert!(!reply.ended && reply.broken == Some(End::Reset), "whole: {} bytes (6.6)", reply.stdout.len());
    });
}

#[test]
fn fact_09_without_the_stdin_end_the_response_of_a_stopping_worker_is_whole() {
    with(stopping(), |php| {
        let reply = late_reader(php, &large_and_slow(php).unended()).whole();
        assert_eq!(reply.body().len(), 400_000);
    });
}

#[test]
fn fact_09_php_needs_no_stdin_end() {
    with(PhpFpm::pool(1), |php| {
        let mut connection = php.proven();
        for call in [Call::get(&php.script("log.php")), Call::post(&php.script("log.php"), "body")] {
            connection.call(&call.unended(), SOON).whole();
            connection.send(&[fcgi::stdin_end(1), fcgi::get_values()].concat());
            assert_eq!(connection.fence_answer(SOON), Ok(vec![]));
        }
        let lines = ["start none GET 0", "end none", "start none POST 4", "end none"];
        assert_eq!(php.side_effects(), lines);
    });
}

// 10. Closing.

#[test]
fn fact_10_after_the_last_request_the_worker_waits_for_our_close() {
    for (pool, call) in [
        (PhpFpm::pool(1), Call::get("echo.php").last()),
        (PhpFpm::pool(1).set("pm.max_requests", "1"), Call::get("echo.php")),
    ] {
        with(pool, move |php| {
            let mut connection = php.proven();
            connection.call(&call.param("SCRIPT_FILENAME", &php.script("echo.php")), SOON).whole();
            assert_eq!(connection.ending(SOON), End::Closed);
            let mut waiting = php.connect();
            assert_eq!(waiting.fence(SECOND), Err(End::TimedOut), "the worker did not wait (2.5, 3.1)");
            connection.reset();
            assert_eq!(waiting.fence_answer(SOON), Ok(vec![]));
        });
    }
}

#[test]
fn fact_10_a_close_by_reset_leaves_no_time_wait_on_either_side() {
    with(PhpFpm::pool(2), |php| {
        let rounds = |close: fn(Connection)| {
            let before = TimeWait::of(php.port()).total();
            for _ in 0..100 {
                let mut connection = php.proven();
                let call = Call::post(&php.script("echo.php"), "x".repeat(5_000)).last();
                connection.call(&call, SOON).whole();
                close(connection);
            }
            TimeWait::of(php.port()).total() - before
        };
        assert_eq!(rounds(Connection::reset), 0, "TIME_WAIT although closed by RST");
        let ordinary = rounds(|mut connection| {
            connection.ending(SOON);
            connection.close();
        });
        assert!(ordinary >= 95, "an ordinary close left {ordinary} of 100 in TIME_WAIT");
    });
}

#[test]
fn fact_10_an_idle_connection_can_be_closed_by_reset_too() {
    with(PhpFpm::pool(1), |php| {
        let before = TimeWait::of(php.port()).total();
        for _ in 0..50 {
            let mut connection = php.proven();
            connection.call(&Call::get(&php.script("echo.php")), SOON).whole();
            connection.fence(SOON).expect("an answer");
            connection.reset();
        }
        wait_free(php);
        assert_eq!(TimeWait::of(php.port()).total(), before);
    });
}

#[test]
fn fact_10_a_reset_after_end_request_cuts_no_response() {
    with(PhpFpm::pool(2), |php| {
        let call = Call::get(&php.script("big.php")).query("bytes=400000").last();
        for _ in 0..50 {
            let mut connection = php.proven();
            assert_eq!(connection.call(&call, 5 * SECOND).whole().body().len(), 400_000);
            connection.reset();
        }
    });
}
