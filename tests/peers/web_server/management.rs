//! Management records, roles, and several requests at once.

use super::{BODY, Keep, SOON, assert_echoed, post, with};
use crate::support::fcgi::{self, Call, Connection, End, Replies};

/// Name and value of each pair of the next record, which must be a GET_VALUES_RESULT.
#[track_caller]
fn values(connection: &mut Connection) -> Vec<(String, String)> {
    let record = connection.read_record(SOON).expect("an answer");
    assert_eq!((record.kind, record.id), (fcgi::GET_VALUES_RESULT, 0), "{record:?}");
    let mut incoming = fcgi::Incoming::default();
    incoming.take(fcgi::Record { kind: fcgi::PARAMS, ..record });
    incoming.params
}

fn ask(names: &[&str]) -> Vec<u8> {
    fcgi::record(fcgi::GET_VALUES, 0, &fcgi::pairs(names.iter().map(|name| (name, ""))))
}

/// What is always answered.
const ALL: [&str; 3] = ["FCGI_MAX_CONNS", "FCGI_MAX_REQS", "FCGI_MPXS_CONNS"];

#[test]
fn get_values_tells_what_is_known_and_leaves_out_the_rest() {
    with("max_connections: 321\n    max_requests_in_flight: 45", "", |mux, _| {
        let known = |name: &str| {
            let value = match name {
                "FCGI_MAX_CONNS" => "321",
                "FCGI_MAX_REQS" => "45",
                _ => "1",
            };
            (name.to_owned(), value.to_owned())
        };
        let mut connection = mux.connect();
        for names in [&ALL[..], &ALL[..1], &ALL[1..], &[]] {
            connection.send(&ask(names));
            assert_eq!(values(&mut connection), names.iter().map(|name| known(name)).collect::<Vec<_>>());
        }
        connection.send(&ask(&["FCGI_OTHER", "", "fcgi_max_conns", ALL[2], "FCGI_MAX_CONNS "]));
        assert_eq!(values(&mut connection), [known(ALL[2])]);
        // Padded, with a value, in pieces, and with a length that lies.
        connection.send_pieces(
            &fcgi::record_padded(fcgi::GET_VALUES, 0, &fcgi::pairs([(ALL[0], "7")]), 200),
            &[1],
            super::MILLISECOND / 10,
        );
        assert_eq!(values(&mut connection), [known(ALL[0])]);
        connection.send(&fcgi::record(fcgi::GET_VALUES, 0, &[15, 200, b'F', b'C']));
        assert_eq!(values(&mut connection), []);
        // The connection serves requests all the same.
        connection.send(&post().bytes());
        assert_echoed(connection.reply(SOON), "behind GET_VALUES");
    });
}

#[test]
fn get_values_tells_that_there_is_no_multiplexing_where_one_request_at_a_time_is_allowed() {
    with("max_requests_in_flight: 1", "", |mux, _| {
        let mut connection = mux.connect();
        connection.send(&ask(&ALL[1..]));
        let told = [("FCGI_MAX_REQS", "1"), ("FCGI_MPXS_CONNS", "0")];
        assert_eq!(values(&mut connection), told.map(|(name, value)| (name.to_owned(), value.to_owned())));
    });
}

#[test]
fn get_values_with_many_names_is_answered_or_closed() {
    with("", "", |mux, _| {
        let mut connection = mux.connect();
        connection.send(&ask(&[ALL[0]; 50]));
        assert_eq!(values(&mut connection).len(), 50);
        for count in [70, 3_000] {
            let mut connection = mux.connect();
            connection.send(&ask(&vec![ALL[1]; count]));
            let end = connection.ending(SOON);
            assert!(end == End::Closed || end == End::Reset, "{count} names: {end:?}");
        }
    });
}

#[test]
fn other_management_records_are_answered_unknown_type() {
    with("", "", |mux, _| {
        let mut connection = mux.connect();
        // Those of a request may bear id 0: php-fpm takes them (fact 9.1).
        for kind in [0, 3, 6, 7, 10, 11, 12, 200, 255] {
            for content in [&b""[..], b"\0\x01\0\0\0\0\0\0", &[7; 3_000]] {
                connection.send(&fcgi::record_padded(kind, 0, content, 5));
                let record = connection.read_record(SOON).expect("an answer");
                assert_eq!((record.kind, record.id), (fcgi::UNKNOWN_TYPE, 0));
                assert_eq!(record.content, [kind, 0, 0, 0, 0, 0, 0, 0]);
            }
        }
        connection.send(&post().bytes());
        assert_echoed(connection.reply(SOON), "behind them");
    });
}

/// Between two records of a request they are answered too, and the request is not disturbed.
#[test]
fn management_records_may_come_inside_a_request() {
    with("", "", |mux, _| {
        let call = post();
        let head = call.head();
        let mut connection = mux.connect();
        connection.send(&head[..16]);
        connection.send(&ask(&ALL));
        assert_eq!(values(&mut connection).len(), 3);
        connection.send(&head[16..]);
        connection.send(&fcgi::record(77, 0, b""));
        assert_eq!(connection.read_record(SOON).expect("an answer").kind, fcgi::UNKNOWN_TYPE);
        connection.send(&fcgi::stdin(1, &BODY.as_bytes()[..5]));
        connection.send(&ask(&ALL));
        assert_eq!(values(&mut connection).len(), 3);
        connection.send(&[fcgi::stdin(1, &BODY.as_bytes()[5..]), fcgi::stdin_end(1)].concat());
        assert_echoed(connection.reply(SOON), "with management records inside");
    });
}

#[test]
fn a_flood_of_management_records_without_reading_the_answers_is_hung_up_on() {
    with("timeouts: {read: 2s, write: 2s}", "", |mux, _| {
        let mut connection = mux.connect();
        let flood = ask(&ALL).repeat(2_000);
        for piece in [flood.len(), 5_000] {
            let mut sent = 0;
            while sent < 16 << 20 && connection.try_send(&flood[..piece]).is_ok() {
                sent += piece;
            }
            assert!(sent < 16 << 20, "{sent} bytes were taken without an end");
            connection = mux.connect();
        }
    });
}

#[test]
fn answers_that_are_read_late_come_all_the_same() {
    with("", "", |mux, _| {
        let mut connection = mux.connect();
        let question = ask(&ALL);
        let mut asked = 0;
        // As many as fit in the buffers of both directions.
        loop {
            let sent = connection.send_what_fits(&question.repeat(100));
            asked += sent / question.len();
            if sent % question.len() != 0 {
                connection.send(&question[sent % question.len()..]);
                asked += 1;
            }
            if sent < question.len() * 100 {
                break;
            }
            std::thread::sleep(super::MILLISECOND);
        }
        assert!(asked > 100);
        for number in 0..asked {
            assert_eq!(values(&mut connection).len(), 3, "answer {number} of {asked}");
        }
        assert_echoed(connection.call(&post().keep(), SOON), "behind them");
    });
}

#[test]
fn an_unknown_role_is_answered_so() {
    with("", "", |mux, application| {
        let before = application.accepted();
        let mut connection = mux.connect();
        // php-fpm reads no DATA, so that a Filter is unknown before it.
        for role in [0, 3, 4, 65_535] {
            let call = post();
            connection.send(&fcgi::begin_role(5, role, 1));
            // What belongs to it is passed over.
            connection.send(&fcgi::record(fcgi::PARAMS, 5, &fcgi::pairs(call.params.iter().cloned())));
            connection.send(&[fcgi::record(fcgi::PARAMS, 5, &[]), fcgi::stdin_end(5)].concat());
            connection.send(&[fcgi::record(fcgi::DATA, 5, b"x"), fcgi::record(fcgi::DATA, 5, &[])].concat());
            let reply = connection.reply(SOON).whole();
            assert_eq!((reply.status, reply.ids.as_slice(), reply.stdout.len()), ((0, 3), [5].as_slice(), 0), "{role}");
        }
        assert_eq!(application.accepted(), before, "nothing of it reached the application");
        assert_echoed(connection.call(&post().keep(), SOON), "behind unknown roles");
        connection.send(&fcgi::begin_role(6, 3, 0));
        assert_eq!(connection.reply(SOON).whole().status, (0, 3));
        assert_eq!(connection.ending(SOON), End::Closed, "closed behind a request without keep-conn");
    });
}

#[test]
fn requests_whose_records_alternate_are_each_served() {
    with("", "", |mux, _| {
        let ids = [1, 2, 3, 700, 65_535];
        let calls = ids.map(|id| Call::post("/app", format!("the body of {id}, in pieces")).id(id).keep());
        let mut connection = mux.connect();
        for size in [1, 7, 1_000] {
            let mut streams = calls.clone().map(|call| split(&call, size).into_iter());
            let mut more = true;
            while more {
                more = false;
                for record in streams.iter_mut().filter_map(Iterator::next) {
                    connection.send(&record);
                    more = true;
                }
            }
            let replies = Replies::read(&mut connection, &ids, SOON);
            for (id, reply) in replies.iter() {
                let wanted = format!("the body of {id}, in pieces");
                assert_eq!((reply.text(), reply.http_status(), reply.status), (wanted, 200, (0, 0)), "{reply:?}");
            }
        }
        assert_echoed(connection.call(&post().keep(), SOON), "behind them");
    });
}

/// Its records, of contents no longer than that.
fn split(call: &Call, size: usize) -> Vec<Vec<u8>> {
    let mut records = vec![fcgi::begin(call.id, true)];
    let params = fcgi::pairs(call.params.iter().cloned());
    records.extend(params.chunks(size).map(|piece| fcgi::record(fcgi::PARAMS, call.id, piece)));
    records.push(fcgi::record(fcgi::PARAMS, call.id, &[]));
    records.extend(call.body.chunks(size).map(|piece| fcgi::record(fcgi::STDIN, call.id, piece)));
    records.push(fcgi::stdin_end(call.id));
    records
}

#[test]
fn one_request_more_than_may_be_is_told_so() {
    for (limit, two) in [("max_requests_in_flight: 1", false), ("max_requests_in_flight: 2", true)] {
        with(limit, "", move |mux, _| {
            let (first, over) = (post().keep(), post().id(9).keep());
            let head = first.head();
            let mut connection = mux.connect();
            connection.send(&head[..16]);
            // With a limit of two the second is as welcome as the first.
            if two {
                connection.send(&post().id(5).keep().head());
            }
            connection.send(&over.bytes());
            let refused = connection.reply(SOON).whole();
            // CANT_MPX_CONN, with a page for a web server that does not look at the status.
            assert_eq!((refused.ids.as_slice(), refused.status), ([9].as_slice(), (0, 1)));
            assert_eq!(refused.http_status(), 503);
            connection.send(&[&head[16..], &fcgi::stdin(1, BODY.as_bytes()), &fcgi::stdin_end(1)].concat());
            assert_echoed(connection.reply(SOON), "the first one");
            if two {
                connection.send(&[fcgi::stdin(5, BODY.as_bytes()), fcgi::stdin_end(5)].concat());
                assert_echoed(connection.reply(SOON), "the second one");
            }
            assert_echoed(connection.call(&over, SOON), "now that nothing else runs");
        });
    }
}

#[test]
fn the_same_request_begun_twice_ends_the_connection() {
    with("", "", |mux, application| {
        let before = application.accepted();
        for id in [1, 65_535] {
            let call = post().id(id);
            let mut connection = mux.connect();
            connection.send(&[fcgi::begin(id, true), call.bytes()].concat());
            let reply = connection.reply(SOON);
            assert!(!reply.ended && reply.stdout.is_empty(), "{reply:?}");
            assert!(matches!(reply.broken, Some(End::Closed | End::Reset)), "{reply:?}");
        }
        assert_eq!(application.accepted(), before, "nothing of it reached the application");
    });
}
