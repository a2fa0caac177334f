//! G1 to G4: what is announced, when, and keep-conn.

use std::thread;

use crate::generic_facts::{A_WHILE, ALL, LIBFCGI, SOON, drain, each, ends, milliseconds, serves, stdout, until_end};
use crate::support::{
    apps::{App, Program},
    fcgi::{self, End, GET_VALUES, GET_VALUES_RESULT, UNKNOWN_TYPE},
};

const NAMES: [(&str, &str); 3] = [("FCGI_MAX_CONNS", ""), ("FCGI_MAX_REQS", ""), ("FCGI_MPXS_CONNS", "")];

fn ask(padding: u8) -> Vec<u8> {
    fcgi::record_padded(GET_VALUES, 0, &fcgi::pairs(NAMES), padding)
}

/// The results that come within a while, as their contents.
fn results(app: &App, question: &[u8]) -> Vec<Vec<u8>> {
    let mut connection = app.connect();
    connection.send(question);
    let (records, end) = drain(&mut connection, A_WHILE);
    assert_eq!(end, End::TimedOut, "{records:?}");
    assert!(records.iter().all(|record| (record.kind, record.id) == (GET_VALUES_RESULT, 0)), "{records:?}");
    records.into_iter().map(|record| record.content).collect()
}

// G1. What is announced.

#[test]
fn g01_go_announces_multiplexing_whatever_is_asked_and_an_empty_result_follows() {
    each(&[Program::go], |app| {
        let announced = vec![fcgi::pairs([("FCGI_MPXS_CONNS", "1")]), Vec::new()];
        for question in [ask(0), ask(8), fcgi::empty_get_values()] {
            assert_eq!(results(app, &question), announced);
        }
    });
}

#[test]
fn g01_libfcgi_announces_one_request_at_a_time() {
    each(&LIBFCGI, |app| {
        let values = [("FCGI_MAX_CONNS", "1"), ("FCGI_MAX_REQS", "1"), ("FCGI_MPXS_CONNS", "0")];
        assert_eq!(results(app, &ask(8)), [fcgi::pairs(values)]);
        let one = fcgi::record_padded(GET_VALUES, 0, &fcgi::pairs([("FCGI_MPXS_CONNS", ""), ("OTHER", "")]), 8);
        assert_eq!(results(app, &one), [fcgi::pairs([("FCGI_MPXS_CONNS", "0")])]);
    });
}

#[test]
fn g01_flup_announces_nothing_whether_it_multiplexes_or_not() {
    each(&[Program::flup, Program::flup_serial], |app| {
        assert_eq!(results(app, &ask(0)), [Vec::<u8>::new()]);
    });
}

// G2. When GET_VALUES is answered.

#[test]
fn g02_libfcgi_answers_get_values_without_padding_only_when_more_bytes_come() {
    each(&LIBFCGI, |app| {
        let mut connection = app.connect();
        connection.send(&ask(0));
        assert_eq!(connection.read_record(A_WHILE), Err(End::TimedOut), "it is answered by now");
        connection.send(&app.get("token=next").bytes());
        let records = until_end(&mut connection, 1);
        assert_eq!(records[0].kind, GET_VALUES_RESULT, "{records:?}");
    });
}

#[test]
fn g02_libfcgi_answers_get_values_with_padding_at_once() {
    each(&LIBFCGI, |app| {
        for padding in [1, 8, 255] {
            let mut connection = app.connect();
            for _ in 0..2 {
                connection.send(&ask(padding));
                assert_eq!(connection.read_record(SOON).expect("an answer").kind, GET_VALUES_RESULT);
            }
            assert!(serves(app, &mut connection, 1));
        }
    });
}

#[test]
fn g02_get_values_in_front_of_a_request_is_answered_before_it() {
    each(&ALL, |app| {
        let mut connection = app.connect();
        for id in [1, 2] {
            connection.send(&[ask(8), app.get("token=a").id(id).bytes()].concat());
            let records = until_end(&mut connection, id);
            assert_eq!(records[0].kind, GET_VALUES_RESULT, "{records:?}");
            assert!(stdout(&records, id).contains("X-Token: a"));
        }
    });
}

#[test]
fn g02_get_values_with_padding_behind_end_request_is_answered() {
    each(&ALL, |app| {
        let mut connection = app.connect();
        assert!(serves(app, &mut connection, 1));
        connection.send(&ask(8));
        assert_eq!(connection.read_record(SOON).expect("an answer").kind, GET_VALUES_RESULT);
    });
}

#[test]
fn g02_get_values_while_a_request_runs_is_answered_at_once_where_connections_are_shared() {
    each(&crate::generic_facts::SHARING, |app| {
        let mut connection = app.connect();
        connection.send(&[app.get("sleep=400&token=a").bytes(), ask(8)].concat());
        assert_eq!(connection.read_record(milliseconds(300)).expect("an answer").kind, GET_VALUES_RESULT);
        until_end(&mut connection, 1);
    });
}

#[test]
fn g02_get_values_behind_a_request_in_one_write_is_lost_by_libfcgi() {
    each(&LIBFCGI, |app| {
        let mut connection = app.connect();
        connection.send(&[app.get("sleep=100&token=a").bytes(), ask(8)].concat());
        let (records, end) = drain(&mut connection, milliseconds(900));
        assert_eq!((ends(&records, 1), end), (1, End::TimedOut));
        assert!(records.iter().all(|record| record.kind != GET_VALUES_RESULT), "{records:?}");
        assert!(serves(app, &mut connection, 2));
    });
}

// G3. Unknown management records.

#[test]
fn g03_go_leaves_an_unknown_management_record_unanswered() {
    each(&[Program::go], |app| {
        let mut connection = app.connect();
        connection.send(&fcgi::record(77, 0, b"x"));
        assert_eq!(connection.read_record(A_WHILE), Err(End::TimedOut));
        assert!(serves(app, &mut connection, 1));
    });
}

#[test]
fn g03_the_others_answer_unknown_type_and_libfcgi_stumbles_over_its_content() {
    each(&ALL[1..], |app| {
        for content in [b"".as_slice(), b"x"] {
            let mut connection = app.connect();
            connection.send(&fcgi::record(77, 0, content));
            let answer = connection.read_record(SOON).expect("an answer");
            assert_eq!((answer.kind, answer.id, answer.content[0]), (UNKNOWN_TYPE, 0, 77));
            let stumbles = app.uses_libfcgi() && !content.is_empty();
            assert_eq!(serves(app, &mut connection, 1), !stumbles, "content {content:?}");
        }
    });
}

// G4. keep-conn.

#[test]
fn g04_keep_conn_is_honoured_by_all() {
    each(&ALL, |app| {
        let mut connection = app.connect();
        for id in [1, 1, 2, 700, 65_535] {
            assert!(serves(app, &mut connection, id), "id {id}");
            thread::sleep(milliseconds(20));
        }
        assert!(connection.call(&app.get("early").last(), SOON).ended);
        assert_eq!(connection.ending(SOON), End::Closed);
    });
}

#[test]
fn g04_an_idle_kept_connection_keeps_a_worker_of_those_that_share_none() {
    each(&ALL, |app| {
        let mut idle: Vec<_> = (0..4).map(|_| app.connect()).collect();
        assert!(idle.iter_mut().all(|connection| serves(app, connection, 1)));
        let mut fifth = app.connect();
        fifth.send(&app.get("early").bytes());
        let served = fifth.read_record(A_WHILE).is_ok();
        assert_eq!(served, !app.uses_libfcgi(), "four workers, four idle connections");
        idle.pop();
        if !served {
            until_end(&mut fifth, 1);
        }
    });
}
