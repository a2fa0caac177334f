//! A connection of the application that ends with exchanges on it, in every phase.
//!
//! | phase | then |
//! |---|---|
//! | not sent: it waits | sent elsewhere, whatever its method |
//! | sent, no byte of its response | 502: it may have been executed, and there is no other endpoint |
//! | its response has begun | seen to be cut |

use super::{SOON, assert_right, assert_status, closed, get, in_flight, post, retries, wait_executed, with};
use crate::support::{Fcgimux, fcgi::Multiplexer, wait_until};

/// What ends the connection, while all these run on it.
fn lose(mux: &Fcgimux, application: &Multiplexer, end: impl FnOnce(&Fcgimux, &Multiplexer)) {
    let hang = "&wrong=hang&times=1";
    let mut idempotent = mux.connect();
    idempotent.send(&get(1, "idempotent", hang).bytes());
    wait_executed(application, "idempotent");
    let mut once = mux.connect();
    once.send(&post(1, "once", hang).bytes());
    wait_executed(application, "once");
    let mut responding = mux.connect();
    responding.send(&get(1, "responding", "&wrong=hang&times=1&at=500").last().bytes());
    wait_executed(application, "responding");
    // A part of the response is there.
    let first = responding.read_record(SOON).expect("a record");
    assert_eq!(first.kind, crate::support::fcgi::STDOUT);
    // Their params, or a part of the body, are all that has come.
    let mut half = mux.connect();
    let call = post(1, "half", "");
    let bytes = call.bytes();
    half.send(&bytes[..bytes.len() - 500]);
    wait_executed(application, "half");
    assert_eq!(application.tally().connections, 1, "all on one connection");
    // The connection is full with these four.
    let mut waiting = mux.connect();
    waiting.send(&post(1, "waiting", "").bytes());
    wait_until("it waits", || mux.metrics().sum("fcgimux_queue_depth", &[]) == 1.0);
    assert_eq!(application.executed("waiting"), 0);

    end(mux, application);
    assert_status(&idempotent.reply(SOON), 502);
    assert_eq!(application.executed("idempotent"), 1, "there is no other endpoint");
    let reply = once.reply(SOON);
    assert_status(&reply, 502);
    assert!(String::from_utf8_lossy(&reply.stderr).contains("may have been executed"), "{reply:?}");
    assert_eq!(application.executed("once"), 1);
    let cut = responding.reply(SOON);
    assert!(!cut.ended, "what was cut has no end: {cut:?}");
    assert_right(&waiting.reply(SOON), "waiting");
    assert_eq!(application.executed("waiting"), 1);
    half.send(&bytes[bytes.len() - 500..]);
    assert_status(&half.reply(SOON), 502);
    assert_eq!(application.executed("half"), 1);
    assert_eq!(retries(mux, "idempotent"), 0.0);
    wait_until("nothing is under way", || in_flight(mux) == 0.0);
}

const FOUR: &str = "per_endpoint: 1, max_requests_in_flight: 4";

#[test]
fn a_connection_that_is_closed_leaves_each_exchange_to_its_phase() {
    with(FOUR, "", |mux, application| {
        lose(mux, application, |_, application| application.close_all());
        assert_eq!(closed(mux, "broken"), 1.0);
    });
}

/// The same by one of the exchanges, in place of the one that would have waited.
#[test]
fn a_connection_that_breaks_the_protocol_leaves_each_exchange_to_its_phase() {
    for (wrong, reason) in
        [("version", "protocol"), ("reset", "broken"), ("close-inside", "broken"), ("close", "broken")]
    {
        with("per_endpoint: 1, max_requests_in_flight: 5", "", move |mux, application| {
            let hang = "&wrong=hang&times=1";
            let mut idempotent = mux.connect();
            idempotent.send(&get(1, "idempotent", hang).bytes());
            let mut once = mux.connect();
            once.send(&post(1, "once", hang).bytes());
            let mut responding = mux.connect();
            responding.send(&get(1, "responding", "&wrong=hang&times=1&at=500").last().bytes());
            for token in ["idempotent", "once", "responding"] {
                wait_executed(application, token);
            }
            let first = responding.read_record(SOON).expect("a record");
            assert_eq!(first.kind, crate::support::fcgi::STDOUT);
            let culprit = mux.call(&get(1, "culprit", &format!("&wrong={wrong}&times=1")), SOON);
            assert_status(&culprit, 502);
            assert_status(&idempotent.reply(SOON), 502);
            assert_status(&once.reply(SOON), 502);
            assert!(!responding.reply(SOON).ended, "{wrong}");
            let executed = ["culprit", "idempotent", "once", "responding"].map(|token| application.executed(token));
            assert_eq!(executed, [1, 1, 1, 1], "{wrong}");
            assert_eq!(closed(mux, reason), 1.0, "{wrong}");
        });
    }
}

/// Several exchanges of one web server connection: each is answered for itself.
#[test]
fn a_lost_connection_of_the_application_does_not_end_that_of_the_web_server() {
    with("per_endpoint: 1, max_requests_in_flight: 8", "", |mux, application| {
        let mut connection = mux.connect();
        connection.send(&get(1, "idempotent", "&wrong=hang&times=1").bytes());
        connection.send(&post(2, "once", "&wrong=hang&times=1").bytes());
        wait_executed(application, "idempotent");
        wait_executed(application, "once");
        application.close_all();
        let replies = crate::support::fcgi::Replies::read(&mut connection, &[1, 2], SOON);
        assert_status(&replies[1], 502);
        assert_status(&replies[2], 502);
        assert_right(&connection.call(&post(1, "next", ""), SOON), "next");
    });
}
