//! G10 and G11: bodies that are not read, and params.

use std::thread;

use sha2::{Digest, Sha256};

use crate::generic_facts::{
    A_WHILE, ALL, LIBFCGI, SHARING, SOON, drain, each, ends, milliseconds, serves, stdout, until_end,
};
use crate::support::{
    apps::{App, Program},
    fcgi::{self, End, PARAMS},
};

/// What libfcgi reads at once.
const LIBFCGI_BUFFER: usize = 8_192;

// G10. END_REQUEST before the whole STDIN.

#[test]
fn g10_go_and_flup_skip_the_rest_of_a_body_behind_their_end_request() {
    each(&SHARING, |app| {
        for sent in [5_000, 200_000] {
            let mut connection = app.connect();
            let call = app.post("early", vec![b'x'; 200_000]);
            connection.send(&[call.head(), fcgi::stdin(1, &call.body[..sent])].concat());
            until_end(&mut connection, 1);
            connection.send(&[fcgi::stdin(1, &call.body[sent..]), fcgi::stdin_end(1)].concat());
            assert!(serves(app, &mut connection, 2));
            assert!(serves(app, &mut connection, 1), "the id is free again");
        }
    });
}

/// The program does not read its body; behind 8,192 bytes, where the library's buffer ends, that body goes on with records.
#[test]
fn g10_libfcgi_takes_the_rest_of_an_unread_body_for_records() {
    each(&[Program::libfcgi, Program::perl], |app| {
        let mut connection = app.connect();
        let planted = app.get("token=planted").id(7).bytes();
        let call = app.post("early", vec![b'x'; 20_000]);
        let head = call.head();
        let mut body = vec![b'x'; LIBFCGI_BUFFER - head.len() - 8];
        body.extend(&planted);
        body.resize(20_000, b'y');
        connection.send(&[head, fcgi::stdin(1, &body), fcgi::stdin_end(1)].concat());
        let records = drain(&mut connection, A_WHILE).0;
        assert!(stdout(&records, 7).contains("X-Token: planted"), "not executed: {records:?}");
    });
}

#[test]
fn g10_a_stdin_end_that_comes_after_end_request_makes_libfcgi_close() {
    each(&[Program::libfcgi, Program::perl], |app| {
        let mut connection = app.connect();
        connection.send(&app.post("early", "").unended().bytes());
        until_end(&mut connection, 1);
        connection.send(&fcgi::stdin_end(1));
        assert_ne!(drain(&mut connection, A_WHILE).1, End::TimedOut);
        // In one read with the head it goes unnoticed, and so does one that never comes.
        for call in [app.get("early"), app.get("early").unended()] {
            let mut connection = app.connect();
            connection.send(&call.bytes());
            until_end(&mut connection, 1);
            assert!(serves(app, &mut connection, 1));
        }
    });
}

#[test]
fn g10_fcgiwrap_reads_every_body_before_it_answers() {
    each(&[Program::fcgiwrap], |app| {
        let mut connection = app.connect();
        connection.send(&app.post("upload", vec![b'x'; 20_000]).unended().bytes());
        assert_eq!(connection.read_record(A_WHILE), Err(End::TimedOut));
        connection.send(&fcgi::stdin_end(1));
        assert!(stdout(&until_end(&mut connection, 1), 1).contains("\r\n\r\n20000 "));
        assert!(serves(app, &mut connection, 2));
    });
}

#[test]
fn g10_a_body_over_a_pipe_that_its_program_does_not_read_gets_502_from_fcgiwrap() {
    each(&[Program::fcgiwrap], |app| {
        let mut connection = app.connect();
        let reply = connection.call(&app.post("early", vec![b'x'; 300_000]), SOON).whole();
        assert_eq!(reply.http_status(), 502, "{reply:?}");
        assert_ne!(connection.ending(SOON), End::TimedOut);
    });
}

#[test]
fn g10_a_program_that_writes_much_before_it_reads_much_hangs_behind_fcgiwrap() {
    each(&[Program::fcgiwrap], |app| {
        let mut connection = app.connect();
        connection.send(&app.post("size=200000", vec![b'x'; 200_000]).bytes());
        assert_eq!(connection.read_record(milliseconds(1_000)), Err(End::TimedOut));
    });
}

#[test]
fn g10_requests_start_when_their_params_end_except_in_go_and_fcgiwrap() {
    each(&ALL, |app| {
        let mut connection = app.connect();
        connection.send(&app.get("early").head());
        let starts = connection.read_record(A_WHILE).is_ok();
        // Go waits for a first STDIN record, fcgiwrap for the end of STDIN.
        assert_eq!(starts, !["go", "fcgiwrap"].contains(&app.name()));
        if !starts {
            connection.send(&fcgi::stdin_end(1));
            until_end(&mut connection, 1);
        }
    });
}

// G11. Params.

/// The line of one param in what comes back for a request whose PARAMS are these records.
fn line(app: &App, records: &[&[u8]], name: &str) -> String {
    let mut connection = app.connect();
    let mut bytes = fcgi::begin(1, true);
    bytes.extend(records.iter().flat_map(|content| fcgi::record(PARAMS, 1, content)));
    connection.send(&[bytes, fcgi::record(PARAMS, 1, &[]), fcgi::stdin_end(1)].concat());
    let records = until_end(&mut connection, 1);
    assert!(serves(app, &mut connection, 2));
    let text = stdout(&records, 1);
    let line = text.lines().find(|line| line.starts_with(name));
    line.unwrap_or("nothing").to_owned()
}

fn usual(app: &App) -> Vec<u8> {
    fcgi::pairs(app.get("token=a").params)
}

#[test]
fn g11_a_pair_that_spans_two_params_records_is_lost_by_flup_only() {
    each(&ALL, |app| {
        let (usual, pair) = (usual(app), fcgi::pair(b"X_PARAM", b"hello"));
        let flup = app.name().starts_with("flup");
        let value = line(app, &[&usual, &pair[..11], &pair[11..]], "X_PARAM=");
        assert_eq!(value, if flup { "X_PARAM=he" } else { "X_PARAM=hello" });
        let name = line(app, &[&usual, &pair[..4], &pair[4..]], "X_PARAM=");
        assert_eq!(name, if flup { "X_PARAM=" } else { "X_PARAM=hello" });
        assert_eq!(line(app, &[&usual, &pair], "X_PARAM="), "X_PARAM=hello");
    });
}

#[test]
fn g11_large_params_arrive_whole() {
    each(&ALL, |app| {
        let value = "v".repeat(60_000);
        let sum: String = Sha256::digest(&value).iter().map(|byte| format!("{byte:02x}")).collect();
        let pair = fcgi::pair(b"X_LONG", value.as_bytes());
        let many: Vec<Vec<u8>> = (0..300).map(|n| fcgi::pair(format!("X_{n}").as_bytes(), b"value")).collect();
        let usual = usual(app);
        let mut records = vec![usual.as_slice(), &pair];
        records.extend(many.iter().map(Vec::as_slice));
        assert_eq!(line(app, &records, "X_LONG="), format!("X_LONG=60000 {sum}"));
    });
}

#[test]
fn g11_a_head_that_libfcgi_does_not_read_at_once_leaves_its_stdin_end_behind() {
    each(&LIBFCGI[..2], |app| {
        let mut connection = app.connect();
        let call = app.get("early").param("X_LONG", &"v".repeat(20_000));
        connection.send(&call.head());
        until_end(&mut connection, 1);
        thread::sleep(milliseconds(50));
        connection.send(&fcgi::stdin_end(1));
        let (records, end) = drain(&mut connection, A_WHILE);
        assert_eq!(ends(&records, 2), 0);
        assert_ne!(end, End::TimedOut, "the next request would have met a closed connection");
    });
}
