//! G8 and G9: ABORT_REQUEST, and a connection that is closed under a request.

use std::thread;

use crate::generic_facts::{
    A_WHILE, LIBFCGI, SHARING, SOON, drain, each, ends, milliseconds, serves, stdout, until_end,
};
use crate::support::{
    apps::{App, Program},
    fcgi::{self, Call, Connection, END_REQUEST, End, STDOUT},
    wait_until,
};

/// A call whose body is sent by half.
fn half(app: &App, query: &str) -> (Call, Vec<u8>) {
    let call = app.post(query, vec![b'x'; 40_000]);
    let bytes = [call.head(), fcgi::stdin(call.id, &call.body[..20_000])].concat();
    (call, bytes)
}

// G8. ABORT_REQUEST.

#[test]
fn g08_an_abort_behind_the_end_of_stdin_changes_nothing_for_go_and_flup() {
    each(&SHARING, |app| {
        let mut connection = app.connect();
        connection.send(&[app.get("stream=3&pause=100&token=a").bytes(), fcgi::abort(1)].concat());
        let (records, end) = drain(&mut connection, A_WHILE);
        assert!(stdout(&records, 1).ends_with("chunk 0\nchunk 1\nchunk 2\n"), "{records:?}");
        assert_eq!((ends(&records, 1), end), (1, End::TimedOut));
        assert!(serves(app, &mut connection, 1), "the id is free again");
    });
}

#[test]
fn g08_go_ends_a_request_aborted_in_its_body_at_once_and_once_more_when_its_handler_is_done() {
    each(&[Program::go], |app| {
        let mut connection = app.connect();
        connection.send(&half(app, "upload").1);
        thread::sleep(milliseconds(100));
        connection.send(&fcgi::abort(1));
        let at_once = until_end(&mut connection, 1);
        assert_eq!(at_once.len(), 1, "{at_once:?}");
        let (later, end) = drain(&mut connection, A_WHILE);
        assert!(later.iter().any(|record| (record.kind, record.id) == (STDOUT, 1)), "{later:?}");
        assert_eq!((ends(&later, 1), end), (1, End::TimedOut));
        assert!(serves(app, &mut connection, 2));
    });
}

#[test]
fn g08_what_follows_the_end_of_an_aborted_request_of_go_would_be_taken_for_the_next_of_its_id() {
    each(&[Program::go], |app| {
        let mut connection = app.connect();
        let log = app.log_file("watch");
        connection.send(&half(app, &format!("watch=read&log={log}&token=aborted")).1);
        wait_until("the handler reads", || app.notes("watch").len() == 1);
        connection.send(&[fcgi::abort(1), app.get("sleep=200&token=next").bytes()].concat());
        let (records, _) = drain(&mut connection, milliseconds(600));
        assert_eq!(ends(&records, 1), 3, "{records:?}");
        assert!(stdout(&records, 1).contains("X-Token: aborted"));
    });
}

#[test]
fn g08_go_ends_a_request_aborted_before_its_stdin_once() {
    each(&[Program::go], |app| {
        let mut connection = app.connect();
        connection.send(&[app.get("early").head(), fcgi::abort(1)].concat());
        let (records, end) = drain(&mut connection, A_WHILE);
        assert_eq!((records.len(), ends(&records, 1), end), (1, 1, End::TimedOut), "{records:?}");
        assert!(serves(app, &mut connection, 1));
    });
}

#[test]
fn g08_go_sees_an_abort_behind_an_unread_body_only_when_its_handler_is_done() {
    each(&[Program::go], |app| {
        let mut connection = app.connect();
        connection.send(&[half(app, "stream=5&pause=100&token=a").1, fcgi::abort(1)].concat());
        let records = until_end(&mut connection, 1);
        assert!(stdout(&records, 1).ends_with("chunk 4\n"), "{records:?}");
        assert_eq!(connection.read_record(SOON).expect("a second END_REQUEST").kind, END_REQUEST);
        assert!(serves(app, &mut connection, 2));
    });
}

#[test]
fn g08_go_closes_the_connection_of_an_aborted_request_without_keep_conn() {
    each(&[Program::go], |app| {
        let mut connection = app.connect();
        let call = app.post("upload", vec![b'x'; 40_000]).last();
        connection.send(&[call.head(), fcgi::stdin(1, &call.body[..9])].concat());
        thread::sleep(milliseconds(100));
        connection.send(&fcgi::abort(1));
        let (records, end) = drain(&mut connection, SOON);
        assert!(ends(&records, 1) >= 1 && end != End::TimedOut, "{records:?} {end:?}");
    });
}

#[test]
fn g08_flup_never_ends_a_request_aborted_in_its_body_until_its_stdin_ends() {
    each(&[Program::flup], |app| {
        let head = app.post("upload", vec![b'x'; 40_000]).head();
        for (request, length) in [(half(app, "upload").1, "20000"), (head, "0")] {
            let mut connection = app.connect();
            connection.send(&[request, fcgi::abort(1)].concat());
            assert_eq!(connection.read_record(A_WHILE), Err(End::TimedOut));
            connection.send(&fcgi::stdin_end(1));
            let records = until_end(&mut connection, 1);
            assert!(stdout(&records, 1).contains(&format!("\r\n\r\n{length} ")), "{records:?}");
            assert!(serves(app, &mut connection, 1), "once");
        }
    });
}

#[test]
fn g08_an_abort_with_the_end_of_stdin_behind_it_is_told_from_a_whole_body_by_go_only() {
    each(&SHARING, |app| {
        let mut connection = app.connect();
        let log = app.log_file("watch");
        connection.send(&half(app, &format!("watch=read&log={log}&token=a")).1);
        wait_until("it reads", || app.notes("watch").len() == 1);
        connection.send(&[fcgi::abort(1), fcgi::stdin_end(1)].concat());
        wait_until("it has read", || app.notes("watch").len() == 2);
        let go = "a read failed: fcgi: request aborted by web server";
        // An ordinary end of input: only CONTENT_LENGTH tells.
        let flup = "a read failed: 20000 bytes";
        assert_eq!(app.notes("watch")[1], if app.name() == "go" { go } else { flup });
        drain(&mut connection, A_WHILE);
        assert!(serves(app, &mut connection, 2));
    });
}

#[test]
fn g08_libfcgi_takes_an_abort_for_an_error_ends_the_request_as_if_it_were_whole_and_closes() {
    each(&LIBFCGI, |app| {
        let head = app.post("upload", vec![b'x'; 40_000]).head();
        let requests = [(half(app, "upload").1, 20_000), (half(app, "sleep=200&token=a").1, 20_000), (head, 0)];
        for (request, length) in requests {
            let mut connection = app.connect();
            connection.send(&request);
            thread::sleep(milliseconds(100));
            connection.send(&fcgi::abort(1));
            let (records, end) = drain(&mut connection, SOON);
            assert_eq!(ends(&records, 1), 1, "{records:?}");
            // libfcgi.c asks FCGX_GetError(), and says so in the sign; perl has no such thing.
            let length = if app.name() == "libfcgi" { format!("{}", -length - 1) } else { length.to_string() };
            let text = stdout(&records, 1);
            let said = [format!("\r\n\r\n{length} "), format!("X-Length: {length}\r\n")];
            assert!(said.iter().any(|said| text.contains(said)), "{text}");
            assert_ne!(end, End::TimedOut);
        }
    });
}

#[test]
fn g08_an_abort_behind_the_end_of_stdin_lets_libfcgi_finish_and_close() {
    each(&LIBFCGI, |app| {
        let mut connection = app.connect();
        connection.send(&app.get("stream=4&pause=100&token=a").bytes());
        thread::sleep(milliseconds(100));
        connection.send(&fcgi::abort(1));
        let (records, end) = drain(&mut connection, SOON);
        assert!(stdout(&records, 1).ends_with("chunk 3\n"));
        assert_eq!(ends(&records, 1), 1);
        assert_ne!(end, End::TimedOut);
    });
}

#[test]
fn g08_an_abort_inside_params_makes_libfcgi_run_the_request_with_what_has_come() {
    each(&LIBFCGI[..2], |app| {
        let mut connection = app.connect();
        connection.send(&[fcgi::begin(1, true), inside_params(app, "early")].concat());
        thread::sleep(milliseconds(50));
        connection.send(&fcgi::abort(1));
        let (records, end) = drain(&mut connection, SOON);
        assert!(stdout(&records, 1).ends_with("early\n"), "{records:?}");
        assert_ne!(end, End::TimedOut);
    });
}

// G9. The connection is closed under a request.

/// PARAMS that go on.
fn inside_params(app: &App, query: &str) -> Vec<u8> {
    fcgi::record(fcgi::PARAMS, 1, &fcgi::pairs(app.get(query).params))
}

#[test]
fn g09_a_connection_closed_inside_params_makes_libfcgi_run_the_request_with_what_has_come() {
    each(&[Program::go, Program::libfcgi, Program::perl, Program::flup], |app| {
        let mut connection = app.connect();
        let query = format!("watch=write&ms=1&log={}", app.log_file("closed"));
        connection.send(&[fcgi::begin(1, true), inside_params(app, &query)].concat());
        thread::sleep(milliseconds(50));
        connection.close();
        let ran = crate::support::eventually(A_WHILE, || !app.notes("closed").is_empty());
        assert_eq!(ran, app.uses_libfcgi());
    });
}

/// What the application noted in the end, when the connection was closed in the middle.
fn noted(app: &App, name: &str, bytes: &[u8], close: fn(Connection)) -> Option<String> {
    let mut connection = app.connect();
    connection.send(bytes);
    wait_until("it has started", || app.notes(name).len() == 1);
    thread::sleep(milliseconds(100));
    close(connection);
    crate::support::eventually(milliseconds(1_500), || app.notes(name).len() == 2);
    app.notes(name).get(1).cloned()
}

#[test]
fn g09_a_closed_connection_fails_the_next_writes() {
    each(&[Program::go, Program::libfcgi, Program::flup, Program::flup_serial], |app| {
        for (name, close) in [("fin", Connection::close as fn(Connection)), ("rst", Connection::reset)] {
            let query = format!("watch=write&ms=1000&log={}", app.log_file(name));
            let end = noted(app, name, &app.get(&query).bytes(), close);
            assert!(end.as_ref().is_some_and(|end| end.contains("write failed")), "{name}: {end:?}");
        }
    });
}

#[test]
fn g09_perl_and_a_program_behind_fcgiwrap_run_on_and_see_nothing() {
    each(&[Program::perl, Program::fcgiwrap], |app| {
        let query = format!("watch=write&ms=600&log={}", app.log_file("rst"));
        let end = noted(app, "rst", &app.get(&query).bytes(), Connection::reset);
        assert_eq!(end.as_deref(), Some(" write whole"));
    });
}

#[test]
fn g09_a_reader_sees_the_end_of_a_closed_connection_except_in_flup() {
    let programs: [fn() -> Program; 6] = crate::generic_facts::ALL;
    each(&programs, |app| {
        let bytes = half(app, &format!("watch=read&log={}", app.log_file("fin"))).1;
        let end = noted(app, "fin", &bytes, Connection::close);
        match app.name() {
            // Its thread waits for ever.
            "flup" => assert_eq!(end, None),
            _ => assert!(end.as_ref().is_some_and(|end| end.contains("read failed")), "{end:?}"),
        }
    });
}

#[test]
fn g09_a_half_closed_connection_is_closed_by_go_and_answered_by_the_others() {
    each(&crate::generic_facts::ALL, |app| {
        let mut connection = app.connect();
        connection.send(&app.get("sleep=200&token=a").bytes());
        thread::sleep(milliseconds(50));
        connection.shutdown_write();
        let (records, end) = drain(&mut connection, SOON);
        assert_eq!(ends(&records, 1), usize::from(app.name() != "go"), "{records:?}");
        assert_ne!(end, End::TimedOut);
    });
}
