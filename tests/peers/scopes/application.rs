//! What an application does wrong on a connection that several exchanges share.
//!
//! | from the application | dies | lives |
//! |---|---|---|
//! | a record of an id that it was never sent | that record | everything |
//! | a record of an exchange that ended | that record | everything |
//! | a management record nobody asked for | that record | everything |
//! | END_REQUEST of a wrong length | that exchange, as a break | the others, here or elsewhere |
//! | a record of a kind that web servers send | at most that exchange, as a break | the others, here or elsewhere |
//! | a header that cannot be one | its connection; see `lost.rs` for the exchanges on it | the web servers' connections |

use super::{Beside, ONE, SOON, assert_right, assert_status, closed, dropped, get, post, wait_executed, with};
use crate::support::{
    Fcgimux,
    fcgi::{Call, Multiplexer, Reply},
};

#[test]
fn records_of_ids_that_nobody_has_are_dropped() {
    with(ONE, "", |mux, application| {
        let beside = Beside::begin(mux, application);
        for round in 0..5 {
            let token = format!("strays{round}");
            assert_right(&mux.call(&get(1, &token, "&wrong=strays&record=100"), SOON), &token);
        }
        beside.assert_right();
        assert!(dropped(mux) >= 5.0 * 3.0 * 10.0, "{} dropped", dropped(mux));
        assert_eq!(application.tally().connections, 1, "the connection is kept");
    });
}

#[test]
fn records_of_an_exchange_that_ended_are_dropped() {
    with(ONE, "", |mux, application| {
        let beside = Beside::begin(mux, application);
        let mut connection = mux.connect();
        for round in 0..20 {
            let token = format!("trailing{round}");
            assert_right(&connection.call(&get(1, &token, "&wrong=trailing"), SOON), &token);
        }
        beside.assert_right();
        assert!(dropped(mux) >= 60.0, "{} dropped", dropped(mux));
        assert_eq!(application.tally().connections, 1, "the connection is kept");
    });
}

#[test]
fn management_records_that_nobody_asked_for_end_nothing() {
    with(ONE, "", |mux, application| {
        let beside = Beside::begin(mux, application);
        for at in [0, 50, 500] {
            let token = format!("management{at}");
            assert_right(&mux.call(&post(1, &token, &format!("&wrong=management&at={at}")), SOON), &token);
        }
        beside.assert_right();
        assert_eq!(application.tally().connections, 1, "the connection is kept");
    });
}

/// What was done wrong to this one, beside others.
#[track_caller]
fn call_wrong(mux: &Fcgimux, application: &Multiplexer, call: &Call) -> Reply {
    let beside = Beside::begin(mux, application);
    let reply = mux.call(call, SOON);
    beside.assert_right();
    reply
}

/// The one that it belongs to, before its response began and in the middle of it.
#[track_caller]
fn assert_broken_alone(mux: &Fcgimux, application: &Multiplexer, wrong: &str) {
    let token = format!("{wrong}-before");
    let reply = call_wrong(mux, application, &post(1, &token, &format!("&wrong={wrong}")));
    assert_status(&reply, 502);
    let token = format!("{wrong}-in");
    let reply = call_wrong(mux, application, &post(1, &token, &format!("&wrong={wrong}&at=300")));
    assert!(!reply.ended, "{wrong}: what was cut has no end: {reply:?}");
    let token = format!("{wrong}-again");
    let reply = call_wrong(mux, application, &get(1, &token, &format!("&wrong={wrong}&times=1")));
    assert_status(&reply, 502);
    assert_eq!(application.executed(&token), 1, "there is no other endpoint");
}

#[test]
fn an_end_of_a_wrong_length_breaks_its_exchange_and_no_other() {
    with("per_endpoint: 4", "", |mux, application| assert_broken_alone(mux, application, "end-length"));
}

#[test]
fn a_header_that_cannot_be_one_ends_the_connection_and_what_runs_there() {
    with("per_endpoint: 4", "", |mux, application| {
        let mut beside = mux.connect();
        beside.send(&get(1, "beside", "&delay=20000").bytes());
        wait_executed(application, "beside");
        assert_status(&mux.call(&post(1, "before", "&wrong=version"), SOON), 502);
        assert_status(&beside.reply(SOON), 502);
        let reply = mux.call(&post(1, "in", "&wrong=version&at=300"), SOON);
        assert!(!reply.ended, "what was cut has no end: {reply:?}");
        assert_status(&mux.call(&get(1, "again", "&wrong=version&times=1"), SOON), 502);
        assert_eq!(["before", "in", "again"].map(|token| application.executed(token)), [1, 1, 1]);
        assert_eq!(closed(mux, "protocol"), 3.0);
    });
}

#[test]
fn a_record_of_a_kind_that_web_servers_send_is_no_part_of_a_response() {
    with("per_endpoint: 4", "", |mux, application| {
        let beside = Beside::begin(mux, application);
        for at in [0, 300] {
            let token = format!("foreign{at}");
            let reply = mux.call(&post(1, &token, &format!("&wrong=foreign&at={at}")), SOON);
            if reply.ended && reply.http_status() == 200 {
                assert_right(&reply, &token);
            } else {
                assert!(!reply.ended || reply.http_status() == 502, "{reply:?}");
            }
        }
        beside.assert_right();
    });
}

/// What the application says in END_REQUEST, and to the log, is the web server's to read.
#[test]
fn a_status_and_an_error_text_of_the_application_are_passed_on() {
    with(ONE, "", |mux, _| {
        let reply = mux.call(&get(7, "status", "&status=42&stderr=300"), SOON).whole();
        assert_eq!((reply.status, reply.ids.as_slice()), ((42, 0), [7].as_slice()));
        assert_eq!(reply.stderr, vec![b'e'; 300]);
        assert_eq!(reply.body().len(), super::SIZE);
    });
}

/// A slow one among them, and a web server that has several of them on one connection.
#[test]
fn a_response_that_breaks_off_is_seen_as_broken_beside_others_on_the_same_connection_of_a_web_server() {
    with("per_endpoint: 4", "", |mux, application| {
        let mut connection = mux.connect();
        connection.send(&get(1, "slow", "&delay=400").bytes());
        wait_executed(application, "slow");
        connection.send(&post(2, "cut", "&wrong=end-length&at=300").bytes());
        let replies = crate::support::fcgi::Replies::read(&mut connection, &[1, 2], SOON);
        assert_right(&replies[1], "slow");
        // Either it has no end, and the connection goes with the last of the others, or one that says that it failed.
        let cut = &replies[2];
        assert!(!cut.ended || cut.status != (0, 0), "{cut:?}");
    });
}
