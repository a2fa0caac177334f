//! END_REQUEST with a protocol status that says: not executed.
//!
//! | the application says | then |
//! |---|---|
//! | OVERLOADED, or CANT_MPX_CONN, before any byte | sent on another connection, whatever the method |
//! | the same every time | told to the web server |
//! | UNKNOWN_ROLE | told to the web server: no other connection knows it better |

use super::{Beside, SOON, assert_right, get, post, retries, with};
use crate::support::fcgi::{Call, Reply};

type Make = fn(u16, &str, &str) -> Call;

#[test]
fn what_was_refused_and_not_executed_is_sent_on_another_connection() {
    for wrong in ["overloaded", "no-multiplexing"] {
        with("per_endpoint: 4", "", move |mux, application| {
            let beside = Beside::begin(mux, application);
            for (number, (make, method)) in [(get as Make, "GET"), (post as Make, "POST")].into_iter().enumerate() {
                let token = format!("{wrong}-{method}");
                let reply = mux.call(&make(1, &token, &format!("&wrong={wrong}&times=1")), SOON);
                assert_right(&reply, &token);
                assert_eq!(application.executed(&token), 1, "refused once, executed once");
                assert_eq!(retries(mux, "unproven") as usize, number + 1);
            }
            assert!(application.tally().connections >= 2, "on another connection");
            assert_eq!(application.tally().lost, 0, "the connection that refused is kept while others run on it");
            beside.assert_right();
        });
    }
}

/// END_REQUEST that says so, or a response that does.
#[track_caller]
fn assert_told(reply: &Reply, status: u8) {
    let told = reply.status.1 == status && reply.stdout.is_empty();
    assert!(reply.ended && (told || matches!(reply.http_status(), 502 | 503)), "{reply:?}");
}

#[test]
fn what_is_refused_every_time_is_told_to_the_web_server() {
    for (wrong, status) in [("overloaded", 2), ("no-multiplexing", 1)] {
        with("per_endpoint: 4", "", move |mux, application| {
            let beside = Beside::begin(mux, application);
            assert_told(&mux.call(&post(1, "refused", &format!("&wrong={wrong}")), SOON), status);
            assert_eq!(application.executed("refused"), 0);
            assert!(application.tally().begun <= 5 + 4, "given up after a few times");
            beside.assert_right();
        });
    }
}

#[test]
fn an_unknown_role_is_told_to_the_web_server() {
    with("per_endpoint: 4", "", |mux, application| {
        let beside = Beside::begin(mux, application);
        let reply = mux.call(&get(5, "role", "&wrong=unknown-role"), SOON);
        assert_eq!((reply.ended, reply.status, reply.stdout.len()), (true, (0, 3), 0), "{reply:?}");
        assert_eq!(retries(mux, "unproven") + retries(mux, "idempotent"), 0.0);
        beside.assert_right();
    });
}

/// The body is there to be sent again, also where it was larger than what is kept of an exchange's stream.
#[test]
fn a_body_that_was_sent_is_there_for_the_second_connection() {
    with("per_endpoint: 4", "", |mux, application| {
        use crate::support::fcgi::{Errand, Pace, run_alone};
        let address = mux.socket().display().to_string();
        for size in [1, 10_000, 60_000] {
            let errand = Errand::post(format!("body{size}"), size, 100).and("wrong=overloaded&times=1");
            let done = run_alone(&address, &errand, Pace::Fast);
            assert_eq!(done.verdict(&errand), Ok(()));
            assert_eq!(application.executed(&errand.token), 1);
        }
    });
}
