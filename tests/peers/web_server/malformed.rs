//! Requests that cannot be served, and web servers that stop in the middle.

use std::time::{Duration, Instant};

use super::{BODY, MILLISECOND, SOON, assert_echoed, post, with};
use crate::support::{
    Fcgimux,
    fcgi::{self, Call, Connection, End},
    wait_until,
};

const SECOND: Duration = Duration::from_secs(1);

/// A request whose PARAMS have this content.
fn with_params(content: &[u8]) -> Vec<u8> {
    let records = [fcgi::begin(1, false), fcgi::record(fcgi::PARAMS, 1, content), fcgi::record(fcgi::PARAMS, 1, &[])];
    [records.concat(), fcgi::stdin_end(1)].concat()
}

#[track_caller]
fn assert_refused(mux: &Fcgimux, bytes: &[u8], (status, reason): (u16, &str), case: &str) {
    let before = mux.metrics();
    let mut connection = mux.connect();
    connection.send(bytes);
    let reply = connection.reply(SOON).whole();
    let log = String::from_utf8_lossy(&reply.stderr).into_owned();
    assert_eq!(reply.http_status(), status, "{case}: {reply:?}");
    assert_eq!(reply.status, (0, 0), "{case}");
    assert!(log.starts_with("fcgimux: ") && log.len() > 20, "{case}: STDERR {log:?}");
    let now = mux.metrics();
    assert_eq!(now.since(&before, "fcgimux_refused_total", &[("reason", reason)]), 1.0, "{case}");
    assert_eq!(now.since(&before, "fcgimux_refused_total", &[]), 1.0, "{case}");
    assert_eq!(now.since(&before, "fcgimux_requests_total", &[("outcome", "refused")]), 1.0, "{case}");
    connection.shutdown_write();
    assert_eq!(connection.ending(SOON), End::Closed, "{case}");
}

#[track_caller]
fn assert_closed(mux: &Fcgimux, bytes: &[u8], case: &str) {
    let mut connection = mux.connect();
    connection.send(bytes);
    let (rest, end) = connection.read_to_end(SOON);
    assert!(rest.is_empty() && matches!(end, End::Closed | End::Reset), "{case}: {} bytes, {end:?}", rest.len());
}

#[test]
fn pairs_with_lengths_that_lie_are_answered_400() {
    with("", "", |mux, application| {
        let before = application.accepted();
        let good = fcgi::pair(b"REQUEST_METHOD", b"GET");
        let cases: [(&str, &[u8]); 8] = [
            ("a name longer than the rest", &[200, 1, b'A']),
            ("a value longer than the rest", &[1, 100, b'A', b'b']),
            ("a length of four bytes cut short", &[0x80, 0, 0]),
            ("a length without the other", &[5]),
            ("2 GiB of name", &[0xff, 0xff, 0xff, 0xff, 1, b'A']),
            ("2 GiB of value", &[1, 0xff, 0xff, 0xff, 0xff, b'A', b'b']),
            ("2 GiB of both", &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            ("one byte too few", &[3, 4, b'A', b'B', b'C', b'1', b'2', b'3']),
        ];
        for (case, bytes) in cases {
            assert_refused(mux, &with_params(bytes), (400, "malformed"), case);
            assert_refused(mux, &with_params(&[&good, bytes].concat()), (400, "malformed"), case);
        }
        assert_eq!(application.accepted(), before, "nothing of it reached the application");
    });
}

#[test]
fn a_body_that_is_not_as_long_as_content_length_says_is_answered_400() {
    with("", "", |mux, application| {
        let before = application.accepted();
        let mismatch = (400, "length_mismatch");
        for said in
            ["-5", "+39", "39 ", " 39", "0x27", "39.0", "abc", "99999999999999999999", "39\0", "39,39", "\u{b2}"]
        {
            let bytes = post().param("CONTENT_LENGTH", said).bytes();
            assert_refused(mux, &bytes, mismatch, &format!("CONTENT_LENGTH {said:?}"));
        }
        for said in [1, BODY.len() - 1, BODY.len() + 1, 1_000_000] {
            let bytes = post().param("CONTENT_LENGTH", &said.to_string()).bytes();
            assert_refused(mux, &bytes, mismatch, &format!("{said} said, {} sent", BODY.len()));
        }
        let length = BODY.len().to_string();
        // PHP takes the last one.
        for (first, second) in [(&*length, "1"), ("", "1"), (&*length, "x")] {
            let mut call = post().param("CONTENT_LENGTH", first);
            call.params.push(("CONTENT_LENGTH".to_owned(), second.to_owned()));
            assert_refused(mux, &call.bytes(), mismatch, &format!("twice: {first:?}, {second:?}"));
        }
        assert_eq!(application.accepted(), before, "nothing of it reached the application");
    });
}

#[test]
fn a_missing_content_length_is_filled_in() {
    with("", "", |mux, _| {
        let mut call = post();
        call.params.retain(|(name, _)| name != "CONTENT_LENGTH");
        assert_echoed(mux.call(&call, SOON), "without CONTENT_LENGTH");
        assert_echoed(mux.call(&call.clone().param("CONTENT_LENGTH", ""), SOON), "with an empty one");
        call.params.push(("CONTENT_LENGTH".to_owned(), BODY.len().to_string()));
        call.params.push(("CONTENT_LENGTH".to_owned(), BODY.len().to_string()));
        assert_echoed(mux.call(&call, SOON), "twice the same");
    });
}

#[test]
fn what_no_web_server_may_send_ends_the_connection() {
    with("", "", |mux, application| {
        let before = application.accepted();
        let call = post();
        let head = call.head();
        assert_closed(mux, b"GET / HTTP/1.1\r\nHost: here\r\n\r\n", "HTTP");
        assert_closed(mux, &[0; 100], "version 0");
        let mut version = call.bytes();
        version[0] = 2;
        assert_closed(mux, &version, "version 2");
        let mut version = call.bytes();
        version[head.len()] = 2;
        assert_closed(mux, &version, "version 2 in the middle");
        assert_closed(mux, &[fcgi::begin(1, false), fcgi::stdin(1, b"x")].concat(), "STDIN first");
        assert_closed(
            mux,
            &[&head[..head.len() - 8], &fcgi::stdin(1, b"x")].concat(),
            "STDIN before the end of PARAMS",
        );
        assert_closed(
            mux,
            &[&head[..], &fcgi::record(fcgi::PARAMS, 1, b"\x01\x01Ab")].concat(),
            "PARAMS behind their end",
        );
        for length in [0, 7, 9, 300] {
            let begin = fcgi::record(fcgi::BEGIN_REQUEST, 1, &[0, 1, 0, 0, 0, 0, 0, 0].repeat(40)[..length]);
            assert_closed(mux, &begin, &format!("BEGIN of {length} bytes"));
        }
        assert_eq!(application.accepted(), before, "nothing of it reached the application");
    });
}

#[test]
fn a_request_without_params_is_served_as_one() {
    with("", "", |mux, _| {
        let none: [(&str, &str); 0] = [];
        let mut connection = mux.connect();
        connection.send(&[fcgi::begin(1, false), fcgi::params(1, none), fcgi::stdin_end(1)].concat());
        assert_eq!(connection.reply(SOON).whole().http_status(), 200);
    });
}

/// Stages at which a web server stops without closing.
fn stages() -> Vec<(&'static str, Vec<u8>)> {
    let (call, head) = (post(), post().head());
    let whole = call.bytes();
    vec![
        ("before its first byte", vec![]),
        ("in the header of BEGIN", whole[..5].to_vec()),
        ("in BEGIN", whole[..12].to_vec()),
        ("behind BEGIN", whole[..16].to_vec()),
        ("in a param", whole[..30].to_vec()),
        ("behind its params", head.clone()),
        ("in its body", whole[..head.len() + 8 + 10].to_vec()),
        ("before the last byte of its body", whole[..whole.len() - 9].to_vec()),
    ]
}

#[test]
fn a_request_that_is_never_finished_is_hung_up_on() {
    with("timeouts: {read: 400ms, write: 10s}", "", |mux, application| {
        let before = application.accepted();
        let mut connections = Vec::new();
        for (stage, bytes) in stages() {
            let mut connection = mux.connect();
            connection.send(&bytes);
            connections.push((stage, connection));
        }
        wait_until("they are all connected", || mux.metrics().sum("fcgimux_downstream_connections", &[]) >= 8.0);
        for (stage, mut connection) in connections {
            let reply = connection.reply(SOON);
            // A request that has begun can be answered.
            let status = if reply.ended { reply.http_status() } else { 0 };
            assert_eq!(status, if reply.ids.is_empty() { 0 } else { 408 }, "{stage}: {reply:?}");
            let end = reply.broken.unwrap_or_else(|| connection.ending(SOON));
            assert!(matches!(end, End::Closed | End::Reset), "{stage}: {end:?}");
        }
        let timed_out = mux.metrics().sum("fcgimux_refused_total", &[("reason", "read_timeout")]);
        assert_eq!(timed_out, 5.0, "those that had begun a request");
        assert_eq!(application.accepted(), before, "nothing of it reached the application");
    });
}

#[test]
fn a_web_server_that_is_slow_but_not_silent_is_waited_for() {
    with("timeouts: {read: 400ms, write: 10s}", "", |mux, _| {
        let bytes = post().bytes();
        let mut connection = mux.connect();
        let start = Instant::now();
        connection.send_pieces(&bytes, &[bytes.len() / 12 + 1], 100 * MILLISECOND);
        assert!(start.elapsed() > SECOND);
        assert_echoed(connection.reply(SOON), "in 1.2 s with a timeout of 0.4 s");
    });
}

#[test]
fn a_web_server_that_hangs_up_in_its_request_costs_the_application_nothing() {
    with("", "", |mux, application| {
        let before = application.accepted();
        let ways: [fn(Connection); 2] = [Connection::close, |connection| connection.shutdown_write()];
        for way in ways {
            for (_, bytes) in stages() {
                let mut connection = mux.connect();
                connection.send(&bytes);
                way(connection);
            }
        }
        wait_until("all are gone", || mux.metrics().sum("fcgimux_downstream_connections", &[]) == 0.0);
        assert_eq!(application.accepted(), before);
    });
}

#[test]
fn a_web_server_that_takes_no_byte_of_its_response_is_hung_up_on() {
    with("timeouts: {read: 10s, write: 500ms}", "", |mux, _| {
        let body = "x".repeat(4_000_000);
        let mut connection = mux.connect();
        connection.send(&Call::post("/big", body.clone()).last().bytes());
        wait_until("it was hung up on", || mux.metrics().sum("fcgimux_downstream_connections", &[]) == 0.0);
        let reply = connection.reply(SOON);
        assert!(!reply.ended, "a response that was cut must not have an end");
        assert_eq!(mux.metrics().sum("fcgimux_requests_total", &[("outcome", "gone")]), 1.0);
        // One that reads slowly gets everything.
        let mut connection = mux.connect();
        connection.send(&Call::post("/big", body.clone()).last().bytes());
        std::thread::sleep(300 * MILLISECOND);
        assert_eq!(connection.reply(SOON).whole().body().len(), body.len());
    });
}
