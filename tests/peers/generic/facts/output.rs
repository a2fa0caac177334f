//! G13 and G14: how output is packed, and when it leaves.

use std::time::Instant;

use crate::generic_facts::{ALL, SOON, drain, each, milliseconds, until_end};
use crate::support::{
    apps::{App, Program},
    fcgi::{Call, END_REQUEST, Record, STDERR, STDOUT},
};

fn answer(app: &App, call: &Call) -> Vec<Record> {
    let mut connection = app.connect();
    connection.send(&call.bytes());
    until_end(&mut connection, 1)
}

// G13. Records.

#[test]
fn g13_stdout_ends_with_an_empty_record_before_end_request() {
    each(&ALL, |app| {
        for query in ["early", "size=100000"] {
            let records = answer(app, &app.get(query));
            let [.., last, end] = records.as_slice() else { panic!("{records:?}") };
            assert_eq!((last.kind, last.content.len(), end.kind), (STDOUT, 0, END_REQUEST));
            assert_eq!(records.iter().filter(|record| record.content.is_empty()).count(), 1);
        }
    });
}

#[test]
fn g13_records_of_large_output_have_the_size_of_the_library_s_buffer() {
    each(&ALL, |app| {
        let records = answer(app, &app.get("size=600000"));
        let largest = records.iter().map(|record| record.content.len()).max();
        let expected = match app.name() {
            "go" => 65_535,
            // fcgiwrap writes through libfcgi's stdio.
            _ => 8_184,
        };
        assert_eq!(largest, Some(expected));
        let smallest = records.iter().filter(|record| record.kind == STDOUT && !record.content.is_empty());
        // Go cuts each write of 64 KiB in two.
        assert_eq!(smallest.map(|record| record.content.len()).min() == Some(1), app.name() == "go");
    });
}

#[test]
fn g13_stderr_is_ended_by_an_empty_record_where_anything_was_written_to_it() {
    each(&[Program::libfcgi, Program::perl, Program::flup], |app| {
        let records = answer(app, &app.get("stderr=word"));
        let stderr: Vec<&[u8]> =
            records.iter().filter(|record| record.kind == STDERR).map(|record| record.content.as_slice()).collect();
        assert_eq!(stderr, [b"word\n".as_slice(), b""], "{records:?}");
    });
    // Go has no STDERR for handlers; fcgiwrap keeps it for itself.
    each(&[Program::go, Program::fcgiwrap], |app| {
        assert!(answer(app, &app.get("stderr=word")).iter().all(|record| record.kind != STDERR));
    });
}

// G14. Streaming.

/// How long after the request its first and its last chunk came.
fn chunks(app: &App, call: &Call) -> (u128, u128) {
    let (start, mut connection) = (Instant::now(), app.connect());
    connection.send(&call.bytes());
    let mut times = Vec::new();
    loop {
        let record = connection.read_record(SOON).expect("a record");
        if record.kind == END_REQUEST {
            break;
        }
        if String::from_utf8_lossy(&record.content).contains("chunk") {
            times.push(start.elapsed().as_millis());
        }
    }
    drain(&mut connection, milliseconds(1));
    (times[0], times[times.len() - 1])
}

#[test]
fn g14_what_is_flushed_leaves_at_once_except_through_fcgiwrap() {
    each(&ALL, |app| {
        let (first, last) = chunks(app, &app.get("stream=3&pause=300"));
        assert!(last >= 600, "{last}");
        match app.name() {
            "fcgiwrap" => assert!(first >= 600, "it streams: {first}"),
            _ => assert!(first < 300 + 250, "{first}"),
        }
    });
}

#[test]
fn g14_fcgiwrap_streams_with_the_param_no_buffering() {
    each(&[Program::fcgiwrap], |app| {
        let (first, last) = chunks(app, &app.get("stream=3&pause=300").param("NO_BUFFERING", "1"));
        assert!(first < 300 + 250 && last >= 600, "{first} {last}");
    });
}
