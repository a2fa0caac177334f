//! Work that goes on behind a response (`fastcgi_finish_request`): nobody waits for another's. And requests whose clients
//! have left while they waited.
#![allow(clippy::disallowed_methods, reason = "a real process is watched in real time")]

use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::support::{Fcgimux, PhpFpm, bounded, eventually, fcgi::Call, wait_until};

const LIMIT: Duration = Duration::from_secs(100);
const SOON: Duration = Duration::from_secs(10);
const MILLISECOND: Duration = Duration::from_millis(1);
/// Nobody may wait for longer, on a machine that has time for its programs.
const AT_MOST: Duration = Duration::from_millis(50);
/// Requests after which a pool trusts its workers to be free as soon as they have answered.
const QUICK: usize = 1_000;

fn echo(php: &PhpFpm) -> Call {
    Call::get(&php.script("echo.php")).query("token=1").last()
}

/// How long it took.
#[track_caller]
fn timed(mux: &Fcgimux, call: &Call) -> Duration {
    let began = Instant::now();
    let reply = mux.call(call, SOON).whole();
    assert_eq!(reply.http_status(), 200, "{reply:?}");
    began.elapsed()
}

fn sum(mux: &Fcgimux, name: &str, labels: &[(&str, &str)]) -> f64 {
    mux.metrics().sum(name, labels)
}

/// The longest of those behind the one that works on, and of those before it.
fn longest(php: &PhpFpm, mux: &Fcgimux, clients: usize) -> [Duration; 2] {
    let (begun, finished) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let longest = Mutex::new([Duration::ZERO; 2]);
    let finish = Call::get(&php.script("finish.php")).query("token=1&us=4000000").last();
    let visit = || {
        let before = finished.load(Ordering::SeqCst) == 0;
        let took = timed(mux, &echo(php));
        let mut longest = longest.lock().expect("no panic under it");
        let longest = &mut longest[usize::from(before)];
        *longest = took.max(*longest);
    };
    thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                while begun.fetch_add(1, Ordering::SeqCst) < QUICK {
                    visit();
                }
                if finished.fetch_add(1, Ordering::SeqCst) == 0 {
                    timed(mux, &finish);
                }
                (0..20).for_each(|_| visit());
            });
        }
    });
    longest.into_inner().expect("no panic under it")
}

#[test]
fn nobody_waits_for_what_another_has_left_running() {
    bounded(LIMIT, || {
        for clients in [1, 2, 4] {
            for fence in ["adaptive", "always"] {
                let php = PhpFpm::pool(12).start();
                let mux = Fcgimux::to(php.address()).pool(&format!("connections: {{fence: {fence}}}")).start();
                let [behind, before] = longest(&php, &mux, clients);
                println!("{clients} clients, {fence}: {behind:?} behind it, {before:?} before");
                // On a busy machine the quick ones take long as well.
                assert!(behind <= AT_MOST.max(3 * before), "{clients} clients, {fence}: {behind:?}, before {before:?}");
            }
        }
    });
}

/// Two connections, one of them busy: what waits is sent behind the fence of the other, whose worker works on.
fn ride(php: &PhpFpm, mux: &Fcgimux, waits: &Call) -> Duration {
    let text = "usleep(300000); echo 1; fastcgi_finish_request(); usleep(1500000);";
    let works_on = Call::get(&php.add_script("works-on.php", text)).last();
    let busy = Call::get(&php.script("slow.php")).query("ms=1000").last();
    (0..150).for_each(|_| _ = timed(mux, &echo(php)));
    thread::scope(|scope| {
        let first = scope.spawn(|| timed(mux, &busy));
        wait_until("one runs", || sum(mux, "fcgimux_upstream_requests_in_flight", &[]) == 1.0);
        let second = scope.spawn(|| {
            timed(mux, &works_on);
            Instant::now()
        });
        wait_until("two run", || sum(mux, "fcgimux_upstream_requests_in_flight", &[]) == 2.0);
        let third = scope.spawn(|| {
            timed(mux, waits);
            Instant::now()
        });
        wait_until("one waits", || sum(mux, "fcgimux_queue_depth", &[]) == 1.0);
        let (answered, served) = (second.join().expect("the second"), third.join().expect("the third"));
        first.join().expect("the first");
        served.saturating_duration_since(answered)
    })
}

#[test]
fn what_was_sent_to_a_worker_that_works_on_goes_elsewhere_if_it_may_be_repeated() {
    bounded(LIMIT, || {
        // A fence that is late for want of a processor ends the trust for long.
        let tries = (0..5).any(|_| {
            let php = PhpFpm::pool(3).start();
            let mux = Fcgimux::to(php.address()).pool("connections: {per_endpoint: 2}").start();
            let took = ride(&php, &mux, &Call::get(&php.script("log.php")).query("token=get").last());
            let rode = sum(&mux, "fcgimux_retries_total", &[("reason", "busy")]) == 1.0;
            println!("served {took:?} behind the response of the one that works on, rode {rode}");
            if rode {
                assert!(took < 300 * MILLISECOND, "{took:?}");
                let closed = "fcgimux_upstream_connections_closed_total";
                assert_eq!(sum(&mux, closed, &[("reason", "busy")]), 1.0);
                let other = sum(&mux, "fcgimux_retries_total", &[]);
                assert_eq!((other, sum(&mux, "fcgimux_requests_total", &[("outcome", "ok")])), (1.0, 153.0));
                assert!(!mux.log().contains("\"WARN\""), "{}", mux.log());
            }
            rode
        });
        assert!(tries, "nothing was ever sent behind a fence");
    });
}

#[test]
fn what_may_not_be_repeated_waits_for_the_proof() {
    bounded(LIMIT, || {
        let php = PhpFpm::pool(3).start();
        let mux = Fcgimux::to(php.address()).pool("connections: {per_endpoint: 2}").start();
        ride(&php, &mux, &Call::post(&php.script("log.php"), "x").query("token=post").last());
        assert_eq!(sum(&mux, "fcgimux_retries_total", &[]), 0.0);
        thread::sleep(2_000 * MILLISECOND); // whatever was sent to the worker that worked on has run by then
        assert_eq!(php.side_effects(), ["start post POST 1", "end post"]);
    });
}

/// The one worker is busy, and the client of a request that waits for it leaves.
fn leave(php: &PhpFpm, mux: &Fcgimux) {
    thread::scope(|scope| {
        let busy = Call::get(&php.script("slow.php")).query("ms=700").last();
        let busy = scope.spawn(move || timed(mux, &busy));
        wait_until("one runs", || sum(mux, "fcgimux_upstream_requests_in_flight", &[]) == 1.0);
        for (token, size) in [("empty", 0), ("body", 3_000), ("large", 100_000)] {
            let call = Call::post(&php.script("log.php"), vec![b'x'; size]).query(&format!("token={token}")).last();
            let mut client = mux.connect();
            client.send(&call.bytes());
            wait_until("it waits", || sum(mux, "fcgimux_queue_depth", &[]) >= 1.0);
            thread::sleep(50 * MILLISECOND); // large bodies are taken in one after the other
            drop(client);
        }
        wait_until("they have left", || sum(mux, "fcgimux_requests_total", &[("outcome", "gone")]) == 3.0);
        busy.join().expect("the one that runs");
    });
}

#[test]
fn a_request_whose_client_leaves_while_it_waits_is_never_sent() {
    bounded(LIMIT, || {
        let php = PhpFpm::pool(1).start();
        let mux = Fcgimux::to(php.address()).pool("connections: {per_endpoint: 1}").start();
        leave(&php, &mux);
        (0..3).for_each(|_| _ = timed(&mux, &echo(&php)));
        assert!(php.side_effects().is_empty(), "{:?}", php.side_effects());
        assert!(!mux.log().contains("\"WARN\""), "{}", mux.log());
    });
}

#[test]
fn a_request_whose_client_leaves_while_it_waits_is_run_in_its_turn_where_that_is_wanted() {
    bounded(LIMIT, || {
        let php = PhpFpm::pool(1).start();
        let mux =
            Fcgimux::to(php.address()).pool("connections: {per_endpoint: 1}").pool("queue: {abandoned: run}").start();
        leave(&php, &mux);
        assert!(eventually(SOON, || php.side_effects().len() == 6), "{:?}", php.side_effects());
        let starts = ["empty", "body", "large"].into_iter().zip([0, 3_000, 100_000]);
        let wanted = starts.flat_map(|(token, size)| [format!("start {token} POST {size}"), format!("end {token}")]);
        assert_eq!(php.side_effects(), wanted.collect::<Vec<_>>(), "in their turn, once, and whole");
        timed(&mux, &echo(&php));
        wait_until("nothing is under way", || {
            sum(&mux, "fcgimux_upstream_requests_in_flight", &[]) + sum(&mux, "fcgimux_queue_depth", &[]) == 0.0
        });
        assert_eq!(sum(&mux, "fcgimux_requests_total", &[]), 5.0, "none is counted twice");
        assert!(!mux.log().contains("\"WARN\""), "{}", mux.log());
    });
}

#[test]
fn one_that_is_run_without_its_client_waits_no_longer_than_others() {
    bounded(LIMIT, || {
        let php = PhpFpm::pool(1).start();
        let mux = Fcgimux::to(php.address())
            .pool("connections: {per_endpoint: 1}")
            .pool("queue: {abandoned: run, timeout: 300ms}")
            .start();
        leave(&php, &mux);
        wait_until("nobody waits", || sum(&mux, "fcgimux_queue_depth", &[]) == 0.0);
        assert!(eventually(SOON, || mux.log().matches("not executed: queue_timeout").count() == 3), "{}", mux.log());
        timed(&mux, &echo(&php));
        assert!(php.side_effects().is_empty(), "{:?}", php.side_effects());
    });
}
