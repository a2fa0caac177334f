//! Several exchanges of one web server connection, where each has a connection of its own to the application (php-fpm): an
//! error there is that of its exchange alone.

use super::{Beside, LIMIT, SOON, assert_right, assert_status, get, post, wait_executed};
use crate::support::{
    Fcgimux, bounded,
    fcgi::{self, Connection, End, Multiplexer, Replies, Values},
    wait_until,
};

fn with(test: impl FnOnce(&Fcgimux, &Multiplexer) + Send + 'static) {
    bounded(LIMIT, move || {
        let application = Multiplexer::with(Values { multiplexes: false, ..Values::default() });
        let mux = Fcgimux::to(application.address()).pool("connections: {per_endpoint: 10}").start();
        test(&mux, &application);
        assert_right(&mux.call(&get(1, "last", ""), SOON), "last");
        application.assert_undisturbed();
    });
}

/// One connection of a web server with three requests that take so many milliseconds, under the ids from 1.
#[track_caller]
fn three(mux: &Fcgimux, application: &Multiplexer, delay: u32) -> Connection {
    let mut connection = mux.connect();
    for id in [1, 2, 3] {
        connection.send(&get(id, &format!("three{id}"), &format!("&delay={delay}")).bytes());
        wait_executed(application, &format!("three{id}"));
    }
    connection
}

#[track_caller]
fn assert_three(connection: &mut Connection) {
    for (id, reply) in Replies::read(connection, &[1, 2, 3], SOON).iter() {
        assert_right(reply, &format!("three{id}"));
    }
}

#[test]
fn what_ends_a_connection_of_a_web_server_ends_its_exchanges_and_no_others() {
    let ways: [fn(&mut Connection); 2] = [
        |connection| connection.send(&get(2, "twice", "").bytes()),
        |connection| connection.send(b"GET / HTTP/1.1\r\n"),
    ];
    for way in ways {
        with(move |mux, application| {
            let beside = Beside::begin(mux, application);
            let mut connection = three(mux, application, 20_000);
            way(&mut connection);
            let reply = connection.reply(SOON);
            assert!(!reply.ended && reply.stdout.is_empty(), "{reply:?}");
            assert!(matches!(reply.broken, Some(End::Closed | End::Reset)), "{reply:?}");
            // php-fpm knows no other way to be told.
            wait_until("their connections are closed", || application.tally().lost == 3);
            beside.assert_right();
            assert_eq!(application.executed("twice"), 0);
        });
    }
}

#[test]
fn a_request_that_is_refused_or_taken_back_leaves_the_others_on_its_connection() {
    with(|mux, application| {
        let mut connection = three(mux, application, 300);
        connection.send(&fcgi::begin(4, true));
        connection.send(&[fcgi::record(fcgi::PARAMS, 4, b"\x05\x7fNAME"), fcgi::record(fcgi::PARAMS, 4, b"")].concat());
        connection.send(&fcgi::stdin_end(4));
        assert_status(&Replies::read(&mut connection, &[4], SOON)[4], 400);
        connection.send(&get(4, "back", "&delay=20000").bytes());
        wait_executed(application, "back");
        connection.send(&fcgi::abort(4));
        let back = &Replies::read(&mut connection, &[4], SOON)[4];
        assert_eq!((back.status, back.stdout.len()), ((0, 0), 0));
        assert_three(&mut connection);
    });
}

#[test]
fn an_application_that_breaks_off_before_its_response_is_answered_for_beside_the_others() {
    with(|mux, application| {
        let mut connection = three(mux, application, 300);
        connection.send(&post(4, "once", "&wrong=close").bytes());
        connection.send(&get(5, "again", "&wrong=close&times=1").bytes());
        let replies = Replies::read(&mut connection, &[4, 5], SOON);
        assert_status(&replies[4], 502);
        assert_status(&replies[5], 502);
        // There is no other endpoint.
        assert_eq!((application.executed("once"), application.executed("again")), (1, 1));
        assert_three(&mut connection);
    });
}

/// There is no record that says "cut": the others end first, then the connection breaks off.
#[test]
fn a_response_that_is_cut_is_seen_to_be_when_the_others_have_ended() {
    with(|mux, application| {
        let mut connection = three(mux, application, 300);
        connection.send(&post(4, "cut", "&wrong=close&at=500").bytes());
        let replies = Replies::read(&mut connection, &[1, 2, 3, 4], SOON);
        for id in [1, 2, 3] {
            assert_right(&replies[id], &format!("three{id}"));
        }
        let cut = &replies[4];
        assert!(!cut.ended && !cut.stdout.is_empty(), "{cut:?}");
        assert!(matches!(cut.broken, Some(End::Closed | End::Reset)), "{cut:?}");
        assert!(cut.stderr.starts_with(b"fcgimux: "), "{cut:?}");
    });
}

/// A web server with patience of its own takes it back, and keeps its connection with that.
#[test]
fn a_response_that_is_cut_can_be_taken_back() {
    with(|mux, application| {
        let mut connection = three(mux, application, 600);
        connection.send(&post(4, "cut", "&wrong=close&at=500").bytes());
        loop {
            let record = connection.read_record(SOON).expect("a record");
            assert_eq!(record.id, 4);
            if record.kind == fcgi::STDERR {
                break;
            }
        }
        connection.send(&fcgi::abort(4));
        let mut replies = Replies::read(&mut connection, &[1, 2, 3, 4], SOON);
        assert!(replies[4].ended && replies[4].stdout.is_empty());
        for id in [1, 2, 3] {
            assert_right(&replies[id], &format!("three{id}"));
        }
        connection.send(&get(4, "next", "").bytes());
        replies = Replies::read(&mut connection, &[4], SOON);
        assert_right(&replies[4], "next");
    });
}
