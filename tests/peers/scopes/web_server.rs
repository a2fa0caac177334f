//! What a web server does wrong, or does without a word.
//!
//! | from the web server | dies | lives |
//! |---|---|---|
//! | a record of an id that it has not begun | nothing | |
//! | a record of an exchange that ended | nothing | |
//! | BEGIN_REQUEST of an id that runs | its connection with all exchanges | the application's connection |
//! | one request more than max_requests_in_flight | that request | the others |
//! | malformed or too large PARAMS | that request | the others |
//! | a header that cannot be one | its connection with all exchanges | the application's connection |
//! | it hangs up | its connection with all exchanges | the application's connection |

use super::{
    Beside, MILLISECOND, ONE, SIZE, SOON, assert_right, assert_status, get, in_flight, post, wait_executed, with,
};
use crate::support::{
    Fcgimux, eventually,
    fcgi::{self, Connection, END_REQUEST, End, Multiplexer, PARAMS, Pattern, Replies, STDIN, STDOUT},
    wait_until,
};

#[test]
fn records_of_an_id_that_was_never_begun_end_nothing() {
    with(ONE, "", |mux, application| {
        let beside = Beside::begin(mux, application);
        let mut connection = mux.connect();
        let (call, mut strays) = (post(1, "one", ""), Vec::new());
        for kind in [PARAMS, STDIN, fcgi::DATA, fcgi::ABORT_REQUEST, END_REQUEST, STDOUT, 200] {
            strays.extend(fcgi::record_padded(kind, 77, b"\xff\xff\xff\xffnot a pair", 5));
            strays.extend(fcgi::record(kind, 78, b""));
        }
        // The same between the records of a request.
        let whole = call.bytes();
        let head = call.head().len();
        connection.send(&[&strays, &whole[..16], &strays, &whole[16..head], &strays, &whole[head..], &strays].concat());
        assert_right(&connection.reply(SOON), "one");
        assert_right(&connection.call(&get(77, "two", ""), SOON), "two");
        beside.assert_right();
        assert_eq!(application.tally().late_records, 0, "nothing of it is passed on");
    });
}

#[test]
fn records_of_an_exchange_that_has_ended_end_nothing() {
    with(ONE, "", |mux, application| {
        let mut connection = mux.connect();
        connection.send(&get(2, "slow", "&delay=300").bytes());
        for round in 0..3 {
            let token = format!("one{round}");
            assert_right(&connection.call(&post(1, &token, ""), SOON), &token);
            connection.send(&fcgi::stdin(1, b"too late"));
            connection.send(&[fcgi::stdin_end(1), fcgi::record(PARAMS, 1, b"x"), fcgi::abort(1)].concat());
        }
        // Its response ends before its body does: the rest is passed over, and the id may be begun again.
        let early = post(3, "early", "&early=1");
        let bytes = early.bytes();
        connection.send(&bytes[..bytes.len() - 500]);
        assert_right(&connection.reply(SOON), "early");
        connection.send(&bytes[bytes.len() - 500..]);
        connection.send(&get(3, "again", "").bytes());
        let replies = Replies::read(&mut connection, &[2, 3], SOON);
        assert_right(&replies[2], "slow");
        assert_right(&replies[3], "again");
        assert_eq!(application.tally().connections, 1);
    });
}

/// Requests that take their time, under ids from 1; each runs at the application once this returns.
#[track_caller]
fn several(mux: &Fcgimux, application: &Multiplexer, count: u16, delay: u32) -> Connection {
    let mut connection = mux.connect();
    for id in 1..=count {
        connection.send(&get(id, &format!("several{id}"), &format!("&delay={delay}")).bytes());
    }
    for id in 1..=count {
        wait_executed(application, &format!("several{id}"));
    }
    connection
}

/// The connection of the web server is over, and with it all that ran on it: the application is told, and keeps its
/// connection.
#[track_caller]
fn assert_all_taken_back(mux: &Fcgimux, application: &Multiplexer, count: usize) {
    wait_until("the application is told", || application.tally().aborts == count);
    wait_until("nothing is under way", || in_flight(mux) == 0.0);
    let tally = application.tally();
    assert_eq!((tally.open_ids, tally.lost, tally.connections), (0, 0, 1), "{tally:?}");
}

#[track_caller]
fn assert_hung_up(connection: &mut Connection) {
    let reply = connection.reply(SOON);
    assert!(!reply.ended && reply.stdout.is_empty(), "{reply:?}");
    assert!(matches!(reply.broken, Some(End::Closed | End::Reset)), "{reply:?}");
}

#[test]
fn an_id_begun_while_it_runs_ends_the_connection_of_the_web_server_with_all_its_exchanges() {
    with(ONE, "", |mux, application| {
        let beside = Beside::begin(mux, application);
        let mut connection = several(mux, application, 4, 20_000);
        connection.send(&get(2, "twice", "").bytes());
        assert_hung_up(&mut connection);
        beside.assert_right();
        assert_all_taken_back(mux, application, 4);
        assert_eq!(application.executed("twice"), 0);
    });
}

#[test]
fn a_header_that_cannot_be_one_ends_the_connection_of_the_web_server_with_all_its_exchanges() {
    for garbage in [&b"GET / HTTP/1.1\r\n"[..], &[0; 8], &[2, 1, 0, 9, 0, 0, 0, 0]] {
        with(ONE, "", move |mux, application| {
            let beside = Beside::begin(mux, application);
            let mut connection = several(mux, application, 4, 20_000);
            connection.send(garbage);
            assert_hung_up(&mut connection);
            beside.assert_right();
            assert_all_taken_back(mux, application, 4);
        });
    }
}

#[test]
fn a_web_server_that_hangs_up_ends_its_own_exchanges_only() {
    let ways: [fn(Connection); 2] = [Connection::close, |connection| {
        // A part of a record lies there.
        let mut connection = connection;
        connection.send(&fcgi::stdin(9, b"some more bytes")[..12]);
        connection.close();
    }];
    for way in ways {
        with(ONE, "", move |mux, application| {
            let beside = Beside::begin(mux, application);
            let mut connection = several(mux, application, 4, 20_000);
            // One whose params have not come, and one whose body has not.
            connection.send(&get(5, "begun", "").bytes()[..16]);
            let half = post(6, "half", "");
            connection.send(&[half.head(), fcgi::stdin(6, &half.body[..300])].concat());
            wait_executed(application, "half");
            way(connection);
            beside.assert_right();
            assert_all_taken_back(mux, application, 5);
            assert_eq!(application.executed("begun"), 0);
        });
    }
}

/// Whatever byte of its request was the last.
#[test]
fn a_web_server_that_hangs_up_anywhere_in_its_request_leaves_nothing_behind() {
    with(ONE, "", |mux, application| {
        for (keeps, has_body) in [(true, true), (false, true), (true, false), (false, false)] {
            let token = format!("keeps-{keeps}-{has_body}");
            // Each is a request of its own, with the same token.
            let call = get(1, &token, "&delay=20");
            let body = Pattern::of_body(&token).bytes(SIZE);
            let call = if has_body { call.body("text/plain", body) } else { call };
            let call = if keeps { call } else { call.last() };
            let whole = call.bytes();
            let (head, end) = (call.head().len(), whole.len());
            let cuts = (1..end).filter(|cut| *cut < 40 || cut.abs_diff(head) < 20 || *cut > end - 20);
            for cut in cuts {
                let mut connection = mux.connect();
                connection.send(&whole[..cut]);
                connection.close();
                let open = || mux.metrics().sum("fcgimux_downstream_connections", &[]);
                let gone = eventually(SOON / 4, || open() == 0.0);
                assert!(
                    gone,
                    "hung up at byte {cut} of {}, keep-conn {keeps}, body {has_body}: its connection is kept",
                    whole.len()
                );
            }
        }
        wait_until("nothing is under way", || in_flight(mux) == 0.0 && application.tally().open_ids == 0);
    });
}

#[test]
fn a_request_over_the_limit_is_told_so_and_the_others_live() {
    with(ONE, "max_requests_in_flight: 3", |mux, application| {
        let mut connection = several(mux, application, 3, 400);
        let over = [post(4, "four", ""), get(5, "five", "")];
        connection.send(&over.iter().flat_map(fcgi::Call::bytes).collect::<Vec<_>>());
        let replies = Replies::read(&mut connection, &[4, 5], SOON);
        for (id, reply) in replies.iter() {
            // With a page for a web server that does not look at the status.
            assert_eq!((reply.status, reply.http_status()), ((0, 1), 503), "CANT_MPX_CONN for {id}");
            assert!(reply.took < 200 * MILLISECOND, "{:?}", reply.took);
        }
        assert_eq!(application.executed("four") + application.executed("five"), 0);
        let replies = Replies::read(&mut connection, &[1, 2, 3], SOON);
        for (id, reply) in replies.iter() {
            assert_right(reply, &format!("several{id}"));
        }
        assert_right(&connection.call(&post(4, "four", ""), SOON), "four");
    });
}

#[test]
fn with_a_limit_of_one_a_second_request_is_told_that_there_is_no_multiplexing() {
    with(ONE, "max_requests_in_flight: 1", |mux, application| {
        let mut connection = several(mux, application, 1, 300);
        connection.send(&get(2, "two", "").bytes());
        let refused = connection.reply(SOON).whole();
        assert_eq!((refused.ids.as_slice(), refused.status, refused.http_status()), ([2].as_slice(), (0, 1), 503));
        assert_right(&connection.reply(SOON), "several1");
        assert_right(&connection.call(&get(2, "two", ""), SOON), "two");
        assert_eq!(application.executed("two"), 1);
    });
}

#[test]
fn params_that_cannot_be_read_refuse_their_request_only() {
    with(ONE, "", |mux, application| {
        let mut connection = several(mux, application, 3, 400);
        let large = [b"\x04\x80\x06\x00\x00BIGS".to_vec(), vec![b'x'; 0x6_0000]].concat();
        let cases: [(&str, Vec<u8>, u16); 4] = [
            ("a length that lies", b"\x05\x7fNAME".to_vec(), 400),
            ("a name cut off", b"\xff\xff".to_vec(), 400),
            ("half a pair", b"\x03\x03NAM".to_vec(), 400),
            ("too large", large, 431),
        ];
        for (id, (what, content, status)) in (10..).zip(cases) {
            connection.send(&fcgi::begin(id, true));
            for piece in content.chunks(65_000) {
                connection.send(&fcgi::record(PARAMS, id, piece));
            }
            connection.send(&[fcgi::record(PARAMS, id, b""), fcgi::stdin_end(id)].concat());
            let replies = Replies::read(&mut connection, &[id], SOON);
            println!("{what}");
            assert_status(&replies[id], status);
        }
        let replies = Replies::read(&mut connection, &[1, 2, 3], SOON);
        for (id, reply) in replies.iter() {
            assert_right(reply, &format!("several{id}"));
        }
        assert_eq!(application.tally().begun, 3, "nothing of them reached the application");
    });
}
