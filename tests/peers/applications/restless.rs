//! Applications that close or write between two requests.

use std::thread;

use super::{
    LIMIT, MILLISECOND, answer_values, assert_echoed, closed, echo, get, outcomes, post, retries, serve, with,
};
use crate::support::{
    Fcgimux, bounded,
    fcgi::{self, Application, Connection, Incoming, Stage},
    wait_until,
};

fn idle(mux: &Fcgimux) -> f64 {
    mux.metrics().sum("fcgimux_upstream_connections", &[("state", "idle")])
}

#[test]
fn an_application_that_closes_idle_connections_costs_nobody_an_error() {
    let part = |connection: Connection, _: &Stage| {
        let mut served = 0;
        serve(connection, |connection, request| {
            served += 1;
            // One request, its fence, and out.
            let go_on = echo(connection, request) && served < 2;
            if !go_on {
                let _ = connection.fence_answer(MILLISECOND);
            }
            go_on
        });
    };
    with("", part, |mux, _| {
        for number in 0..50 {
            assert_echoed(mux, &get(&format!("number={number}")));
            assert_echoed(mux, &post(&format!("body {number}")));
            if number % 10 == 0 {
                thread::sleep(20 * MILLISECOND);
            }
        }
        assert_eq!(outcomes(mux, "ok"), 100.0);
        assert!(closed(mux, "application") > 10.0);
    });
}

/// Closed within milliseconds, not at the next request: a worker of php-fpm is replaced only then.
#[test]
fn an_idle_connection_that_was_closed_or_written_to_is_closed_at_once() {
    for bytes in [vec![], vec![0], fcgi::record(fcgi::STDOUT, 9, b"stray"), fcgi::end_request(1, 0, 0)] {
        let rest = bytes.clone();
        let part = move |connection: Connection, _: &Stage| {
            serve(connection, |connection, request| {
                if !echo(connection, request) {
                    return false;
                }
                // Its fence, and then a while of rest.
                while let Ok(record) = connection.read_record(200 * MILLISECOND) {
                    if record.kind == fcgi::GET_VALUES && answer_values(connection).is_err() {
                        return false;
                    }
                }
                if rest.is_empty() {
                    connection.shutdown_write();
                } else if connection.try_send(&rest).is_err() {
                    return false;
                }
                // Whatever it is, it must be the end.
                let ended = connection.ending(1_000 * MILLISECOND);
                assert_ne!(ended, fcgi::End::TimedOut, "still open");
                false
            });
        };
        with("", part, move |mux, _| {
            for number in 0..3 {
                let before = closed(mux, "application");
                assert_echoed(mux, &post(&format!("body {number}")));
                wait_until("it rests", || idle(mux) == 1.0);
                wait_until("it is closed", || closed(mux, "application") == before + 1.0);
                assert_eq!(idle(mux), 0.0, "{bytes:?}");
            }
            assert_eq!(outcomes(mux, "ok"), 3.0);
        });
    }
}

/// A connection that ends before it answers the GET_VALUES in front of a request did not execute it, whatever it was.
#[test]
fn a_request_behind_a_get_values_that_is_not_answered_is_sent_again_and_executed_once() {
    for (name, end) in [("closed", Connection::close as fn(Connection)), ("reset", Connection::reset)] {
        bounded(LIMIT, move || {
            let part = move |connection: Connection, stage: &Stage| turn_away_every_second(connection, stage, end);
            let application = Application::tcp(part);
            let mux = Fcgimux::to(application.address()).pool("connections: {per_endpoint: 1}").start();
            for number in 0..20 {
                assert_echoed(&mux, &post(&format!("body {number}")));
                assert_echoed(&mux, &get(&format!("number={number}")));
                wait_until("it rests", || idle(&mux) == 1.0);
                // Longer than connections.reprove_after, so that a GET goes behind a GET_VALUES as well.
                thread::sleep(if number % 5 == 0 { 120 * MILLISECOND } else { 15 * MILLISECOND });
            }
            let mut executed = application.notes();
            executed.sort();
            let mut wanted: Vec<_> =
                (0..20).flat_map(|number| [format!("body {number}"), format!("number={number}")]).collect();
            wanted.sort();
            assert_eq!(executed, wanted, "{name}");
            assert!(retries(&mux, "unproven") > 5.0, "{}", retries(&mux, "unproven"));
            assert_eq!(retries(&mux, "idempotent"), 0.0);
        });
    }
}

/// Serves one request and ends the connection when the next one comes behind a GET_VALUES.
fn turn_away_every_second(mut connection: Connection, stage: &Stage, end: fn(Connection)) {
    let mut incoming = Incoming::default();
    let mut served = false;
    while let Ok(record) = connection.read_record(30_000 * MILLISECOND) {
        match record.kind {
            fcgi::GET_VALUES if served => {
                // Is a request behind it, or is it a fence of its own?
                thread::sleep(5 * MILLISECOND);
                match connection.read_record(MILLISECOND) {
                    Ok(next) if next.kind == fcgi::BEGIN_REQUEST => return end(connection),
                    Ok(_) => return,
                    Err(_) if answer_values(&mut connection).is_err() => return,
                    Err(_) => {}
                }
            }
            fcgi::GET_VALUES if answer_values(&mut connection).is_err() => return,
            fcgi::GET_VALUES => {}
            _ if incoming.has_begun() || record.kind == fcgi::BEGIN_REQUEST => incoming.take(record),
            _ => {}
        }
        if incoming.is_complete() && incoming.has_begun() {
            let query = incoming.param("QUERY_STRING").unwrap_or_default().to_owned();
            let body = String::from_utf8_lossy(&incoming.body).into_owned();
            stage.note(if body.is_empty() { query } else { body });
            served = true;
            if !echo(&mut connection, &incoming) {
                return;
            }
            incoming = Incoming::default();
        }
    }
}
