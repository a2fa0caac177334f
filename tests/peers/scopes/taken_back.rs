//! Requests that are taken back: ABORT_REQUEST reaches the application, whose connection is kept; what still comes of
//! them reaches nobody; the web server is told the end once.

use std::time::Instant;

use super::{Beside, MILLISECOND, ONE, SOON, assert_right, dropped, get, post, wait_executed, with};
use crate::support::{
    fcgi::{self, Connection, Errand, Replies, WebServer},
    wait_until,
};

/// Whatever the application makes of it.
#[test]
fn a_request_that_is_taken_back_is_ended_once_and_the_others_live() {
    for manner in ["at-once", "late", "go"] {
        with(ONE, "", move |mux, application| {
            let beside = Beside::begin(mux, application);
            let mut connection = mux.connect();
            let slow = format!("&delay=300&abort={manner}");
            for (id, token) in [(1, "first"), (2, "second"), (3, "third")] {
                connection.send(&get(id, token, &slow).bytes());
                wait_executed(application, token);
            }
            connection.send(&fcgi::abort(2));
            let replies = Replies::read(&mut connection, &[1, 2, 3], SOON);
            assert_eq!((replies[2].status, replies[2].stdout.len()), ((0, 0), 0), "{manner}");
            assert!(replies[2].took < 200 * MILLISECOND, "{manner}: {:?}", replies[2].took);
            assert_right(&replies[1], "first");
            assert_right(&replies[3], "third");
            // The second END_REQUEST of Go's applications has come by now.
            assert_right(&connection.call(&get(2, "again", ""), SOON), "again");
            beside.assert_right();
            let tally = application.tally();
            assert_eq!((tally.aborts, tally.connections, tally.lost), (1, 1, 0), "{manner}");
        });
    }
}

/// In every part of a request: nothing of it, its params, its body, its response.
#[test]
fn a_request_can_be_taken_back_at_any_point() {
    with(ONE, "", |mux, application| {
        let mut connection = mux.connect();
        let make = |number: usize| post(1, &format!("one{number}"), "&delay=20000");
        let (head, length) = (make(0).head().len(), make(0).bytes().len());
        let cuts = [(16, false), (head - 8, false), (head, true), (head + 108, true), (length, true)];
        for (number, (cut, reaches)) in cuts.into_iter().enumerate() {
            let whole = make(number).bytes();
            let before = application.tally();
            // A record that has begun must be ended.
            let mut part = whole[..cut].to_vec();
            if cut == head + 108 {
                let from = head + 8;
                part.truncate(head);
                part.extend(fcgi::stdin(1, &whole[from..from + 100]));
            }
            connection.send(&part);
            if reaches {
                wait_until("it has begun", || application.tally().begun > before.begun);
            }
            connection.send(&fcgi::abort(1));
            let reply = connection.reply(SOON).whole();
            assert_eq!((reply.status, reply.stdout.len()), ((0, 0), 0), "cut at {cut}");
            wait_until("the application knows", || application.tally().aborts == before.aborts + usize::from(reaches));
            assert_eq!(application.tally().begun, before.begun + usize::from(reaches));
        }
        // In its response, which is long.
        connection.send(&get(1, "long", "&n=50000000").bytes());
        let mut received = 0;
        while received < 1_000_000 {
            received += connection.read_record(SOON).expect("a record").content.len();
        }
        connection.send(&fcgi::abort(1));
        assert!(connection.reply(SOON).ended);
        assert_right(&connection.call(&get(1, "behind", ""), SOON), "behind");
        assert_eq!(application.tally().connections, 1);
    });
}

/// Go's net/http/fcgi ends an aborted request at once, and its handler writes on and ends it once more: records of an id
/// that is free, as far as anybody can know. Under that id nobody else may run meanwhile.
#[test]
fn what_an_application_sends_behind_the_end_of_an_aborted_request_reaches_nobody() {
    with("per_endpoint: 1, max_requests_in_flight: 4", "", |mux, application| {
        let mut connection = mux.connect();
        let mut web_server = WebServer::connect(&mux.socket().display().to_string());
        for round in 0..5 {
            let token = format!("go{round}");
            connection.send(&get(1, &token, "&delay=300&abort=go").bytes());
            wait_executed(application, &token);
            connection.send(&fcgi::abort(1));
            assert!(connection.reply(SOON).ended);
            // Until it has said all it had to say, and longer.
            let start = Instant::now();
            let errands = (0..).map(|number| Errand::get(format!("{round}-{number}"), 3_000));
            let errands = errands.take_while(|_| start.elapsed() < 400 * MILLISECOND);
            web_server.run(3, errands, |errand, done| assert_eq!(done.verdict(errand), Ok(())));
        }
        assert_eq!(web_server.defects(), Vec::<String>::new());
        assert!(dropped(mux) >= 10.0, "{} dropped", dropped(mux));
        assert_eq!(application.tally().connections, 1);
    });
}

/// An application that never ends an aborted request keeps its id, and nothing else of the others'.
#[test]
fn an_abort_that_is_not_heeded_costs_the_others_nothing() {
    with(ONE, "", |mux, application| {
        let mut connection = mux.connect();
        // It goes on for a second, then it ends as if nothing had happened.
        connection.send(&get(1, "deaf", "&delay=1000&abort=never").bytes());
        wait_executed(application, "deaf");
        connection.send(&fcgi::abort(1));
        let reply = connection.reply(SOON).whole();
        assert!(reply.took < 700 * MILLISECOND, "the web server does not wait for it: {:?}", reply.took);
        for round in 0..50 {
            let token = format!("other{round}");
            assert_right(&connection.call(&get(1, &token, ""), SOON), &token);
        }
        wait_until("it has ended", || application.tally().open_ids == 0);
        assert_eq!(application.tally().connections, 1);
    });
}

/// One connection, one exchange: as nginx and its visitor have it.
#[test]
fn a_visitor_who_leaves_takes_his_own_request_back() {
    with(ONE, "", |mux, application| {
        let beside = Beside::begin(mux, application);
        let leave: [fn(Connection); 2] = [Connection::close, |connection| connection.shutdown_write()];
        for (number, leave) in leave.into_iter().enumerate() {
            let mut connection = mux.connect();
            let token = format!("leaves{number}");
            connection.send(&get(1, &token, "&delay=20000").last().bytes());
            wait_executed(application, &token);
            leave(connection);
            wait_until("the application is told", || application.tally().aborts == number + 1);
        }
        beside.assert_right();
        let tally = application.tally();
        assert_eq!((tally.connections, tally.lost), (1, 0));
    });
}
