//! G5 to G7: many requests on one connection.

use std::{thread, time::Instant};

use crate::generic_facts::{
    A_WHILE, LIBFCGI, SHARING, drain, each, ends, milliseconds, protocol_status, serves, stdout, until_end,
};
use crate::support::{
    apps::{App, Program},
    fcgi::{self, Call, End},
};

const CANT_MPX_CONN: u8 = 1;
/// Those that serve one request at a time.
const SERIAL: [fn() -> Program; 4] = [Program::libfcgi, Program::perl, Program::fcgiwrap, Program::flup_serial];

/// The parts of an upload that is sent in two halves: the first of 20,000 bytes, the second and the end.
fn halves(app: &App, id: u16, byte: u8) -> (Vec<u8>, Vec<u8>) {
    let call: Call = app.post("upload", vec![byte; 40_000]).id(id);
    let first = [call.head(), fcgi::stdin(id, &call.body[..20_000])].concat();
    (first, [fcgi::stdin(id, &call.body[20_000..]), fcgi::stdin_end(id)].concat())
}

// G5. Two requests at once.

#[test]
fn g05_go_and_flup_answer_the_second_request_before_the_first() {
    each(&SHARING, |app| {
        let mut connection = app.connect();
        connection.send(&[app.get("sleep=500&token=slow").bytes(), app.get("token=fast").id(2).bytes()].concat());
        let before = until_end(&mut connection, 2);
        assert!(before.iter().all(|record| record.id == 2), "{before:?}");
        assert!(stdout(&before, 2).contains("X-Token: fast"));
        assert!(stdout(&until_end(&mut connection, 1), 1).contains("X-Token: slow"));
    });
}

#[test]
fn g05_the_others_serve_a_second_request_after_the_first() {
    each(&SERIAL, |app| {
        let mut connection = app.connect();
        connection.send(&app.get("sleep=400&token=slow").bytes());
        // Not in the same read as the first.
        thread::sleep(milliseconds(100));
        connection.send(&app.get("token=fast").id(2).bytes());
        let first = until_end(&mut connection, 1);
        assert!(first.iter().all(|record| record.id == 1), "{first:?}");
        assert!(stdout(&until_end(&mut connection, 2), 2).contains("X-Token: fast"));
    });
}

#[test]
fn g05_libfcgi_loses_a_request_that_comes_in_one_read_with_another() {
    each(&LIBFCGI, |app| {
        let mut connection = app.connect();
        connection.send(&[app.get("token=a").bytes(), app.get("token=b").id(2).bytes()].concat());
        let (records, end) = drain(&mut connection, milliseconds(900));
        assert_eq!((ends(&records, 1), ends(&records, 2), end), (1, 0, End::TimedOut));
        assert!(serves(app, &mut connection, 3), "the connection is usable");
    });
}

#[test]
fn g05_interleaved_bodies_are_told_apart_by_go_and_flup() {
    each(&SHARING, |app| {
        let (one, two) = (halves(app, 1, b'a'), halves(app, 2, b'b'));
        let mut connection = app.connect();
        connection.send(&[one.0, two.0, one.1, two.1].concat());
        let (records, _) = drain(&mut connection, A_WHILE);
        for (id, byte) in [(1, b'a'), (2, b'b')] {
            let direct = app.call(&app.post("upload", vec![byte; 40_000])).text();
            assert_eq!(ends(&records, id), 1);
            assert!(stdout(&records, id).ends_with(&direct), "{}", stdout(&records, id));
        }
    });
}

#[test]
fn g05_a_request_inside_the_body_of_another_is_refused_with_cant_mpx_conn() {
    each(&SERIAL, |app| {
        let (one, two) = (halves(app, 1, b'a'), halves(app, 2, b'b'));
        let mut connection = app.connect();
        connection.send(&one.0);
        thread::sleep(milliseconds(50));
        connection.send(&[two.0, one.1].concat());
        let (records, end) = drain(&mut connection, A_WHILE);
        assert_eq!((protocol_status(&records, 2), protocol_status(&records, 1)), (CANT_MPX_CONN, 0), "{records:?}");
        let direct = app.call(&app.post("upload", vec![b'a'; 40_000])).text();
        assert!(stdout(&records, 1).ends_with(&direct));
        assert_eq!(end, End::TimedOut);
    });
}

// G6. What one request does to the others on its connection.

#[test]
fn g06_a_body_that_go_does_not_read_holds_up_every_other_request_of_the_connection() {
    each(&[Program::go], |app| {
        let mut connection = app.connect();
        let slow = app.post("sleep=700&token=slow", vec![b'x'; 300_000]);
        let start = Instant::now();
        connection.send(&[slow.bytes(), app.get("token=fast").id(2).bytes()].concat());
        until_end(&mut connection, 2);
        assert!(start.elapsed() >= milliseconds(700), "after {:?}", start.elapsed());
    });
}

#[test]
fn g06_a_body_that_is_not_read_holds_up_nobody_in_flup() {
    each(&[Program::flup], |app| {
        let mut connection = app.connect();
        let slow = app.post("sleep=700&token=slow", vec![b'x'; 300_000]);
        connection.send(&[slow.bytes(), app.get("token=fast").id(2).bytes()].concat());
        let fast = until_end(&mut connection, 2);
        assert_eq!(ends(&fast, 1), 0, "the first ended before");
        until_end(&mut connection, 1);
    });
}

#[test]
fn g06_without_keep_conn_go_closes_the_connection_under_its_other_requests_and_flup_waits_for_them() {
    each(&SHARING, |app| {
        let mut connection = app.connect();
        connection.send(&[app.get("sleep=400").bytes(), app.get("early").id(2).last().bytes()].concat());
        let (records, _) = drain(&mut connection, milliseconds(1_000));
        assert_eq!(ends(&records, 2), 1);
        assert_eq!(ends(&records, 1), usize::from(app.name() == "flup"));
    });
}

// G7. Ids.

#[test]
fn g07_an_id_that_is_used_twice_at_once_gets_both_responses_mixed() {
    each(&SHARING, |app| {
        let mut connection = app.connect();
        connection.send(&[app.get("sleep=300&token=one").bytes(), app.get("token=two").bytes()].concat());
        let (records, _) = drain(&mut connection, milliseconds(800));
        assert_eq!(ends(&records, 1), 2);
        assert!(records.iter().all(|record| record.id == 1));
    });
}

#[test]
fn g07_go_closes_the_connection_for_an_id_that_begins_again_before_its_stdin_ended() {
    each(&[Program::go], |app| {
        let mut connection = app.connect();
        // Answered, and its STDIN is open still: the id is in use.
        connection.send(&app.post("early", "body").unended().bytes());
        until_end(&mut connection, 1);
        assert!(serves(app, &mut connection, 2));
        assert!(!serves(app, &mut connection, 1));
    });
}

#[test]
fn g07_records_of_an_id_that_nothing_runs_under_are_skipped_by_go_and_flup() {
    each(&SHARING, |app| {
        let mut connection = app.connect();
        let nobody = [fcgi::abort(9), fcgi::stdin(9, b"abc"), fcgi::stdin_end(9), fcgi::params(9, [("A", "b")])];
        connection.send(&nobody.concat());
        assert_eq!(connection.read_record(A_WHILE), Err(End::TimedOut));
        assert!(serves(app, &mut connection, 1));
    });
}

#[test]
fn g07_an_empty_record_of_an_unknown_id_makes_libfcgi_skip_the_next_record() {
    each(&LIBFCGI, |app| {
        for (record, survives) in [(fcgi::stdin(9, b"abc"), true), (fcgi::stdin_end(9), false), (fcgi::abort(9), false)]
        {
            let mut connection = app.connect();
            connection.send(&record);
            assert_eq!(serves(app, &mut connection, 1), survives, "{record:?}");
        }
    });
}
