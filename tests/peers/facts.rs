//! What php-fpm does with kept FastCGI connections, fact by fact, without fcgimux in between: the design leans on these, and
//! a PHP that behaves differently shall be noticed here. The numbers are those of section 0 of `php-fpm-facts.md`, where
//! the measured behaviour is described; those in parentheses are its other sections.
#![allow(clippy::disallowed_methods, reason = "a real php-fpm is measured in real time")]

mod bodies;
mod ends;

use std::{
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use crate::support::{
    PhpFpm, Pool, bounded,
    fcgi::{self, Call, Connection, End},
    proc, wait_until,
};
use nix::sys::signal::Signal;

const LIMIT: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);
/// Longer than anything takes that is answered at once, on a busy machine.
const SOON: Duration = Duration::from_secs(3);
/// What is not answered within this is not being answered.
const A_WHILE: Duration = Duration::from_millis(500);

/// Runs a test against a php-fpm with this pool.
fn with(pool: Pool, test: impl FnOnce(&mut PhpFpm) + Send + 'static) {
    bounded(LIMIT, move || test(&mut pool.start()));
}

fn milliseconds(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Waits until one worker of a pool is free, and gives it back.
fn wait_free(php: &PhpFpm) {
    php.proven().reset();
}

/// Waits more exactly than a sleep would.
fn spin(time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {}
}

// 1. One connection is one worker.

#[test]
fn fact_01_one_connection_is_one_worker_from_accept_to_close() {
    with(PhpFpm::pool(2), |php| {
        let (first, _second) = (php.proven(), php.proven());
        let mut third = php.connect();
        assert_eq!(third.fence(A_WHILE), Err(End::TimedOut), "an idle connection lent its worker");
        first.reset();
        assert_eq!(third.fence_answer(SOON), Ok(vec![]), "the worker of a closed connection did not come back");
    });
}

#[test]
fn fact_01_a_connection_without_a_byte_is_closed_after_five_seconds() {
    with(PhpFpm::pool(1), |php| {
        let start = Instant::now();
        let mut connection = php.connect();
        assert_eq!(connection.ending(8 * SECOND), End::Closed);
        let took = start.elapsed();
        assert!(took > milliseconds(4_900) && took < milliseconds(7_500), "closed after {took:?} (2.3)");
    });
}

#[test]
fn fact_01_an_idle_connection_shows_as_reading_headers() {
    with(PhpFpm::pool(2).with_status(), |php| {
        let _idle = php.proven();
        wait_until("one worker reads headers (2.2)", || {
            let mut states = php.worker_states();
            states.sort();
            states == ["Idle", "Reading headers"]
        });
    });
}

// 2. GET_VALUES.

#[test]
fn fact_02_get_values_is_answered_again_and_again_and_a_request_may_follow() {
    with(PhpFpm::pool(1), |php| {
        let script = php.script("echo.php");
        let mut connection = php.connect();
        for _ in 0..3 {
            assert_eq!(connection.fence(SOON), Ok(vec![]));
        }
        let call = Call::post(&script, "body").query("token=a");
        assert_eq!(connection.call(&call, SOON).whole().text(), "a\n");
        assert_eq!(connection.fence(SOON), Ok(vec![]));
        let both = [fcgi::get_values(), call.bytes(), fcgi::get_values()].concat();
        connection.send(&both);
        let reply = connection.reply(SOON).whole();
        assert_eq!((reply.values, reply.text().as_str()), (1, "a\n"));
        assert_eq!(connection.fence_answer(SOON), Ok(vec![]));
        assert_eq!(connection.ending(A_WHILE), End::TimedOut, "the connection stays open");
    });
}

#[test]
fn fact_02_get_values_says_that_one_connection_carries_one_request() {
    with(PhpFpm::pool(1), |php| {
        let mut connection = php.connect();
        let names = fcgi::pairs([("FCGI_MAX_CONNS", ""), ("FCGI_MAX_REQS", ""), ("FCGI_MPXS_CONNS", "")]);
        connection.send(&fcgi::record(fcgi::GET_VALUES, 0, &names));
        let result = connection.read_record(SOON).expect("an answer");
        assert_eq!((result.kind, result.id), (fcgi::GET_VALUES_RESULT, 0));
        assert_eq!(result.content, fcgi::pair(b"FCGI_MPXS_CONNS", b"0"), "(1.1)");
    });
}

#[test]
fn fact_02_empty_get_values_are_answered_empty_and_fence_as_well() {
    with(PhpFpm::pool(1), |php| {
        let call = Call::get(&php.script("finish.php")).query("us=600000&flush=2");
        let mut connection = php.connect();
        connection.send(&fcgi::empty_get_values());
        let result = connection.read_record(SOON).expect("an answer");
        assert_eq!((result.kind, result.id, result.content.len()), (fcgi::GET_VALUES_RESULT, 0, 0));
        connection.call(&call, SOON).whole();
        let start = Instant::now();
        connection.send(&fcgi::empty_get_values());
        let stray = connection.fence_answer(5 * SECOND).expect("an answer");
        assert_eq!(stray.len(), 2, "{stray:?}");
        assert!(start.elapsed() > milliseconds(450), "answered after {:?}", start.elapsed());
        connection.call(&call, SOON).whole();
    });
}

#[test]
fn fact_02_an_empty_stdin_in_front_of_a_request_is_passed_over() {
    with(PhpFpm::pool(1), |php| {
        let mut connection = php.connect();
        let call = Call::post(&php.script("echo.php"), "body").query("token=a");
        // While the worker waits for a request, and in one write with it.
        for (first, second) in
            [(fcgi::stdin_end(0), call.bytes()), (vec![], [fcgi::stdin_end(0), call.bytes()].concat())]
        {
            assert_eq!(connection.fence(SOON), Ok(vec![]));
            connection.send(&[fcgi::get_values(), first].concat());
            assert_eq!(connection.fence_answer(SOON), Ok(vec![]));
            connection.send(&second);
            assert_eq!(connection.reply(SOON).whole().text(), "a\n", "(1.8)");
        }
    });
}

#[test]
fn fact_02_behind_end_request_get_values_waits_until_the_worker_is_free() {
    with(PhpFpm::pool(1), |php| {
        let mut connection = php.proven();
        connection.call(&Call::get(&php.script("echo.php")), SOON).whole();
        let start = Instant::now();
        connection.fence(SOON).expect("an answer");
        assert!(start.elapsed() < milliseconds(300), "a free worker took {:?}", start.elapsed());

        let finish = Call::get(&php.script("finish.php")).query("us=1000000");
        let reply = connection.call(&finish, SOON).whole();
        assert!(reply.took < milliseconds(600), "END_REQUEST came after {:?}", reply.took);
        let start = Instant::now();
        connection.fence(5 * SECOND).expect("an answer");
        assert!(start.elapsed() > milliseconds(700), "a busy worker answered after {:?}", start.elapsed());
    });
}

#[test]
fn fact_02_a_request_behind_unanswered_get_values_was_not_executed() {
    with(PhpFpm::pool(1), |php| {
        let script = php.script("log.php");
        for round in 0..10 {
            let mut connection = php.proven();
            let worker = php.workers()[0];
            // Stopped first, so that the request lies there when the worker dies; killed before it is sent otherwise.
            let signal = if round % 2 == 0 { Signal::SIGSTOP } else { Signal::SIGKILL };
            php.signal_worker(worker, signal);
            let call = Call::post(&script, "body").query(&format!("token=r{round}"));
            let _ = connection.try_send(&[fcgi::get_values(), call.bytes()].concat());
            php.signal_worker(worker, Signal::SIGKILL);
            let reply = connection.reply(SOON);
            assert!(reply.values == 0 && reply.stdout.is_empty() && reply.broken.is_some(), "{reply:?}");
            assert_ne!(reply.broken, Some(End::TimedOut));
            connection.reset();
            wait_free(php);
        }
        assert_eq!(php.side_effects(), Vec::<String>::new());
    });
}

/// The worker dies at any moment: what is executed had its GET_VALUES answered first (12.5).
#[test]
fn fact_02_whatever_is_executed_had_the_get_values_before_it_answered() {
    with(PhpFpm::pool(1), |php| {
        let script = php.script("log.php");
        let mut unanswered = 0;
        for round in 0..60 {
            let mut connection = php.proven();
            let worker = php.workers()[0];
            let call = Call::post(&script, "body").query(&format!("token=r{round}")).unended();
            let bytes = [fcgi::get_values(), call.bytes()].concat();
            let (together, kill_after, send_after) = (Barrier::new(2), 200, round * 5);
            thread::scope(|scope| {
                scope.spawn(|| {
                    together.wait();
                    spin(Duration::from_micros(kill_after));
                    php.signal_worker(worker, Signal::SIGKILL);
                });
                together.wait();
                spin(Duration::from_micros(send_after));
                let _ = connection.try_send(&bytes);
            });
            let reply = connection.reply(SOON);
            connection.reset();
            wait_free(php);
            let executed = php.side_effects().iter().any(|line| line.starts_with(&format!("start r{round} ")));
            assert!(reply.values == 1 || !executed, "round {round}: executed without an answer: {reply:?}");
            unanswered += usize::from(reply.values == 0);
        }
        println!("{unanswered} of 60 without an answer");
    });
}

/// 6.2: asked, a stopping worker leaves at once; otherwise it stays until process_control_timeout.
#[test]
fn fact_02_a_stopping_worker_answers_get_values_and_then_closes() {
    for signal in [Signal::SIGQUIT, Signal::SIGUSR2] {
        with(PhpFpm::pool(1).global("process_control_timeout", "10s"), move |php| {
            let mut connection = php.proven();
            let worker = php.workers()[0];
            // A signal that comes before the worker is back in its read would end it at once.
            wait_until("the worker reads", || proc::is_asleep(worker));
            php.signal(signal);
            assert_eq!(connection.ending(SECOND), End::TimedOut, "{signal}: an idle connection is not closed (6.2)");
            assert_eq!(connection.fence(SOON), Ok(vec![]), "{signal}");
            assert_eq!(connection.ending(SOON), End::Closed, "{signal}");
            connection.reset();
            match signal {
                Signal::SIGQUIT => assert!(php.wait_exit(SOON).is_some()),
                _ => php.proven().reset(),
            }
        });
    }
}

// 3. The backlog.

#[test]
fn fact_03_a_request_abandoned_in_the_backlog_is_executed_later() {
    with(PhpFpm::pool(1), |php| {
        let pinning = php.proven();
        let script = php.script("log.php");
        for (token, close) in [("closed", Connection::close as fn(Connection)), ("reset", Connection::reset)] {
            let mut connection = php.connect();
            connection.send(&Call::post(&script, "body").query(&format!("token={token}")).bytes());
            close(connection);
        }
        // Only asks; nothing comes of it.
        let mut connection = php.connect();
        connection.send(&fcgi::get_values());
        connection.reset();
        assert_eq!(php.side_effects(), Vec::<String>::new());
        pinning.reset();
        wait_free(php);
        let expected = ["start closed POST 4", "end closed", "start reset POST 4", "end reset"];
        assert_eq!(php.side_effects(), expected);
    });
}
